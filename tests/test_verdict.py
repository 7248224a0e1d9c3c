import json
import math
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis.junit import write_junit
from analysis.more import growth
from analysis.objective import ObjectiveResult
from analysis.pooling import pooled
from analysis.remedies import REMEDIES
from analysis.rundir import Run, load
from analysis.samples import Tally, share_tally
from analysis.sla import Sla, parse_objective
from analysis.statistics import BATCH_TAU, LEAST, SECONDS, mean_error, share_bounds, t_bounds
from analysis.verdict import EXIT_CODES, Verdict, judge, write_verdict
from tests.run_directories import MS, START_S, Load, Requests, change_meta, make_record, write_run

GOOD = Load(seconds=28, warmup_s=3, rate=70, tokens=12, seed=3)


def sla_of(*objectives: str) -> Sla:
    return Sla("test", tuple(parse_objective(text) for text in objectives))


SLA = sla_of(
    "ttft p95 < 100 ms",
    "itl p99 < 20 ms",
    "error_rate < 1 %",  # ten times the default's: shown by a tenth of the requests
    "goodput(ttft < 100 ms, tpot < 20 ms) >= 95 %",
)

Judge = Callable[..., Verdict]


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Return a function that writes a run once and judges it."""
    folder = tmp_path_factory.mktemp("runs")
    written: dict[str, Path] = {}
    loaded: dict[str, Run] = {}

    def judged_run(of: Load, sla: Sla | None = None) -> Verdict:
        plain = replace(of, meta={})
        if repr(plain) not in written:
            written[repr(plain)] = write_run(folder / str(len(written)), plain)
        if repr(of) not in loaded:
            path = Path(shutil.copytree(written[repr(plain)], folder / f"loaded-{len(loaded)}"))
            change_meta(path, of.meta)
            loaded[repr(of)] = load(path)
        return judge(loaded[repr(of)], sla or SLA)

    return judged_run


def changed(**changes: Any) -> Load:
    return replace(GOOD, **changes)


def result_of(verdict: Verdict, metric: str) -> ObjectiveResult:
    return next(result for result in verdict.objectives if result.metric == metric)


def gate(verdict: Verdict, name: str) -> tuple[bool, str, str]:
    found = next(one for one in verdict.gates if one.name == name)
    return found.ok, found.found, found.severity


# Verdicts of whole runs


def test_a_good_run_passes(judged: Judge) -> None:
    verdict = judged(GOOD)
    assert verdict.status == "PASS", verdict.reasons
    assert [result.status for result in verdict.objectives] == ["PASS"] * 4
    assert all(one.ok for one in verdict.gates)
    assert verdict.exit_code == 0


@pytest.mark.parametrize(
    ("changes", "metric", "status"),
    [
        ({"ttft_ms": 80.0, "ttft_sigma": 0.3}, "ttft", "FAIL"),
        ({"stall_share": 0.06, "seconds": 63}, "itl", "FAIL"),
        ({"failures": {"http_5xx": 0.03}}, "error_rate", "FAIL"),
        ({"failures": {"http_5xx": 0.009}}, "error_rate", "INCONCLUSIVE"),
        ({"ttft_ms": 64.0, "ttft_sigma": 0.27}, "ttft", "INCONCLUSIVE"),
        ({"itl_ms": 25.0}, "goodput", "FAIL"),
    ],
)
def test_one_bad_objective_decides(judged: Judge, changes: dict[str, Any], metric: str, status: str) -> None:
    verdict = judged(changed(**changes))
    assert result_of(verdict, metric).status == status
    assert verdict.status == status
    assert any(reason.startswith(result_of(verdict, metric).text) for reason in verdict.reasons)
    assert verdict.exit_code == {"FAIL": 3, "INCONCLUSIVE": 4}[status]


def test_a_short_run_is_inconclusive_and_says_what_it_needs(judged: Judge) -> None:
    result = result_of(judged(changed(seconds=23, rate=10.0)), "error_rate")
    assert result.status == "INCONCLUSIVE"
    assert result.more_requests is not None
    assert 299 - result.n < result.more_requests < 299 * result.n / (result.n_eff or 0) - result.n
    assert result.more_minutes == pytest.approx(result.more_requests / (result.n / 20) / 60, rel=0.01)
    assert f"needs about {result.more_requests:,} more requests" in result.reason


@pytest.mark.parametrize(("alike", "allowed"), [(50.0, 0.05), (3.0, 0.01), (1.0, 0.001)])
def test_so_much_longer_a_run_decides_and_no_sooner(alike: float, allowed: float) -> None:
    def upper(times: float) -> float:
        n = round(300 * times)
        longer = Tally(n, 0, 0, alike, 1.0, n / alike, BATCH_TAU, LEAST, "requests")
        return share_bounds(0, 0, longer.n_eff)[1]

    tally = Tally(300, 0, 0, alike, 1.0, 300 / alike, BATCH_TAU, LEAST, "requests")
    times = growth(tally, allowed, 1) or 0.0
    assert upper(times) < allowed < upper(0.97 * times)


def test_no_failure_says_what_it_shows_and_what_it_does_not(judged: Judge) -> None:
    many = result_of(judged(changed()), "error_rate")
    assert many.status == "PASS"
    assert re.search(r"; none failed in \d+ s: outages, if any, are rarer than one in \d+ s$", many.reason)
    few = result_of(judged(changed(seconds=23, rate=10.0)), "error_rate")
    assert few.reason.endswith("; none failed, but where slow requests come together failures may, too")


def test_a_run_without_requests_is_no_pass(judged: Judge) -> None:
    verdict = judged(changed(rate=0.0))
    assert verdict.status == "INCONCLUSIVE"
    assert {result.reason for result in verdict.objectives} == {"no data"}
    assert verdict.scenarios == ()


def test_strong_dependence_refuses_an_interval(judged: Judge) -> None:
    result = result_of(judged(changed(phi=0.99)), "ttft")
    assert result.status == "INCONCLUSIVE"
    assert result.bound_low is None
    assert result.bound_high is None
    assert f"no valid interval: {result.n:,} requests are so alike that they are worth " in result.reason
    assert result.n_eff is not None
    assert result.n_eff < 100 < result.n


def test_a_rising_open_loop_is_oversaturated_and_prints_no_percentiles(judged: Judge) -> None:
    verdict = judged(changed(ttft_rise_ms=3000.0, in_flight_rise=300.0))
    assert verdict.status == "OVERSATURATED"
    assert verdict.exit_code == 3
    assert {result.observed for result in verdict.objectives} == {None}
    assert {result.bound_high for result in verdict.objectives} == {None}
    assert [scenario.latencies for scenario in verdict.scenarios] == [None]


def test_a_closed_loop_is_never_oversaturated(judged: Judge) -> None:
    verdict = judged(changed(ttft_rise_ms=3000.0, in_flight_rise=300.0, loop="closed"))
    assert verdict.status != "OVERSATURATED"
    assert verdict.in_flight_trend is None
    assert result_of(verdict, "ttft").observed is not None


def test_latency_that_rises_alone_is_no_oversaturation(judged: Judge) -> None:
    assert judged(changed(ttft_rise_ms=40.0)).status != "OVERSATURATED"


# Validity gates


@pytest.mark.parametrize(
    ("changes", "name", "found"),
    [
        (
            {"meta": {"workers": {"lost": [{"worker": "w1", "detail": "silent for 3 s", "in_flight": 7}]}}},
            "workers",
            "2 of 2 seen, 1 lost (w1 with 7 in flight: silent for 3 s)",
        ),
        ({"meta": {"workers": {"expected": 3}}}, "workers", "2 of 3 seen, 0 lost"),
        ({"meta": {"accounting": {"unaccounted": 4}}}, "unaccounted", "4"),
        (
            {"meta": {"accounting": {"silent_workers": 2}}},
            "unaccounted",
            "unknown: nobody knows what 2 workers",
        ),
        (
            {"meta": {"accounting": {"unaccounted": 4, "silent_workers": 1}}},
            "unaccounted",
            "at least 4: nobody knows what 1 worker did",
        ),
        ({"meta": {"accounting": {"missing_reports": 1}}}, "reports missing", "1"),
        ({"meta": {"interrupted": "SIGTERM"}}, "complete", "interrupted: SIGTERM"),
        ({"meta": {"ended_unix_ns": None}}, "complete", "run.json has no end: the run was cut off"),
        ({"dispatch_lag_ms": 2.0}, "dispatch lag p99", " ms"),
        ({"coalesced_share": 0.2, "read_lag_ms": 5.0}, "coalesced chunks", "%"),
        ({"clock_jump_ms": 1.5}, "clock jumps", "worst 1.5 ms"),
        ({"meta": {"window": {"end_unix_ns": START_S * 10**9}}}, "window", "-3.0 s"),
    ],
)
def test_a_broken_instrument_is_invalid(
    judged: Judge, changes: dict[str, Any], name: str, found: str
) -> None:
    verdict = judged(changed(**changes))
    assert verdict.status == "INVALID"
    assert verdict.exit_code == 5
    ok, shown, severity = gate(verdict, name)
    assert (ok, severity) == (False, "invalid")
    assert found in shown
    (reason,) = [reason for reason in verdict.reasons if reason.split(":")[0] == name]
    assert reason.endswith(f"; {REMEDIES[name]}"), "says what to do"


def test_a_run_that_was_cut_off_in_its_first_second_is_judged_invalid(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", replace(GOOD, rate=0.0))
    none: dict[str, Any] = dict.fromkeys(("accounting", "instrument", "workers", "window", "server_counts"))
    (path / "run.json").write_text(
        json.dumps(
            {
                **{
                    key: value
                    for key, value in json.loads((path / "run.json").read_text()).items()
                    if key not in none
                },
                "ended_unix_ns": None,
            }
        )
    )
    for name in ("timeline.csv", "itl.hlog", "lag.hlog"):
        (path / name).unlink()
    verdict = judge(load(path), SLA)
    assert verdict.status == "INVALID"
    assert any("the run was cut off" in reason for reason in verdict.reasons)
    assert write_verdict(verdict, tmp_path / "verdict.json").exists()


def test_invalid_comes_before_everything(judged: Judge) -> None:
    broken = {"accounting": {"unaccounted": 1}}
    assert judged(changed(meta=broken, ttft_rise_ms=3000.0, in_flight_rise=300.0)).status == "INVALID"
    assert judged(changed(meta=broken, ttft_ms=200.0)).status == "INVALID"


@pytest.mark.parametrize(
    ("counts", "name", "found"),
    [
        ({"generation_tokens": 10**6}, "tokens = server's", ", server 1,000,000"),
        ({"requests": 12}, "requests = server's", ", server 12"),
    ],
)
def test_a_server_that_counted_otherwise_makes_the_run_invalid_only_if_it_was_ours(
    judged: Judge, counts: dict[str, int], name: str, found: str
) -> None:
    verdict = judged(changed(meta={"server_counts": counts}))
    assert verdict.status == "INVALID"
    assert found in gate(verdict, name)[1]
    shared = judged(changed(meta={"server_counts": {**counts, "exclusive": False}}))
    assert shared.status == "PASS"
    assert gate(shared, name)[2] == "note"


def test_a_server_that_ended_is_told(judged: Judge) -> None:
    verdict = judged(changed(meta={"server": {"ended": "killed (SIGKILL), as the system does"}}))
    assert gate(verdict, "server") == (False, "gone: killed (SIGKILL), as the system does", "warning")
    assert "server" not in {one.name for one in judged(changed(meta={"server": {"ended": None}})).gates}


def test_failed_requests_may_have_been_served_in_part(judged: Judge) -> None:
    verdict = judged(changed(failures={"stall_timeout": 0.03}, meta={"server_counts": {"exclusive": True}}))
    assert gate(verdict, "requests = server's")[0]
    assert verdict.status == "FAIL"


def test_what_the_run_can_live_with_is_a_warning_or_a_note(judged: Judge) -> None:
    verdict = judged(changed(read_lag_ms=1.0, meta={"accounting": {"duplicate_reports": 2}}))
    assert verdict.status == "PASS"
    assert gate(verdict, "read lag p99")[::2] == (False, "warning")
    assert gate(verdict, "extra reports") == (False, "2 repeated, 0 foreign", "note")
    users_clock = judged(changed(read_lag_ms=1.0, meta={"clock": "user"}))
    assert users_clock.status == "INVALID"
    assert gate(users_clock, "read lag p99")[::2] == (False, "invalid")


def test_bursts_of_the_server_are_not_the_generators_fault(judged: Judge) -> None:
    ok, found, severity = gate(judged(changed(coalesced_share=0.2)), "coalesced chunks")
    assert (ok, severity) == (False, "note")
    assert "sent within" in found


def test_a_busy_worker_is_a_warning_only_when_it_lasts(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", GOOD)
    rows = [line.split(",") for line in (path / "timeline.csv").read_text().splitlines()]
    for lasting, expected in ((2, True), (3, False)):
        for row in rows[15 : 15 + lasting]:
            row[8] = "0.97"
        (path / "timeline.csv").write_text("\n".join(map(",".join, rows)) + "\n")
        verdict = judge(load(path), SLA)
        assert gate(verdict, "CPU, sustained 3 s")[::2] == (expected, "warning")
        assert verdict.status == "PASS"


def test_lost_records_and_lost_gaps_are_invalid(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", GOOD)
    shutil.copytree(path, tmp_path / "other")
    lines = (path / "requests.csv").read_text().splitlines(keepends=True)
    (path / "requests.csv").write_text("".join(lines[:-1]))
    verdict = judge(load(path), SLA)
    assert verdict.status == "INVALID"
    assert "records = rows" in {reason.split(":")[0] for reason in verdict.reasons}
    log = (tmp_path / "other" / "itl.hlog").read_text().splitlines(keepends=True)
    (tmp_path / "other" / "itl.hlog").write_text("".join(log[:-1]))
    verdict = judge(load(tmp_path / "other"), SLA)
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["gaps = itl.hlog"]


# Exact figures, from requests that are written down one by one


@pytest.mark.parametrize(("column", "time_ns"), [("sent_ns", -2 * MS), ("last_ns", 1), ("end_ns", 20 * MS)])
def test_a_time_before_an_earlier_one_is_invalid(tmp_path: Path, column: str, time_ns: int) -> None:
    requests = every_tenth_of_a_second([30.0] * 400)
    record, gaps = requests[200]
    requests[200] = (record._replace(**{column: time_ns}), gaps)
    verdict = judge_requests(tmp_path / "run", requests, "ttft p95 < 100 ms")
    assert verdict.status == "INVALID"
    assert gate(verdict, "times in order") == (False, "1 of 400 not", "invalid")
    assert f"times in order: found 1 of 400 not, limit all; {REMEDIES['times in order']}" in verdict.reasons


def test_a_request_that_never_got_a_token_has_its_times_in_order(tmp_path: Path) -> None:
    requests = every_tenth_of_a_second([30.0] * 400, {7: "connect", 9: "cancelled"})
    record, gaps = requests[200]
    requests[200] = (record._replace(sent_ns=33 * MS), gaps)  # Python looked at the clock a little late
    verdict = judge_requests(tmp_path / "run", requests, "ttft p95 < 100 ms")
    assert gate(verdict, "times in order")[0]


def judge_requests(path: Path, requests: Requests, *objectives: str, **changes: Any) -> Verdict:
    small = Load(seconds=40, warmup_s=0, **changes)
    return judge(load(write_run(path, small, requests)), sla_of(*objectives))


def every_tenth_of_a_second(ttfts_ms: list[float], outcomes: dict[int, str] | None = None) -> Requests:
    gaps_ms = [5.0, 6.0, 7.0]
    requests: Requests = []
    for i, ttft_ms in enumerate(ttfts_ms):
        outcome = (outcomes or {}).get(i, "ok")
        record = make_record(START_S * 10**9 + i * 100 * MS, ttft_ms, gaps_ms, outcome)
        requests.append((record, [int(gap * MS) for gap in gaps_ms][: record.gaps]))
    return requests


def shuffled(values: list[float]) -> list[float]:
    return [float(value) for value in np.random.default_rng(1).permutation(values)]


def test_bad_events_are_at_or_above_a_strict_limit_and_above_a_loose_one(tmp_path: Path) -> None:
    ttfts = shuffled([50.0] * 380 + [100.0] * 20)
    verdict = judge_requests(
        tmp_path, every_tenth_of_a_second(ttfts), "ttft p95 < 100 ms", "ttft p95 <= 100 ms"
    )
    strict, loose = verdict.objectives
    assert (strict.n, strict.bad, loose.bad) == (400, 20, 0)
    assert strict.observed == loose.observed == 50.0
    assert strict.margin == 0.5
    assert loose.bound_high is not None
    assert loose.status == "PASS"
    assert strict.status == "INCONCLUSIVE"
    assert strict.bound_low is not None
    assert strict.bound_low < 0.05 < (strict.bound_high or 0)


def test_a_failed_request_is_infinitely_late_and_both_readings_are_given(tmp_path: Path) -> None:
    requests = every_tenth_of_a_second([50.0] * 400, dict.fromkeys(range(0, 400, 10), "http_5xx"))
    verdict = judge_requests(tmp_path, requests, "ttft p95 < 100 ms", "itl p95 < 20 ms", "e2e p50 < 1 s")
    ttft, itl, e2e = verdict.objectives
    assert (ttft.n, ttft.bad, ttft.status) == (400, 40, "FAIL")
    assert ttft.observed == math.inf
    assert ttft.observed_ok_only == 50.0
    assert (itl.n, itl.bad) == (360 * 3 + 40, 40)  # an infinite gap each
    assert itl.observed == pytest.approx(7.0, rel=1e-3)
    assert e2e.observed == e2e.observed_ok_only == pytest.approx(68.1)
    assert verdict.to_json()["objectives"][0]["observed"] == "inf"
    (scenario,) = verdict.scenarios
    assert scenario.failed == {"http_5xx": 40}
    assert scenario.latencies is not None
    assert scenario.latencies["ttft"].all["p90"] == 50.0
    assert scenario.latencies["ttft"].all["p95"] == math.inf
    assert scenario.latencies["ttft"].ok["p95"] == 50.0
    assert scenario.latencies["ttft"].all["p99.9"] is None
    assert scenario.latencies["itl"].n == 360 * 3 + 40


def test_what_the_end_of_the_run_cancelled_is_undecided(tmp_path: Path) -> None:
    requests = every_tenth_of_a_second([50.0] * 400, dict.fromkeys(range(0, 400, 20), "cancelled"))
    limits = ("ttft p95 < 1 s", "ttft p95 < 100 ms", "error_rate < 1 %", "goodput(e2e < 1 s) >= 97 %")
    long, short, errors, good = judge_requests(tmp_path, requests, *limits).objectives
    assert (long.bad, long.undecided) == (0, 20)
    assert (short.bad, short.undecided) == (20, 0)  # they had waited for 500 ms
    assert (errors.bad, errors.undecided, errors.status) == (0, 20, "INCONCLUSIVE")
    assert (good.bad, good.undecided) == (0, 20)
    assert "cannot be told" in good.reason


def test_an_answer_without_usage_leaves_tpot_undecided(tmp_path: Path) -> None:
    requests = [
        (record._replace(output_tokens=None), gaps) for record, gaps in every_tenth_of_a_second([50.0] * 400)
    ]
    tpot, good = judge_requests(
        tmp_path, requests, "tpot p90 < 30 ms", "goodput(tpot < 30 ms) >= 90 %"
    ).objectives
    for result in (tpot, good):
        assert (result.n, result.bad, result.undecided) == (400, 0, 400)
        assert result.status == "INCONCLUSIVE"


def test_an_answer_of_one_token_has_no_tpot_and_misses_nothing(tmp_path: Path) -> None:
    requests: Requests = []
    for i, (record, gaps) in enumerate(every_tenth_of_a_second([50.0] * 400)):
        one = {"output_tokens": 1, "chunks": 1, "gaps": 0, "gap_sum_ns": 0, "gap_max_ns": 0}
        requests.append((record._replace(**one), []) if i % 2 else (record, gaps))
    verdict = judge_requests(
        tmp_path, requests, "tpot p90 < 30 ms", "max_gap p90 < 30 ms", "goodput(tpot < 30 ms) >= 90 %"
    )
    assert [result.n for result in verdict.objectives] == [200, 200, 400]
    assert [result.status for result in verdict.objectives] == ["PASS"] * 3
    assert verdict.objectives[0].observed == 6.0  # 18 ms over three gaps
    assert verdict.objectives[1].observed == 7.0


def test_gaps_in_the_limits_bin_are_undecided(tmp_path: Path) -> None:
    requests = every_tenth_of_a_second([50.0] * 400)
    limit_ms = 7.00005  # the bin from 6.995968 to 7.000063 ms holds both it and the gaps of 7 ms
    (result,) = judge_requests(tmp_path, requests, f"itl p99 < {limit_ms} ms").objectives
    assert (result.bad, result.undecided) == (0, 400)
    assert result.status == "INCONCLUSIVE"
    assert "400 of 1,200 cannot be told from the limit" in result.reason
    assert result.resolution == pytest.approx(0.004096)


def test_a_mean_is_judged_by_batches_and_forbidden_by_failures(tmp_path: Path) -> None:
    ttfts = shuffled(list(np.linspace(40, 60, 400)))
    limits = ("ttft mean < 55 ms", "ttft mean < 45 ms", "itl mean < 7 ms")
    passes, fails, gaps = judge_requests(tmp_path / "a", every_tenth_of_a_second(ttfts), *limits).objectives
    assert passes.observed == pytest.approx(50.0)
    assert [passes.status, fails.status, gaps.status] == ["PASS", "FAIL", "PASS"]
    assert gaps.observed == pytest.approx(6.0)
    assert passes.bound_low is not None
    assert passes.bound_low < 50 < (passes.bound_high or 0) < 51
    failing = every_tenth_of_a_second(ttfts, {7: "http_5xx"})
    passes, fails, _ = judge_requests(tmp_path / "b", failing, *limits).objectives
    assert (passes.status, fails.status) == ("INCONCLUSIVE", "FAIL")
    assert passes.observed == math.inf
    assert "there is no mean" in passes.reason


def test_a_mean_of_gaps_over_tokens_is_judged_by_seconds(tmp_path: Path) -> None:
    path = write_run(tmp_path, GOOD)
    shutil.copy(path / "itl.hlog", path / "itl_token.hlog")  # a token in each chunk
    passes, fails = judge(load(path), sla_of("itl_token mean < 8.2 ms", "itl_token mean < 7.9 ms")).objectives
    assert [passes.status, fails.status] == ["PASS", "FAIL"]
    assert passes.n_eff is not None
    assert 10 <= passes.n_eff <= 25
    error = mean_error(passes.bound_low, passes.bound_high, passes.n_eff, SECONDS)
    bounds = t_bounds(passes.observed or 0.0, error or 0.0, passes.n_eff / 6 - 1, (0.95, 0.96))
    assert (passes.bound_low, passes.bound_high) == pytest.approx(bounds)
    together, spread = pooled([passes, passes])
    assert spread.sd_within == pytest.approx(error)
    bounds = t_bounds(passes.observed or 0.0, (error or 0.0) / 2**0.5, passes.n_eff / 3 - 1, (0.95, 0.96))
    assert (together.bound_low, together.bound_high) == pytest.approx(bounds)


def test_too_few_seconds_of_gaps_over_tokens_are_told(tmp_path: Path) -> None:
    path = write_run(tmp_path, changed(seconds=9))
    shutil.copy(path / "itl.hlog", path / "itl_token.hlog")
    (found,) = judge(load(path), sla_of("itl_token mean < 20 ms")).objectives
    assert (found.status, found.bound_high) == ("INCONCLUSIVE", None)
    assert "independent seconds, and the least is 10" in found.reason


def test_a_moving_clock_leaves_values_near_the_limit_undecided(tmp_path: Path) -> None:
    requests = every_tenth_of_a_second([50.0] * 200 + [99.8] * 200)
    requests = [(record._replace(clock_jump_ns=-500_000), gaps) for record, gaps in requests]
    (result,) = judge_requests(tmp_path, requests, "ttft p40 < 100 ms").objectives
    assert (result.bad, result.undecided) == (0, 200)
    assert result.resolution == 0.5


def test_scenarios_are_summarised_apart(tmp_path: Path) -> None:
    requests = every_tenth_of_a_second([50.0] * 400)
    requests = [
        (r._replace(scenario="long, chat" if i % 4 else "short"), g) for i, (r, g) in enumerate(requests)
    ]
    long, short = judge_requests(tmp_path, requests, "ttft p95 < 1 s").scenarios
    assert (long.scenario, long.n, short.scenario, short.n) == ("long, chat", 300, "short", 100)
    assert long.requests_per_s == pytest.approx(7.5)
    assert long.output_tokens_per_s == pytest.approx(30.0)
    assert long.tokens_per_chunk == 1.0
    assert long.latencies is not None
    assert long.latencies["itl"].n == 900
    assert long.latencies["itl"].all["p50"] == pytest.approx(6.0, rel=1e-3)
    assert long.latencies["dispatch_lag"].all["max"] == 0.02


# Laws and files


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.3))
def test_a_worse_sample_never_turns_fail_into_pass(seed: int, slowed: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.exponential(rng.uniform(3, 20), 300)
    worse = values + rng.exponential(5, 300) * (rng.random(300) < slowed)

    def status(series: NDArray[np.float64]) -> str:
        bad = series >= 10
        tally = share_tally(bad, bad, [series], 0.3)
        lower, upper = tally.bounds()
        return "PASS" if upper < 0.3 else "FAIL" if lower >= 0.3 else "INCONCLUSIVE"

    assert (status(values), status(worse)) != ("FAIL", "PASS")


@pytest.mark.parametrize(
    "changes",
    [{}, {"failures": {"connect": 1.0}}, {"rate": 0.0}, {"ttft_rise_ms": 3000.0, "in_flight_rise": 300.0}],
)
def test_the_verdict_file_is_strict_json(judged: Judge, tmp_path: Path, changes: dict[str, Any]) -> None:
    verdict = judged(changed(**changes))
    path = write_verdict(verdict, tmp_path / "verdict.json")

    def no_constant(found: str) -> None:
        raise AssertionError(found)

    found = json.loads(path.read_text(), parse_constant=no_constant)
    assert found["schema"] == 1
    assert found["status"] == verdict.status
    assert found["exit_code"] == EXIT_CODES[verdict.status]
    assert found == verdict.to_json()
    assert list(tmp_path.iterdir()) == [path]


def test_all_failed_is_a_fail(judged: Judge) -> None:
    verdict = judged(changed(failures={"connect": 1.0}))
    assert verdict.status == "FAIL"
    assert result_of(verdict, "ttft").observed == math.inf
    assert result_of(verdict, "ttft").observed_ok_only is None


def test_junit_has_a_case_per_objective_and_one_for_the_instrument(judged: Judge, tmp_path: Path) -> None:
    verdict = judged(changed(failures={"http_5xx": 0.03}, name="a\x00<b>"))
    suite = ET.parse(write_junit(verdict, tmp_path / "junit.xml")).getroot()[0]  # noqa: S314 - our own file
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "1", "0")
    assert [case.get("name") for case in suite] == [*(one.text for one in verdict.objectives), "instrument"]
    assert [len(case) for case in suite] == [result.status != "PASS" for result in verdict.objectives] + [
        False
    ]
    broken = judged(changed(meta={"accounting": {"unaccounted": 1}}))
    suite = ET.parse(write_junit(broken, tmp_path / "junit.xml")).getroot()[0]  # noqa: S314 - our own file
    assert suite.get("errors") == "1"
    assert suite[-1][0].get("type") == "INVALID"


def test_an_sla_of_quality_alone_decides_nothing_about_a_run(judged: Judge) -> None:
    found = judged(Load(), Sla("quality alone", ()))
    assert (found.status, found.exit_code) == ("INCONCLUSIVE", 4)
    assert found.reasons == ("the SLA has no objectives, only limits of quality",)
