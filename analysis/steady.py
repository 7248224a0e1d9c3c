"""Was the window steady from its start? MSER-5 says where it would begin, and nothing is cut for it.

MSER-5 (White 1997) takes means of five and leaves out as many at the front as make the standard error of the
rest smallest. On queues that are steady from the start it cuts something from every second run, and what it
cuts are slow moments, for those are what scatters: upper bounds on the share of late requests, of which 95 %
should cover the truth, lose 4 to 6 points by it (tests/statistics). Nor does a queue that starts empty need
it: where a run is long enough for an interval, what it does until it has filled is lost among the rest. So
the window is what the warm-up leaves, which was fixed before anybody saw the data, and this only says whether
to lengthen it.
"""

import math
from dataclasses import dataclass

import numpy as np

from .evidence import Evidence
from .rundir import Run, window_timeline
from .statistics import FloatArray, autocorrelation_time

BATCH = 5
MIN_BATCHES = 10

SURE_SIGMA = 5.0
"""A beginning differs where it lies so many standard errors above the rest. By chance it does in 2 to 5 of
100 runs, for MSER-5 has looked for the worst one."""


@dataclass(frozen=True, slots=True)
class Steady:
    """Where MSER-5 would begin, in seconds after the window's start, by which series, and what that means.

    `statistic` is MSER-5's, the square of the standard error of what it keeps, in the series' own unit;
    `sigma` by how many standard errors what it would leave out lies above the rest.
    """

    start_s: float
    by: str  # "ttft" or "in flight", the later of the two; "" where neither says anything
    statistic: float | None
    sigma: float | None
    steady: bool | None  # False where more than half would be left out
    reason: str


def mser5(series: FloatArray) -> tuple[int, float] | None:
    """Return how many values MSER-5 leaves out at the front, and its statistic; None below 50 values.

    At least a quarter is kept, for few values agree by chance.
    """
    count = len(series) // BATCH
    if count < MIN_BATCHES:
        return None
    means = series[: count * BATCH].reshape(count, BATCH).mean(axis=1)
    kept = np.arange(1, count + 1)
    # From the back, so that each sum is that of one batch more; around the mean, so that squares stay small.
    back = (means - means.mean())[::-1]
    statistics = ((np.cumsum(back**2) - np.cumsum(back) ** 2 / kept) / kept**2)[::-1]
    best = int(np.argmin(statistics[: count - count // 4]))
    return best * BATCH, max(0.0, float(statistics[best]))


def steady(run: Run, evidence: Evidence) -> Steady:
    """Look for a beginning that differs from the rest: in TTFT by request, in flight by second."""
    start_ns, end_ns = run.window_ns
    seen = evidence.frame[["first_ns", "due_unix_ns"]].dropna()
    timeline = window_timeline(run)
    series = {
        "ttft": (seen.first_ns.to_numpy(dtype=np.float64) / 1e6, seen.due_unix_ns.to_numpy(dtype=np.int64)),
        "in flight": (
            timeline.in_flight.to_numpy(dtype=np.float64),
            timeline.unix_s.to_numpy(dtype=np.int64) * 10**9,
        ),
    }
    found = []
    for name, (values, at_ns) in series.items():
        cut = mser5(values)
        if cut is not None:
            start_s = max(0.0, (int(at_ns[cut[0]]) - start_ns) / 1e9) if cut[0] else 0.0
            found.append((start_s, name, cut[1], _sigma(values, cut[0])))
    if not found:
        return Steady(0.0, "", None, None, None, "too little data to tell")
    start_s, by, statistic, sigma = max(found)
    is_steady = start_s <= (end_ns - start_ns) / 2e9
    return Steady(start_s, by, statistic, sigma, is_steady, _reason(start_s, by, sigma, steady=is_steady))


def _sigma(values: FloatArray, cut: int) -> float | None:
    """Return by how many standard errors the mean of the first values lies above that of the rest."""
    rest = values[cut:]
    if not cut or np.ptp(rest) == 0:
        return None
    tau = autocorrelation_time(rest)
    error = math.sqrt(float(rest.var()) * tau * (1 / max(cut, tau) + 1 / len(rest)))
    return float(values[:cut].mean() - rest.mean()) / error


def _reason(start_s: float, by: str, sigma: float | None, *, steady: bool) -> str:
    if start_s == 0:
        return "steady from the start of the window"
    if not steady:
        return f"no steady state: by {by}, MSER-5 would leave out more than half of the window"
    if sigma is None or abs(sigma) >= SURE_SIGMA:
        above = "" if sigma is None else f", {sigma:.1f} standard errors"
        text = f"the first {start_s:.0f} s differ from the rest ({by}{above})"
        return f"{text}: a warm-up longer by that would leave them out"
    text = f"MSER-5 would begin {start_s:.0f} s later, by {by}"
    return f"{text}, but chance explains that ({sigma:.1f} standard errors): nothing is left out"
