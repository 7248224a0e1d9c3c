"""Client against server: synthetic runs whose server spends its time as told, and a run of real vLLM."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.gates_server import check_server
from analysis.rundir import load
from analysis.server_side import ServerSide, join
from analysis.sla import Sla, parse_objective
from analysis.ttft_parts import Part, stack
from analysis.verdict import Verdict, judge, write_verdict
from tests.responses import GOLDEN
from tests.run_directories import MS, START_S, Load, Requests, change_meta, make_record, write_run
from tests.server_accounts import Server, records_of, write_account

SERVER = Server()
LOAD = Load(seconds=30, rate=20, loop="open", tokens=20)
SLA = Sla("test", (parse_objective("ttft p50 < 1000 ms"),))
UNIQUE = {"workload": {"prompt_words": [150, 160], "prompts": None, "extra_body": {}}}

Served = Callable[..., Path]


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("ordinary") / "run", LOAD)


@pytest.fixture
def served(tmp_path: Path, ordinary: Path) -> Served:
    """Return what writes a run and its server's account."""

    def write(server: Server = SERVER, made: Load = LOAD, requests: Requests | None = None) -> Path:
        path = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        if made == LOAD and requests is None:
            shutil.copytree(ordinary, path)
        else:
            write_run(path, made, requests)
        write_account(path, server)
        return path

    return write


def joined(path: Path) -> ServerSide:
    return join(load(path))


def judged(path: Path) -> Verdict:
    return judge(load(path), SLA)


def light(verdict: Verdict, name: str) -> tuple[bool, str]:
    found = next(gate for gate in verdict.gates if gate.name == name)
    return found.ok, found.severity


def found(verdict: Verdict, name: str) -> str:
    return next(gate.found for gate in verdict.gates if gate.name == name)


# A run in order


def test_both_accounts_of_a_good_run_agree(served: Served) -> None:
    verdict = judged(served())
    assert verdict.status == "PASS", verdict.reasons
    assert all(gate.ok for gate in verdict.gates), [gate.line() for gate in verdict.gates if not gate.ok]
    for law in (verdict.server_side.client_law, verdict.server_side.server_law):
        assert law is not None
        assert law.ok
        # the equation itself, and that its tolerance lets nothing gross through
        assert law.rate_per_s * law.seconds_low <= law.in_flight * 1.2
        assert law.rate_per_s * law.seconds_high >= law.in_flight * 0.8
        assert law.tolerance < 0.15 * law.in_flight


def test_the_window_is_joined_between_the_readings_that_enclose_it(served: Served) -> None:
    path = served()
    run, side = load(path), joined(path)
    assert side.window is not None
    assert side.whole is not None
    start, end = run.window_ns
    assert start - 10**9 <= side.window.from_unix_ns <= start
    assert end <= side.window.to_unix_ns <= end + 10**9
    records = records_of(path)
    ended = [
        record
        for record in records
        if side.window.from_unix_ns < record.due_unix_ns + record.end_ns <= side.window.to_unix_ns
    ]
    assert side.window.client_requests == len(ended)
    assert side.window.requests == pytest.approx(len(ended), abs=2)  # a reading is 3 ms old when it is here
    assert side.whole.requests == side.whole.client_requests == len(records)
    assert side.whole.generation_tokens == sum(record.output_tokens or 0 for record in records)
    assert side.whole.finished == {"length": len(records)}


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    network_ms=st.floats(0.1, 4),
    handover_ms=st.floats(0, 4),
    queue_ms=st.floats(0, 6),
    lag_ms=st.floats(0, 3),
)
def test_the_parts_of_ttft_are_found_and_add_up(
    served: Served, network_ms: float, handover_ms: float, queue_ms: float, lag_ms: float
) -> None:
    made = replace(LOAD, seconds=12, ttft_sigma=0.1, dispatch_lag_ms=lag_ms)
    path = served(Server(network_ms=network_ms, handover_ms=handover_ms, queue_ms=queue_ms), made)
    side, records = joined(path), records_of(path)
    assert side.whole is not None
    parts = side.whole.ttft
    assert parts is not None
    assert parts.client_requests == parts.server_requests == parts.server_ended == len(records)
    assert parts.network_ms == pytest.approx(2 * network_ms, abs=1e-5)
    assert parts.handover_ms == pytest.approx(handover_ms, abs=1e-5)
    assert parts.queue_ms == pytest.approx(queue_ms, abs=1e-5)
    dispatch_ms = sum(record.sent_ns or 0 for record in records) / len(records) / 1e6
    assert parts.dispatch_ms == pytest.approx(dispatch_ms, abs=1e-9)
    first_ms = sum(record.first_ns or 0 for record in records) / len(records) / 1e6
    assert sum(part.ms for part in stack(parts)) == pytest.approx(parts.client_ms) == pytest.approx(first_ms)
    window = side.window and side.window.ttft
    assert window is not None
    for name in ("network_ms", "handover_ms", "queue_ms"):  # straddling requests move it by little
        assert getattr(window, name) == pytest.approx(getattr(parts, name), abs=1.5), name


