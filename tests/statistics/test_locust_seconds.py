"""What a verdict from Locust's CSVs is worth, whose history tells of seconds, on queues whose truth is known.

    pytest tests/statistics/test_locust_seconds.py -s

The limit is the true percentile, so a PASS is false, and should be given to at most 5 % of the runs that get
an interval. With a least of 100 independent seconds, and their number taken for certain, most of the few runs
that got one got it.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.coarse import Coarse, Point, Row, judge
from analysis.importers.locust_history import History
from analysis.objective import ObjectiveResult
from analysis.sla import Sla, parse_objective
from tests.marks import more
from tests.statistics.coverage import bounds_of, covered
from tests.statistics.queues import FloatArray, mm1, mm1_quantile

RUNS = 400


@pytest.mark.parametrize(
    ("rho", "rate", "seconds"), [(0.5, 5, 180), (0.8, 5, 600), (0.8, 20, 180), (0.9, 20, 600)]
)
def test_runs_that_get_an_interval_are_not_the_lucky_ones(rho: float, rate: int, seconds: int) -> None:
    rng = np.random.default_rng(3)
    limit_s = mm1_quantile(rho, 0.95)
    results = [judged(values, limit_s, rate) for values in mm1(rho, rate * seconds, RUNS, rng)]
    given = [one for one in results if one.bound_high is not None]
    false = sum(one.status == "PASS" for one in given) / max(1, len(given))
    what = f"rho {rho}, {seconds} s of {rate}/s"
    print(f"{what}: {len(given) / RUNS:.0%} get an interval, {false:.1%} of them PASS")
    assert len(given) > RUNS / 3
    assert false <= 0.05 + 2 * (0.05 * 0.95 / len(given)) ** 0.5
    assert sum(one.status == "FAIL" for one in results) <= 0.02 * RUNS


@pytest.mark.parametrize("allowed", [0.05, more(0.01)])
@pytest.mark.parametrize(
    ("rho", "rate", "seconds"), [(0.5, 5, 180), (0.8, 5, 600), (0.8, 20, 180), (0.9, 20, 600)]
)
def test_error_rates_of_an_overload(rho: float, rate: int, seconds: int, allowed: float) -> None:
    rng, timeout_s = np.random.default_rng(3), mm1_quantile(rho, 1 - allowed)
    objective = parse_objective(f"error_rate < {allowed:.0%}")
    results = [
        judge(run_of(np.minimum(values, timeout_s), values >= timeout_s, rate), Sla("failed", (objective,)))
        for values in mm1(rho, rate * seconds, RUNS, rng)
    ]
    what = f"rho {rho}, {seconds} s of {rate}/s, {allowed:.0%} time out"
    found = covered(what, [bounds_of(one.objectives[0]) for one in results], allowed)
    margin = 3 * (0.07 * 0.93 / RUNS / found.given) ** 0.5
    assert found.given > 1 / 3
    assert min(found.upper, found.lower, found.both) >= 0.93 - margin


@pytest.mark.parametrize(
    ("rho", "rate", "seconds", "share"),
    [(0.8, 5, 300, 0.1), (0.8, 5, 600, 0.1), (0.9, 20, 600, 0.02), (0.9, 20, 600, 0.1)],
)
def test_failures_that_come_alone_fail_whatever_the_queue_does(
    rho: float, rate: int, seconds: int, share: float
) -> None:
    rng, by = np.random.default_rng(5), Sla("failed", (parse_objective("error_rate < 1 %"),))
    runs = [(values, rng.random(len(values)) < share) for values in mm1(rho, rate * seconds, 50, rng)]
    found = [judge(run_of(values, failed, rate), by).objectives[0].status for values, failed in runs]
    assert found.count("FAIL") >= 45


def test_one_failure_does_not_say_more_than_none() -> None:
    values, by = np.full(30_000, 0.05), Sla("failed", (parse_objective("error_rate < 0.1 %"),))
    values *= np.random.default_rng(6).lognormal(0, 0.1, len(values))
    for failures in (0, 1, 3):
        failed = np.zeros(len(values), dtype=bool)
        failed[:: len(values) // max(1, failures)][:failures] = True
        (found,) = judge(run_of(values, failed, 100), by).objectives
        assert found.status == "INCONCLUSIVE", failures


def judged(values: FloatArray, limit_s: float, rate: int) -> ObjectiveResult:
    """Judge a run of which each second's mean is known, and how many values lie beyond the limit."""
    n, late, limit_ns = len(values), int((values >= limit_s).sum()), round(limit_s * 1e9)
    points = (
        Point(0.0, 0.0, 0.0, limit_ns - 1, n - late, n),
        Point(100.0, 0.0, limit_ns, np.inf, n, late),
    )
    run = run_of(values, np.zeros(n, dtype=bool), rate, points)
    sla = Sla("p95", (parse_objective(f"e2e p95 < {limit_s:.9f} s"),))
    (result,) = judge(run, sla).objectives
    return result


def run_of(
    values: FloatArray, failed: NDArray[np.bool_], rate: int, points: tuple[Point, ...] = ()
) -> Coarse:
    """Return a run of so many requests a second, as Locust's history tells of it."""
    times = values.reshape(-1, rate).sum(axis=1) * 1e3
    failures = failed.reshape(-1, rate).sum(axis=1).astype(float)
    history = History(0, len(times), np.full(len(times), float(rate)), failures, times)
    n, all_failed = len(values), int(failed.sum())
    return Coarse(
        tool="locust",
        version=None,
        run="run",
        name="run",
        rows=(Row("e2e", "chat", n, all_failed, failed_inside=True, points=points, mean_ms=None),),
        n=n,
        failed=all_failed,
        errors={},
        worth=history.worth(),
        worth_failed=history.worth_failed(),
        mean_bounds_ms=None,
        window_ns=(0, len(times) * 10**9),
        definitions=(),
        gates=(),
        rounding="",
    )
