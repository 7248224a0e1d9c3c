"""Bounds on a percentile: what a verdict knows about a share, said of the value itself.

A verdict counts the events beyond a limit. Turned round: the upper bound of p95 is the value beyond which so
few were seen that the true share is surely below 5 %, the lower bound the one beyond which so many were
seen that it is surely 5 % or more; each one-sided at 95 %. They are order statistics, at ranks that follow
from the exact binomial and from what n is worth as independent values. A limit beyond the upper one PASSes.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from .evidence import Evidence
from .pooled_worth import MIN_RUNS, worth, worth_low
from .reading import gaps_together
from .samples import pooled_quantile, rank_quantile
from .scopes import judge_whole
from .sla import POOLED_METRICS, Latency, Limit
from .statistics import share_at_least, share_at_most

STEPS = 50
"""Halvings: a share is then as exact as a float."""

Bounds = tuple[float | None, float | None]
"""None: there is no such bound."""


def percentile_bounds(evidences: Sequence[Evidence], metric: str, value_ms: float | None) -> Bounds:
    """Return bounds (ms) on a percentile such as "ttft p95", observed at `value_ms` over all runs together.

    No bounds where the percentile itself is none, or where the runs are not worth an interval. An infinite
    one says that failures reach up to it.
    """
    if value_ms is None or not math.isfinite(value_ms):
        return None, None
    name, _, percentile = metric.partition(" p")
    at_value = Latency(metric, Limit(name, strict=True, limit_ns=round(value_ms * 1e6)), float(percentile))
    seen = [result for one in evidences if (result := judge_whole(one, at_value)).n]
    n_eff = worth(seen)
    refused = len(seen) < MIN_RUNS and any(result.bound_high is None for result in seen)
    if not n_eff or refused:
        return None, None
    allowed = at_value.allowed_share
    below, above = share_beyond_lower(allowed, worth_low(seen)), share_beyond_upper(allowed, n_eff)
    return _values_ms(evidences, name, below, above)


def share_beyond_lower(allowed: float, n: float) -> float | None:
    """Return the least share of n independent values, seen beyond a value, that surely is `allowed` or more.

    `allowed` is what the percentile leaves above: that value is its lower bound. None where no share is.
    """
    if share_at_least(n, n) < allowed:
        return None
    return _halved(lambda seen: share_at_least(seen, n) >= allowed, n)[1] / n


def share_beyond_upper(allowed: float, n: float) -> float | None:
    """Return the largest share, seen beyond a value, that surely is `allowed` at most: its upper bound."""
    if share_at_most(0, n) > allowed:
        return None
    return _halved(lambda seen: share_at_most(seen, n) > allowed, n)[0] / n


def _halved(sure: Callable[[float], bool], n: float) -> tuple[float, float]:
    """Narrow down, from 0 to n seen beyond, where `sure` begins."""
    low, high = 0.0, n
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if sure(middle) else (middle, high)
    return low, high


def _values_ms(evidences: Sequence[Evidence], name: str, below: float | None, above: float | None) -> Bounds:
    """Return the values (ms) beyond which these shares lie; what is undecided counts for the wider side."""
    if name in POOLED_METRICS:
        pooled, failed = gaps_together(evidences, name)
        found = [
            None if share is None else pooled_quantile(pooled, failed, 1 - share) for share in (below, above)
        ]
    else:
        samples = [one.sample(name) for one in evidences]
        lows = np.concatenate([sample.low[sample.defined] for sample in samples])
        highs = np.concatenate([sample.worst() for sample in samples])
        found = [
            None if share is None else rank_quantile(values, 1 - share)
            for share, values in ((below, lows), (above, highs))
        ]
    low, high = (None if value is None else value / 1e6 for value in found)
    return low, high