def test_connecting_is_a_part_of_its_own(served: Served) -> None:
    records = [make_record(START_S * 10**9 + i * 40 * MS, 60, [8.0] * 9) for i in range(500)]
    slow = [record._replace(sent_ns=5 * MS, connect_ns=4 * MS) for record in records]
    path = served(SERVER, LOAD, [(record, [8 * MS] * 9) for record in slow])
    parts = joined(path).whole
    assert parts is not None
    assert parts.ttft is not None
    assert stack(parts.ttft)[:2] == (
        Part("dispatch", pytest.approx(1.0)),
        Part("connect", pytest.approx(4.0)),
    )


# Equations that are broken


def test_a_server_that_was_faster_than_possible_is_printed_and_invalid(served: Served) -> None:
    verdict = judged(served(Server(ttft=1.2)))
    assert verdict.status == "INVALID"
    assert light(verdict, "server's TTFT") == (False, "invalid")
    order = verdict.server_side.ttft_order
    assert order is not None
    server_ms = 1e3 * order.server_s / order.server_requests
    assert f"server {server_ms:.4g} ms" in verdict.reasons[0]
    assert order.server_requests == order.client_requests


def test_a_slower_client_is_no_contradiction(served: Served) -> None:
    assert light(judged(served(Server(network_ms=4.0, handover_ms=0.0))), "server's TTFT")[0]


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (Server(gauge=0.6), (False, "warning")),
        (Server(gauge=1.4), (False, "warning")),
        (Server(gauge=0.2), (False, "invalid")),
        (Server(gauge=4), (False, "invalid")),
        (Server(spent=0.7), (False, "warning")),
        (Server(spent=1.5), (False, "warning")),
        (Server(spent=0.3), (False, "invalid")),
        (Server(spent=3), (False, "invalid")),
    ],
)
def test_a_law_that_is_off_is_a_warning_and_far_off_invalid(
    served: Served, server: Server, expected: tuple[bool, str]
) -> None:
    verdict = judged(served(server))
    assert light(verdict, "Little's law, server") == expected
    assert (verdict.status == "INVALID") == (expected[1] == "invalid")
    law = verdict.server_side.server_law
    assert law is not None
    assert f"{law.in_flight:.3g} running or waiting" in found(verdict, "Little's law, server")


@pytest.mark.parametrize("phase_ms", [0, 2, 30, 90])
def test_arrivals_in_step_with_the_readings_do_not_fool_the_law(served: Served, phase_ms: float) -> None:
    """Ten requests a second in step: a gauge read once a second always meets the same phase."""
    due = [START_S * 10**9 + round((i * 100 + phase_ms) * MS) for i in range(300)]
    requests: Requests = [(make_record(at, 30, [5.0] * 9), [5 * MS] * 9) for at in due]
    side = joined(served(SERVER, LOAD, requests))
    assert side.server_law is not None
    assert side.client_law is not None
    assert side.server_law.ok
    assert side.client_law.ok
    # what a tolerance from the spread of the gauge alone would say: the mean is far from the law's
    gauge, law = side.server_law.in_flight, side.server_law.rate_per_s * side.server_law.seconds_low
    assert abs(gauge - law) > 0.2


def drop_records(path: Path, every: int) -> None:
    lines = (path / "requests.csv").read_text().splitlines(keepends=True)
    (path / "requests.csv").write_text("".join(line for n, line in enumerate(lines) if not n or n % every))


def test_streams_that_were_counted_live_and_have_no_record_are_invalid(served: Served) -> None:
    path = served()
    drop_records(path, 4)
    verdict = judged(path)
    assert light(verdict, "Little's law, client") == (False, "invalid")
    assert any(reason.startswith("Little's law, client: found ") for reason in verdict.reasons)
    law = verdict.server_side.client_law
    assert law is not None
    assert f"{law.in_flight:.3g} counted live" in found(verdict, "Little's law, client")
    assert law.in_flight > law.high


def test_the_clients_law_needs_no_metrics_and_enough_seconds(served: Served) -> None:
    path = served()
    (path / "server_metrics.csv").unlink()
    side = joined(path)
    assert side == ServerSide(side.client_law, None, None, None, (), 0, None, None)
    assert side.client_law is not None
    assert side.client_law.ok
    short = joined(write_run(path.parent / "short", replace(LOAD, seconds=9))).client_law
    assert short is not None
    assert (short.ok, short.reason) == (None, "4 counts, at least 10 are needed")


