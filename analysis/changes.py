"""Where a series changed for good: change points, found by Apache Otava.

Otava splits a series by E-divisive (Matteson and James 2014) and keeps a split where Student's t-test between
both sides has p < 0.001 (Fleming et al. 2023, "Hunter"). It is deterministic. The package is optional.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .series import Series

FEWEST = 8
"""A shorter series says nothing about a change: the test needs some points on either side."""

MAX_P = 0.001
"""Otava's own default. Its split is where p is least, so noise alone has one in 2 to 3 % of series."""

WINDOW = 50
"""Points that are looked at together; Otava's own default."""


class OtavaMissingError(RuntimeError):
    """Apache Otava is not installed: says how to."""


@dataclass(frozen=True, slots=True)
class Change:
    """A level that changed: from the point `index` of the series on it is `after`, `before` until then."""

    index: int
    before: float
    after: float
    p_value: float
    worse: bool

    @property
    def relative(self) -> float:
        """Return the change as a part of the old level; infinite where that was zero."""
        return self.after / self.before - 1 if self.before else math.inf


def changes(found: Series, smallest: float, tests: int = 1) -> list[Change]:
    """Return the changes of a series, oldest first.

    A change by less than `smallest` (a part of the old level, or of the new one) is none. So many `tests` are
    made at once: p must be as much smaller (Bonferroni).

    Infinite points are left out; how many requests fail is a series of its own. Raises OtavaMissingError.
    """
    places = [i for i, point in enumerate(found.points) if math.isfinite(point.value)]
    values = [found.points[i].value for i in places]
    if len(values) < FEWEST or min(values) == max(values):
        return []
    lower = found.place.lower_is_better
    return [
        Change(places[index], before, after, p_value, worse=(after > before) == lower)
        for index, before, after, p_value in _split(values, smallest, MAX_P / tests)
    ]


def _split(values: Sequence[float], smallest: float, max_p: float) -> list[tuple[int, float, float, float]]:
    try:
        from otava.analysis import compute_change_points  # noqa: PLC0415 - optional, and half a second
    except ImportError:
        hint = "uv sync --extra history (or: pip install apache-otava)"
        raise OtavaMissingError(f"change points need Apache Otava, which is not installed: {hint}") from None
    points, _ = compute_change_points(values, window_len=WINDOW, max_pvalue=max_p, min_magnitude=smallest)
    return [
        (int(one.index), float(one.stats.mean_1), float(one.stats.mean_2), float(one.stats.pvalue))
        for one in points
    ]
