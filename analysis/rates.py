"""What was served a second, and the bounds of it: batch means over the window, cut into equal bins.

Attributed as in `analysis.summary`: the ok requests that were due in the window, and their output tokens.
What the end of the run cancelled may have been served, and an ok answer without usage has an unknown number
of tokens: nothing in the lower bound; in the upper one a request each, or as many tokens as you like.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .several import reach
from .statistics import BATCHES, FloatArray, autocorrelation_time, batch_bounds

BIN_S = 0.5
"""The least width of a bin, so that a window has bounds from 50 s on.

Chosen by simulation of closed loops on a server whose speed varies by a quarter over 0.5 to 15 s
(tests/test_rates.py): narrower bins hold too few requests to show that dependence, and up to a quarter of the
bounds failed; bins of 1 s need twice the window and are no safer.
"""

UNITS = {"requests_per_s": "requests/s", "output_tokens_per_s": "tokens/s"}


@dataclass(frozen=True, slots=True)
class Served:
    """What a window's ok requests came to, in equal bins of time."""

    per_bin: FloatArray
    width_s: float
    edge_per_s: float  # one request more or less at the window's edges
    counted: int
    undecided: int
    undecided_per_s: float  # what those come to at most

    @property
    def rate_per_s(self) -> float:
        """What was served a second."""
        return float(self.per_bin.mean()) / self.width_s

    @property
    def independent(self) -> float:
        """How many independent bins the window is worth."""
        return len(self.per_bin) / autocorrelation_time(self.per_bin)

    def bounds(self, tests: int, *, upper: bool) -> tuple[float, float]:
        """Return one-sided 95 % bounds on the rate (per s).

        The one that may show a limit broken (the lower one of an `upper` limit) holds in `tests` at once.
        """
        near, far = self._half_per_s, self._half_per_s * reach(BATCHES - 1, tests)
        below, above = (far, near) if upper else (near, far)
        low, high = self.rate_per_s - below - self.edge_per_s, self.rate_per_s + above + self.edge_per_s
        return max(0.0, low), high + self.undecided_per_s

    def growth(self, limit_per_s: float) -> float | None:
        """Return by what factor the window must grow until it decides; None if it never does."""
        distance = abs(self.rate_per_s - limit_per_s)
        return (self._half_per_s / distance) ** 2 if distance and not self.undecided_per_s else None

    @property
    def _half_per_s(self) -> float:
        low, high = batch_bounds(self.per_bin / self.width_s)
        return (high - low) / 2


def served(frame: pd.DataFrame, metric: str, window_ns: tuple[int, int]) -> Served:
    """Count what the requests of a window (unix ns, not empty) came to: of themselves, or of tokens."""
    start, end = window_ns
    ok, requests = frame.outcome == "ok", metric == "requests_per_s"
    counted = ok if requests else ok & frame.output_tokens.notna()
    amount = np.ones(int(counted.sum())) if requests else frame.output_tokens[counted].to_numpy(np.float64)
    unknown = int((ok & ~counted).sum() + (frame.outcome == "cancelled").sum())
    seconds = (end - start) / 1e9
    bins = max(1, int(seconds / BIN_S))
    share = (frame.due_unix_ns[counted].to_numpy() - start) / (end - start)
    place = np.minimum((share * bins).astype(np.int64), bins - 1)
    most = 1.0 if requests else math.inf
    return Served(
        per_bin=np.bincount(place, amount, bins).astype(np.float64),
        width_s=seconds / bins,
        edge_per_s=float(amount.max(initial=0.0)) / seconds,
        counted=len(amount),
        undecided=unknown,
        undecided_per_s=unknown * most / seconds if unknown else 0.0,
    )
