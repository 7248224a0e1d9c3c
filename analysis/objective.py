"""Judge one objective: observed value, bounds on the share of bad events, and a status with its reason."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from .evidence import Evidence
from .histogram import bin_high, bin_low
from .more import growth, more
from .rates import UNITS, served
from .samples import Gaps, Sample, Tally, gap_tally, rank_quantile, refusal, share_tally
from .sla import ErrorRate, Goodput, Latency, Rate
from .statistics import LEAST, MIN_CLUSTERS, share_at_least

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"

UNTIMED = "no valid interval: the file has no times, so how alike neighbouring requests are is not known"

WORTH_UNKNOWN = MIN_CLUSTERS
"""For a FAIL, requests of unknown dependence are worth this: the fewest events that are given an interval."""


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """What became of one objective.

    `observed`, `observed_ok_only` and `limit` are in `unit` (ms, share, requests/s or tokens/s); infinity
    means that failures reach down to the percentile. Bounds are one-sided at 95 % (on a mean at
    `statistics.MEAN_LEVELS`): on the share of bad events, for a mean or a rate on itself. A budget is what
    may be bad: where all of it was, 1 is used. None stands for what cannot be said, never for zero.
    """

    text: str
    metric: str  # ttft, itl, ..., error_rate, error_budget, goodput, requests_per_s, output_tokens_per_s
    statistic: str  # p95, mean, share or rate
    status: str
    reason: str
    unit: str
    observed: float | None
    observed_ok_only: float | None
    limit: float
    margin: float | None  # observed / limit
    allowed: float | None  # what the bounds are compared with
    n: int = 0
    bad: int | None = None  # of a mean and a rate: nothing can be counted
    undecided: int = 0
    n_eff: float | None = None  # independent events; of a rate, half seconds
    n_eff_low: float | None = None  # of a count: the same for its lower bound (`samples.Tally`)
    degrees: float | None = None  # of freedom, that a count's n_eff was estimated with
    bound_low: float | None = None
    bound_high: float | None = None
    resolution: float | None = None  # in `unit`: values nearer to the limit cannot be told from it
    more_requests: int | None = None
    more_minutes: float | None = None
    at_least: bool = False  # the bounds must lie above what is allowed, not below it
    budget_used: float | None = None  # bad share / allowed share
    budget_low: float | None = None  # bounds on it
    budget_high: float | None = None
    budget_lasts_h: float | None = None  # an error budget's period, at this run's share of failures
    scope: str = ""  # what of the run is judged; empty for all of it
    start_s: float | None = (
        None  # where in the window all these figures are from, of several stretches the worst
    )
    end_s: float | None = None
    stretches: int | None = None
    unmeasured: bool = False  # the window ends before what is to be judged does: no PASS, whatever was seen


class _Seen(NamedTuple):
    """What was observed, in the objective's unit: over all, over ok requests, and how finely."""

    everyone: float | None
    ok_only: float | None
    resolution: float | None


def judge_requests(evidence: Evidence, objective: Latency, percentile: float) -> ObjectiveResult:
    """Judge a percentile of the requests by how many of them lie beyond its limit."""
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


def judge_gaps(evidence: Evidence, objective: Latency, percentile: float) -> ObjectiveResult:
    """Judge a percentile of the gaps by how many of them lie beyond its limit."""
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


def judge_error_rate(evidence: Evidence, objective: ErrorRate) -> ObjectiveResult:
    """Judge the share of requests that failed."""
    possible = evidence.failed | evidence.cancelled
    own = [evidence.sample("e2e").worst()]
    tally = share_tally(evidence.failed, possible, own, objective.allowed_share)
    seen = _Seen(tally.bad / tally.n, None, 1 / tally.n) if tally.n else _Seen(None, None, None)
    found = _result(evidence, objective, tally, seen)
    if tally.n and evidence.timed and not tally.bad + tally.undecided:
        found = replace(found, reason=found.reason + _none_failed(found.status, evidence.window_s))
    return found


