"""What the charts draw, as plain arrays: no drawing here, so that a test can check every point."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .histogram import Histogram, bin_high
from .samples import rank_quantile
from .statistics import FloatArray

CURVE_POINTS = 400
BUCKET_REQUESTS = 20  # a p95 of fewer is one single request
MAX_BUCKETS = 120
STEP = 1.05


@dataclass(frozen=True, slots=True)
class Curve:
    """Latency percentiles: `nines` = log10(1 / (1 - p)), `values_ms` the percentile, infinite left out.

    `failed_from` is the percentile from which on the values are infinite, None where none is.
    """

    nines: FloatArray
    values_ms: FloatArray
    failed_from: float | None


def percentile_curve(values_ns: FloatArray) -> Curve:
    """Return the percentiles from p50 as far as at least one value lies above."""
    n = len(values_ns)
    if n < 4:
        return Curve(np.array([]), np.array([]), None)
    ordered = np.sort(values_ns) / 1e6
    nines = np.linspace(math.log10(2), math.log10(n), CURVE_POINTS)
    ranks = np.ceil(np.round((1 - 10**-nines) * n, 6)).astype(int)
    values = ordered[np.clip(ranks, 1, n) - 1]
    finite = np.isfinite(values)
    lost = int(np.isinf(ordered).sum())
    return Curve(nines[finite], values[finite], (n - lost) / n * 100 if lost else None)


def gap_shares(pooled: Histogram, edges_ms: FloatArray) -> FloatArray:
    """Return the share of the gaps in each class of `edges_ms`; a bin belongs where its middle lies."""
    lows = np.array(sorted(pooled.bins), dtype=np.float64)
    if not len(lows):
        return np.zeros(len(edges_ms) - 1)
    middles = np.array([(low + bin_high(int(low))) / 2e6 for low in lows])
    counts = np.array([pooled.bins[int(low)] for low in lows], dtype=np.float64)
    shares: FloatArray = np.histogram(middles, bins=edges_ms, weights=counts)[0] / pooled.count
    return shares


def gap_edges(pooled: list[Histogram], limits_ms: list[float]) -> FloatArray:
    """Return class edges (ms), each 5 % above the last, that hold all gaps; the first limit is an edge.

    The first class is everything below a third of the lowest p1: chunks that came together lie there, and
    an axis down to their microseconds would leave no room for the others.
    """
    filled = [one for one in pooled if one.count]
    lows = [max(one.quantile(0.01) / 3, 1000.0) / 1e6 for one in filled]
    low = min(lows + [limit / 4 for limit in limits_ms], default=1.0)
    high = max([one.max / 1e6 for one in filled] + [limit * 1.5 for limit in limits_ms], default=10.0)
    high = max(high, low)  # all gaps may be 0: everything came together
    anchor = limits_ms[0] if limits_ms else 1.0
    first = math.floor(math.log(low / anchor) / math.log(STEP))
    last = math.ceil(math.log(high / anchor) / math.log(STEP)) + 1
    edges = anchor * STEP ** np.arange(first, last + 1)
    return np.asarray([0.0, *edges], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Buckets:
    """A p95 per stretch of due time: its middle (s since start) and value (ms), infinite where failed."""

    at_s: FloatArray
    p95_ms: FloatArray
    width_s: int


def ttft_buckets(due_unix_ns: FloatArray, values_ns: FloatArray, start_unix_ns: int) -> Buckets:
    """Return TTFT p95 per bucket, wide enough for 20 requests on average; of fewer than 20 there is none."""
    if len(values_ns) < BUCKET_REQUESTS:
        return Buckets(np.array([]), np.array([]), 1)
    seconds = (due_unix_ns - start_unix_ns) / 1e9
    length = max(1.0, float(seconds.max()))
    width = max(1, math.ceil(BUCKET_REQUESTS * length / len(seconds)), math.ceil(length / MAX_BUCKETS))
    groups = pd.Series(values_ns).groupby((seconds // width).astype(int))
    p95 = groups.agg(lambda values: rank_quantile(values.to_numpy(), 0.95) / 1e6)
    middles: FloatArray = np.asarray((p95.index.to_numpy() + 0.5) * width, dtype=np.float64)
    values: FloatArray = np.asarray(p95, dtype=np.float64)
    return Buckets(middles, values, width)
