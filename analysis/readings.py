"""What the server counted between two moments, from its /metrics as they were read once a second.

Counters only grow. One that fell was started anew with the server, and what it shows then is what it has
counted since; what it counted between the last reading and the restart is lost, so that sums over a restart
are lower bounds. Where several servers answer for themselves behind one address, counters fall back again
and again: `restarts` says how often.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .rundir import Run

GAUGES = ("running", "waiting", "kv_cache_usage", "block_size")
_TIMES = ["unix_s", "asked_unix_ns", "read_unix_ns", "at_ns"]


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Readings of one run in order of time.

    `at_ns`: unix ns for which each stands, strictly rising; the server's moment lies between `asked_ns` and
    `read_ns`, when it was asked for and when it was complete. Columns are those of server_metrics.csv:
    `gauges` as they were read, NaN where there was none; `counted`: what each counter grew by since the first
    reading.
    """

    at_ns: NDArray[np.int64]
    asked_ns: NDArray[np.int64]
    read_ns: NDArray[np.int64]
    gauges: pd.DataFrame
    counted: pd.DataFrame
    restarts: int

    def enclosing(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Return the last reading up to the start and the first from the end on, or the nearest there are."""
        first = int(np.searchsorted(self.at_ns, start_ns, side="right")) - 1
        last = int(np.searchsorted(self.at_ns, end_ns, side="left"))
        return max(first, 0), min(last, len(self.at_ns) - 1)

    def grown(self, column: str, first: int, last: int) -> float | None:
        """Return by how much a counter grew from one reading to another; None where there is none."""
        if column not in self.counted:
            return None
        values = self.counted[column].to_numpy()
        return float(values[last] - values[first])

    def mean_ms(self, name: str, first: int, last: int) -> float | None:
        """Return a histogram's exact mean (ms) between two readings: its sum's growth over its count's."""
        total, count = self.grown(f"{name}_sum_s", first, last), self.grown(f"{name}_count", first, last)
        return 1e3 * total / count if total is not None and count else None

    def gauge(self, column: str) -> NDArray[np.float64]:
        """Return a gauge at every reading, NaN where it was not read."""
        if column not in self.gauges:
            return np.full(len(self.at_ns), np.nan)
        return self.gauges[column].to_numpy(dtype=np.float64)


def read(run: Run) -> Readings | None:
    """Return a run's readings; None where there are fewer than two, since nothing is between them."""
    frame = run.server_metrics
    if frame is None:
        return None
    frame = _timed(frame).dropna(subset=_TIMES).sort_values("at_ns", kind="stable")
    frame = frame.drop_duplicates("at_ns").reset_index(drop=True)
    if len(frame) < 2:
        return None
    counters = frame.drop(columns=[*_TIMES, *GAUGES], errors="ignore").dropna(axis=1, how="all")
    # A reading may lack a metric; one that was never counted before it appeared stood at zero.
    known = counters.ffill().fillna(0.0)
    grown = known.diff().fillna(0.0)
    fell = (grown < 0) & ~grown.columns.str.endswith("_sum_s")  # a sum of times may, when a clock is set
    restarted = fell.any(axis=1).to_numpy()
    grown.loc[restarted] = known.loc[restarted]
    return Readings(
        at_ns=frame.at_ns.to_numpy(dtype=np.int64),
        asked_ns=frame.asked_unix_ns.to_numpy(dtype=np.int64),
        read_ns=frame.read_unix_ns.to_numpy(dtype=np.int64),
        gauges=frame[[column for column in GAUGES if column in frame]],
        counted=grown.cumsum(),
        restarts=int(restarted.sum()),
    )


def _timed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the readings with their times. The first version kept whole seconds, and asked as they began."""
    if {"asked_unix_ns", "read_unix_ns"} <= set(frame.columns):
        return frame.assign(at_ns=frame.read_unix_ns)
    begin_ns = frame.unix_s * 10**9
    return frame.assign(asked_unix_ns=begin_ns, read_unix_ns=begin_ns + 10**9, at_ns=begin_ns)
