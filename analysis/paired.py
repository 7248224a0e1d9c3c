"""Bounds for two servers that were asked the same: neighbouring tokens are alike, so texts are what counts.

All bounds are one-sided at 95 %, as in `analysis.statistics`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .statistics import CONFIDENCE

MIN_CLUSTERS = 5
"""Fewer texts or prompts give no bounds."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A figure and its one-sided bounds; None where there is too little to give any."""

    value: float
    low: float | None
    high: float | None


def pooled(numerator: NDArray[Any], denominator: NDArray[Any]) -> Bounds:
    """Return sum(numerator) / sum(denominator) over clusters (texts, prompts), with bounds.

    The standard error is the jackknife's that leaves out one cluster at a time, around the whole's value
    (CV3 in MacKinnon, Nielsen and Webb 2023, "Cluster-robust inference: a guide to empirical practice"),
    and Student's t has one degree of freedom less than there are clusters: of the usual choices it is the
    one that holds for few clusters of unequal sizes.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - costs 0.1 s that only a judge needs

    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    value = float(above.sum() / below.sum())
    clusters = len(above)
    if clusters < MIN_CLUSTERS:
        return Bounds(value, None, None)
    without = (above.sum() - above) / (below.sum() - below)
    error = math.sqrt((clusters - 1) / clusters * float(((without - value) ** 2).sum()))
    reach = float(stdtrit(clusters - 1, CONFIDENCE)) * error
    return Bounds(value, value - reach, value + reach)


def excess(more: int, less: int, pairs: int) -> Bounds:
    """Return by how much a share is higher in the second of two paired samples, with bounds.

    `more` pairs have it in the second alone, `less` in the first alone. Tango's score bounds (1998,
    "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design"): unlike those of Wald they say something where no pair differs.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - as above

    value = (more - less) / pairs
    if pairs < MIN_CLUSTERS:
        return Bounds(value, None, None)
    z = float(ndtri(CONFIDENCE))

    def score(difference: float) -> float:
        b = -more - less + (2 * pairs - more + less) * difference
        c = -less * difference * (1 - difference)
        less_share = (math.sqrt(max(b * b - 8 * pairs * c, 0)) - b) / (4 * pairs)
        variance = pairs * (2 * less_share + difference * (1 - difference))
        return (more - less - pairs * difference) / math.sqrt(max(variance, 1e-12))

    return Bounds(value, _where(score, z, -1.0, value), _where(score, -z, value, 1.0))


def _where(score: Any, wanted: float, low: float, high: float) -> float:
    """Return where a falling function takes a value, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) > wanted else (low, middle)
    return (low + high) / 2
