"""From requests to counts of bad events, with what they are worth as independent ones.

A value is known as an interval [low, high]: a failed request's latency is infinite; one that the end of
the run cancelled lasted at least that long; an ok answer that lacks a figure (no usage, no visible text) is
undecided, from 0 to infinity. What is undecided is good in one bound and bad in the other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .histogram import Histogram, Interval, bin_low
from .intervals import IntArray, IntervalLog, as_log
from .several import failing_share
from .sla import Limit
from .statistics import (
    BATCH_TAU,
    CLUSTERS_PER_DEGREE,
    LEAST,
    MIN_CLUSTERS,
    FloatArray,
    autocorrelation_time,
    cluster_effect,
    freedom,
    share_at_most,
    small_sample_factor,
)

BoolArray = NDArray[np.bool_]

MIN_OWN_EVENTS = 50
"""Dependence is also estimated at the sample's own quantile, where at least so many values lie above it."""

WIDE_SHARE = 0.05
"""Also from the 95th percentile on: in a short run too few busy times lie above the 99th to tell how long
they last, and a queue's p99 looks worth twice what it is (tests/statistics)."""

EXCESS = 10
"""And from how far values lie beyond another quantile, that so many times as many exceed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A metric's values (ns), one per request in due order; all arrays have that length.

    `defined` is False where the metric has no value (the gaps of a one-token answer): such a request is
    neither good nor bad. `error_ns` is how far the clock moved during the request.
    """

    low: FloatArray
    high: FloatArray
    error_ns: FloatArray
    ok: BoolArray
    defined: BoolArray

    def beyond(self, limit: Limit) -> tuple[BoolArray, BoolArray]:
        """Return (certainly beyond the limit, possibly beyond it), False where not defined."""
        low, high = self.low - self.error_ns, self.high + self.error_ns
        if limit.strict:
            return self.defined & (low >= limit.limit_ns), self.defined & (high >= limit.limit_ns)
        return self.defined & (low > limit.limit_ns), self.defined & (high > limit.limit_ns)

    def worst(self) -> FloatArray:
        """Return the values with everything undecided as infinite, in due order."""
        return self.high[self.defined]

    def of_ok(self) -> FloatArray:
        """Return the known values of ok requests, in due order."""
        known = self.defined & self.ok & np.isfinite(self.high)
        return self.high[known]


@dataclass(frozen=True, slots=True)
class Tally:
    """Bad events of n, and what n is worth as independent ones.

    `alike`, a cautious estimate, is for the upper bound, and with `independent` tells whether to give any
    bounds. `alike_low` is for the lower one: the geometric mean of it and of what the bad events alone show.
    """

    n: int
    bad: int  # certainly
    undecided: int
    alike: float  # so many events are worth one
    alike_low: float  # the same for the lower bound
    independent: float  # requests divided by tau, or clusters
    per_degree: int  # of them, for a degree of freedom of `alike`
    needed: int
    unit: str

    @property
    def n_eff(self) -> float:
        """What n is worth for the upper bound."""
        return self.worth(1.0)

    @property
    def n_eff_low(self) -> float:
        """What n is worth for the lower bound: at least n_eff."""
        return self.n / self.alike_low

    @property
    def degrees(self) -> float:
        """The degrees of freedom of what n is worth."""
        return freedom(self.independent, self.per_degree)

    def worth(self, times: float) -> float:
        """Return what a run so many times as long would be worth: it would also know `alike` better."""
        factor = small_sample_factor(freedom(times * self.independent, self.per_degree))
        return times * self.n / self.alike * factor

    def bounds(self, tests: int = 1) -> tuple[float, float]:
        """Return bounds on the bad share; the lower one holds in so many tests at once (`several`)."""
        low, high = self.n_eff_low / self.n, self.n_eff / self.n
        lower = failing_share(self.bad * low, self.n_eff_low, tests)
        return lower, share_at_most((self.bad + self.undecided) * high, self.n_eff)

    @property
    def refusal(self) -> str:
        """Why there is no interval; empty where there is one."""
        if self.independent >= self.needed:
            return ""
        return refusal(self.independent, self.unit, self.needed, self.n if self.unit == "requests" else None)


