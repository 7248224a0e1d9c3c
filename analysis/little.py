"""Little's law, L = lambda * W: what was counted in flight against what the times say must have been there.

Nothing about it is statistical but the sampling: counts are read once a second, and in between they are not
known. The records, however, say what any reading of ours must have shown at its moment, and for the server's
readings they stand in as a control: both counts rise and fall together, so that only their ratio is uncertain.

Client: each worker counts its live streams at the end of every second; the records are written when a stream
ends. The two meet only here. Server: its gauges, against the sums of its own histograms.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .readings import Readings
from .rundir import Run, window, window_timeline
from .statistics import FloatArray, autocorrelation_time

TICK_NS = 10**7
"""A worker counts its streams at most this long after the full second, unless its loop is blocked."""

BOOKKEEPING = 0.01
"""Two counts of the same streams may differ by this share."""

SIGMAS = 3.0
"""A mean of readings is far off where it is more than so many standard errors off: 1 in 370 by chance."""

MIN_READINGS = 10
"""The standard error of fewer readings is not known well enough to be judged by."""


@dataclass(frozen=True, slots=True)
class Law:
    """One side of a run. `in_flight` was counted; it should lie between `low` and `high`, give or take.

    `rate_per_s` and `seconds` (the mean time in the system, by its two readings) are the law's other side.
    `ok` is None where the law cannot be judged: `reason` says why.
    """

    in_flight: float
    low: float
    high: float
    tolerance: float
    rate_per_s: float
    seconds_low: float
    seconds_high: float
    readings: int
    ok: bool | None
    reason: str


def client_law(run: Run) -> Law | None:
    """Compare the streams that workers counted with the records, over the window; None where none was counted.

    A worker counts within TICK_NS after a full second, so each count must lie between the streams that were
    alive throughout this time and those that were alive at any moment of it. What lies outside, in the mean,
    may be BOOKKEEPING of the whole and SIGMAS standard errors.
    """
    ticks = window_timeline(run)
    ticks = ticks[ticks.workers == ticks.workers.max()]
    frame, (start, end) = window(run), run.window_ns
    if ticks.empty or frame.empty:
        return None
    counted = ticks.in_flight.to_numpy(dtype=np.float64)
    low, high = _alive_between(run, (ticks.unix_s.to_numpy(dtype=np.int64) + 1) * 10**9)
    outside = np.minimum(counted - low, 0) + np.maximum(counted - high, 0)
    tolerance = BOOKKEEPING * float(counted.mean()) + SIGMAS * _standard_error(outside)
    seconds = float(frame.end_ns.mean()) / 1e9
    few = _few(len(counted))
    return Law(
        in_flight=float(counted.mean()),
        low=float(low.mean()),
        high=float(high.mean()),
        tolerance=tolerance,
        rate_per_s=len(frame) / ((end - start) / 1e9),
        seconds_low=seconds,
        seconds_high=seconds,
        readings=len(counted),
        ok=None if few else bool(abs(outside.mean()) <= tolerance),
        reason=few,
    )


def server_law(run: Run, readings: Readings, first: int, last: int) -> Law | None:
    """Compare the server's gauges with its own sums, between two readings; None where it has no such metric.

    A gauge shows the state after the engine's latest step. A request is in it from the end of the first step
    that knew of it, which is at the latest when its prefill ends and takes no longer than that, to the end
    of its last: at least queue + decode, at most e2e, which has the API server's share too.

    Expected is (our own streams at the moments of reading) * (server's time / our time, over the requests that
    ended in between): a ratio estimator with our count as the control (Cochran, "Sampling Techniques", 1977,
    6.3), whose standard error is that of gauge - ratio * ours, autocorrelation included.
    """
    times = [readings.grown(f"{name}_sum_s", first, last) for name in ("queue", "decode", "e2e")]
    requests = readings.grown("e2e_count", first, last)
    gauge = (readings.gauge("running") + readings.gauge("waiting"))[first:last]
    read = ~np.isnan(gauge)
    if None in times or not requests or not read.any():
        return None
    queue_s, decode_s, e2e_s = (time or 0.0 for time in times)
    from_ns, to_ns = int(readings.at_ns[first]), int(readings.at_ns[last])
    span_s = (to_ns - from_ns) / 1e9
    gauge, at_ns = gauge[read], readings.at_ns[first:last][read]
    ours, our_s, failed = _ours(run, at_ns, from_ns, to_ns)
    reason = _why_not(run, readings, failed, len(gauge), our_s * float(ours.mean()))
    ratio = float(gauge.mean()) / float(ours.mean()) if ours.any() else 0.0
    scale = float(ours.mean()) / our_s if our_s and not reason else 1 / span_s
    low, high = (queue_s + decode_s) * scale, e2e_s * scale
    tolerance = SIGMAS * _standard_error(gauge - ratio * ours)
    mean = float(gauge.mean())
    return Law(
        in_flight=mean,
        low=low,
        high=high,
        tolerance=tolerance,
        rate_per_s=requests / span_s,
        seconds_low=(queue_s + decode_s) / requests,
        seconds_high=e2e_s / requests,
        readings=len(gauge),
        ok=None if reason else bool(low - tolerance <= mean <= high + tolerance),
        reason=reason,
    )


def _why_not(run: Run, readings: Readings, failed: int, n: int, ours: float) -> str:
    counts = run.meta.get("server_counts")
    if not isinstance(counts, dict) or not counts.get("exclusive"):
        return "others used the server when the run began"
    if readings.restarts:
        return f"its counters fell back {readings.restarts:,} times"
    if failed:
        return f"{failed:,} requests failed meanwhile: what the server spent on them is not known"
    return _few(n) or ("" if ours > 0 else "nothing of ours was in flight when it was read")


def _few(n: int) -> str:
    return f"{n} readings, at least {MIN_READINGS} are needed" if n < MIN_READINGS else ""


def _ours(run: Run, at_ns: NDArray[np.int64], from_ns: int, to_ns: int) -> tuple[FloatArray, float, int]:
    """Return our streams at each moment, the time (s) of those that ended in between, and how many failed."""
    frame = run.requests[run.requests.sent_ns.notna()]
    sent = _after_due(frame.due_unix_ns, frame.sent_ns)
    ended = frame.due_unix_ns.to_numpy() + frame.end_ns.to_numpy()
    alive = np.searchsorted(np.sort(sent), at_ns, side="right") - np.searchsorted(np.sort(ended), at_ns)
    between = (from_ns < ended) & (ended <= to_ns)
    our_s = float((ended - sent)[between].sum()) / 1e9
    everyone = run.requests
    last = everyone.due_unix_ns.to_numpy() + everyone.end_ns.to_numpy()
    failed = (everyone.outcome != "ok").to_numpy() & (from_ns < last) & (everyone.due_unix_ns <= to_ns).to_numpy()
    return alive.astype(np.float64), our_s, int(failed.sum())


def _alive_between(run: Run, at_ns: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return the streams alive throughout [at, at + TICK_NS], at least, and at any moment of it, at most.

    A stream begins in its worker's books between its due time and when it was sent, and ends there after its
    last byte was read, which may be later than that arrived by its read lag.
    """
    frame = run.requests
    due, end = frame.due_unix_ns.to_numpy(), frame.due_unix_ns.to_numpy() + frame.end_ns.to_numpy()
    sent = np.sort(_after_due(frame.due_unix_ns, frame.sent_ns.fillna(frame.end_ns)))
    closed = np.sort(end + frame.lag_max_ns.to_numpy())
    later = at_ns + TICK_NS
    low = np.searchsorted(sent, at_ns, side="right") - np.searchsorted(np.sort(end), later)
    high = np.searchsorted(np.sort(due), later, side="right") - np.searchsorted(closed, at_ns)
    return np.maximum(low, 0).astype(np.float64), high.astype(np.float64)


def _after_due(due_unix_ns: pd.Series, duration_ns: pd.Series) -> NDArray[np.int64]:
    return due_unix_ns.to_numpy() + duration_ns.to_numpy().astype(np.int64)


def _standard_error(values: FloatArray) -> float:
    """Return the standard error of a mean of readings in order of time, neighbours being alike."""
    if len(values) < 2:
        return 0.0
    return float(values.std(ddof=1)) * float(np.sqrt(autocorrelation_time(values) / len(values)))
