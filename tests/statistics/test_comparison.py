"""How often a comparison is wrong: on queues whose truth is known, through the functions that it is made by.

An M/M/1 queue is a hard case: requests depend on each other over hundreds, and a run's p95 varies by 15 %
from run to run. Each figure is printed; the longer studies are marked slow.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.blocks import POWER, paired_ratio, pairs_needed, unpaired_ratio
from analysis.effects import BETTER, EQUIVALENT, MARGIN, WORSE, Sides, Terms, effects_of
from analysis.reading import PERCENTILES, Reading
from analysis.shift import shifts_of

WARMUP, REQUESTS = 1000, 3000  # arrivals of a run that do not count, and that do
METRICS = ("e2e p50", "e2e p95", "e2e p99")
Floats = NDArray[np.float64]


class Pairs(NamedTuple):
    """Quantiles of many runs, [run, percentile]; run i of both sides had the same arrivals."""

    candidate: Floats
    baseline: Floats


def sojourns(gaps: Floats, services: Floats) -> Floats:
    """Return how long each request of a queue with one server took, one run a row (Lindley 1952)."""
    steps = np.cumsum(services[:, :-1] - gaps[:, 1:], axis=1)
    steps = np.concatenate([np.zeros((len(steps), 1)), steps], axis=1)
    return steps - np.minimum.accumulate(steps, axis=1) + services


def mm1(runs: int, rho: float, seed: int, candidate_rho: float | None = None) -> Pairs:
    """Return runs of two M/M/1 servers (services of mean 1 at the baseline) under the same arrivals."""
    rng = np.random.default_rng(seed)
    made: list[list[Floats]] = [[], []]
    slower = (candidate_rho or rho) / rho
    for first in range(0, runs, 500):
        shape = (min(500, runs - first), WARMUP + REQUESTS)
        gaps = rng.exponential(1 / rho, shape)
        for side, mean in zip(made, (slower, 1.0), strict=True):
            times = sojourns(gaps, rng.exponential(mean, shape))[:, WARMUP:]
            side.append(np.quantile(times, np.array(PERCENTILES) / 100, axis=1).T)
    return Pairs(np.concatenate(made[0]), np.concatenate(made[1]))


@pytest.fixture(scope="module")
def queue() -> Pairs:
    """6,000 pairs of runs at rho 0.8 without any difference."""
    return mm1(6000, 0.8, seed=1)


def reading(server: str, block: int, quantiles: Floats) -> Reading:
    values = {
        f"e2e p{percentile}": float(quantiles[PERCENTILES.index(percentile)]) for percentile in (50, 95, 99)
    }
    whole = {"e2e": tuple(map(float, quantiles)), "ttft": (None,) * 11, "tpot": (None,) * 11}
    return Reading(server, 1, block, "run", "PASS", "", values, whole, REQUESTS, 0, REQUESTS)


def experiments(pairs: Pairs, blocks: int) -> Iterator[Sides]:
    """Cut pairs into experiments of so many blocks."""
    for first in range(0, len(pairs.baseline) - blocks + 1, blocks):
        own = range(first, first + blocks)
        yield Sides(
            [reading("candidate", i, pairs.candidate[i]) for i in own],
            [reading("baseline", i, pairs.baseline[i]) for i in own],
            paired=True,
        )


TERMS = Terms(dict.fromkeys(METRICS, 100.0), None, MARGIN)


def false_verdicts(pairs: Pairs) -> tuple[float, int]:
    """Return the share of experiments that call any limited metric better or worse, and their number."""
    called = [
        any(effect.outcome in (BETTER, WORSE) for effect in effects_of(sides, TERMS))
        for sides in experiments(pairs, 6)
    ]
    return sum(called) / len(called), len(called)


def test_servers_that_do_not_differ_are_rarely_said_to(queue: Pairs) -> None:
    share, trials = false_verdicts(queue)
    print(f"A/A, M/M/1 at rho 0.8, 6 pairs, 3 limited metrics: {share:.1%} called in {trials:,} experiments")
    assert share <= 0.06


@pytest.mark.table
@pytest.mark.parametrize("rho", [0.5, 0.8, 0.9])
def test_servers_that_do_not_differ_are_rarely_said_to_at_any_load(rho: float) -> None:
    share, trials = false_verdicts(mm1(24000, rho, seed=2))
    print(
        f"A/A, M/M/1 at rho {rho}, 6 pairs, 3 limited metrics: {share:.1%} called in {trials:,} experiments"
    )
    assert 0.01 <= share <= 0.06


# Intervals


def coverage(pairs: Pairs, blocks: int, truth: float, *, paired: bool = True) -> float:
    """Return how often the interval of the p95's ratio holds the truth."""
    at = PERCENTILES.index(95)
    held = []
    for first in range(0, len(pairs.baseline) - blocks + 1, blocks):
        mine, its = (side[first : first + blocks, at] for side in pairs)
        found = paired_ratio(mine, its) if paired else unpaired_ratio(mine, its[:-1])
        held.append((found.low or 0.0) <= truth <= (found.high or 0.0))
    return sum(held) / len(held)


def test_the_interval_of_a_ratio_holds_the_truth(queue: Pairs) -> None:
    share = coverage(queue, 6, 1.0)
    print(f"95 % interval of the p95's ratio, M/M/1 at rho 0.8, 6 pairs: holds the truth in {share:.1%}")
    assert 0.93 <= share <= 0.97


def test_the_interval_of_runs_that_are_no_pairs_holds_the_truth(queue: Pairs) -> None:
    other_arrivals = Pairs(queue.candidate, np.roll(queue.baseline, 1000, axis=0))
    share = coverage(other_arrivals, 6, 1.0, paired=False)
    print(f"95 % interval of the p95's ratio, 6 runs against 5 that are no pairs: {share:.1%}")
    assert 0.93 <= share <= 0.97


