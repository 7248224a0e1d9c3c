"""What paired blocks say: a ratio with its interval, what holds of several at once, and where a sign changes.

Requests of a run are alike and blocks are not, so a block is the unit: one pair of runs, one log-ratio.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

CONFIDENCE = 0.95
"""Of a ratio's two-sided interval."""

ROUNDING = math.sqrt(2 / 12) / 1024
"""The least standard deviation of a log-ratio: both values may be rounded to histogram bins of 1/1024."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of paired values and its interval; one pair has none, and proves nothing (p is None)."""

    ratio: float
    low: float | None
    high: float | None
    p: float | None  # of the hypothesis that the ratio is 1, two-sided


def paired_ratio(candidate: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Return the geometric mean of candidate / baseline over blocks; all values must be finite and above 0.

    Student's t on the log-ratios, with one degree of freedom less than there are blocks.
    """
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415 - costs 0.1 s that only a judge needs

    logs = np.log(np.asarray(candidate, dtype=np.float64)) - np.log(np.asarray(baseline, dtype=np.float64))
    mean, blocks = float(logs.mean()), len(logs)
    if blocks < 2:
        return Ratio(math.exp(mean), None, None, None)
    error = max(float(logs.std(ddof=1)), ROUNDING) / math.sqrt(blocks)
    reach = float(stdtrit(blocks - 1, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(stdtr(blocks - 1, -abs(mean) / error))
    return Ratio(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach), p)


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
