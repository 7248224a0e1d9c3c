"""What is judged: the requests and gaps of a run's window, or of a part of it, gathered once."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from .intervals import IntervalLog
from .rundir import Run, window, window_intervals
from .samples import pooled_gaps, request_sample


class Part(NamedTuple):
    """Less than the window: what was due from `start_ns` to `end_ns` (unix), of one scenario or of all.

    `fixed`: a longer run would not make it longer; `tests`: so many parts are tested at once.
    """

    start_ns: int
    end_ns: int
    scenario: str | None = None
    fixed: bool = False
    tests: int = 1


class Evidence:
    """The judged window of a run, or a part of it: its requests in due order and its gaps, gathered once."""

    def __init__(self, run: Run, part: Part | None = None) -> None:
        """Cut the window, or less, out of a run."""
        start, end = run.window_ns if part is None else part[:2]
        self.frame = window(run) if part is None else _requests(run, part)
        self.loop = run.meta["load"].get("loop")
        self.unknown, self.timed = run.unknown, run.timed
        self.window_ns = start, end
        self.fixed, self.tests = (part.fixed, part.tests) if part else (False, 1)
        self.window_s = max(0.0, (end - start) / 1e9)
        self.whole_s = range(-(-start // 10**9), end // 10**9)
        self.part = cache(lambda part: Evidence(run, part))
        self.sample = cache(lambda metric: request_sample(self.frame, metric))
        self.gaps = cache(
            lambda metric: pooled_gaps(self._intervals(run, metric, part), self.frame, self.whole_s)
        )
        outcome = self.frame.outcome.to_numpy()
        self.cancelled = outcome == "cancelled"
        self.failed = (outcome != "ok") & ~self.cancelled

    def _intervals(self, run: Run, metric: str, part: Part | None) -> IntervalLog:
        """Return the window's intervals, of a part those whose whole second lies inside."""
        log = window_intervals(run, metric)
        if part and part.scenario is not None:
            log = log.of(part.scenario)
        return log.select((log.seconds >= self.whole_s.start) & (log.seconds < self.whole_s.stop))


def _requests(run: Run, part: Part) -> pd.DataFrame:
    due = run.requests.due_unix_ns.to_numpy()  # in order, so that many parts cost no more than one
    frame = run.requests.iloc[slice(*np.searchsorted(due, part[:2]))]
    return frame if part.scenario is None else frame[frame.scenario == part.scenario]
