"""Both transports against all that a server can do: each outcome by name, the same records but for times."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.record import OUTCOMES
from tests.end_to_end.driving import drive
from tests.end_to_end.odd_servers import Deaf, Dropper, Mute
from tests.sim_server import running_sim

TOKENS = 12
LIMITS = ["--first-token-timeout", "1", "--stall-timeout", "0.4", "--total-timeout", "1.5"]

# Behaviour -> (script, options, outcome, token-bearing chunks or None where the network decides)
BEHAVIOURS: dict[str, tuple[dict[str, Any], list[str], str, int | None]] = {
    "plain": ({}, [], "ok", 12),
    "completions": ({}, ["--endpoint", "completions"], "ok", 12),
    "three_choices": ({}, ["--choices", "3"], "ok", 36),
    "one_token": ({"tokens": 1}, [], "ok", 1),
    "no_token": ({"tokens": 0}, [], "empty", 0),
    "several_tokens_a_chunk": ({"tokens_per_chunk": 5}, [], "ok", 3),
    "several_counted_tokens_a_chunk": ({"tokens_per_chunk": 5, "usage": "every"}, [], "ok", 3),
    "several_events_a_write": ({"events_per_write": 4}, [], "ok", 12),
    "not_ascii": ({"token_text": [" é", "語", "😀"]}, [], "ok", 12),
    "empty_deltas": ({"empty_deltas": [0, 3, 4, 11]}, [], "ok", 12),
    "reasoning": ({"reasoning": 5}, [], "ok", 12),
    "reasoning_content": ({"reasoning": 12, "reasoning_field": "reasoning_content"}, [], "ok", 12),
    "no_role": ({"role_chunk": False}, [], "ok", 12),
    "early_role": ({"role_chunk_early_ms": 15}, [], "ok", 12),
    "no_usage": ({"usage": "none"}, [], "ok", 12),
    "stop": ({"finish_reason": "stop"}, [], "ok", 12),
    "slow_headers": ({"slow_headers_ms": 50, "ttft_ms": 80}, [], "ok", 12),
    "crlf": ({"crlf": True}, [], "ok", 12),
    "comments": ({"comments_every_ms": 7}, [], "ok", 12),
    "short_stall": ({"stall_at": 4, "stall_ms": 200}, [], "ok", 12),
    "no_done": ({"end_without_done": True}, [], "ok", 12),
    "split_events": ({"split_bytes": 7}, [], "ok", 12),
    "connection_close": ({"close_connection": True}, [], "ok", 12),
    "http10": ({"http10": True}, [], "ok", 12),
    "long_line": (
        {"long_line_bytes": 1_000_000},
        ["--first-token-timeout", "30", "--total-timeout", "60"],  # much to read where others work, too
        "ok",
        12,
    ),
    "http_400": ({"status": 400}, [], "http_4xx", 0),
    "http_404": ({"status": 404}, [], "http_4xx", 0),
    "http_429": ({"status": 429, "retry_after_s": 7}, [], "http_429", 0),
    "http_500": ({"status": 500}, [], "http_5xx", 0),
    "http_503": ({"status": 503}, [], "http_5xx", 0),
    "html": ({"html": True}, [], "protocol", 0),
    "json": ({"json_not_stream": True}, [], "protocol", 0),
    "invalid_json_first": ({"invalid_json_at": 0}, [], "protocol", 0),
    "invalid_json_later": ({"invalid_json_at": 3}, [], "protocol", 3),
    "error_event_first": ({"error_event_at": 0}, [], "server_error", 0),
    "error_event_later": ({"error_event_at": 3}, [], "server_error", 3),
    "cut_first": ({"truncate_at": 0}, [], "truncated", 0),
    "cut_later": ({"truncate_at": 3}, [], "truncated", 3),
    "cut_in_http10": ({"truncate_at": 3, "http10": True}, [], "truncated", 3),
    "reset_first": ({"reset_at": 0}, [], "truncated", None),
    "reset_later": ({"reset_at": 3}, [], "truncated", None),
    "no_first_token": ({"ttft_ms": 5000}, [], "first_token_timeout", 0),
    "no_headers": ({"slow_headers_ms": 5000}, [], "first_token_timeout", 0),
    "stall": ({"stall_at": 4, "stall_ms": 5000}, [], "stall_timeout", 4),
    "comments_are_no_tokens": (
        {"stall_at": 4, "stall_ms": 5000, "comments_every_ms": 20},
        [],
        "stall_timeout",
        4,
    ),
    "endless": ({"endless": True}, [], "total_timeout", None),
}
TIMES = {
    "due_unix_ns",
    "sent_ns",
    "connect_ns",
    "first_ns",
    "visible_ns",
    "last_ns",
    "end_ns",
    "gap_sum_ns",
    "gap_max_ns",
}
OF_THE_TRANSPORT = {
    "reads",
    "coalesced",
    "lag_max_ns",
    "clock",
    "clock_jump_ns",
    "detail",
    "status",
    "body_bytes",
}


def job(behaviour: str, transport: str, url: str) -> dict[str, Any]:
    script, options, _, _ = BEHAVIOURS[behaviour]
    arguments = ["--transport", transport, "--max-tokens", str(TOKENS), *LIMITS, *options]
    named = {"name": f"{behaviour}/{transport}", "run": behaviour}
    return {**named, "url": url, "script": script, "arguments": arguments}


@pytest.fixture(scope="module")
def records() -> dict[str, dict[str, Any]]:
    """Every behaviour once with each transport: "behaviour/transport" -> record."""
    with running_sim() as sim:
        url = f"http://127.0.0.1:{sim.port}"
        jobs = [
            job(behaviour, transport, url) for behaviour in BEHAVIOURS for transport in ("wire", "portable")
        ]
        found = drive(jobs, apart_s=0.01)
    return {name: rows[0] for name, rows in found["records"].items()}


@pytest.mark.parametrize("transport", ["wire", "portable"])
@pytest.mark.parametrize("behaviour", sorted(BEHAVIOURS))
def test_outcome(records: dict[str, dict[str, Any]], behaviour: str, transport: str) -> None:
    record = records[f"{behaviour}/{transport}"]
    script, options, outcome, chunks = BEHAVIOURS[behaviour]
    assert record["outcome"] == outcome, record["detail"]
    assert (record["detail"] == "") == (outcome == "ok")
    assert record["detail"].isprintable()
    assert record["status"] == script.get("status", None if behaviour == "no_headers" else 200)
    if chunks is not None:
        assert record["chunks"] == chunks
        answers = 3 if "--choices" in options else 1
        assert record["gaps"] == max(0, chunks - answers)
    if outcome == "ok":
        counted = script.get("usage") != "none"
        tokens = script.get("tokens", TOKENS) * (3 if "--choices" in options else 1)
        assert record["output_tokens"] == (tokens if counted else None)
        assert record["prompt_tokens"] or not counted
    read = behaviour != "no_headers"
    assert record["clock"] == ("kernel" if transport == "wire" and read else "user")


@pytest.mark.parametrize("transport", ["wire", "portable"])
@pytest.mark.parametrize("behaviour", sorted(BEHAVIOURS))
def test_times_follow_each_other(records: dict[str, dict[str, Any]], behaviour: str, transport: str) -> None:
    record = records[f"{behaviour}/{transport}"]
    first, last = record["first_ns"], record["last_ns"]
    assert 0 <= record["sent_ns"] <= record["end_ns"]
    assert (first is None) == (last is None) == (record["chunks"] == 0)
    assert record["gap_sum_ns"] == sum(record["gaps_ns"])
    assert record["gap_max_ns"] == max(record["gaps_ns"], default=0)
    assert len(record["gaps_ns"]) == record["gaps"]
    if first is not None:
        assert record["sent_ns"] < first <= last <= record["end_ns"]
        if "three" not in behaviour:
            assert record["gap_sum_ns"] == last - first


@pytest.mark.parametrize("behaviour", sorted(BEHAVIOURS))
def test_transports_agree_but_for_times(records: dict[str, dict[str, Any]], behaviour: str) -> None:
    outcome, chunks = BEHAVIOURS[behaviour][2:]
    wire, portable = (records[f"{behaviour}/{transport}"] for transport in ("wire", "portable"))
    assert {key for key, value in wire.items() if value is None} == {
        key for key, value in portable.items() if value is None
    }
    apart = TIMES | OF_THE_TRANSPORT | {key for key in wire if key.endswith("_ns")}
    if chunks is None:
        apart |= {"chunks", "gaps", "token_gaps_ns"}
    same = {key for key in wire if key not in apart}
    assert {key: wire[key] for key in same} == {key: portable[key] for key in same}
    if outcome in {"ok", "empty"} or wire["status"] != 200:
        assert wire["body_bytes"] == portable["body_bytes"]
    assert len(wire["token_gaps_ns"]) == len(portable["token_gaps_ns"])


def test_details_say_what_was_found(records: dict[str, dict[str, Any]]) -> None:
    for behaviour, words in {
        "http_429": ["HTTP 429", "retry after 7", "as scripted"],
        "html": ["expected text/event-stream", "text/html", "This is a page"],
        "json": ["expected text/event-stream", "application/json"],
        "invalid_json_later": ["expected a JSON chunk", '{"choices":'],
        "error_event_later": ["error", "as scripted"],
        "no_first_token": ["no token within 1 s"],
        "stall": ["no token for 0.4 s after 4"],
        "endless": ["not done within 1.5 s"],
    }.items():
        for transport in ("wire", "portable"):
            detail = records[f"{behaviour}/{transport}"]["detail"]
            assert [word for word in words if word not in detail] == [], detail


def test_deadlines_are_kept_on_time(records: dict[str, dict[str, Any]]) -> None:
    for transport in ("wire", "portable"):
        stalled = records[f"stall/{transport}"]
        assert 0.4e9 <= stalled["end_ns"] - stalled["last_ns"] < 0.6e9
        assert 1e9 <= records[f"no_first_token/{transport}"]["end_ns"] < 1.3e9
        assert 1.5e9 <= records[f"endless/{transport}"]["end_ns"] < 1.8e9


def test_stall_is_noticed_long_before_a_long_first_token_deadline() -> None:
    limits = ["--first-token-timeout", "30", "--stall-timeout", "0.4", "--total-timeout", "60"]
    with running_sim() as sim:
        url, script = f"http://127.0.0.1:{sim.port}", {"stall_at": 2, "stall_ms": 4000, "ttft_ms": 300}
        jobs = [
            {"name": name, "url": url, "script": script, "arguments": ["--transport", name, *limits]}
            for name in ("wire", "portable")
        ]
        for (record,) in drive(jobs)["records"].values():
            assert record["outcome"] == "stall_timeout"
            assert record["end_ns"] - record["last_ns"] < 0.7e9


def test_line_of_two_gigabytes_is_refused_in_bounded_memory() -> None:
    with running_sim() as sim:
        url, script = f"http://127.0.0.1:{sim.port}", {"long_line_bytes": 2_000_000_000}
        for transport in ("wire", "portable"):
            job = {"name": "long", "url": url, "script": script, "arguments": ["--transport", transport]}
            found = drive([job])
            (record,) = found["records"]["long"]
            print(f"{transport}: {found['rss_growth_kib'] / 1024:.1f} MiB more memory")
            assert record["outcome"] == "protocol"
            assert "4 MiB without an end" in record["detail"]
            assert found["rss_growth_kib"] < 40 * 1024


# What happens without an answer of HTTP


@pytest.fixture(scope="module")
def unanswered() -> Iterator[dict[str, dict[str, Any]]]:
    with (
        running_sim() as sim,
        Deaf() as deaf,
        Mute() as mute,
        socket.create_server(("127.0.0.1", 0)) as once_taken,
    ):
        refusing = once_taken.getsockname()[1]
        once_taken.close()
        sim_url = f"http://127.0.0.1:{sim.port}"
        cases: dict[str, tuple[str, dict[str, Any]]] = {
            "refused": (f"http://127.0.0.1:{refusing}", {}),
            "unknown": ("http://nowhere.invalid", {}),
            "deaf": (f"http://127.0.0.1:{deaf.port}", {}),
            "hangs_up": (f"http://127.0.0.1:{mute.port}", {}),
            "killed": (sim_url, {"script": {"stall_at": 3, "stall_ms": 9000}, "kill_after_s": 0.4}),
            "killed_waiting": (sim_url, {"script": {"ttft_ms": 9000}, "kill_after_s": 0.4}),
            "own_fault": (sim_url, {"headers": {"x-odd": "ключ"}}),
        }
        jobs = [
            {
                "name": f"{case}/{transport}",
                "url": url,
                "arguments": ["--transport", transport, "--connect-timeout", "0.5"],
                **more,
            }
            for case, (url, more) in cases.items()
            for transport in ("wire", "portable")
        ]
        jobs.append(
            {
                "name": "tls/portable",
                "url": sim_url.replace("http:", "https:"),
                "arguments": ["--connect-timeout", "1"],
            }
        )
        yield {name: rows[0] for name, rows in drive(jobs)["records"].items()}


@pytest.mark.parametrize("transport", ["wire", "portable"])
@pytest.mark.parametrize(
    ("case", "outcome", "words"),
    [
        ("refused", "connect", "refused"),
        ("unknown", "connect", "nowhere.invalid"),
        ("deaf", "connect", "0.5"),
        ("hangs_up", "truncated", "closed"),
        ("killed", "cancelled", "ended"),
        ("killed_waiting", "cancelled", "ended"),
        ("own_fault", "client", "Unicode"),
    ],
)
def test_without_an_answer(
    unanswered: dict[str, dict[str, Any]], case: str, outcome: str, words: str, transport: str
) -> None:
    record = unanswered[f"{case}/{transport}"]
    assert record["outcome"] == outcome, record["detail"]
    assert words in record["detail"]
    assert record["detail"].isprintable()
    assert (record["sent_ns"] is None) == (outcome in {"connect", "client"})
    assert record["chunks"] == (3 if case == "killed" else 0)


def test_tls_that_is_none(unanswered: dict[str, dict[str, Any]]) -> None:
    record = unanswered["tls/portable"]
    assert (record["outcome"], record["sent_ns"], record["status"]) == ("tls", None, None)


def test_every_outcome_was_seen(
    records: dict[str, dict[str, Any]], unanswered: dict[str, dict[str, Any]]
) -> None:
    assert {row["outcome"] for row in [*records.values(), *unanswered.values()]} == set(OUTCOMES)


# Connections


def test_connections_are_reused_one_after_the_other() -> None:
    with running_sim() as sim:
        job = {
            "name": "a",
            "url": f"http://127.0.0.1:{sim.port}",
            "count": 4,
            "pause_s": 0,
            "script": {"tokens": 3},
        }
        kept = drive([{**job, "name": t, "arguments": ["--transport", t]} for t in ("wire", "portable")])
        closed = drive([{**job, "script": {"tokens": 3, "close_connection": True}}])
    for rows in kept["records"].values():
        assert [row["connection"] for row in rows] == ["new", "reused", "reused", "reused"]
    assert [row["connection"] for row in closed["records"]["a"]] == ["new"] * 4


@pytest.mark.parametrize("how", ["close", "reset"])
def test_reused_connection_that_was_dead_is_retried_once(how: str) -> None:
    with Dropper(how) as server:
        job = {"name": "a", "url": f"http://127.0.0.1:{server.port}", "count": 4, "pause_s": 0.05}
        rows = drive([job])["records"]["a"]
    assert [row["outcome"] for row in rows] == ["ok"] * 4
    assert [row["connection"] for row in rows] == ["new", "retried", "retried", "retried"]


def test_connection_that_was_closed_while_idle_is_not_used() -> None:
    with Dropper("idle") as server:
        job = {"name": "a", "url": f"http://127.0.0.1:{server.port}", "count": 3, "pause_s": 0.3}
        rows = drive([job])["records"]["a"]
    assert [(row["outcome"], row["connection"]) for row in rows] == [("ok", "new")] * 3


def test_server_log_and_records_agree_on_who_was_served(tmp_path: Path) -> None:
    log = tmp_path / "sends"
    with running_sim("--send-log", str(log)) as sim:
        job = {"name": "run", "url": f"http://127.0.0.1:{sim.port}", "count": 30, "script": {"tokens": 3}}
        rows = drive([job])["records"]["run"]
    assert len(rows) == len({row["request"] for row in rows}) == 30
    assert len(log.read_text().splitlines()) == 30