# What cannot be judged


def test_others_at_the_server_leave_the_parts_unknown(served: Served) -> None:
    path = served(Server(ttft=1.5, gauge=3))
    change_meta(path, {"server_counts": {"exclusive": False}})
    verdict = judged(path)
    assert verdict.status == "PASS", verdict.reasons
    side = verdict.server_side
    assert side.window is not None
    assert (side.window.ttft, side.ttft_order) == (None, None)
    assert side.server_law is not None
    assert (side.server_law.ok, side.server_law.reason) == (None, "others used the server when the run began")


def test_several_choices_have_no_parts(served: Served) -> None:
    path = served()
    change_meta(path, {"workload": {"choices": 2}})
    side = joined(path)
    assert side.whole is not None
    assert (side.whole.ttft, side.ttft_order) == (None, None)
    assert side.whole.client_requests == 2 * len(records_of(path))


def test_failed_requests_leave_the_server_unjudged(served: Served) -> None:
    path = served(SERVER, replace(LOAD, failures={"stall_timeout": 0.05, "connect": 0.02}))
    change_meta(path, {"server_counts": {"exclusive": True}})
    side = joined(path)
    assert side.ttft_order is None
    assert side.server_law is not None
    assert side.server_law.ok is None
    assert "requests failed: " in side.server_law.reason
    assert side.client_law is not None
    assert side.client_law.ok


@pytest.mark.parametrize("at_s", [2, 15, 29])
def test_a_restart_loses_no_more_than_what_it_forgot(served: Served, at_s: int) -> None:
    path = served(Server(restart_at_s=at_s))
    verdict, side = judged(path), joined(path)
    assert side.restarts == 1
    assert light(verdict, "server's counters") == (False, "warning")
    assert verdict.status == "PASS", verdict.reasons
    assert side.whole is not None
    assert side.whole.requests is not None
    ended = [record.due_unix_ns + record.end_ns for record in records_of(path)]
    lost = sum((START_S + at_s - 1.1) * 1e9 < at <= (START_S + at_s + 0.1) * 1e9 for at in ended)
    assert len(ended) - lost <= side.whole.requests <= len(ended)
    assert side.whole.ttft is None
    counts = {"requests": -7, "generation_tokens": -90}  # last - first
    change_meta(path, {"server_counts": counts})
    assert light(judged(path), "requests = server's") == (False, "note")
    assert judged(path).status == "PASS"


@pytest.mark.parametrize(
    "missing",
    [
        ("running", "waiting", "kv_cache_usage"),
        ("queue_sum_s", "queue_count"),
        ("prefix_cache_queries", "prefix_cache_hits", "preemptions", "block_size"),
        ("e2e_sum_s", "e2e_count", "ttft_sum_s", "ttft_count", "finished"),
    ],
)
def test_what_the_server_does_not_tell_is_unknown_and_never_zero(
    served: Served, missing: tuple[str, ...]
) -> None:
    path = served(Server(missing=missing))
    verdict = judged(path)
    assert verdict.status == "PASS", verdict.reasons
    window = json.loads(write_verdict(verdict, path / "verdict.json").read_text())["server_side"]["window"]
    gone = {
        "queue_sum_s": ("queue_ms", "ttft"),
        "running": ("running_mean", "waiting_mean", "kv_cache_usage_max"),
        "preemptions": ("preemptions", "prefix_cache_hits"),
        "finished": ("requests", "e2e_ms", "ttft_ms", "ttft"),
    }
    for name in missing:
        for key in gone.get(name, ()):
            assert window[key] is None, key
    assert window["decode_ms"] is not None


def test_readings_that_say_nothing(served: Served) -> None:
    path = served()
    lines = (path / "server_metrics.csv").read_text().splitlines(keepends=True)
    for kept in (lines[:1], lines[:2], [*lines[:2], lines[1]], ["unix_s,x\n", "1,2\n", "2,\n"]):
        (path / "server_metrics.csv").write_text("".join(kept))
        assert judged(path).status == "PASS"


# Warnings


