"""One objective over several runs: counts summed, means averaged, bounds that know how far runs differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, median, variance

from .means import terms_of
from .objective import FAIL, INCONCLUSIVE, PASS, ObjectiveResult, lasting, lasts_h, percent, untimed
from .pooled_worth import MIN_RUNS, runs_for, worth, worth_low
from .statistics import (
    CONFIDENCE,
    MEAN_LEVELS,
    Mean,
    Terms,
    freedom,
    mean_error,
    runs_bounds,
    samples_needed,
    share_at_least,
    share_at_most,
    t_bounds,
)


@dataclass(frozen=True, slots=True)
class Spread:
    """How the runs differ in one objective.

    `observed` is each run's own figure, in the objective's unit. The standard deviations are of a run's share
    of bad events, for a mean of its mean: `sd_within` is what one run is uncertain of by itself, `sd_between`
    what runs differ beyond that. None stands for what cannot be said.
    """

    text: str
    observed: tuple[float | None, ...]
    sd_within: float | None
    sd_between: float | None  # needs five runs
    more_runs: int | None  # replications that are missing, if they go on as they did


def pooled(
    results: Sequence[ObjectiveResult], period_h: float | None = None
) -> tuple[ObjectiveResult, Spread]:
    """Judge one objective by what each run found about it; `period_h` is that of an error budget.

    `observed` of a percentile is the median of the runs' own; a share is that of all their requests. An
    objective about every stretch of time has one stretch for each run, which is another one each time: there
    the runs' verdicts are counted. A run that measured nothing, or not all that is asked for, forbids a PASS.
    """
    first = results[0]
    spread = Spread(first.text, tuple(result.observed for result in results), None, None, None)
    seen = [result for result in results if _says_something(result)]
    if not seen:
        reasons = dict.fromkeys(result.reason for result in results if result.reason)
        return replace(first, status=INCONCLUSIVE, reason="; ".join(reasons) or "no data"), spread
    if any(result.stretches for result in seen):
        return _stretches(results), spread
    if any(result.bad is None for result in seen):
        found, spread = _values(seen, spread, at_least=first.at_least)
    else:
        found, spread = _counts(seen, spread, period_h)
    if len(seen) < MIN_RUNS:
        few = f"{len(seen)} run{'s' if len(seen) > 1 else ''}: differences between runs cannot be judged"
        found = replace(found, reason=f"{found.reason} ({few})")
    short = [result for result in results if result.unmeasured or not _says_something(result)]
    if short:
        return _incomplete(found, short, len(results)), replace(spread, more_runs=None)
    if found.status == INCONCLUSIVE and spread.more_runs:
        more = f"{spread.more_runs:,} more run{'s' if spread.more_runs > 1 else ''}"
        found = replace(found, reason=f"{found.reason}; needs about {more} like these")
    return found, spread


def _says_something(result: ObjectiveResult) -> bool:
    """Say whether there is evidence in a result; that nothing was served at all is a rate's FAIL."""
    return bool(result.n) or result.status == FAIL


def _incomplete(found: ObjectiveResult, short: Sequence[ObjectiveResult], runs: int) -> ObjectiveResult:
    """Return what is left where some runs are `short`: what was not measured may be bad and mends nothing."""
    reason = f"{found.reason}; {len(short)} of {runs} runs did not measure all of it: {short[0].reason}"
    status = FAIL if found.status == FAIL else INCONCLUSIVE
    return replace(found, status=status, reason=reason, unmeasured=any(one.unmeasured for one in short))


def _stretches(results: Sequence[ObjectiveResult]) -> ObjectiveResult:
    """Count the runs' own verdicts; a FAIL needs as many as do not come by chance."""
    runs, failed = len(results), sum(one.status == FAIL for one in results)
    every = all(one.status == PASS for one in results)
    status = PASS if every else FAIL if failed >= failing_runs(runs) else INCONCLUSIVE
    worst = min(results, key=lambda one: (FAIL, INCONCLUSIVE, PASS).index(one.status))
    words = f"{sum(one.status == PASS for one in results)} of {runs} runs PASS, {failed} FAIL; the worst: "
    return replace(worst, status=status, reason=words + worst.reason)


def failing_runs(runs: int) -> int:
    """Return how many of so many runs must FAIL in a stretch for the whole to.

    A run of which every stretch holds is called FAIL in 5 % of cases, so of R runs at least k are in
    P(Binomial(R, 5 %) >= k); k is the least for which that is 5 % or less.
    """
    from scipy.special import bdtrc  # noqa: PLC0415 - costs 0.1 s that only a judge needs

    chance = 1 - CONFIDENCE
    return next((k for k in range(1, runs) if bdtrc(k - 1, runs, chance) <= chance), runs)