def _none_failed(status: str, seconds: float) -> str:
    """Say what requests of which none failed tell of failures that come together.

    Those of an overload come where slow requests do, and so are counted as those are. Outages come by
    themselves: of a run without one all that is sure is how rare they are, whatever its requests are worth
    (the rule of three: none in T is 5 % likely at 3 / T; Hanley and Lippman-Hand 1983).
    """
    if status == PASS:
        rarer = f"outages, if any, are rarer than one in {seconds / 3:,.0f} s"
        return f"; none failed in {seconds:,.0f} s: {rarer}"
    return "; none failed, but where slow requests come together failures may, too"


def judge_goodput(evidence: Evidence, objective: Goodput) -> ObjectiveResult:
    """Judge the share of requests within all limits at once."""
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


def _result(
    evidence: Evidence, objective: Latency | ErrorRate | Goodput, tally: Tally, seen: _Seen
) -> ObjectiveResult:
    """Compare the bounds on the bad share with the share that is allowed."""
    allowed = objective.allowed_share
    bounds: tuple[float | None, float | None] = (None, None)
    factor: float | None = None
    if not tally.n:
        status, reason = INCONCLUSIVE, "no data"
    elif not evidence.timed:
        status, reason = untimed(tally.bad, tally.n, allowed)
    elif tally.refusal:
        status, reason, factor = INCONCLUSIVE, tally.refusal, growth(tally, allowed, evidence.tests) or 1.0
        factor = max(factor, tally.needed / tally.independent)
    else:
        bounds = lower, upper = tally.bounds(evidence.tests)
        status = PASS if upper < allowed else FAIL if lower >= allowed else INCONCLUSIVE
        reason, factor = _reason(tally, status, (lower, upper), allowed, evidence.tests)
    used = tally.bad / tally.n / allowed if tally.n else None
    low, high = (None if bound is None else bound / allowed for bound in bounds)
    period_h = objective.period_h if isinstance(objective, ErrorRate) else None
    if period_h and low is not None and high is not None:
        reason += lasting(period_h, low, high)
    missing = more(evidence, factor if status == INCONCLUSIVE else None)
    reason += missing.words
    limit = _limit(objective)
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
        n_eff=tally.n_eff if tally.n and evidence.timed else None,
        n_eff_low=tally.n_eff_low if tally.n and evidence.timed else None,
        degrees=tally.degrees if tally.n and evidence.timed else None,
        bound_low=bounds[0],
        bound_high=bounds[1],
        allowed=allowed,
        resolution=seen.resolution,
        more_requests=missing.requests,
        more_minutes=missing.minutes,
        budget_used=used,
        budget_low=low,
        budget_high=high,
        budget_lasts_h=lasts_h(period_h, used),
    )


def untimed(bad: int, n: int, allowed: float) -> tuple[str, str]:
    """Judge what nobody can give an interval: FAIL where even the least worth would show it, never PASS."""
    n_eff = min(WORTH_UNKNOWN, n)
    lower = share_at_least(bad * n_eff / n, n_eff)
    if lower < allowed:
        return INCONCLUSIVE, UNTIMED
    return (
        FAIL,
        f"at least {percent(lower)} bad, {percent(allowed)} allowed, were all {n:,} worth {n_eff}",
    )


def _reason(
    tally: Tally, status: str, bounds: tuple[float, float], allowed: float, tests: int
) -> tuple[str, float | None]:
    """Return the reason in words and, where more data would decide, by what factor the run must grow."""
    lower, upper = bounds
    if status == PASS:
        return f"at most {percent(upper)} bad, {percent(allowed)} allowed", None
    if status == FAIL:
        return f"at least {percent(lower)} bad, {percent(allowed)} allowed", None
    share, possible = tally.bad / tally.n, (tally.bad + tally.undecided) / tally.n
    if share < allowed <= possible:
        return f"{tally.undecided:,} of {tally.n:,} cannot be told from the limit", None
    words = f"between {percent(lower)} and {percent(upper)} bad, {percent(allowed)} allowed"
    factor = growth(tally, allowed, tests)
    if factor is None:
        return words + "; the observed share is the allowed one: no length of run decides", None
    return words, factor


