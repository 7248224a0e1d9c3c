"""Coverage of every interval that is printed, on queues whose truth is known.

    pytest tests/statistics/test_coverage.py -s             a few figures
    pytest tests/statistics/test_coverage.py -s -m table    the table

Nominal are 95 % for each bound, and so 90 % or more for both together: an upper bound that covers less often
would let a bad server PASS, a lower one would FAIL a good one. What is asserted are 93 % for each, and at
most 98 for the upper one and 99 for the lower one, give and take three standard errors of the simulation.
Counts of too few cover more: no bad one of 100 requests leaves 3 % possible, so the upper bound of a p99
holds whatever was seen.
"""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.objective import ObjectiveResult
from analysis.samples import share_tally
from analysis.statistics import runs_bounds, share_bounds
from tests.marks import more
from tests.statistics.coverage import (
    Bounds,
    bounds_of,
    can_be_missed,
    covered,
    of_gap_mean,
    of_gaps,
    of_mean,
    of_share,
    together,
)
from tests.statistics.queues import Batching, batching, mm1, mm1_quantile

SINGLE = [
    (0.01, 5000),  # nearly independent
    (0.2, 2000),
    (0.5, 300),  # worth 30 to 40 independent requests; the next 60 to 80
    (0.5, 600),
    (0.5, 1500),
    (0.5, 4000),
    (0.8, 2000),
    (0.8, 8000),
    (0.8, 20_000),
    (0.9, 10_000),
    (0.9, 40_000),
]
POOLED = [
    (0.5, 1500, 2),
    (0.8, 2000, 3),
    (0.8, 4000, 4),
    (0.5, 300, 5),
    (0.5, 1500, 5),
    (0.8, 1500, 5),
    (0.8, 4000, 5),
    (0.8, 4000, 10),
    (0.9, 8000, 5),
]


def check(
    what: str, results: Sequence[ObjectiveResult], truth: float, *, most: bool = False, least: float = 0.93
) -> None:
    """Print what is covered of the bounds that were given: refused ones do not count.

    `most` says whether an upper bound that always holds would be a fault, as it is not for a mean over
    requests: that level is what runs of few independent values need, and too high for many.
    """
    found = covered(what, [bounds_of(one) for one in results], truth)
    given = max(1.0, found.given * len(results))
    least -= 3 * np.sqrt(0.93 * 0.07 / given)
    assert found.upper >= least
    assert found.lower >= least
    if most:
        assert found.upper <= 0.98 + 3 * np.sqrt(0.98 * 0.02 / given)
        assert found.lower <= 0.99 + 3 * np.sqrt(0.99 * 0.01 / given)


def check_counts(what: str, results: Sequence[ObjectiveResult], allowed: float) -> None:
    """The same of shares whose truth is what is allowed."""
    check(what, results, allowed, most=can_be_missed(results, allowed))


def shares(rho: float, n: int, runs: int, allowed: float) -> list[ObjectiveResult]:
    limit, rng = mm1_quantile(rho, 1 - allowed), np.random.default_rng(1)
    return [of_share(values, limit, allowed) for values in mm1(rho, n, runs, rng)]


def means(rho: float, n: int, runs: int) -> list[ObjectiveResult]:
    return [of_mean(values) for values in mm1(rho, n, runs, np.random.default_rng(2))]


def test_shares_of_single_runs() -> None:
    check_counts("M/M/1 rho 0.5, 1,500 requests, p95", shares(0.5, 1500, 200, 0.05), 0.05)
    check_counts("M/M/1 rho 0.5, 1,500 requests, p99", shares(0.5, 1500, 200, 0.01), 0.01)


def test_means_of_single_runs() -> None:
    check("M/M/1 rho 0.8, 2,000 requests, mean", means(0.8, 2000, 1000), 5.0)


def test_means_over_seconds() -> None:
    """Seconds whose gaps scatter as a gamma distribution has it, independent: as many runs as tell 96 %."""
    rng = np.random.default_rng(6)
    gaps_ns = rng.gamma(0.5, 2e7, (2000, 30, 10)).astype(np.int64)
    check("30 seconds of 10 gaps, mean", [of_gap_mean(run) for run in gaps_ns], 1e7, most=True)


