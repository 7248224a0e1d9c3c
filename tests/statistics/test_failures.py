"""Bounds on the share of failed requests, where failures come together.

Those of an overload come where slow requests do: an error rate's bounds know that from the latencies, also
where none failed. Outages come by themselves, and a run shows nothing of what did not happen in it: bounds
hold from about 3 * outage / share on (the rule of three), here 60 s for outages of 1 s and 300 s for 5 s.
"""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.objective import ObjectiveResult
from analysis.samples import share_tally
from analysis.statistics import autocorrelation_time
from tests.statistics.coverage import bounds_of, covered, of_tally
from tests.statistics.queues import mm1, mm1_quantile
from tests.statistics.test_coverage import check

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
SHARE, RATE_PER_S = 0.05, 10


def judged(failed: BoolArray, e2e: FloatArray) -> ObjectiveResult:
    """Judge a run as an error rate is judged."""
    worst = np.where(failed, np.inf, e2e)
    return of_tally(share_tally(failed, failed, [worst], SHARE), SHARE)


def test_failures_of_an_overload() -> None:
    limit = mm1_quantile(0.8, 1 - SHARE)
    runs = list(mm1(0.8, 3000, 300, np.random.default_rng(5)))
    check("M/M/1 rho 0.8, 3,000 requests, 5 % time out", [judged(run >= limit, run) for run in runs], SHARE)
    none = sum(not (run >= limit).any() for run in runs) / len(runs)
    alike = np.median([len(run) / autocorrelation_time(run >= limit) for run in runs])
    print(f"\n  runs without a failure {none:.1%}; by their failures alone worth {alike:.0f}", end="")


@pytest.mark.parametrize(("outage_s", "seconds"), [(1, 60), (1, 300), (5, 300), (5, 600)])
def test_outages(outage_s: int, seconds: int) -> None:
    runs = list(outages(outage_s, seconds, 400))
    check(f"outages of {outage_s} s, {seconds} s at {RATE_PER_S}/s", [judged(*run) for run in runs], SHARE)


def test_a_run_shows_nothing_of_outages_that_it_did_not_meet() -> None:
    runs = list(outages(5, 60, 400))
    found = covered("outages of 5 s, 60 s", [bounds_of(judged(*run)) for run in runs], SHARE)
    none = sum(not failed.any() for failed, _ in runs) / len(runs)
    assert none > 0.4, "half of all runs meet no outage: nothing in them tells"
    assert found.upper < 0.7


def outages(outage_s: float, seconds: int, runs: int) -> Iterator[tuple[BoolArray, FloatArray]]:
    """Yield (failed, e2e): Poisson arrivals, of which 5 % meet an outage; those begin at random, too."""
    rng = np.random.default_rng(7)
    begun_per_s = -np.log1p(-SHARE) / outage_s  # exp(-rate * length) of all time is free of them
    for _ in range(runs):
        due = np.sort(rng.uniform(0, seconds, rng.poisson(RATE_PER_S * seconds)))
        count = rng.poisson(begun_per_s * (seconds + outage_s))
        begun = rng.uniform(-outage_s, seconds, count)
        failed = ((due[:, None] >= begun) & (due[:, None] < begun + outage_s)).any(axis=1)
        yield failed, rng.lognormal(0, 0.5, len(due))