def lasts_h(period_h: float | None, used: float | None) -> float | None:
    """Return how long a budget lasts of which a whole period would use so much; infinite if unused."""
    if period_h is None or used is None:
        return None
    return period_h / used if used else math.inf


def lasting(period_h: float, low: float, high: float) -> str:
    """Say how long an error budget would last; `low` and `high` bound what of it a whole period would use."""
    at = f"; at this rate the budget of {_hours(period_h)}"
    if high <= 1:
        return f"{at} is used to at most {percent(high)}"
    return f"{at} lasts at least {_hours(period_h / high)}" + (
        f", at most {_hours(period_h / low)}" if low else ""
    )


def _hours(hours: float) -> str:
    return f"{hours:.3g} h" if hours < 48 else f"{hours / 24:.3g} days"


def judge_rate(evidence: Evidence, objective: Rate) -> ObjectiveResult:
    """Judge a rate by the mean of the window's bins, whose standard error knows how alike they are."""
    unit, limit, upper = UNITS[objective.metric], objective.limit, objective.upper
    low = high = observed = edge = worth = factor = None
    counted = undecided = 0
    if not len(evidence.frame):
        status, reason = INCONCLUSIVE, "no data"
    elif not evidence.timed:
        status, reason = INCONCLUSIVE, UNTIMED
    else:
        found = served(evidence.frame, objective.metric, evidence.window_ns)
        observed, edge, worth = found.mean.value, found.edge_per_s, found.mean.independent
        counted, undecided = found.counted, found.undecided
        if not found.bounded:
            status, reason, factor = INCONCLUSIVE, refusal(worth, "half seconds", LEAST), LEAST / worth
        else:
            low, high = found.bounds(evidence.tests, upper=upper)
            holds, fails = (high < limit, low >= limit) if upper else (low >= limit, high < limit)
            status = PASS if holds else FAIL if fails else INCONCLUSIVE
            reason = f"between {low:.4g} and {high:.4g} {unit}"
            factor = found.growth(limit, evidence.tests, upper=upper)
    if evidence.loop == "open" and observed is not None:
        reason += "; in an open loop that is what was offered"
    missing = more(evidence, factor if status == INCONCLUSIVE else None)
    return ObjectiveResult(
        text=objective.text,
        metric=objective.metric,
        statistic="rate",
        status=status,
        reason=reason + missing.words,
        unit=unit,
        observed=observed,
        observed_ok_only=observed,
        limit=limit,
        margin=None if observed is None else observed / limit,
        n=counted,
        undecided=undecided,
        n_eff=worth,
        bound_low=low,
        bound_high=high,
        allowed=limit,
        resolution=edge,
        more_requests=missing.requests,
        more_minutes=missing.minutes,
        at_least=not objective.upper,
    )


def _metric(objective: Latency | ErrorRate | Goodput) -> str:
    if isinstance(objective, Latency):
        return objective.limit.metric
    if isinstance(objective, ErrorRate):
        return "error_rate" if objective.period_h is None else "error_budget"
    return "goodput"


def _limit(objective: Latency | ErrorRate | Goodput) -> float:
    if isinstance(objective, Latency):
        return objective.limit.limit_ns / 1e6
    return objective.allowed_share if isinstance(objective, ErrorRate) else 1 - objective.allowed_share


def percent(share: float) -> str:
    """Write a share for a person: three significant digits, never rounded to 0 or 100 %."""
    return f"{share * 100:.3g} %" if share < 0.99 else f"{share * 100:.5g} %"


def _ms(value_ns: float) -> float:
    return value_ns / 1e6
