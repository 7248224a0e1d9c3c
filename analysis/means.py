"""Judge a mean by batch means."""

import math

import numpy as np

from .evidence import Evidence
from .more import more
from .objective import FAIL, INCONCLUSIVE, NEEDED, PASS, UNTIMED, ObjectiveResult
from .samples import Gaps, Sample, refusal
from .several import reach
from .sla import POOLED_METRICS, Latency, Limit
from .statistics import BATCHES, autocorrelation_time, mean_bounds


def judge_mean(evidence: Evidence, objective: Latency) -> ObjectiveResult:
    """Judge a mean by batch means; failed requests have none, so one of them forbids a PASS."""
    limit = objective.limit
    total, count, failed, undecided = _mean_terms(evidence, limit)
    limit_ms = limit.limit_ns / 1e6
    n = int(count.sum())
    mean = float(total.sum() / n) / 1e6 if n else None
    independent = len(total) / autocorrelation_time(total / np.maximum(count, 1)) if n else 0.0
    low = high = None
    if not n:
        status, reason = INCONCLUSIVE, "no data"
    elif not evidence.timed:
        status, reason, independent = INCONCLUSIVE, UNTIMED, math.inf
    elif independent < NEEDED:
        status, reason = INCONCLUSIVE, refusal(independent, "requests", NEEDED)
    else:
        low, high = (bound / 1e6 for bound in mean_bounds(total, count))
        middle = (low + high) / 2
        low = middle - (middle - low) * reach(BATCHES - 1, evidence.tests)
        status = PASS if high < limit_ms else FAIL if low >= limit_ms else INCONCLUSIVE
        reason = f"mean between {low:.4g} and {high:.4g} ms"
        if status == PASS and failed + undecided:
            status = INCONCLUSIVE
            reason = f"{failed + undecided:,} requests have no value, so there is no mean: use a percentile"
    factor = NEEDED / independent if n else None
    missing = more(evidence, factor if status == INCONCLUSIVE else None)
    reason += missing.words
    observed = math.inf if failed and n else mean
    return ObjectiveResult(
        text=objective.text,
        metric=limit.metric,
        statistic="mean",
        status=status,
        reason=reason,
        unit="ms",
        observed=observed,
        observed_ok_only=mean,
        limit=limit_ms,
        margin=None if observed is None else observed / limit_ms,
        n=n + failed,
        undecided=undecided,
        n_eff=independent if n and evidence.timed else None,
        bound_low=low,
        bound_high=high,
        allowed=limit_ms,
        resolution=1e-6,
        more_requests=missing.requests,
        more_minutes=missing.minutes,
    )


def _mean_terms(evidence: Evidence, limit: Limit) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return (sums in ns, counts) per ok request in due order, failed requests, undecided ones."""
    ok = ~evidence.failed & ~evidence.cancelled
    cancelled = int(evidence.cancelled.sum())
    if limit.metric == "itl":  # exact, from the records; the histogram only knows bins
        frame = evidence.frame[ok & (evidence.frame.gaps > 0)]
        return (
            frame.gap_sum_ns.to_numpy(float),
            frame.gaps.to_numpy(float),
            int(evidence.failed.sum()),
            cancelled,
        )
    if limit.metric in POOLED_METRICS:
        gaps: Gaps = evidence.gaps(limit.metric)
        counts = gaps.in_seconds(gaps.log.totals())
        filled = counts > 0
        return gaps.in_seconds(gaps.log.sums)[filled], counts[filled], int(evidence.failed.sum()), cancelled
    sample: Sample = evidence.sample(limit.metric)
    values = sample.of_ok()
    unknown = int((sample.defined & ok).sum()) - len(values)
    return values, np.ones(len(values)), int((sample.defined & evidence.failed).sum()), unknown + cancelled