@pytest.mark.table
@pytest.mark.parametrize(("rho", "other"), [(0.5, 0.45), (0.8, 0.75), (0.8, 0.82), (0.9, 0.88)])
def test_the_interval_holds_the_ratio_of_the_queues_own_percentiles(rho: float, other: float) -> None:
    truth = (1 - rho) / (rho / other - rho)  # a sojourn is exponential with the rate 1 / service - arrivals
    share = coverage(mm1(24000, rho, seed=5, candidate_rho=other), 6, truth)
    print(f"M/M/1 at rho {other} against {rho}: true ratio {truth:.3f}, held in {share:.1%} of 4,000")
    assert 0.93 <= share <= 0.97


def test_the_quantiles_of_a_distribution_hold_all_at_once(queue: Pairs) -> None:
    held = []
    for sides in experiments(queue, 6):
        (shift,) = shifts_of(sides)
        assert [one.percentile for one in shift.points] == list(PERCENTILES)
        held.append(not any(one.sign for one in shift.points))
    share = sum(held) / len(held)
    print(f"11 quantiles' intervals together, M/M/1 at rho 0.8, 6 pairs: hold the truth in {share:.1%}")
    assert share >= 0.93


# Planning


class Planned(NamedTuple):
    """What came of planning by a pilot: the pairs asked for (median), and how often they decided."""

    pairs: float
    found: float


def planned(logs: Floats, effect: float, *, pilot: int, trials: int, tests: int = 1) -> Planned:
    """Ask a pilot's spread for a number of pairs, make them, and test; `logs` are A/A log-ratios.

    A pair says as much with its sides exchanged, so that each is drawn with either sign: the mean is 0.
    With an effect, to decide is to call the candidate worse, as one of `tests` metrics; without, equivalent.
    """
    rng = np.random.default_rng(6)
    asked, decided = [], 0
    for _ in range(trials):
        first = rng.choice(logs, pilot) * rng.choice([-1, 1], pilot)
        before = paired_ratio(np.exp(first), np.ones(pilot))
        pairs = pairs_needed(before, 1, MARGIN, tests)  # as if nothing were known of the effect
        more = max(0, pairs - pilot)
        whole = np.concatenate([first, rng.choice(logs, more) * rng.choice([-1, 1], more)])
        after = paired_ratio(np.exp(whole + effect), np.ones(len(whole)))
        within = (after.low_90 or 0.0) > 1 / (1 + MARGIN) and (after.high_90 or math.inf) < 1 + MARGIN
        shown = (after.p or 0.0) < 0.05 / tests and after.ratio > 1
        decided += shown if effect else within
        asked.append(len(whole))
    return Planned(float(np.median(asked)), decided / trials)


def log_ratios(queue: Pairs, percentile: int) -> Floats:
    at = PERCENTILES.index(percentile)
    return np.log(queue.candidate[:, at] / queue.baseline[:, at])


@pytest.mark.parametrize(("percentile", "tests"), [(50, 1), (95, 1), (95, 3)])
def test_as_many_pairs_as_are_asked_for_find_5_percent(queue: Pairs, percentile: int, tests: int) -> None:
    logs = log_ratios(queue, percentile)
    found = planned(logs, math.log(1.05), pilot=6, trials=400, tests=tests)
    spread = f"p{percentile}'s log-ratio, whose spread is {logs.std():.1%}"
    print(
        f"true 5 %, {spread}, {tests} metrics: {found.pairs:,.0f} pairs asked for, found in {found.found:.1%}"
    )
    assert found.found >= POWER


@pytest.mark.parametrize("percentile", [50, 95])
def test_as_many_pairs_as_are_asked_for_mostly_show_that_nothing_differs(
    queue: Pairs, percentile: int
) -> None:
    found = planned(log_ratios(queue, percentile), 0.0, pilot=6, trials=400)
    print(
        f"no difference, p{percentile}: {found.pairs:,.0f} pairs asked for, equivalent in {found.found:.1%}"
    )
    assert found.found >= 0.7


@pytest.mark.table
@pytest.mark.parametrize("spread", [0.01, 0.03, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("pilot", [2, 4, 6, 12])
def test_the_promise_holds_for_any_spread(spread: float, pilot: int) -> None:
    logs = np.random.default_rng(7).normal(0, spread, 100_000)
    worse = planned(logs, math.log(1.05), pilot=pilot, trials=3000)
    same = planned(logs, 0.0, pilot=pilot, trials=3000)
    print(
        f"spread {spread:.0%}, pilot of {pilot}: {worse.pairs:,.0f} pairs; 5 % found in {worse.found:.1%}, "
        f"none equivalent in {same.found:.1%}"
    )
    if pilot >= 6:  # below, a pilot says too little of its own spread
        assert worse.found >= POWER - 0.015  # two standard errors
        assert same.found >= 0.7


def test_a_difference_of_the_margin_is_rarely_called_equivalent() -> None:
    rng = np.random.default_rng(8)
    called = []
    for _ in range(2000):
        values = np.exp(rng.normal(math.log(1.05), 0.02, (3, 6)))
        sides = Sides(
            [reading("candidate", i, np.repeat(values[:, i], (5, 4, 2))) for i in range(6)],
            [reading("baseline", i, np.ones(11)) for i in range(6)],
            paired=True,
        )
        found = effects_of(sides, TERMS)
        called.append(found[0].outcome == EQUIVALENT or found[0].within)
    share = sum(called) / len(called)
    print(f"a true difference of just the margin: called smaller in {share:.1%}")
    assert share <= 0.065
