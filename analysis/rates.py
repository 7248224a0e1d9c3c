"""What was served a second, and the bounds of it: the mean of the window's equal bins of time.

Attributed as in `analysis.summary`: the ok requests that were due in the window, and their output tokens.
What the end of the run cancelled may have been served, and an ok answer without usage has an unknown number
of tokens: nothing in the lower bound; in the upper one a request each, or as many tokens as you like.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .more import times_as_long
from .several import reach
from .statistics import LEAST, MEAN_LEVELS, Mean, freedom, mean_of

BIN_S = 0.5
"""The least width of a bin, so that a window may have bounds from 10 s on.

Chosen by simulation of closed loops on a server whose speed varies by a quarter over 0.5 to 15 s
(tests/test_rates.py): narrower bins hold too few requests to show that dependence, and of the lower bounds
only 91 to 93 % hold; with bins of 1 s they hold in 96 to 98 %, but need twice the window.
"""

UNITS = {"requests_per_s": "requests/s", "output_tokens_per_s": "tokens/s"}


@dataclass(frozen=True, slots=True)
class Served:
    """What a window's ok requests came to a second."""

    mean: Mean  # of the bins, per s; what lies near in time is alike
    edge_per_s: float  # one request more or less at the window's edges
    counted: int
    undecided: int
    undecided_per_s: float  # what those come to at most

    @property
    def bounded(self) -> bool:
        """Whether the window is worth so many independent bins that there are bounds."""
        return self.mean.independent >= LEAST

    def bounds(self, tests: int, *, upper: bool) -> tuple[float, float]:
        """Return one-sided 95 % bounds on the rate (per s), by the levels of a mean.

        The one that may show a limit broken (the lower one of an `upper` limit) holds in `tests` at once.
        """
        below, above = _reached(self.mean, tests, upper=upper)
        low, high = self.mean.value - below - self.edge_per_s, self.mean.value + above + self.edge_per_s
        return max(0.0, low), high + self.undecided_per_s

    def growth(self, limit_per_s: float, tests: int, *, upper: bool) -> float | None:
        """Return by what factor the window must grow until it decides; None if it never does."""
        distance = abs(self.mean.value - limit_per_s)
        if not distance or self.undecided_per_s:
            return None
        side = int(self.mean.value < limit_per_s)

        def enough(times: float) -> bool:
            near = _reached(self.mean.longer(times), tests, upper=upper)[side]
            return near + self.edge_per_s / times <= distance

        return times_as_long(enough)


def _reached(mean: Mean, tests: int, *, upper: bool) -> tuple[float, float]:
    """Return how far the bounds lie below and above; see `Served.bounds`."""
    low, high = mean.bounds()
    below, above = mean.value - low, high - mean.value
    degrees = freedom(mean.independent)
    if upper:
        return below * reach(degrees, tests, MEAN_LEVELS[0]), above
    return below, above * reach(degrees, tests, MEAN_LEVELS[1])


def served(frame: pd.DataFrame, metric: str, window_ns: tuple[int, int]) -> Served:
    """Count what the requests of a window (unix ns, not empty) came to: of themselves, or of tokens."""
    start, end = window_ns
    ok, requests = frame.outcome == "ok", metric == "requests_per_s"
    counted = ok if requests else ok & frame.output_tokens.notna()
    amount = np.ones(int(counted.sum())) if requests else frame.output_tokens[counted].to_numpy(np.float64)
    unknown = int((ok & ~counted).sum() + (frame.outcome == "cancelled").sum())
    seconds = (end - start) / 1e9
    bins = max(1, int(seconds / BIN_S))
    place = np.minimum((frame.due_unix_ns[counted].to_numpy() - start) // ((end - start) // bins), bins - 1)
    most = 1.0 if requests else math.inf
    return Served(
        mean=mean_of(np.bincount(place, amount, bins) * (bins / seconds), np.ones(bins)),
        edge_per_s=float(amount.max(initial=0.0)) / seconds,
        counted=len(amount),
        undecided=unknown,
        undecided_per_s=unknown * most / seconds if unknown else 0.0,
    )
