"""Bounds on the share of bad events that hold when neighbours are alike.

Requests of a loaded server are not independent: one slow moment makes many of them slow. So n requests
are worth n_eff = n / deff independent ones, and the exact binomial bounds are taken there.
Bounds are one-sided at 95 %: the truth lies below the upper one in 95 of 100 runs, and above the lower one
in 95 of 100, so both together hold it in 90 (tests/statistics). The two have an n_eff each. A run that was
lucky shows little of what is bad, and so little of how alike it is: the upper bound looks for that elsewhere,
too, and pays for estimating it. One that was unlucky shows much of both: the lower bound takes it as it is.

Sectioning (ten batches of time as clusters) was tried as a second opinion on shares, and left out: on M/M/1
at p95 it covers within 2 points as often as n_eff did, with intervals 7 to 10 % wider, and at p99 less often.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

CONFIDENCE = 0.95
MEAN_LEVELS = (0.95, 0.995)
"""Of the bounds on a run's mean by Student's t, lower and upper: latencies scatter further up than down, and
a run that was lucky also looks calmer than it is. With both at 97.5 % the upper one would cover 87 to 95 % of
such queues' means (tests/statistics)."""

RUNS_LEVELS = (0.95, 0.98)
"""The same of a mean over runs: averages scatter less far up."""

POOL_LEVELS = (0.93, 0.96)
"""And of a share over runs that differ, where n_eff shrinks for how few tell by how much (`pooled_worth`).
Where a run's share is off by a third to a half, as it is of servers that differ by 12 to 17 % in speed, upper
bounds with both at 95 % would cover 91 to 94 % and lower ones 96 to 98 (tests/statistics)."""

BATCH_TAU = 10
"""An estimated variance has a degree of freedom for each batch of 10 autocorrelation times but one."""

LEAST = 2 * BATCH_TAU
"""An interval is given from so many independent values on: two batches, one degree of freedom.

No more, because how many there are is estimated, too, and best where a run was lucky: with a least of 100,
of M/M/1 queues whose runs are worth 100, those that looked good enough had upper bounds that covered 88 to
95 %, and where few did, far fewer (tests/statistics). The degrees of freedom do what a least was to do: an
interval from 20 values says next to nothing, and one from 100 is as wide as from 80 whose worth is known.
"""

MIN_CLUSTERS = 10
"""An interval for pooled gaps needs at least this many independent clusters of one second."""

CLUSTERS_PER_DEGREE = 6
"""So many make a degree of freedom of their variance. Seconds known to be independent would have one each;
how alike they are is estimated. With one each, intervals hold 88 to 94 % on a server 85 % busy; with four, 85
to 92 where the share of late gaps doubles and halves within three seconds (tests/statistics)."""

SECONDS_LEVELS = (0.95, 0.96)
"""The levels of a mean whose terms are seconds: sums of many gaps, which scatter less far up than requests.

With these a batching server's means lie below 95 to 98 % of the upper bounds and above 97 to 99 % of the
lower ones, in runs of 12 to 60 s; with `MEAN_LEVELS` the upper one always held (tests/statistics).
"""

MATERIAL_RISE = 0.5
"""A level that rose by less than half over the window is not called rising, however significant."""

HALF_RISE = 0.25
"""Each half of the window must show at least this part of the rise: a ramp-up or a step does not."""

FIRST_LAGS, BLOCKS_AT_ONCE = 512, 16
"""The lags of an autocorrelation that are looked at first, and the blocks that are transformed at once."""

MIN_TREND_S = 20
"""A trend needs at least so many seconds."""


def share_bounds(bad_low: float, bad_high: float, n: float) -> tuple[float, float]:
    """Return one-sided lower and upper 95 % bounds on a share, from at least and at most so many bad of n.

    Exact binomial (Clopper and Pearson 1934) through quantiles of the beta distribution; counts may be
    fractions, as effective counts are (Korn and Graubard 1998).
    """
    return share_at_least(bad_low, n), share_at_most(bad_high, n)


def share_at_least(bad: float, n: float, confidence: float = CONFIDENCE) -> float:
    """Return the lower one of `share_bounds`."""
    from scipy.special import betaincinv  # noqa: PLC0415 - costs 0.1 s that only a judge needs

    return float(betaincinv(bad, n - bad + 1, 1 - confidence)) if bad > 0 else 0.0


def share_at_most(bad: float, n: float) -> float:
    """Return the upper one of `share_bounds`."""
    from scipy.special import betaincinv  # noqa: PLC0415 - as above

    return float(betaincinv(bad + 1, n - bad, CONFIDENCE)) if bad < n else 1.0


