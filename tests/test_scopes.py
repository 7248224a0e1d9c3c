"""Objectives about a scenario, a part of the window, or each stretch of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.objective import ObjectiveResult
from analysis.rundir import load
from analysis.several import failing_share, more_events, reach
from analysis.sla import Sla, parse_objective
from analysis.statistics import share_bounds
from analysis.verdict import Verdict, judge, write_verdict
from tests.run_directories import MS, START_S, Load, Requests, make_record, write_run

GAPS_MS = [5.0, 6.0, 7.0]
KINDS = (
    "ttft p90 < 100 ms",
    "itl p99 < 20 ms",
    "ttft mean < 100 ms",
    "itl mean < 20 ms",
    "max_gap p90 < 20 ms",
    "error_rate < 10 %",
    "error_budget 10 % of 2 days",
    "goodput(ttft < 100 ms, tpot < 20 ms) >= 90 %",
    "requests_per_s >= 1",
    "output_tokens_per_s >= 1",
)


def one(second: float, ttft_ms: float = 50.0, scenario: str = "chat", outcome: str = "ok") -> Requests:
    """Return a request that is due so many seconds after the start, in a list."""
    record = make_record(START_S * 10**9 + round(second * 1e9), ttft_ms, GAPS_MS, outcome)
    return [(record._replace(scenario=scenario), [int(gap * MS) for gap in GAPS_MS][: record.gaps])]


def steady(seconds: int, *, scenario: str = "chat", seed: int = 1, slow: range = range(0), a_second: int = 10) -> Requests:
    """Return requests of 40 to 60 ms, and of ten times that in the slow seconds; every 50th fails."""
    ttfts = np.random.default_rng(seed).uniform(40, 60, seconds * a_second)
    requests: Requests = []
    for i, ttft in enumerate(ttfts.tolist()):
        late = 10 if i // a_second in slow else 1
        requests += one(i / a_second, ttft * late, scenario, "ok" if i % 50 else "http_5xx")
    return requests


def judged(path: Path, requests: Requests, *objectives: str, seconds: int = 120, **changes: object) -> Verdict:
    found = Load(seconds=seconds, warmup_s=0, meta=dict(changes))
    return judge(load(write_run(path, found, requests)), Sla("test", tuple(map(parse_objective, objectives))))


def without_place(result: ObjectiveResult) -> ObjectiveResult:
    return replace(result, text="", scope="", start_s=None, end_s=None)


def test_a_scenario_is_judged_as_if_it_had_run_alone(tmp_path: Path) -> None:
    chat, long = steady(120), steady(120, scenario="long, slow", seed=2, slow=range(120))
    mixed = judged(tmp_path / "a", chat + long, *(f'{kind} in "long, slow"' for kind in KINDS)).objectives
    alone = judged(tmp_path / "b", long, *KINDS).objectives
    assert [without_place(result) for result in mixed] == [without_place(result) for result in alone]
    assert {result.scope for result in mixed} == {'in "long, slow"'}
    assert [result.status for result in mixed[:3]] == ["FAIL", "PASS", "INCONCLUSIVE"]
    (fast,) = judged(tmp_path / "c", chat + long, "ttft p90 < 100 ms in chat").objectives
    assert (fast.status, fast.n) == ("PASS", 1200)


def test_a_part_of_the_window_is_judged_as_if_the_window_ended_there(tmp_path: Path) -> None:
    requests = steady(240, slow=range(130, 240))
    parts = judged(tmp_path / "a", requests, *(f"{kind} from 10 s to 130 s" for kind in KINDS), seconds=240)
    start = (START_S + 10) * 10**9
    window = {"start_unix_ns": start, "end_unix_ns": start + 120 * 10**9}
    whole = judged(tmp_path / "b", requests, *KINDS, seconds=240, window=window)
    # A part that has its end in the SLA does not grow with the run.
    expected = [replace(without_place(r), more_requests=None, more_minutes=None, reason="") for r in whole.objectives]
    assert [replace(without_place(result), reason="") for result in parts.objectives] == expected
    assert {(r.start_s, r.end_s, r.scope) for r in parts.objectives} == {(10.0, 130.0, "from 10 s to 130 s")}


def test_a_part_that_begins_within_a_second_leaves_that_seconds_gaps_out(tmp_path: Path) -> None:
    (gaps,) = judged(tmp_path, steady(60), "itl p50 < 20 ms from 10.5 s to 20.5 s", seconds=60).objectives
    failed = sum(10.5 <= second < 20.5 for second in range(0, 60, 5))
    assert gaps.n == 9 * 10 * 3 - failed * 3 + failed


def test_every_stretch_must_hold_and_the_worst_is_told(tmp_path: Path) -> None:
    requests = steady(120, slow=range(60, 90))
    (every,) = judged(tmp_path / "a", requests, "ttft p80 < 100 ms every 30 s").objectives
    assert every.status == "FAIL"
    assert (every.start_s, every.end_s, every.stretches, every.n) == (60.0, 90.0, 4, 300)
    assert every.reason.startswith("from 60 s to 90 s, the worst of 4 stretches (1 FAIL, 3 PASS): at least ")
    (whole, part) = judged(
        tmp_path / "b", requests, "ttft p80 < 100 ms", "ttft p80 < 100 ms from 60 s to 90 s"
    ).objectives
    assert whole.status == "FAIL" if whole.bad == whole.n else "INCONCLUSIVE"
    assert part.bound_low is not None
    assert every.bound_low == pytest.approx(failing_share(every.bad or 0, every.n_eff or 0, 4))
    assert every.bound_low < part.bound_low
    assert every.bound_high == part.bound_high


def test_all_stretches_good_is_a_pass_of_the_one_nearest_to_the_limit(tmp_path: Path) -> None:
    requests = steady(120)
    requests[777] = one(77.7, 500.0)[0]
    (every,) = judged(tmp_path, requests, "ttft p80 < 100 ms every 30 s in chat").objectives
    assert every.status == "PASS"
    assert every.start_s == 60.0
    assert every.scope == 'in "chat" every 30 s'
    assert "the worst of 4 stretches (4 PASS): at most" in every.reason


def test_a_stretch_that_is_too_short_says_how_long_it_must_be(tmp_path: Path) -> None:
    (every,) = judged(tmp_path, steady(120), "ttft p95 < 100 ms every 5 s").objectives
    assert every.status == "INCONCLUSIVE"
    assert (every.more_requests, every.more_minutes) == (None, None)
    assert "no valid interval: worth 50 independent requests, needs 100; needs a window of about" in every.reason


def test_a_window_that_ends_early_cannot_pass(tmp_path: Path) -> None:
    limits = ("ttft p80 < 100 ms to 200 s", "ttft p80 < 20 ms to 200 s", "ttft p80 < 100 ms to 200 s every 30 s")
    passing, failing, every = judged(tmp_path, steady(120), *limits).objectives
    assert [result.status for result in (passing, failing, every)] == ["INCONCLUSIVE", "FAIL", "INCONCLUSIVE"]
    for result in (passing, failing, every):
        assert result.reason.endswith("; the window ends after 120 s")
    assert (every.stretches, passing.end_s) == (4, 120.0)


@pytest.mark.parametrize(
    ("clauses", "reason"),
    [
        ("in chatt", "no data: found no scenario 'chatt', expected chat or long; did you mean 'chat'?"),
        ("in chatt every 30 s", "no data: found no scenario 'chatt'"),
        ("from 120 s", "no data: the window ends after 120 s"),
        ("from 90 s every 60 s", "no data: found 30 s, expected at least one whole stretch of 60 s"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_no_data(tmp_path: Path, kind: str, clauses: str, reason: str) -> None:
    requests = [*steady(120), *one(7.0, scenario="long")]
    (result,) = judged(tmp_path, requests, f"{kind} {clauses}").objectives
    assert result.status == "INCONCLUSIVE"
    assert result.reason.startswith(reason)
    assert (result.n, result.observed, result.bound_high, result.budget_used) == (0, None, None, None)


def test_gaps_that_are_logged_under_one_name_are_not_taken_for_one_scenarios(tmp_path: Path) -> None:
    requests = [*steady(60, scenario="a b"), *steady(60, scenario="a_b", slow=range(60))]
    limits = ("itl p99 < 20 ms in 'a b'", "max_gap p80 < 20 ms in 'a b'", "itl p99 < 20 ms")
    gaps, worst, both = judged(tmp_path, requests, *limits, seconds=60).objectives
    assert gaps.reason == "no data: the gaps of 'a b' and 'a_b' are logged under one name"
    assert (worst.n, both.n) == (600, 2 * (588 * 3 + 12))


def test_of_many_stretches_just_at_the_limit_few_runs_fail_or_pass() -> None:
    rng, runs, stretches, n, allowed = np.random.default_rng(5), 4000, 10, 400, 0.05
    counts = rng.binomial(n, allowed, (runs, stretches))
    known = range(int(counts.max()) + 1)
    plain = np.array([share_bounds(bad, bad, n) for bad in known])
    lower = np.array([failing_share(bad, n, stretches) for bad in known])
    assert (lower <= plain[:, 0]).all()
    fails = (lower[counts] >= allowed).any(axis=1).mean()
    careless = (plain[counts, 0] >= allowed).any(axis=1).mean()
    good = rng.binomial(n, 0.001, (runs, stretches))
    good[:, 3] = counts[:, 3]  # nine are far from the limit: a PASS hangs on the one that is not
    passes = (plain[np.minimum(good, known[-1]), 1] < allowed).all(axis=1).mean()
    print(f"false FAIL {fails:.1%} (without correction {careless:.1%}), false PASS {passes:.1%}")
    assert fails <= 0.05
    assert passes <= 0.055  # 5 % and twice the error of 4000 runs
    assert careless > 0.2


def test_one_test_needs_no_correction() -> None:
    assert failing_share(20, 400, 1) == pytest.approx(share_bounds(20, 20, 400)[0])
    assert (reach(9, 1), more_events(1)) == (1.0, 1.0)
    assert reach(9, 10) > reach(9, 2) > 1


# Budgets


def test_a_budget_is_the_bad_share_of_what_is_allowed(tmp_path: Path) -> None:
    limits = ("error_rate < 10 %", "error_budget 10 % of 30 days", "ttft p90 < 100 ms", "ttft mean < 1 s")
    rate, budget, ttft, mean = judged(tmp_path, steady(120), *limits).objectives
    assert rate.budget_used == budget.budget_used == ttft.budget_used == pytest.approx(0.2)
    for result in (rate, budget, ttft):
        assert result.bound_low is not None
        assert result.bound_high is not None
        assert result.budget_low == pytest.approx(result.bound_low / 0.1)
        assert result.budget_high == pytest.approx(result.bound_high / 0.1)
    assert (budget.metric, budget.status) == ("error_budget", "PASS")
    assert budget.budget_lasts_h == pytest.approx(720 / 0.2)
    assert "; at this rate the budget of 30 days is used to at most 29" in budget.reason
    assert (rate.budget_lasts_h, mean.budget_used) == (None, None)


def test_a_budget_that_is_overdrawn_says_when_it_is_used_up(tmp_path: Path) -> None:
    (budget,) = judged(tmp_path, steady(120), "error_budget 0.1 % of 30 days").objectives
    assert budget.status == "FAIL"
    assert budget.budget_used == pytest.approx(20)
    assert budget.budget_lasts_h == pytest.approx(36)
    low, high = 720 / (budget.budget_high or 0), 720 / (budget.budget_low or 0)
    assert low < 36 < high
    words = f"lasts at least {low:.3g} h, at most {high / 24:.3g} days"
    assert budget.reason.endswith(f"; at this rate the budget of 30 days {words}")


def test_without_a_failure_a_budget_lasts_for_ever(tmp_path: Path) -> None:
    requests = [pair for pair in steady(120) if pair[0].outcome == "ok"]
    verdict = judged(tmp_path, requests, "error_budget 10 % of 2 h")
    assert verdict.objectives[0].budget_lasts_h == float("inf")
    assert verdict.to_json()["objectives"][0]["budget_lasts_h"] == "inf"


def test_an_oversaturated_run_has_used_no_budget(tmp_path: Path) -> None:
    saturated = Load(seconds=40, warmup_s=3, rate=40, tokens=6, ttft_rise_ms=3000.0, in_flight_rise=300.0)
    objectives = tuple(map(parse_objective, (*KINDS, "ttft p95 < 1 s every 10 s")))
    verdict = judge(load(write_run(tmp_path, saturated)), Sla("test", objectives))
    assert verdict.status == "OVERSATURATED"
    assert {result.observed for result in verdict.objectives} == {None}
    assert {(r.budget_used, r.budget_high, r.budget_lasts_h) for r in verdict.objectives} == {(None, None, None)}


def test_the_verdict_file_holds_the_parts_and_is_the_same_each_time(tmp_path: Path) -> None:
    limits = (*KINDS, *(f"{kind} in chat from 5 s every 20 s" for kind in KINDS))
    files = [
        write_verdict(judged(tmp_path / name, steady(120), *limits), tmp_path / f"{name}.json") for name in "ab"
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    found = json.loads(files[0].read_text())["objectives"]
    assert [one["scope"] for one in found] == [""] * len(KINDS) + ['in "chat" from 5 s every 20 s'] * len(KINDS)
    assert {one["stretches"] for one in found[len(KINDS) :]} == {5}
