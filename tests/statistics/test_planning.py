import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.blocks import paired_ratio
from analysis.planning import Earlier, Supposed, blocks_needed, need
from analysis.pooled_worth import MIN_RUNS
from analysis.power import POWER, independent_needed, power
from analysis.sla import parse_objective
from analysis.statistics import (
    CLUSTERS_PER_DEGREE,
    MIN_CLUSTERS,
    POOL_LEVELS,
    freedom,
    share_bounds,
    small_sample_factor,
)
from tests.statistics.results import averaged, counted

SUPPOSED = Supposed(rate_per_s=20, run_s=60, part=0.5, tau=10)
P95 = parse_objective("ttft p95 < 100 ms")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([0.05, 0.01, 0.001]),
    st.one_of(st.floats(0, 0.8), st.floats(1.3, 3.0)),
)
def test_what_is_planned_decides_in_80_of_100_cases(allowed: float, part: float) -> None:
    n = independent_needed(part * allowed, allowed)
    assert n is not None
    bad = np.random.default_rng(1).binomial(n, part * allowed, 4000)
    values, times = np.unique(bad, return_counts=True)
    bounds = [share_bounds(int(value), int(value), n) for value in values]
    decided = [upper < allowed if part < 1 else lower >= allowed for lower, upper in bounds]
    share = float(times[decided].sum()) / 4000
    assert share == pytest.approx(power(n, part * allowed, allowed), abs=0.025)
    assert share > POWER - 0.025
    assert power(n // 2, part * allowed, allowed) < POWER


def test_no_number_tells_the_allowed_share_from_itself() -> None:
    assert independent_needed(0.05, 0.05) is None
    found = need(P95, replace(SUPPOSED, part=1.0), None)
    assert (found.requests, found.runs) == (None, None)
    assert "never told" in found.reason


def test_a_run_that_sees_what_it_expects_is_no_plan() -> None:
    # 299 requests without a late one show p99, but that there is none is only probable where none are late.
    assert independent_needed(0.0, 0.01) == pytest.approx(299, rel=0.02)
    halved = independent_needed(0.005, 0.01)
    assert halved is not None
    assert halved > 5 * 299


def test_too_many_are_shown_by_what_a_lower_bound_needs() -> None:
    """It pays for no estimate, and knows of an earlier run how its bad ones came together."""
    worse = replace(SUPPOSED, part=2.0)
    found = need(P95, worse, None)
    assert found.independent is not None
    assert found.requests == pytest.approx(found.independent * SUPPOSED.tau, abs=SUPPOSED.tau)
    n, degrees = 10_000, freedom(1000)
    result = counted(
        n=n, bad=1000, n_eff=1000 * small_sample_factor(degrees), n_eff_low=2000.0, degrees=degrees
    )
    assert need(P95, worse, Earlier(result, n)).requests == pytest.approx(found.independent * 5, abs=5)


def test_dependence_costs_requests_and_rate_saves_minutes() -> None:
    one = need(P95, SUPPOSED, None)
    slow = need(P95, replace(SUPPOSED, rate_per_s=10), None)
    alike = need(P95, replace(SUPPOSED, tau=20), None)
    assert one.requests is not None
    assert one.minutes == pytest.approx(one.requests / 20 / 60)
    assert (slow.requests, slow.minutes) == (one.requests, pytest.approx(2 * (one.minutes or 0)))
    assert alike.requests == 2 * one.requests


@pytest.mark.parametrize("percentile", [50, 95, 99])
def test_what_is_planned_pays_for_the_estimate_of_what_requests_are_worth(percentile: int) -> None:
    found = need(parse_objective(f"ttft p{percentile} < 100 ms"), SUPPOSED, None)
    assert found.independent is not None
    assert found.requests is not None
    worth = found.requests / SUPPOSED.tau
    assert worth * small_sample_factor(freedom(worth)) == pytest.approx(found.independent, abs=3)


@pytest.mark.parametrize("tau", [1.0, 10.0, 20.0])
def test_replications_make_up_for_being_few(tau: float) -> None:
    found = need(P95, replace(SUPPOSED, tau=tau), None)
    assert found.independent is not None
    assert found.runs is not None
    assert found.runs >= MIN_RUNS
    each = 20 * 60 / tau
    assert found.runs * each * small_sample_factor(found.runs - 1, POOL_LEVELS[1]) >= found.independent
    fewer = (found.runs - 1) * each * small_sample_factor(found.runs - 2, POOL_LEVELS[1])
    assert found.runs == MIN_RUNS or fewer < found.independent


def test_replications_too_short_to_be_judged_are_told_how_long_they_must_be() -> None:
    found = need(P95, replace(SUPPOSED, tau=100), None)  # each is worth 12
    assert found.runs is None
    length = re.search(r"make them (\d+) s at least", found.reason)
    assert length is not None
    long, short = (
        need(P95, replace(SUPPOSED, tau=100, run_s=int(length[1]) - less), None) for less in (0, 1)
    )
    assert (long.reason, short.runs) == ("", None)
    assert long.runs is not None


@pytest.mark.parametrize("seconds", [60, 6000])
def test_what_an_earlier_run_knew_of_its_worth_is_not_what_the_planned_one_will(seconds: int) -> None:
    n, tau = 20 * seconds, 4.0
    degrees = freedom(n / tau)
    result = counted(n=n, bad=n // 100, n_eff=n / tau * small_sample_factor(degrees), degrees=degrees)
    assert need(P95, SUPPOSED, Earlier(result, n)) == need(P95, replace(SUPPOSED, tau=tau), None)


def test_gaps_of_a_faster_load_have_no_more_seconds() -> None:
    """Measured at 20 requests/s, planned at 200: a second holds ten times as many and stays a cluster."""
    degrees = freedom(1000, CLUSTERS_PER_DEGREE)
    gaps = counted("itl p95 < 20 ms", n=100_000, bad=300, n_eff=40_000.0, degrees=degrees)
    found = need(parse_objective("itl p95 < 20 ms"), replace(SUPPOSED, rate_per_s=200), Earlier(gaps, 20_000))
    assert found.minutes is not None
    assert found.minutes * 60 >= MIN_CLUSTERS


def test_a_mean_is_planned_from_an_earlier_run_only() -> None:
    objective = parse_objective("ttft mean < 100 ms")
    alone = need(objective, SUPPOSED, None)
    assert (alone.independent, "earlier run" in alone.reason) == (None, True)
    on = need(objective, SUPPOSED, Earlier(averaged(100.0, n_eff=400.0, bounds=(98, 102)), 1000))
    assert "no number decides" in on.reason
    near = need(objective, SUPPOSED, Earlier(averaged(100.0001, n_eff=400.0, bounds=(98, 102)), 1000))
    assert (near.independent, near.runs, "never told" in near.reason) == (None, None, True)


@pytest.mark.parametrize(("cv", "formula"), [(0.03, 6), (0.05, 16), (0.10, 63)])
def test_paired_blocks_show_a_difference_as_often_as_planned(cv: float, formula: int) -> None:
    # The formula is 2 (1.96 + 0.84)^2 (CV / 5 %)^2, which takes the scatter as known and ln 1.05 as 0.05.
    blocks = blocks_needed(0.05, cv)
    assert blocks is not None
    assert formula <= blocks <= 1.06 * formula + 3
    rng, runs = np.random.default_rng(8), 2000

    def shown(count: int) -> float:
        values = np.exp(cv * rng.standard_normal((runs, 2, count)))
        values[:, 0] *= 1.05
        p = [paired_ratio(candidate, baseline).p for candidate, baseline in values]
        return sum(one is not None and one < 0.05 for one in p) / runs

    found, short = shown(blocks), shown(max(2, blocks // 2))
    print(
        f"\nCV {cv:.0%}, 5 %: {blocks} blocks (formula {formula}), shown in {found:.1%} (half: {short:.1%})"
    )
    assert found > POWER - 0.03  # three standard errors
    assert short < POWER


@pytest.mark.parametrize(("cv", "blocks"), [(0.0005, 2), (5.0, None)])
def test_blocks_at_the_ends(cv: float, blocks: int | None) -> None:
    assert blocks_needed(0.05, cv) == blocks
