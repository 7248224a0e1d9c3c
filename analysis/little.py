"""Little's law, L = lambda * W: what was counted in flight against what the times say must have been there.

L was counted once a second, and a mean of such counts is off by more than its spread tells: arrivals in step
with the readings always meet them at the same phase. But the records say which streams were alive at any
moment. So each count is held against the streams that must have been in it and those that can have been, at
its own moment, and no error of sampling is left. What lies outside of these bounds, in the mean, may be
BOOKKEEPING of the whole and SIGMAS standard errors.

Client: each worker counts its live streams at the end of every second; the records are written when a stream
ends. The two meet only here. Server: its gauges, against the sums of its own histograms.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .readings import Readings
from .rundir import Run, window, window_timeline
from .server_alone import why_not_alone
from .statistics import FloatArray, autocorrelation_time

TICK_NS = 10**7
"""A worker counts its streams at most this long after the full second, unless its loop is blocked."""

BOOKKEEPING = 0.01
"""Two counts of the same streams may differ by this share."""

SIGMAS = 3.0
"""A mean is off where it is more than so many standard errors off: 1 in 370 by chance."""

MIN_COUNTS = 10
"""The standard error of fewer counts is not known well enough to be judged by."""


@dataclass(frozen=True, slots=True)
class Law:
    """One side of a run. `in_flight` was counted; it should lie between `low` and `high`, give or take.

    `rate_per_s` and the mean time in the system are the law's other side; where it is not known exactly when
    a request is counted, the time has a lower and an upper reading. Where the times are another party's,
    `seconds_least` and `seconds_most` are the records' bounds on them.
    `ok` is None where the law cannot be judged: `reason` says why.
    """

    in_flight: float
    low: float
    high: float
    tolerance: float
    rate_per_s: float
    seconds_low: float
    seconds_high: float
    seconds_least: float
    seconds_most: float
    counts: int
    ok: bool | None
    reason: str


def client_law(run: Run) -> Law | None:
    """Compare the streams that workers counted with the records, over the window; None where none were.

    A stream begins in its worker's books between its due time and when it was sent, and ends there after its
    last byte was read, which may be later than that arrived by its read lag.
    """
    ticks = window_timeline(run)
    ticks = ticks[ticks.workers == ticks.workers.max()]
    frame, (start, end) = window(run), run.window_ns
    if ticks.empty or frame.empty:
        return None
    at_ns = (ticks.unix_s.to_numpy(dtype=np.int64) + 1) * 10**9
    times = _Times(run.requests)
    low = _throughout(times.sent, times.end, at_ns, at_ns + TICK_NS)
    high = _at_any_moment(times.due, times.closed, at_ns, at_ns + TICK_NS)
    seconds = float(frame.end_ns.mean()) / 1e9
    return _law(
        ticks.in_flight.to_numpy(dtype=np.float64),
        (low, high),
        len(frame) / ((end - start) / 1e9),
        (seconds,) * 4,
        "",
    )


def server_law(run: Run, readings: Readings, first: int, last: int) -> Law | None:
    """Compare the server's gauges with its own sums, between two readings; None where it has no such metric.

    A gauge shows the state after the engine's latest step. A request is in it at the latest from its first
    token on, as its prefill is over then, until its last: at least for its decode time, at most for its e2e.
    A reading cannot miss a stream that has had two tokens, since the server counts a step before the next.
    So both sides have bounds from the records, and the law holds where both lie within theirs.
    """
    sums = [readings.grown(f"{name}_sum_s", first, last) for name in ("decode", "e2e")]
    requests = readings.grown("e2e_count", first, last)
    gauge = (readings.gauge("running") + readings.gauge("waiting"))[first:last]
    read = ~np.isnan(gauge)
    if None in sums or not requests or not read.any():
        return None
    decode_s, e2e_s = ((value or 0.0) / requests for value in sums)
    asked, came = (ns[first:last][read] for ns in (readings.asked_ns, readings.read_ns))
    times = _Times(run.requests)
    low = _throughout(times.second, times.last, asked, came)
    high = _at_any_moment(times.sent, times.end, asked, came)
    from_ns, to_ns = int(readings.at_ns[first]), int(readings.at_ns[last])
    ended = (from_ns < times.end) & (times.end <= to_ns)
    least_s = float((times.last - times.second)[ended].mean()) / 1e9 if ended.any() else 0.0
    most_s = float((times.end - times.sent)[ended].mean()) / 1e9 if ended.any() else 0.0
    return _law(
        gauge[read],
        (low, high),
        requests / ((to_ns - from_ns) / 1e9),
        (decode_s, e2e_s, least_s, most_s),
        why_not_alone(run, readings) or _failed(run, from_ns, to_ns),
    )


def _law(
    counted: FloatArray,
    bounds: tuple[FloatArray, FloatArray],
    rate_per_s: float,
    seconds: tuple[float, float, float, float],
    reason: str,
) -> Law:
    """Hold counts against their bounds; `seconds`: the mean time low and high, and the bounds on these."""
    mean, (low, high) = float(counted.mean()), bounds
    outside = np.minimum(counted - low, 0) + np.maximum(counted - high, 0)
    tolerance = BOOKKEEPING * mean
    if len(counted) < MIN_COUNTS:
        reason = reason or f"{len(counted)} counts, at least {MIN_COUNTS} are needed"
    else:
        deviation = float(outside.std(ddof=1))
        tolerance += SIGMAS * deviation * float(np.sqrt(autocorrelation_time(outside) / len(outside)))
    possible = seconds[1] >= seconds[2] * (1 - BOOKKEEPING) and seconds[0] <= seconds[3] * (1 + BOOKKEEPING)
    return Law(
        mean,
        float(low.mean()),
        float(high.mean()),
        tolerance,
        rate_per_s,
        *seconds,
        counts=len(counted),
        ok=None if reason else bool(abs(outside.mean()) <= tolerance) and possible,
        reason=reason,
    )


class _Times:
    """When each request was where, in unix ns; what never came counts as its end."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.due = frame.due_unix_ns.to_numpy()
        self.end = self.due + frame.end_ns.to_numpy()
        self.closed = self.end + frame.lag_max_ns.to_numpy()
        self.sent, self.first, self.last = (
            self.due + frame[name].fillna(frame.end_ns).to_numpy().astype(np.int64)
            for name in ("sent_ns", "first_ns", "last_ns")
        )
        self.second = self.first + frame.gap_max_ns.to_numpy()  # the second token had come by then


def _throughout(
    begin: NDArray[np.int64], end: NDArray[np.int64], since: NDArray[np.int64], until: NDArray[np.int64]
) -> FloatArray:
    """Return how many were alive from `since` to `until`, at least: what ended in between is taken off."""
    begun = np.searchsorted(np.sort(np.minimum(begin, end)), since, side="right")
    alive: FloatArray = np.maximum(begun - np.searchsorted(np.sort(end), until), 0).astype(np.float64)
    return alive


def _at_any_moment(
    begin: NDArray[np.int64], end: NDArray[np.int64], since: NDArray[np.int64], until: NDArray[np.int64]
) -> FloatArray:
    """Return how many were alive at any moment from `since` to `until`."""
    begun = np.searchsorted(np.sort(begin), until, side="right")
    return (begun - np.searchsorted(np.sort(end), since)).astype(np.float64)


def _failed(run: Run, from_ns: int, to_ns: int) -> str:
    frame = run.requests
    end = frame.due_unix_ns + frame.end_ns
    failed = int(((frame.outcome != "ok") & (from_ns < end) & (frame.due_unix_ns <= to_ns)).sum())
    return f"{failed:,} requests failed: what the server spent on them is not known" if failed else ""
