"""Judge a mean by its standard error, which knows how alike neighbouring requests are."""

import math

import numpy as np

from .evidence import Evidence
from .more import more, times_as_long
from .objective import FAIL, INCONCLUSIVE, PASS, UNTIMED, ObjectiveResult
from .samples import Gaps, Sample, refusal
from .several import reach
from .sla import Latency, Limit
from .statistics import REQUESTS, SECONDS, Mean, Terms, mean_of


def terms_of(metric: str) -> Terms:
    """Return what a metric's mean is taken over: of gaps spread over tokens only seconds know the sums."""
    return SECONDS if metric == "itl_token" else REQUESTS


def judge_mean(evidence: Evidence, objective: Latency) -> ObjectiveResult:
    """Judge a mean by bounds on it; failed requests have none, so one of them forbids a PASS."""
    limit = objective.limit
    total, count, failed, undecided = _mean_terms(evidence, limit)
    limit_ms = limit.limit_ns / 1e6
    n = int(count.sum())
    terms = terms_of(limit.metric)
    found = mean_of(total, count, terms) if n else None
    mean, independent = (found.value / 1e6, found.independent) if found else (None, 0.0)
    low = high = factor = None
    if not found or mean is None:
        status, reason = INCONCLUSIVE, "no data"
    elif not evidence.timed:
        status, reason = INCONCLUSIVE, UNTIMED
    elif independent < terms.least:
        status, factor = INCONCLUSIVE, terms.least / independent
        reason = refusal(independent, terms.unit, terms.least, len(total))
    else:
        low, high = (bound / 1e6 for bound in found.bounds())
        low = mean - (mean - low) * reach(found.degrees, evidence.tests)
        factor = _growth(found, limit.limit_ns, evidence.tests)
        status = PASS if high < limit_ms else FAIL if low >= limit_ms else INCONCLUSIVE
        reason = f"mean between {low:.4g} and {high:.4g} ms"
        if status == PASS and failed + undecided:
            status = INCONCLUSIVE
            reason = f"{failed + undecided:,} requests have no value, so there is no mean: use a percentile"
            factor = None
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


def _growth(found: Mean, limit_ns: float, tests: int) -> float | None:
    """Return by what factor the run must grow until the bound next to the limit is on its side of it."""
    distance = abs(limit_ns - found.value)

    def enough(times: float) -> bool:
        longer = found.longer(times)
        low, high = longer.bounds()
        near = (
            high - found.value
            if found.value < limit_ns
            else (found.value - low) * reach(longer.degrees, tests)
        )
        return near <= distance

    return times_as_long(enough) if distance else None


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
    if limit.metric == "itl_token":
        gaps: Gaps = evidence.gaps(limit.metric)
        counts = gaps.in_seconds(gaps.log.totals())
        filled = counts > 0
        return gaps.in_seconds(gaps.log.sums)[filled], counts[filled], int(evidence.failed.sum()), cancelled
    sample: Sample = evidence.sample(limit.metric)
    values = sample.of_ok()
    unknown = int((sample.defined & ok).sum()) - len(values)
    return values, np.ones(len(values)), int((sample.defined & evidence.failed).sum()), unknown + cancelled
