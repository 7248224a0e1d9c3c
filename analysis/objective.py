"""Judge one objective: observed value, bounds on the share of bad events, and a status with its reason."""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from .histogram import bin_high, bin_low
from .rundir import Run, window, window_intervals
from .samples import (
    Gaps,
    Sample,
    Tally,
    gap_tally,
    pooled_gaps,
    rank_quantile,
    refusal,
    request_sample,
    share_tally,
)
from .sla import POOLED_METRICS, ErrorRate, Goodput, Latency, Limit, Objective
from .statistics import BATCH_TAU, BATCHES, autocorrelation_time, mean_bounds, samples_needed, share_bounds

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """What became of one objective.

    `observed`, `observed_ok_only` and `limit` are in `unit` (ms or share); infinity means that failures reach
    down to the percentile. Bounds are one-sided at 95 %: on the share of bad events, for a mean on the mean.
    None stands for what cannot be said, never for zero.
    """

    text: str
    metric: str  # ttft, itl, ..., error_rate, goodput
    statistic: str  # p95, mean or share
    status: str
    reason: str
    unit: str
    observed: float | None
    observed_ok_only: float | None
    limit: float
    margin: float | None  # observed / limit
    n: int
    bad: int | None
    undecided: int
    n_eff: float | None
    bound_low: float | None
    bound_high: float | None
    allowed: float | None  # what the bounds are compared with
    resolution: float | None  # in `unit`: values nearer to the limit than this cannot be told from it
    more_requests: int | None = None
    more_minutes: float | None = None


class _Seen(NamedTuple):
    """What was observed, in the objective's unit: over all, over ok requests, and how finely."""

    everyone: float | None
    ok_only: float | None
    resolution: float | None