def refusal(independent: float, unit: str, needed: int, n: int | None = None) -> str:
    """Say why there is no interval; `n` is how many there are of the unit, where that is another number."""
    worth = math.floor(independent)
    if n is None or n <= worth:
        return f"no valid interval: worth {worth} independent {unit}, and the least is {needed}"
    alike = f"{n:,} {unit} are so alike that they are worth {worth} independent ones"
    return f"no valid interval: {alike}, and the least is {needed}"


def request_sample(frame: pd.DataFrame, metric: str) -> Sample:
    """Return the sample of a metric that has one value per request."""
    ok = (frame.outcome == "ok").to_numpy()
    cancelled = (frame.outcome == "cancelled").to_numpy()
    value, defined, final = _values(frame, metric)
    known = ~np.isnan(value)
    low = np.where(ok, np.where(known, value, 0.0), np.inf)
    high = np.where(ok & known, value, np.inf)
    if cancelled.any():
        low = np.where(cancelled, np.where(known, value, _waited(frame, metric)), low)
        high = np.where(cancelled & known & final, value, high)
    if metric == "dispatch_lag":  # the generator's own figure: known once sent, whatever came after
        low, high, defined = value, value, known
        return Sample(low, high, np.zeros(len(frame)), ok, defined)
    error_ns = np.abs(frame.clock_jump_ns.to_numpy(dtype=np.float64))
    return Sample(low, high, error_ns, ok, defined | ~(ok | cancelled))


def _values(frame: pd.DataFrame, metric: str) -> tuple[FloatArray, BoolArray, bool]:
    """Return (value or NaN, whether the metric exists there, whether a cancelled one's value is final)."""
    sent, first, last = (
        frame[name].to_numpy(dtype=np.float64) for name in ("sent_ns", "first_ns", "last_ns")
    )
    tokens = frame.output_tokens.to_numpy(dtype=np.float64)
    defined = np.ones(len(frame), dtype=bool)
    if metric == "tpot":
        # Chunks less gaps is the number of choices that had tokens; each is a stream of its own.
        tokens = tokens / np.maximum(1, frame.chunks.to_numpy() - frame.gaps.to_numpy())
        ended = np.where(frame.outcome == "ok", last, np.nan)
        return (ended - first) / np.where(tokens >= 2, tokens - 1, np.nan), ~(tokens < 2), False
    if metric == "max_gap":
        return frame.gap_max_ns.to_numpy(dtype=np.float64), frame.gaps.to_numpy() > 0, False
    if metric == "e2e":
        return frame.end_ns.to_numpy(dtype=np.float64), defined, False
    visible = frame.visible_ns.to_numpy(dtype=np.float64)
    times = {"ttft": first, "ttft_sent": first - sent, "ttfo": visible, "dispatch_lag": sent}
    return times[metric], defined, True


def _waited(frame: pd.DataFrame, metric: str) -> FloatArray:
    """Return what a request that was cancelled without the value has waited for it at least."""
    end: FloatArray = frame.end_ns.to_numpy(dtype=np.float64)
    if metric in {"ttft", "ttfo"}:
        return end
    if metric == "ttft_sent":
        waited: FloatArray = np.nan_to_num(end - frame.sent_ns.to_numpy(dtype=np.float64))
        return waited
    return np.zeros(len(frame))


def rank_quantile(values: FloatArray, q: float) -> float:
    """Return the value of rank ceil(q * n); values may be infinite. Raises ValueError without any."""
    if not len(values):
        raise ValueError("no values have no quantiles")
    return rank_quantiles(values, [q])[0]


