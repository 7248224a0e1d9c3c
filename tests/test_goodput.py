"""How often the bounds on goodput hold, counted among those that are given."""

from collections.abc import Sequence

import numpy as np
import pytest

from analysis.goodput import goodput
from analysis.objective import ObjectiveResult
from analysis.rates import Served
from tests.loops import Draw, closed_loop, least, of
from tests.marks import more
from tests.statistics.coverage import Bounds, covered, of_share
from tests.statistics.results import counted
from tests.statistics.test_coverage import differing, shares

RATE = 10.0


def check(
    what: str, results: Sequence[ObjectiveResult], rate: float | Sequence[Served], runs: int, truth: float
) -> None:
    """Demand that both bounds together hold the goodput of each so many runs in 93 %, less three errors."""
    found: list[Bounds] = []
    for i in range(0, len(results) - runs + 1, runs):
        own = rate if isinstance(rate, float) else rate[i : i + runs]
        _, low, high = goodput(results[i : i + runs], own)
        found.append(None if low is None or high is None else (low, high))
    seen = covered(f"{what}, {runs} together", found, truth)
    given = round(seen.given * len(found))
    assert given >= 100
    assert seen.both >= least(0.93, given)


@pytest.mark.parametrize("runs", [more(3), 5])
def test_servers_that_differ_from_start_to_start(runs: int) -> None:
    truth, results, _ = differing(1500, 1200)
    check("servers that differ by 20 %", results, RATE, runs, RATE * (1 - truth))


@pytest.mark.parametrize("runs", [more(1), 2, more(5)])
def test_runs_that_differ_by_chance(runs: int) -> None:
    check("M/M/1 rho 0.8, 1,500 requests", shares(0.8, 1500, 600, 0.05), RATE, runs, RATE * 0.95)


@pytest.mark.parametrize(
    ("draw", "seconds", "runs"),
    [
        (closed_loop(2), 30, 1),
        more(closed_loop(2), 120, 1),
        more(closed_loop(2), 120, 3),
        more(closed_loop(5), 120, 3),
        more(closed_loop(15), 300, 1),
        more(closed_loop(15), 120, 5),
    ],
)
def test_closed_loops(draw: Draw, seconds: int, runs: int) -> None:
    rng, results, rates, truth = np.random.default_rng(11), [], [], 0.0
    for _ in range(600):
        times, rate = draw(rng, seconds)
        rates.append(of(times, seconds))
        results.append(of_share(rng.uniform(size=len(times)), 0.97, 0.05))
        truth = 0.97 * rate
    check(f"closed loop, {seconds} s", results, rates, runs, truth)


def test_where_one_of_few_runs_is_too_short_there_are_no_bounds() -> None:
    rng = np.random.default_rng(2)
    (times, _), (few, _) = closed_loop(2)(rng, 120), closed_loop(2)(rng, 5)
    whole, cut = of(times, 120), of(few, 5)
    good = counted(n=1000, bad=10, bounds=(0.005, 0.02))
    assert goodput([good, good], [whole, whole])[1:] != (None, None)
    assert goodput([good, good], [whole, cut])[1:] == (None, None)
    assert goodput([good, counted(n=40, bad=0)], RATE)[1:] == (None, None)
    assert None not in goodput([good] * 5, [whole, cut, whole, cut, whole])
    assert goodput([], RATE) == (None, None, None)