@pytest.mark.parametrize(
    ("hit_tokens", "block_size", "ok"),
    [
        (0, 16, True),
        (48, 16, True),  # the template: 200 tokens less 150 words, and two words by chance
        (64, 16, False),
        (192, 16, False),  # the same prompts once more
        (0, 128, True),
        (128, 128, False),
        (48, None, True),
        (64, None, False),
    ],
)
def test_prompts_that_claim_to_be_unique(
    served: Served, hit_tokens: int, block_size: int | None, ok: bool
) -> None:
    path = served(Server(hit_tokens=hit_tokens, block_size=block_size))
    change_meta(path, UNIQUE)
    verdict = judged(path)
    assert light(verdict, "prefix cache hits") == (ok, "warning")
    assert found(verdict, "prefix cache hits") == f"{hit_tokens / 200:.1%} of prompt tokens"
    assert verdict.status == "PASS"


@pytest.mark.parametrize(
    "workload",
    [
        {"prompt_words": None, "prompts": "prompts.txt"},
        {"extra_body": {"messages": []}},
        {"extra_body": {"prompt": "x"}},
    ],
)
def test_prompts_that_claim_nothing_may_hit(served: Served, workload: dict[str, Any]) -> None:
    path = served(Server(hit_tokens=192))
    change_meta(path, {"workload": UNIQUE["workload"] | workload})
    assert light(judged(path), "prefix cache hits")[0]


def test_further_choices_have_the_first_ones_prompt(served: Served) -> None:
    path = served(Server(hit_tokens=96))
    change_meta(path, UNIQUE)
    assert not light(judged(path), "prefix cache hits")[0]
    change_meta(path, {"workload": {"choices": 2}})
    assert light(judged(path), "prefix cache hits")[0]


@pytest.mark.parametrize(
    ("server", "name", "words"),
    [
        (Server(preemptions=3), "KV cache", "3 preemptions"),
        (Server(kv_cache_usage=0.97), "KV cache", "at most 97% used"),
        (Server(waiting_more=2), "queue at the end", "at least 2 in the last 3 readings"),
    ],
)
def test_a_server_at_its_limit_is_a_warning(served: Served, server: Server, name: str, words: str) -> None:
    verdict = judged(served(server))
    assert light(verdict, name) == (False, "warning")
    assert words in found(verdict, name)


# Real vLLM


REAL = ("vllm-0.32-run", "vllm-0.32-run-repeated")  # the first has the columns of the first version


@pytest.mark.parametrize("name", REAL)
def test_a_run_of_real_vllm_holds_every_equation(name: str) -> None:
    verdict = judged(GOLDEN / name)
    concerned = check_server(load(GOLDEN / name), verdict.server_side)
    assert len(concerned) == 8
    bad = [gate.name for gate in concerned if not gate.ok]
    assert bad == ([] if name == REAL[0] else ["prefix cache hits"])
    assert set(concerned) <= set(verdict.gates)
    for law in (verdict.server_side.client_law, verdict.server_side.server_law):
        assert law is not None
        assert law.ok is True


@pytest.mark.parametrize("name", REAL)
def test_ttft_of_real_vllm_is_taken_apart(name: str) -> None:
    start, end = load(GOLDEN / name).window_ns
    with (GOLDEN / name / "server_metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    at_ns = [int(row.get("read_unix_ns") or int(row["unix_s"]) * 10**9) for row in rows]
    first = next(row for row, at in reversed(list(zip(rows, at_ns, strict=True))) if at <= start)
    last = next(row for row, at in zip(rows, at_ns, strict=True) if at >= end)

    def mean_ms(name: str) -> float:
        counts = float(last[f"{name}_count"]) - float(first[f"{name}_count"])
        return 1e3 * (float(last[f"{name}_sum_s"]) - float(first[f"{name}_sum_s"])) / counts

    window = joined(GOLDEN / name).window
    assert window is not None
    parts = window.ttft
    assert parts is not None
    assert parts.server_ms == pytest.approx(mean_ms("ttft"))
    assert parts.prefill_ms == pytest.approx(mean_ms("prefill"))
    assert parts.client_requests == parts.server_requests
    assert all(part.ms >= 0 for part in stack(parts))
    assert parts.network_ms < 0.1 * parts.client_ms  # one machine
    # vLLM's queue begins when the running step is over: what is waited for that is no part of it
    assert parts.queue_ms < 0.1 < parts.handover_ms
    print(*stack(parts), sep="\n")


def test_prompts_that_were_asked_before_hit_the_cache_of_real_vllm() -> None:
    found = joined(GOLDEN / REAL[1]).prefix_cache
    assert found is not None
    assert found.hit_share == pytest.approx(64 / 70, abs=0.01)  # two of three blocks of 32
    assert found.allowed_share == 0  # the template's beginning is shorter than a block


def test_the_same_run_gives_the_same_bytes(served: Served) -> None:
    path = served()
    written = [write_verdict(judged(path), path / name).read_bytes() for name in ("a.json", "b.json")]
    assert written[0] == written[1]