def rank_quantiles(values: FloatArray, shares: Sequence[float]) -> list[float]:
    """Return the values of several ranks, as `rank_quantile` does: each is looked for above the one below."""
    rank = {q: max(1, math.ceil(round(q * len(values), 6))) for q in shares}
    found: dict[int, float] = {}
    above, below = values, 0
    for place in sorted(rank.values()):
        parted = np.partition(above, place - 1 - below)
        above, below = parted[place - 1 - below :], place - 1
        found[place] = float(above[0])
    return [found[rank[q]] for q in shares]


def share_tally(bad: BoolArray, possible: BoolArray, own: Sequence[FloatArray], allowed: float) -> Tally:
    """Count bad requests in due order; `own` are the values whose own quantile shows the dependence too.

    deff = the largest autocorrelation time of: the indicator at the limit, the indicators of `own` beyond
    their own quantile, and how far `own` reach beyond a lower one. So a sample without a single bad event
    still knows its dependence. n_eff has a factor for being estimated, with one degree of freedom per ten of
    its like.

    Who sees many bad ones also sees how they come together: with all of that a lower bound would hold 98 to
    100 %. Where few of a slow wave's requests are bad, the indicator alone knows too little: 84 to 93. With
    the geometric mean of both times, and no factor, it holds 94 to 99 (tests/statistics).
    """
    n = len(bad)
    own_tau = autocorrelation_time(bad)
    perhaps = own_tau if np.array_equal(bad, possible) else autocorrelation_time(possible)
    tau = max([own_tau, perhaps, *(_own_tau(values, allowed) for values in own)])
    certain = int(bad.sum())
    return Tally(
        n=n,
        bad=certain,
        undecided=int(possible.sum()) - certain,
        alike=tau,
        alike_low=math.sqrt(own_tau * tau),
        independent=n / tau,
        per_degree=BATCH_TAU,
        needed=LEAST,
        unit="requests",
    )


def _own_share(n: float, allowed: float) -> float:
    return max(allowed, min(MIN_OWN_EVENTS / n, 0.5))


def _own_tau(values: FloatArray, allowed: float) -> float:
    """Return the autocorrelation time of a sample's upper part.

    Where slow moments were few, their own indicator knows too little of how long such moments last, and knows
    least where least was seen: bounds from it alone cover 75 to 91 % instead of 95 % (tests/statistics). The
    excess over a tenfold share sees ten times as many.
    """
    if not len(values):
        return 1.0
    own = _own_share(len(values), allowed)
    return max(_tau_above(values, share) for share in {own, max(own, WIDE_SHARE)})


def _tau_above(values: FloatArray, share: float) -> float:
    """Return the larger autocorrelation time of what such a share is above, and of how far it reaches."""
    threshold = rank_quantile(values, 1 - share)
    above = values >= threshold
    tau = autocorrelation_time(values > threshold if above.all() else above)
    return max(tau, autocorrelation_time(_excess(values, min(1.0, EXCESS * share))))


def _excess(values: FloatArray, share: float) -> FloatArray:
    """Return how far each value lies beyond the quantile that `share` of all exceed, 0 below it.

    On a scale of its own, so that it stays finite where values are not: the exponential quantile of each rank
    (Savage 1956), equal values sharing the mean of their ranks.
    """
    n = len(values)
    excess = np.zeros(n)
    least = max(0, math.floor((1 - share) * n) - 1)  # what lies below this rank is not beyond the quantile
    beyond = np.flatnonzero(values >= np.partition(values, least)[least])
    beyond = beyond[np.argsort(values[beyond])]  # np.unique would take twice as long
    ordered = values[beyond]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    times = np.diff(first, append=len(ordered))
    rank = n - len(beyond) + np.cumsum(times) - (times - 1) / 2
    scores: FloatArray = -np.log1p(-(rank - 0.5) / n)
    excess[beyond] = np.repeat(np.maximum(0.0, scores + math.log(share)), times)
    return excess