def _counts(
    seen: Sequence[ObjectiveResult], spread: Spread, period_h: float | None
) -> tuple[ObjectiveResult, Spread]:
    """Sum the counts and compare the bounds on their share with the allowed one."""
    merged, spread = _merged(seen), _split(seen, spread)
    n, bad, undecided = merged.n, merged.bad or 0, merged.undecided
    n_eff, n_low = merged.n_eff or 0.0, merged.n_eff_low or 0.0
    allowed = merged.allowed or 0.0
    used = bad / n / allowed
    merged = replace(merged, budget_used=used, budget_lasts_h=lasts_h(period_h, used))
    if not all(one.n_eff for one in seen):  # the runs have no times
        status, reason = untimed(bad, n, allowed)
        return replace(merged, status=status, reason=reason), spread
    short = sum(one.bound_high is None for one in seen)
    if short and len(seen) < MIN_RUNS:
        reason = f"{short} of the runs have no interval of their own"
        more = replace(spread, more_runs=MIN_RUNS - len(seen))
        return replace(merged, reason=reason), more
    low, high = share_at_least(bad * n_low / n, n_low), share_at_most((bad + undecided) * n_eff / n, n_eff)
    status = PASS if high < allowed else FAIL if low >= allowed else INCONCLUSIVE
    reason, more_runs = _reason(status, low, high, allowed), None
    share, possible = bad / n, (bad + undecided) / n
    if status == INCONCLUSIVE and share < allowed <= possible:
        reason = f"{undecided:,} of {n:,} cannot be told from the limit"
    elif status == INCONCLUSIVE:
        needed = samples_needed(possible if possible < allowed else share, allowed)
        more_runs = None if needed is None else runs_for(needed, seen, low=possible >= allowed) - len(seen)
    if period_h is not None:
        reason += lasting(period_h, low / allowed, high / allowed)
    found = replace(merged, status=status, reason=reason, bound_low=low, bound_high=high)
    found = replace(found, budget_low=low / allowed, budget_high=high / allowed)
    return found, replace(spread, more_runs=more_runs or None)


def _split(seen: Sequence[ObjectiveResult], spread: Spread) -> Spread:
    share = sum(one.bad or 0 for one in seen) / sum(one.n for one in seen)
    within = mean(share * (1 - share) / one.n_eff if one.n_eff else math.inf for one in seen)
    return _spread_of([(one.bad or 0) / one.n for one in seen], within, spread)


def _spread_of(values: Sequence[float], within: float | None, spread: Spread) -> Spread:
    """Take what runs vary by themselves from how they vary."""
    if within is None or not math.isfinite(within):
        return spread
    between = math.sqrt(max(0.0, variance(values) - within)) if len(values) >= MIN_RUNS else None
    return replace(spread, sd_within=math.sqrt(within), sd_between=between)


def _values(
    seen: Sequence[ObjectiveResult], spread: Spread, *, at_least: bool
) -> tuple[ObjectiveResult, Spread]:
    """Average the runs' own values, each run counting alike; `at_least` where more is better."""
    own = [one.observed if one.observed_ok_only is None else one.observed_ok_only for one in seen]
    values = [value for value in own if value is not None]
    merged, is_rate = _merged(seen), seen[0].statistic == "rate"
    if len(values) < len(seen):
        return replace(merged, status=INCONCLUSIVE, reason="not every run has a value"), spread
    errors = [
        _rate_error(one)
        if is_rate
        else mean_error(one.bound_low, one.bound_high, one.n_eff, terms_of(one.metric))
        for one in seen
    ]
    known = [error for error in errors if error is not None]
    if len(known) == len(seen):
        spread = _spread_of(values, mean(error**2 for error in known), spread)
    if len(seen) < MIN_RUNS and len(known) < len(seen):
        reason = f"{len(seen) - len(known)} of the runs have no interval of their own"
        more = replace(spread, more_runs=MIN_RUNS - len(seen))
        return replace(merged, status=INCONCLUSIVE, reason=reason), more
    if len(seen) >= MIN_RUNS:
        low, high = runs_bounds(values)
    else:
        low, high = few_bounds(values, known, merged.n_eff or 0.0, terms_of(merged.metric))
    limit, middle = merged.limit, mean(values)
    perhaps = mean(_undecided_per_s(one) for one in seen) if is_rate else 0.0
    factor = None
    if middle != limit and not (perhaps and middle < limit):  # more runs do not decide what is undecided
        error, distance = (high if middle < limit else low) - middle, limit - middle
        factor = error / distance * (error / distance)
    high += perhaps
    above, below = low >= limit, high < limit
    status = INCONCLUSIVE if not (above or below) else PASS if above == at_least else FAIL
    reason = f"mean between {low:.4g} and {high:.4g} {merged.unit}"
    if status == PASS and not is_rate and (merged.undecided or math.inf in (one.observed for one in seen)):
        status = INCONCLUSIVE
        reason, factor = "some requests have no value, so there is no mean: use a percentile", None
    found = replace(merged, status=status, reason=reason, bound_low=low, bound_high=high)
    more_runs = _more(factor, len(seen)) if status == INCONCLUSIVE else None
    return found, replace(spread, more_runs=more_runs)