def autocorrelation_time(series: NDArray[Any]) -> float:
    """Return tau = 1 + 2 * (sum of autocorrelations), at least 1, for a series in due order.

    The sum ends by Geyer's initial monotone sequence (Geyer 1992, "Practical Markov chain Monte Carlo",
    section 3.3): pairs of neighbouring lags are added while their sum is positive and falling.
    A constant series says nothing about dependence and counts as independent.
    """
    x = np.asarray(series, dtype=np.float64)
    if len(x) < 4 or np.ptp(x) == 0:
        return 1.0
    x = x - x.mean()
    lags, sums = 0, x[:0]
    while lags < len(x):  # the sum mostly ends within the first few lags of a long series
        lags = min(len(x), max(FIRST_LAGS, 16 * lags))
        sums = _lagged_sums(x, lags)
        pairs = sums[: lags // 2 * 2].reshape(-1, 2).sum(axis=1) / sums[0]
        ends = np.flatnonzero(pairs <= 0)
        if len(ends):
            pairs = pairs[: ends[0]]
            break
    return max(1.0, float(2 * np.minimum.accumulate(pairs).sum() - 1)) if len(pairs) else 1.0


def _lagged_sums(x: NDArray[Any], lags: int) -> NDArray[Any]:
    """Return sum(x[i] * x[i + lag]) for each lag below `lags`.

    By FFT, in blocks that fit the processor's cache: each is correlated with itself and what follows it.
    """
    from scipy.fft import irfft, rfft  # noqa: PLC0415 - as above

    size = 4 * lags
    step = size - lags  # a block's own values; behind them lie those that it meets
    blocks = -(-len(x) // step)
    padded = np.zeros((blocks - 1) * step + size)
    padded[: len(x)] = x
    wide = np.lib.stride_tricks.sliding_window_view(padded, size)[::step]
    total = np.zeros(size // 2 + 1, dtype=np.complex128)
    for start in range(0, blocks, BLOCKS_AT_ONCE):
        met = rfft(wide[start : start + BLOCKS_AT_ONCE])
        own = wide[start : start + BLOCKS_AT_ONCE].copy()
        own[:, step:] = 0.0
        total += (np.conj(rfft(own, overwrite_x=True)) * met).sum(axis=0)
    sums: NDArray[Any] = irfft(total, size)[:lags]
    return sums


@dataclass(frozen=True, slots=True)
class ClusterEffect:
    """What pooled events are worth that come in clusters: design effect and independent clusters."""

    deff: float
    clusters: float


def cluster_effect(bad: NDArray[Any], size: NDArray[Any], *, independent: bool = False) -> ClusterEffect:
    """Return the design effect of a share pooled over clusters in time order (bad and all events of each).

    Linearised variance of the ratio sum(bad) / sum(size) over the binomial one (Kish 1965, chapter 5), with
    the clusters' own autocorrelation time as a factor, unless they are known to be independent. At least 1.
    """
    bad, size = np.asarray(bad, dtype=np.float64), np.asarray(size, dtype=np.float64)
    total, clusters = float(size.sum()), len(size)
    share = float(bad.sum()) / total if total else 0.0
    if clusters < 2 or not 0 < share < 1:
        return ClusterEffect(1.0, float(clusters))
    residual = bad - share * size
    tau = 1.0 if independent else autocorrelation_time(residual)
    variance = clusters / (clusters - 1) * float(residual @ residual) * tau
    return ClusterEffect(max(1.0, variance / (total * share * (1 - share))), clusters / tau)


def small_sample_factor(degrees: float, level: float = CONFIDENCE) -> float:
    """Return by what n_eff shrinks since its variance was estimated with so many degrees of freedom.

    (z / t)^2 of the 95 % quantiles, after Korn and Graubard 1998; t at a higher `level` where what was
    estimated is skewed.
    """
    from scipy.special import ndtri, stdtrit  # noqa: PLC0415 - as above

    return float((ndtri(CONFIDENCE) / stdtrit(max(degrees, 1.0), level)) ** 2)


def freedom(independent: float, per_degree: int = BATCH_TAU) -> float:
    """Return the degrees of freedom of a variance that was estimated from so many independent values."""
    return max(1.0, independent / per_degree - 1)


def samples_needed(share: float, allowed: float) -> float | None:
    """Return the independent events that decide, if the bad share stays as observed; None if none would.

    Decided means: upper bound < allowed, or lower bound >= allowed.
    """

    def decided(n: float) -> bool:
        lower, upper = share_bounds(share * n, share * n, n)
        return upper < allowed or lower >= allowed

    if share == allowed:
        return None
    high = 1.0
    while not decided(high):
        high *= 2
        if high > 1e12:
            return None
    low = high / 2
    while high - low > max(0.5, 1e-3 * high):
        middle = (low + high) / 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return math.ceil(high)


class Terms(NamedTuple):
    """What a mean is taken over: an interval takes `least` independent ones, a degree of freedom some."""

    unit: str
    per_degree: int
    least: int
    levels: tuple[float, float]  # of the bounds, lower and upper


REQUESTS = Terms("requests", BATCH_TAU, LEAST, MEAN_LEVELS)
SECONDS = Terms("seconds", CLUSTERS_PER_DEGREE, MIN_CLUSTERS, SECONDS_LEVELS)


class Mean(NamedTuple):
    """A run's mean, its standard error, and how many independent terms it is worth."""

    value: float
    error: float
    independent: float
    terms: Terms = REQUESTS

    @property
    def degrees(self) -> float:
        """The degrees of freedom of the standard error."""
        return freedom(self.independent, self.terms.per_degree)

    def bounds(self) -> tuple[float, float]:
        """Return bounds by Student's t; there should be `terms.least` independent terms."""
        return t_bounds(self.value, self.error, self.degrees, self.terms.levels)

    def longer(self, times: float) -> "Mean":
        """Return what a run so many times as long would tell, if it went on as it did."""
        return self._replace(error=self.error / math.sqrt(times), independent=self.independent * times)


def mean_of(total: NDArray[Any], count: NDArray[Any], terms: Terms = REQUESTS) -> Mean:
    """Return what sum(total) / sum(count) is worth, from terms in due order; all counts above 0.

    Linearised variance of the ratio (Kish 1965, chapter 5), times the autocorrelation time of its terms.
    """
    total, count = np.asarray(total, dtype=np.float64), np.asarray(count, dtype=np.float64)
    value = float(total.sum() / count.sum())
    residual = total - value * count
    tau = autocorrelation_time(residual)
    error = math.sqrt(float(residual @ residual) * tau) / float(count.sum())
    return Mean(value, error, len(total) / tau, terms)


def mean_error(
    lower: float | None, upper: float | None, independent: float | None, terms: Terms = REQUESTS
) -> float | None:
    """Return the standard error behind the bounds of a `Mean`; None where there are none."""
    if lower is None or upper is None or independent is None or math.isinf(upper):
        return None
    below, above = t_bounds(0.0, 1.0, freedom(independent, terms.per_degree), terms.levels)
    return (upper - lower) / (above - below)


def runs_bounds(values: Sequence[float]) -> tuple[float, float]:
    """Return bounds on the mean of independent runs' values, by Student's t."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return t_bounds(mean, error, len(values) - 1, RUNS_LEVELS)


def t_bounds(mean: float, error: float, degrees: float, levels: tuple[float, float]) -> tuple[float, float]:
    """Return Student's t bounds, each one-sided at its own level."""
    from scipy.special import stdtrit  # noqa: PLC0415 - as above

    below, above = (float(stdtrit(degrees, level)) for level in levels)
    return mean - below * error, mean + above * error


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through one value per second: its two ends, and whether it really rises."""

    start: float
    end: float
    p_value: float
    rising: bool


def trend(seconds: NDArray[Any], values: NDArray[Any]) -> Trend | None:
    """Return the trend of one value per second (least squares), or None below 20 values.

    Rising means all of: the slope's one-sided t-test, with n / tau of the residuals as the number of
    independent values, has p < 5 %; the line's end lies at least half above its start; and the lines
    through the first and the second half alone rise by at least a quarter as much each (a straight rise:
    by half), so that neither a start-up ramp that levelled off nor a single step counts.
    """
    from scipy.special import stdtr  # noqa: PLC0415 - as above

    x, y = np.asarray(seconds, dtype=np.float64), np.asarray(values, dtype=np.float64)
    n = len(x)
    if n < MIN_TREND_S:
        return None
    slope = _slope(x, y)
    x = x - x.mean()
    level = float(y.mean())
    start, end = level + slope * float(x[0]), level + slope * float(x[-1])
    residual = y - level - slope * x
    independent = n / autocorrelation_time(residual)
    if independent <= 3:  # the residuals are one single wave: nothing to test against
        return Trend(start, end, 1.0, rising=False)
    # The usual error of a slope, with the independent values in place of n: sigma / sqrt(n_eff * var(x)).
    error = math.sqrt(float(residual @ residual) / n * independent / (independent - 2))
    error /= math.sqrt(independent * float(x @ x) / n)
    p_value = float(stdtr(independent - 2, -slope / error)) if error > 0 else float(slope <= 0)
    halves = [
        _slope(*half) * float(np.ptp(half[0]))
        for half in ((x[: n // 2], y[: n // 2]), (x[n // 2 :], y[n // 2 :]))
    ]
    steady = end > start and min(halves) >= HALF_RISE * (end - start)
    floor = max(start, float(y[: max(1, n // 10)].mean()), 0.0)
    material = end - max(start, 0.0) >= MATERIAL_RISE * floor
    return Trend(start, end, p_value, rising=p_value < 1 - CONFIDENCE and material and steady)


def _slope(x: FloatArray, y: FloatArray) -> float:
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred))