@dataclass(frozen=True, slots=True)
class Gaps:
    """Pooled gaps by second of due time; a failed request adds one infinite gap to its second.

    `second_of` says to which of the seconds an interval of the log belongs; the seconds are in time order,
    none is empty, and `failed_in` counts the failed requests of each.
    """

    log: IntervalLog
    second_of: IntArray
    failed_in: IntArray
    pooled: Histogram

    @property
    def failed(self) -> int:
        """All failed requests."""
        return int(self.failed_in.sum())

    @property
    def n(self) -> int:
        """All gaps, the infinite ones included."""
        return self.pooled.count + self.failed

    def finite(self) -> "Gaps":
        """Return the same without the failed requests."""
        return replace(self, failed_in=np.zeros_like(self.failed_in))

    def in_seconds(self, of_intervals: IntArray) -> FloatArray:
        """Return the sum for each second of what there is for each interval."""
        sums: FloatArray = np.bincount(self.second_of, of_intervals, len(self.failed_in)).astype(np.float64)
        return sums

    def quantile(self, q: float) -> float:
        """Return the value (ns) of rank ceil(q * n), infinite where failures reach that far down."""
        return pooled_quantile(self.pooled, self.failed, q)


def pooled_quantile(pooled: Histogram, failed: int, q: float) -> float:
    """Return the gap (ns) of rank ceil(q * n), where `failed` more gaps were infinite."""
    rank = max(1, math.ceil(round(q * (pooled.count + failed), 6)))
    return math.inf if rank > pooled.count else pooled.quantile(rank / pooled.count)


def pooled_gaps(intervals: Sequence[Interval], frame: pd.DataFrame, whole_s: range) -> Gaps:
    """Gather the gaps of the window's whole seconds, over all scenarios."""
    log = as_log(intervals)
    log = log.select(log.totals() > 0)
    lost = frame.due_unix_ns[~frame.outcome.isin(("ok", "cancelled"))].to_numpy() // 10**9
    lost = lost[(lost >= whole_s.start) & (lost < whole_s.stop)]
    seconds, place = np.unique(np.concatenate((log.seconds, lost)), return_inverse=True)
    failed_in = np.bincount(place[len(log) :], minlength=len(seconds))
    return Gaps(log, place[: len(log)], failed_in, log.pooled())


def gap_tally(gaps: Gaps, limit: Limit, allowed: float) -> Tally:
    """Count gaps beyond the limit; clusters are seconds, and a bin that straddles the limit is undecided.

    Seconds are few, so the lower bound pays half for what was estimated.
    """
    at = limit.limit_ns if limit.strict else limit.limit_ns + 1
    certain, straddling = gaps.log.count_at_or_above(at)
    bad, undecided = gaps.in_seconds(certain) + gaps.failed_in, gaps.in_seconds(straddling)
    size = gaps.in_seconds(gaps.log.totals()) + gaps.failed_in
    effects = [cluster_effect(bad, size), cluster_effect(bad + undecided, size)]
    own = gaps.quantile(1 - _own_share(gaps.n, allowed)) if gaps.n else math.inf
    if math.isfinite(own):
        above, _ = gaps.log.count_at_or_above(bin_low(int(own)))
        effects.append(cluster_effect(gaps.in_seconds(above) + gaps.failed_in, size))
    clusters = min(effect.clusters for effect in effects)
    deff = max(effect.deff for effect in effects)
    factor = small_sample_factor(freedom(clusters, CLUSTERS_PER_DEGREE))
    return Tally(
        n=gaps.n,
        bad=int(bad.sum()),
        undecided=int(undecided.sum()),
        alike=deff,
        alike_low=math.sqrt(effects[0].deff * deff / factor),
        independent=clusters,
        per_degree=CLUSTERS_PER_DEGREE,
        needed=MIN_CLUSTERS,
        unit="seconds",
    )
