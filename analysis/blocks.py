"""What paired blocks say: a ratio with its interval, what holds of several at once, and where a sign changes.

Requests of a run are alike and blocks are not, so a block is the unit: one pair of runs, one log-ratio.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Of a ratio's two-sided interval."""

POWER = 0.8
"""How often as many pairs as are asked for find a difference as large as the margin, at least."""

LEAST_PAIRS = 6
"""Fewer say too little of their own spread to plan by: five cannot even have a rank test below 5 %."""

ROUNDING = math.sqrt(2 / 12) / 1024
"""The least standard deviation of a log-ratio: both values may be rounded to histogram bins of 1/1024."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two sides' values; of one pair it has no interval, and proves nothing (p is None).

    Between `low` and `high` lies the truth in 95 of 100 experiments, between `low_90` and `high_90` in 90 of
    100: the latter within a margin is equivalence, by two one-sided tests at 5 % (Schuirmann 1987).
    """

    ratio: float
    low: float | None
    high: float | None
    low_90: float | None
    high_90: float | None
    p: float | None  # of the hypothesis that the ratio is 1, two-sided
    spread: float | None  # standard deviation of a pair's log-ratio
    freedom: float | None  # degrees of freedom behind it


def paired_ratio(candidate: Sequence[float], baseline: Sequence[float], at_once: int = 1) -> Ratio:
    """Return the geometric mean of candidate / baseline over blocks; all values must be finite and above 0.

    Student's t on the log-ratios, with one degree of freedom less than there are blocks. Where so many ratios
    are looked at at once, `low` and `high` hold for all of them together (Bonferroni).
    """
    logs = _logs(candidate) - _logs(baseline)
    mean, blocks = float(logs.mean()), len(logs)
    if blocks < 2:
        return Ratio(math.exp(mean), None, None, None, None, None, None, None)
    spread = max(float(logs.std(ddof=1)), ROUNDING)
    return _with_intervals(mean, spread / math.sqrt(blocks), (spread, blocks - 1), at_once)


def unpaired_ratio(candidate: Sequence[float], baseline: Sequence[float], at_once: int = 1) -> Ratio:
    """Return the ratio of the geometric means of runs that are no pairs; values as for `paired_ratio`.

    Welch's t on the logarithms (Welch 1947, "The generalization of Student's problem when several different
    population variances are involved"). `spread` is that of one run of each side.
    """
    sides = (_logs(candidate), _logs(baseline))
    mean = float(sides[0].mean() - sides[1].mean())
    if min(len(side) for side in sides) < 2:
        return Ratio(math.exp(mean), None, None, None, None, None, None, None)
    variances = [max(float(side.var(ddof=1)), ROUNDING**2 / 2) for side in sides]
    parts = [variance / len(side) for variance, side in zip(variances, sides, strict=True)]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True)
    )
    return _with_intervals(mean, math.sqrt(sum(parts)), (math.sqrt(sum(variances)), freedom), at_once)


def _logs(values: Sequence[float]) -> NDArray[np.float64]:
    return np.log(np.asarray(values, dtype=np.float64))


def _with_intervals(mean: float, error: float, known: tuple[float, float], at_once: int) -> Ratio:
    from scipy.special import stdtr  # noqa: PLC0415 - costs 0.1 s that only a judge needs

    spread, freedom = known
    reach = t_quantile(1 - (1 - CONFIDENCE) / 2 / at_once, freedom) * error
    reach_90 = t_quantile(CONFIDENCE, freedom) * error
    return Ratio(
        ratio=math.exp(mean),
        low=math.exp(mean - reach),
        high=math.exp(mean + reach),
        low_90=math.exp(mean - reach_90),
        high_90=math.exp(mean + reach_90),
        p=2 * float(stdtr(freedom, -abs(mean) / error)),
        spread=spread,
        freedom=freedom,
    )


def t_quantile(share: float, freedom: float) -> float:
    """Return a quantile of Student's t."""
    from scipy.special import stdtrit  # noqa: PLC0415 - as above

    return float(stdtrit(freedom, share))


def pairs_needed(found: Ratio, have: int, margin: float, tests: int = 1) -> int:
    """Return how many pairs (or runs of each side) decide, in all; `have` of them are there.

    ((t_a + t_b) * spread / delta)^2 with delta = ln(1 + margin), a the level of the test (among `tests`
    others) and b the power of 80 %: so many find a difference of the margin, and they show equivalence where
    there is none nearly as often. Quantiles of Student's t with the freedom that the spread was estimated
    with keep the promise where that estimate was too small, too (Stein 1945, "A two-sample test for a linear
    hypothesis whose power is independent of the variance"); below six pairs it is no promise.
    Where so many have not decided, the ratio lies between none and the margin, and delta is how far it is
    from the one that is farther away. Raises ValueError for a ratio without an interval.
    """
    if found.spread is None or found.freedom is None:
        raise ValueError("a ratio without an interval has no spread to plan by")
    spread, freedom = found.spread, max(found.freedom, LEAST_PAIRS - 1)
    test = t_quantile(1 - (1 - CONFIDENCE) / 2 / tests, freedom) + t_quantile(POWER, freedom)
    equivalence = t_quantile(CONFIDENCE, freedom) + t_quantile((1 + POWER) / 2, freedom)
    away, delta = abs(math.log(found.ratio)), math.log1p(margin)

    def needed(distance: float) -> int:
        return max(LEAST_PAIRS, math.ceil((max(test, equivalence) * spread / distance) ** 2))

    enough = needed(delta)
    return enough if enough > have else max(have + 1, needed(max(away, delta - away)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that may be compared with one level, however many there are, in the same order.

    Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    adjusted, highest = list(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def crossings(signs: Sequence[tuple[float, int]]) -> tuple[tuple[float, float], ...]:
    """Return between which neighbouring levels a sign changes; (level, sign) in rising order of level.

    A level where no sign was shown (0) is no neighbour: what happened lies between those beside it.
    """
    shown = [(level, sign) for level, sign in signs if sign]
    return tuple((below, above) for (below, before), (above, after) in pairwise(shown) if before != after)