def few_bounds(
    values: Sequence[float], errors: Sequence[float], independent: float, terms: Terms
) -> tuple[float, float]:
    """Return bounds on the mean of runs that differ by their own errors only."""
    return Mean(mean(values), math.hypot(*errors) / len(errors), independent, terms).bounds()


def _undecided_per_s(rate: ObjectiveResult) -> float:
    """Return what a run's undecided requests may add to its rate at most; see `analysis.rates`."""
    if not rate.undecided:
        return 0.0
    if rate.metric != "requests_per_s":  # any number of tokens
        return math.inf
    if not rate.n:  # all of the bound is what is undecided
        return math.inf if rate.bound_high is None else rate.bound_high
    return rate.undecided * (rate.observed or 0.0) / rate.n  # n / observed is the window's length


def _rate_error(rate: ObjectiveResult) -> float | None:
    """Return the standard error behind a rate's bounds, without what is undecided; None where none is known.

    From the lower one, which nothing undecided moves, unless it was cut at nothing served.
    """
    if rate.bound_low is None or rate.bound_high is None or rate.observed is None or rate.n_eff is None:
        return None
    below, above = t_bounds(0.0, 1.0, freedom(rate.n_eff), MEAN_LEVELS)
    if rate.bound_low > 0:
        return (rate.bound_low - rate.observed) / below
    half = rate.bound_high - _undecided_per_s(rate) - rate.observed
    return max(0.0, half) / above if math.isfinite(half) else None


def _merged(seen: Sequence[ObjectiveResult]) -> ObjectiveResult:
    """Return the runs' sums and what they observed together, without a judgement."""
    first, n = seen[0], sum(one.n for one in seen)
    everyone = [one.observed for one in seen if one.observed is not None]
    ok_only = [one.observed_ok_only for one in seen if one.observed_ok_only is not None]
    middle = mean if first.bad is None else median
    observed = middle(everyone) if everyone else None
    resolution = max((one.resolution for one in seen if one.resolution is not None), default=None)
    if first.unit == "share" and everyone:
        observed, resolution = sum(one.n * (one.observed or 0.0) for one in seen) / n, 1 / n
    return replace(
        first,
        status=INCONCLUSIVE,
        reason="",
        observed=observed,
        observed_ok_only=middle(ok_only) if ok_only else None,
        margin=None if observed is None else observed / first.limit,
        n=n,
        bad=None if first.bad is None else sum(one.bad or 0 for one in seen),
        undecided=sum(one.undecided for one in seen),
        n_eff=worth(seen) or None,
        n_eff_low=worth_low(seen) or None,
        bound_low=None,
        bound_high=None,
        resolution=resolution,
        more_requests=None,
        more_minutes=None,
        budget_used=None,
        budget_low=None,
        budget_high=None,
        budget_lasts_h=None,
    )


def _reason(status: str, low: float, high: float, allowed: float) -> str:
    bounds = {
        PASS: f"at most {percent(high)}",
        FAIL: f"at least {percent(low)}",
        INCONCLUSIVE: f"between {percent(low)} and {percent(high)}",
    }
    return f"{bounds[status]} bad, {percent(allowed)} allowed"


def _more(factor: float | None, runs: int) -> int | None:
    """Return the replications that are missing where there must be `factor` times as many."""
    missing = 0.0 if factor is None else (factor - 1) * runs
    return math.ceil(missing) if missing > 0 and math.isfinite(missing) else None
