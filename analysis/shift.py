"""Where in its distribution a candidate is slower: the ratio of each quantile to the baseline's.

A tail that grew while the middle stayed is another fault than everything being slower, and one percentile
cannot tell them apart. The quantiles of a run hang together, so their intervals hold all at once; the unit
is the run, as everywhere in a comparison. (Doksum 1974's shift function, on the logarithmic scale.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .effects import Sides
from .reading import PERCENTILES, SHIFTING


@dataclass(frozen=True, slots=True)
class Point:
    """One quantile's ratio, candidate / baseline; its interval is None where there is one pair."""

    percentile: int
    ratio: float
    low: float | None
    high: float | None

    @property
    def sign(self) -> int:
        """1 where the candidate was shown to be slower, -1 where faster, else 0."""
        if self.low is None or self.high is None:
            return 0
        return (self.low > 1) - (self.high < 1)


@dataclass(frozen=True, slots=True)
class Shift:
    """A metric's quantiles; the intervals hold together in 95 of 100 experiments."""

    metric: str
    points: tuple[Point, ...]

    @property
    def where(self) -> str:
        """Say in words where a difference was shown; empty where none was."""
        told = []
        for sign, word in ((1, "slower"), (-1, "faster")):
            shown = [one.percentile for one in self.points if one.sign == sign]
            if len(shown) == len(self.points):
                return f"{word} at every percentile from p{shown[0]} to p{shown[-1]}"
            if shown:
                told.append(f"{word} at {_ranges(shown, [one.percentile for one in self.points])}")
        return ", ".join(told)


def shifts_of(sides: Sides) -> tuple[Shift, ...]:
    """Return the shift of each metric, at the quantiles that every run has."""
    made = []
    for metric in SHIFTING if sides.fewest else ():
        mine, its = ([run.quantiles[metric] for run in runs] for runs in (sides.candidate, sides.baseline))
        kept = [i for i in range(len(PERCENTILES)) if all(_usable(run[i]) for run in (*mine, *its))]
        points = tuple(_point(sides, _at(mine, i), _at(its, i), (PERCENTILES[i], len(kept))) for i in kept)
        if points:
            made.append(Shift(metric, points))
    return tuple(made)


def _usable(value: float | None) -> bool:
    return value is not None and 0 < value < math.inf


def _at(runs: Sequence[tuple[float | None, ...]], i: int) -> list[float]:
    return [run[i] or math.nan for run in runs]


def _point(sides: Sides, mine: list[float], its: list[float], known: tuple[int, int]) -> Point:
    percentile, at_once = known
    found = sides.ratio(mine, its, at_once)
    return Point(percentile, found.ratio, found.low, found.high)


def _ranges(shown: Sequence[int], all_of_them: Sequence[int]) -> str:
    """Write neighbouring percentiles as ranges: p80 to p99."""
    places = [all_of_them.index(one) for one in shown]
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    words = []
    for run in runs:
        first, last = all_of_them[run[0]], all_of_them[run[-1]]
        words.append(f"p{first}" if first == last else f"p{first} to p{last}")
    return " and ".join(words)