@pytest.mark.parametrize(("n", "wave"), [(2000, 50), more(2000, 80), more(5000, 200), (10_000, 400)])
def test_slow_waves_of_which_few_requests_are_late(n: int, wave: int) -> None:
    """Half of the time the server is slow, and then one in ten is late: late ones hardly show the waves."""
    rng, found = np.random.default_rng(7), []
    for _ in range(400):
        slow = np.repeat(rng.random(n // wave + 2) < 0.5, wave)[rng.integers(wave) :][:n]
        found.append(of_share(rng.random(n) + slow, 1.9, 0.05))
    check(f"waves of {wave} requests, {n:,} requests, p95", found, 0.05)


@pytest.mark.slow
def test_long_outages_in_which_few_requests_fail() -> None:
    """Half of the time one in ten fails, in outages of 200 requests on average: nothing else shows them."""
    rng, n, found = np.random.default_rng(11), 10_000, []
    for _ in range(400):
        length = rng.geometric(1 / 200, 2 * n // 200 + 50)
        out = np.repeat(np.arange(len(length)) % 2 == rng.integers(2), length)[:n]
        values = np.where(out & (rng.random(n) < 0.1), np.inf, rng.exponential(1, n))
        found.append(of_share(values, 1e9, 0.05))
    check("outages of 200 requests, one in ten fails", found, 0.05, least=0.87)  # README names it


@pytest.mark.parametrize(
    ("seconds", "phi"), [(15, 0.5), more(30, 0.5), (60, 0.5), more(60, 0.8), more(120, 0.8)]
)
def test_gaps_of_few_seconds_that_are_alike(seconds: int, phi: float) -> None:
    """The share of late gaps in a second goes up and down slowly: lognormal, of the first order."""
    rng, found, limit_ns = np.random.default_rng(9), [], 20_000_000
    for _ in range(400):
        level = [rng.standard_normal()]
        for _ in range(seconds - 1):
            level.append(phi * level[-1] + math.sqrt(1 - phi**2) * rng.standard_normal())
        late = rng.binomial(500, np.minimum(1, 0.05 * np.exp(0.8 * np.array(level) - 0.32)))
        gaps = [np.repeat([limit_ns // 2, 2 * limit_ns], [500 - one, one]) for one in late]
        found.append(of_gaps(gaps, limit_ns, 0.05))
    least = 0.93 if phi < 0.8 else 0.90  # waves of nine seconds: README names them
    check(f"gaps of {seconds} s, phi {phi}", found, 0.05, least=least)


def test_a_p99_knows_what_the_p95_shows_of_dependence() -> None:
    """In a short run too few slow moments lie above the 99th percentile to tell how long they last."""
    for values in mm1(0.9, 8000, 20, np.random.default_rng(4)):
        none = np.zeros(len(values), dtype=bool)
        p99, p95 = (share_tally(none, none, [values], allowed) for allowed in (0.01, 0.05))
        assert p99.n_eff <= p95.n_eff


def test_means_over_runs_that_scatter_further_up() -> None:
    """Means of runs as a gamma distribution has them: 20,000 times five."""
    found = [runs_bounds(five) for five in np.random.default_rng(5).gamma(4, 1 / 4, (20_000, 5))]
    upper, lower = np.mean([high >= 1 for _, high in found]), np.mean([low <= 1 for low, _ in found])
    print(f"\n  5 runs, gamma with shape 4: upper {upper:.1%} lower {lower:.1%}", end="")
    assert 0.93 <= upper <= 0.97
    assert 0.94 <= lower <= 0.98


def test_five_runs_together() -> None:
    found = shares(0.8, 1500, 600, 0.05)
    check_counts("M/M/1 rho 0.8, 5 x 1,500 requests, p95", together(found, 5), 0.05)
    check("M/M/1 rho 0.8, 5 x 1,500 requests, mean", together(means(0.8, 1500, 600), 5), 5.0)


def test_runs_that_differ_are_no_more_requests() -> None:
    truth, found, summed = differing(1500, 600)
    check("M/M/1 rho 0.5, servers that differ by 20 %, 5 x 1,500, p95", together(found, 5), truth)
    naive = covered("  the same, requests of all runs alike", summed, truth)
    assert min(naive.upper, naive.lower) < 0.9


def differing(n: int, runs: int) -> tuple[float, list[ObjectiveResult], list[Bounds]]:
    """Return (truth, runs of a server that differs by 20 % from start to start, pools that ignore it)."""
    rho, allowed, rng = 0.5, 0.05, np.random.default_rng(3)
    limit = mm1_quantile(rho, 1 - allowed)
    draws = np.exp(0.2 * np.random.default_rng(4).standard_normal(100_000))
    truth = float(np.exp(-limit / draws * (1 - rho)).mean())
    speed = np.exp(0.2 * rng.standard_normal(runs))
    found = [
        of_share(values * factor, limit, allowed)
        for factor, values in zip(speed, mm1(rho, n, runs, rng), strict=True)
    ]
    summed: list[Bounds] = []
    for group in (found[i : i + 5] for i in range(0, runs, 5)):
        total, worth = sum(one.n for one in group), sum(one.n_eff or 0.0 for one in group)
        bad = sum(one.bad or 0 for one in group) * worth / total
        summed.append(share_bounds(bad, bad, worth))
    return truth, found, summed


def ttft(runs: Sequence[Batching], allowed: float) -> list[ObjectiveResult]:
    """Judge by a limit that `allowed` of all runs' requests reach, which makes that the truth."""
    limit = float(np.quantile(np.concatenate([run.ttft_ms for run in runs]), 1 - allowed))
    return [of_share(run.ttft_ms, limit, allowed) for run in runs]


def itl(runs: Sequence[Batching]) -> tuple[float, list[ObjectiveResult]]:
    """Return (truth, results) for the gaps beyond the 99th percentile of all runs' gaps."""
    pooled_gaps: NDArray[np.int64] = np.concatenate([second for run in runs for second in run.gaps_ns])
    limit_ns = int(np.quantile(pooled_gaps, 0.99))
    truth = float((pooled_gaps >= limit_ns).mean())
    return truth, [of_gaps(run.gaps_ns, limit_ns, 0.01) for run in runs]


def test_the_batching_server() -> None:
    runs = [batching(30, 20, seed) for seed in range(40)]
    check_counts("batching, 40 % busy, 5 x 20 s, TTFT p95", together(ttft(runs, 0.05), 5), 0.05)
    truth, gaps = itl(runs)
    check("batching, 40 % busy, 20 s, gaps p99", gaps, truth)


@pytest.mark.table
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("rho", "n"), SINGLE)
def test_single_runs_in_full(rho: float, n: int) -> None:
    runs = min(2000, 16_000_000 // n)
    for allowed in (0.05, 0.01):
        found = shares(rho, n, runs, allowed)
        check_counts(f"M/M/1 rho {rho}, {n:,} requests, p{100 - 100 * allowed:g}", found, allowed)
    check(f"M/M/1 rho {rho}, {n:,} requests, mean", means(rho, n, runs), 1 / (1 - rho))


@pytest.mark.table
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("rho", "n", "runs"), POOLED)
def test_pools_in_full(rho: float, n: int, runs: int) -> None:
    groups = 600 if n < 4000 else 300
    for allowed in (0.05, 0.01):
        found = together(shares(rho, n, groups * runs, allowed), runs)
        check_counts(f"M/M/1 rho {rho}, {runs} x {n:,} requests, p{100 - 100 * allowed:g}", found, allowed)
    found = together(means(rho, n, groups * runs), runs)
    check(f"M/M/1 rho {rho}, {runs} x {n:,} requests, mean", found, 1 / (1 - rho))


@pytest.mark.table
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("rate", "seconds"), [(30, 60), (50, 60), (65, 30)])
def test_the_batching_server_in_full(rate: int, seconds: int) -> None:
    runs = [batching(rate, seconds, seed) for seed in range(300)]
    what = f"batching, {rate}/s, {seconds} s"
    for allowed in (0.05, 0.01):
        found = ttft(runs, allowed)
        check_counts(f"{what}, TTFT p{100 - 100 * allowed:g}", found, allowed)
        check_counts(f"5 x {what}, TTFT p{100 - 100 * allowed:g}", together(found, 5), allowed)
    truth, gaps = itl(runs)
    check(f"{what}, gaps p99", gaps, truth)
    check(f"5 x {what}, gaps p99", together(gaps, 5), truth)
    mean = float(np.mean(np.concatenate([run.ttft_ms for run in runs])))
    check(f"{what}, TTFT mean", [of_mean(run.ttft_ms) for run in runs], mean)
    mean = float(np.mean(np.concatenate([second for run in runs for second in run.gaps_ns])))
    for length in (20, 30, 60):
        cut = [run.gaps_ns[at : at + length] for run in runs for at in range(0, seconds - length + 1, length)]
        if cut:
            alone = [of_gap_mean(gaps_ns) for gaps_ns in cut]
            check(f"batching, {rate}/s, {length} s, gaps mean", alone, mean, most=True)
            check(f"3 x batching, {rate}/s, {length} s, gaps mean", together(alone, 3), mean, most=True)
