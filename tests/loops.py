"""Loops whose rate in the long run is known: when their requests are due, and how often bounds may fail."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from analysis.rates import Served, served
from analysis.statistics import FloatArray

Draw = Callable[[np.random.Generator, int], tuple[FloatArray, float]]


def open_loop(rng: np.random.Generator, seconds: int) -> tuple[FloatArray, float]:
    """Return due times of Poisson arrivals, and the rate that a longer run would show."""
    return rng.uniform(0, seconds, rng.poisson(seconds * 20)), 20.0


def closed_loop(tau_s: float) -> Draw:
    """Return 8 users' loop of 1 s, on a server whose speed varies by a quarter over `tau_s`."""
    step_s, warmup_s, spread = 0.05, 20, 0.25

    def due(rng: np.random.Generator, seconds: int) -> tuple[FloatArray, float]:
        n, phi = int((seconds + warmup_s) / step_s), np.exp(-step_s / tau_s)
        noise = rng.standard_normal(n) * np.sqrt(1 - phi**2)
        state = lfilter([1.0], [1.0, -phi], noise, zi=[phi * rng.standard_normal()])[0]
        done = np.cumsum(np.exp(spread * state)) * step_s  # what the server has worked by then, in s at rest
        ends = np.cumsum(rng.lognormal(-0.08, 0.4, (8, int(2 * done[-1]) + 50)), axis=1)
        times = np.interp(ends[ends < done[-1]], done, np.arange(1, n + 1) * step_s) - warmup_s
        return times[times >= 0], 8 * float(np.exp(spread**2 / 2))

    return due


def of(times: FloatArray, seconds: int) -> Served:
    """Return what requests come to that are due at these times and ok."""
    frame = pd.DataFrame({"due_unix_ns": (times * 1e9).astype(np.int64), "outcome": "ok"})
    return served(frame, "requests_per_s", (0, seconds * 10**9))


def least(share: float, given: int) -> float:
    """Return what a true share is seen at least as, less three standard errors."""
    return share - 3 * float(np.sqrt(share * (1 - share) / given))