class Evidence:
    """The judged window of a run: its requests in due order and its gaps, gathered once."""

    def __init__(self, run: Run) -> None:
        """Cut the window out of a run."""
        self.frame = window(run)
        start, end = run.window_ns
        self.window_s = max(0.0, (end - start) / 1e9)
        self.whole_s = range(-(-start // 10**9), end // 10**9)
        self.sample = cache(lambda metric: request_sample(self.frame, metric))
        self.gaps = cache(lambda metric: pooled_gaps(window_intervals(run, metric), self.frame, self.whole_s))
        outcome = self.frame.outcome.to_numpy()
        self.cancelled = outcome == "cancelled"
        self.failed = (outcome != "ok") & ~self.cancelled


def judge_objective(evidence: Evidence, objective: Objective) -> ObjectiveResult:
    """Judge one objective on the window's evidence."""
    if isinstance(objective, ErrorRate):
        return _judge_error_rate(evidence, objective)
    if isinstance(objective, Goodput):
        return _judge_goodput(evidence, objective)
    if objective.percentile is None:
        return _judge_mean(evidence, objective)
    if objective.limit.metric in POOLED_METRICS:
        return _judge_gaps(evidence, objective, objective.percentile)
    return _judge_requests(evidence, objective, objective.percentile)


def _judge_requests(evidence: Evidence, objective: Latency, percentile: float) -> ObjectiveResult:
    limit = objective.limit
    sample: Sample = evidence.sample(limit.metric)
    bad, possible = sample.beyond(limit)
    worst, ok = sample.worst(), sample.of_ok()
    tally = share_tally(bad[sample.defined], possible[sample.defined], [worst], objective.allowed_share)
    seen = _Seen(
        _ms(rank_quantile(worst, percentile / 100)) if len(worst) else None,
        _ms(rank_quantile(ok, percentile / 100)) if len(ok) else None,
        _ms(max(1.0, float(sample.error_ns.max(initial=0.0)))),
    )
    return _result(evidence, objective, tally, seen)


def _judge_gaps(evidence: Evidence, objective: Latency, percentile: float) -> ObjectiveResult:
    limit = objective.limit
    gaps: Gaps = evidence.gaps(limit.metric)
    q = percentile / 100
    low = bin_low(limit.limit_ns)
    seen = _Seen(
        _ms(gaps.quantile(q)) if gaps.n else None,
        _ms(gaps.pooled.quantile(q)) if gaps.pooled.count else None,
        _ms(bin_high(low) - low + 1),
    )
    return _result(evidence, objective, gap_tally(gaps, limit, objective.allowed_share), seen)


def _judge_error_rate(evidence: Evidence, objective: ErrorRate) -> ObjectiveResult:
    possible = evidence.failed | evidence.cancelled
    own = [evidence.sample("e2e").worst()]
    tally = share_tally(evidence.failed, possible, own, objective.allowed_share)
    seen = _Seen(tally.bad / tally.n, None, 1 / tally.n) if tally.n else _Seen(None, None, None)
    return _result(evidence, objective, tally, seen)


def _judge_goodput(evidence: Evidence, objective: Goodput) -> ObjectiveResult:
    bad, possible = evidence.failed.copy(), evidence.failed | evidence.cancelled
    own = []
    for limit in objective.limits:
        sample: Sample = evidence.sample(limit.metric)
        certain, perhaps = sample.beyond(limit)
        bad |= certain
        possible |= perhaps
        own.append(sample.worst())
    tally = share_tally(bad, possible, own, objective.allowed_share)
    ok = ~evidence.failed & ~evidence.cancelled
    seen = _Seen(
        1 - tally.bad / tally.n if tally.n else None,
        float(1 - bad[ok].mean()) if ok.any() else None,
        1 / tally.n if tally.n else None,
    )
    return _result(evidence, objective, tally, seen)


def _result(evidence: Evidence, objective: Objective, tally: Tally, seen: _Seen) -> ObjectiveResult:
    """Compare the bounds on the bad share with the share that is allowed."""
    allowed = objective.allowed_share
    bounds: tuple[float | None, float | None] = (None, None)
    factor: float | None = None
    if not tally.n:
        status, reason = INCONCLUSIVE, "no data"
    elif tally.refusal:
        status, reason, factor = INCONCLUSIVE, tally.refusal, _growth(tally, allowed) or 1.0
        factor = max(factor, tally.needed / tally.independent)
    else:
        worth = tally.n_eff / tally.n
        lower, upper = bounds = share_bounds(
            tally.bad * worth, (tally.bad + tally.undecided) * worth, tally.n_eff
        )
        status = PASS if upper < allowed else FAIL if lower >= allowed else INCONCLUSIVE
        reason, factor = _reason(tally, status, lower, upper, allowed)
    limit = _limit(objective)
    more = _more(evidence, factor) if status == INCONCLUSIVE else (None, None)
    reason += _needs(*more)
    return ObjectiveResult(
        text=objective.text,
        metric=_metric(objective),
        statistic=f"p{objective.percentile:g}" if isinstance(objective, Latency) else "share",
        status=status,
        reason=reason,
        unit="ms" if isinstance(objective, Latency) else "share",
        observed=seen.everyone,
        observed_ok_only=seen.ok_only,
        limit=limit,
        margin=None if seen.everyone is None else seen.everyone / limit,
        n=tally.n,
        bad=tally.bad if tally.n else None,
        undecided=tally.undecided,
        n_eff=tally.n_eff if tally.n else None,
        bound_low=bounds[0],
        bound_high=bounds[1],
        allowed=allowed,
        resolution=seen.resolution,
        more_requests=more[0],
        more_minutes=more[1],
    )


def _reason(
    tally: Tally, status: str, lower: float, upper: float, allowed: float
) -> tuple[str, float | None]:
    """Return the reason in words and, where more data would decide, by what factor the run must grow."""
    if status == PASS:
        return f"at most {percent(upper)} bad, {percent(allowed)} allowed", None
    if status == FAIL:
        return f"at least {percent(lower)} bad, {percent(allowed)} allowed", None
    share, possible = tally.bad / tally.n, (tally.bad + tally.undecided) / tally.n
    if share < allowed <= possible:
        return f"{tally.undecided:,} of {tally.n:,} cannot be told from the limit", None
    words = f"between {percent(lower)} and {percent(upper)} bad, {percent(allowed)} allowed"
    factor = _growth(tally, allowed)
    if factor is None:
        return words + "; the observed share is the allowed one: no length of run decides", None
    return words, factor


def _growth(tally: Tally, allowed: float) -> float | None:
    """Return by what factor a run must grow until it decides, if it goes on as it did; None if never."""
    share, possible = tally.bad / tally.n, (tally.bad + tally.undecided) / tally.n
    needed = samples_needed(possible if possible < allowed else share, allowed)
    return None if needed is None else max(1.0, needed / tally.n_eff)


def _needs(requests: int | None, minutes: float | None) -> str:
    if requests is None or minutes is None:
        return ""
    time = f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes:,.0f} minutes"
    return f"; needs about {requests:,} more requests ({time})"


def _more(evidence: Evidence, factor: float | None) -> tuple[int | None, float | None]:
    """Return the requests and minutes that are missing, at this run's rate."""
    if factor is None or factor <= 1:
        return None, None
    return math.ceil((factor - 1) * len(evidence.frame)), (factor - 1) * evidence.window_s / 60


def _judge_mean(evidence: Evidence, objective: Latency) -> ObjectiveResult:
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
    elif independent < BATCHES * BATCH_TAU:
        status, reason = INCONCLUSIVE, refusal(independent, "requests", BATCHES * BATCH_TAU)
    else:
        low, high = (bound / 1e6 for bound in mean_bounds(total, count))
        status = PASS if high < limit_ms else FAIL if low >= limit_ms else INCONCLUSIVE
        reason = f"mean between {low:.4g} and {high:.4g} ms"
        if status == PASS and failed + undecided:
            status = INCONCLUSIVE
            reason = f"{failed + undecided:,} requests have no value, so there is no mean: use a percentile"
    factor = BATCHES * BATCH_TAU / independent if n else None
    more = _more(evidence, factor) if status == INCONCLUSIVE else (None, None)
    reason += _needs(*more)
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
        bad=None,
        undecided=undecided,
        n_eff=independent if n else None,
        bound_low=low,
        bound_high=high,
        allowed=limit_ms,
        resolution=1e-6,
        more_requests=more[0],
        more_minutes=more[1],
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


def _metric(objective: Objective) -> str:
    if isinstance(objective, Latency):
        return objective.limit.metric
    return "error_rate" if isinstance(objective, ErrorRate) else "goodput"


def _limit(objective: Objective) -> float:
    if isinstance(objective, Latency):
        return objective.limit.limit_ns / 1e6
    return objective.allowed_share if isinstance(objective, ErrorRate) else 1 - objective.allowed_share


def percent(share: float) -> str:
    """Write a share for a person: three significant digits, never rounded to 0 or 100 %."""
    return f"{share * 100:.3g} %" if share < 0.99 else f"{share * 100:.5g} %"


def _ms(value_ns: float) -> float:
    return value_ns / 1e6
