"""What runs' events are worth together as independent ones: each by itself, and by how the runs differ."""

import math
from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np

from .objective import ObjectiveResult
from .statistics import POOL_LEVELS, FloatArray, cluster_effect, small_sample_factor

MIN_RUNS = 5
"""From so many runs on the run is the unit; below, differences between runs cannot be judged."""


def worth(seen: Sequence[ObjectiveResult]) -> float:
    """Return how many independent events the runs' counts are worth together.

    Below five runs, and for means, what each is worth together. From five on each run is a cluster: the
    design effect of how they differ, with a factor for so few (see `small_sample_factor`), never more than
    that sum.
    """
    return _upper(seen).worth()


def worth_low(seen: Sequence[ObjectiveResult]) -> float:
    """Return the same for the lower bound on a share, from what `samples.Tally` has for it."""
    return _lower(seen).worth()


class _Worth(NamedTuple):
    """What runs are worth by themselves, and by how they differ; infinite where too few tell that."""

    within: float
    between: float
    runs: float  # of one size that know as much of how they differ: sum(n)^2 / sum(n^2) (Kish 1965)
    level: float

    def worth(self, times: float = 1.0) -> float:
        """Return what so many times the runs are worth."""
        if math.isinf(self.between):
            return times * self.within
        return times * min(self.within, self.between * small_sample_factor(times * self.runs - 1, self.level))


def _upper(seen: Sequence[ObjectiveResult]) -> _Worth:
    known = math.inf
    if len(seen) >= MIN_RUNS and seen[0].bad is not None:
        known = min(_between(seen, bad=False), _between(seen, bad=True))
    return _Worth(_within(seen), known, _runs(seen), POOL_LEVELS[1])


def _lower(seen: Sequence[ObjectiveResult]) -> _Worth:
    own = [one.n_eff_low or one.n_eff or 0.0 for one in seen]
    if seen[0].bad is None or not all(own):
        return _Worth(0.0, math.inf, 0.0, POOL_LEVELS[0])
    within = _alike(seen, [one.n / known for one, known in zip(seen, own, strict=True)])
    between = _between(seen, bad=True) if len(seen) >= MIN_RUNS else math.inf
    return _Worth(within, between, _runs(seen), POOL_LEVELS[0])


def runs_for(needed: float, seen: Sequence[ObjectiveResult], *, low: bool) -> int:
    """Return how many runs would show `needed` events, if they go on as they did; of many, about.

    From five on what they are worth shrinks for how few tell how they differ.
    """
    known = _lower(seen) if low else _upper(seen)
    if math.isinf(known.between):
        known = known._replace(between=known.within)
    count = max(len(seen), math.ceil(needed / known.within * len(seen)))
    while count >= MIN_RUNS and known.worth(count / len(seen)) < needed:
        count += max(1, count // 50)
    return count


def _runs(seen: Sequence[ObjectiveResult]) -> float:
    size = _sizes(seen)
    return float(size.sum() ** 2 / max(1.0, np.square(size).sum()))


def _sizes(seen: Sequence[ObjectiveResult]) -> FloatArray:
    return np.array([one.n for one in seen], dtype=np.float64)


def _between(seen: Sequence[ObjectiveResult], *, bad: bool) -> float:
    """Return what runs are worth as clusters, by how many in each are bad, or possibly bad."""
    size = _sizes(seen)
    counted = np.array([(one.bad or 0) + (0 if bad else one.undecided) for one in seen], dtype=np.float64)
    return float(size.sum()) / cluster_effect(counted, size, independent=True).deff


def _alike(seen: Sequence[ObjectiveResult], alike: Sequence[float]) -> float:
    """Return what runs are worth of which in each so many events are worth one: by the root mean square.

    How many are worth one scatters far up and little down, so an average of few estimates mostly lies low,
    and the sum of what each run seems worth high: the root mean square does not (tests/statistics).
    """
    size = _sizes(seen)
    together = math.sqrt(float(size @ np.square(alike)) / float(size.sum()))
    return float(size.sum()) / together


def _within(seen: Sequence[ObjectiveResult]) -> float:
    """Return what runs that differ by chance only are worth; five or more tell it better than each by itself.

    If all of them have an interval: shorter runs look too independent, all of them alike, and their number
    does not mend that.
    """
    own = [one.n_eff or 0.0 for one in seen]
    degrees = [one.degrees for one in seen if one.degrees and one.bound_high is not None]
    if len(degrees) < len(seen) or not all(own):
        return sum(own)
    shrunk = [small_sample_factor(one) for one in degrees]
    alike = [one.n / worth * factor for one, worth, factor in zip(seen, own, shrunk, strict=True)]
    known = sum(degrees) if len(seen) >= MIN_RUNS else mean(degrees)
    return _alike(seen, alike) * small_sample_factor(known)
