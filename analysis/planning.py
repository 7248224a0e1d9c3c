"""Before a run: what requests, minutes and replications decide an SLA, what blocks a comparison needs.

"Decide" means: with a probability of 80 %, if the truth is what is supposed. A run that is just long enough
to decide when it sees exactly what was expected decides in half of all cases only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from .means import terms_of
from .objective import ObjectiveResult
from .planned_stretches import Shows, Stretched, in_stretches
from .planned_worth import Worth
from .pooled_worth import MIN_RUNS
from .power import POWER, independent_needed, least, power_estimated, shown
from .sla import POOLED_METRICS, Latency, Objective
from .statistics import (
    CONFIDENCE,
    POOL_LEVELS,
    REQUESTS,
    RUNS_LEVELS,
    SECONDS,
    freedom,
    mean_error,
    small_sample_factor,
)

MOST_BLOCKS = 10_000


@dataclass(frozen=True, slots=True)
class Supposed:
    """What is supposed of load and server, where no earlier run tells.

    `part` is the true share of bad events as a part of the allowed one (0.5: half as many); `run_s` how long
    one replication measures; `tau` how many neighbouring requests are worth one independent one.
    """

    rate_per_s: float
    run_s: float
    part: float
    tau: float


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run of so many requests found about the objective."""

    result: ObjectiveResult
    requests: int


@dataclass(frozen=True, slots=True)
class Need:
    """What decides an objective: independent events; requests and minutes of one run; or runs of `run_s`.

    Of one that must hold in every stretch of time, the independent events of each; of runs of `run_s` only.
    None where no number decides, or none can be told: `reason` says why.
    """

    text: str
    independent: int | None
    requests: int | None = None
    minutes: float | None = None
    runs: int | None = None
    reason: str = ""


def need(objective: Objective, supposed: Supposed, earlier: Earlier | None) -> Need:
    """Plan one objective."""
    allowed = getattr(objective, "allowed_share", None)
    if allowed is None or (isinstance(objective, Latency) and objective.percentile is None):
        return _for_mean(objective, supposed, earlier)
    worth = _worth(objective, supposed, earlier)
    bad, fails = supposed.part * float(allowed), supposed.part > 1
    known = worth.low if fails else worth.alone
    if objective.scope.every_ns is not None:

        def shows(requests: float, tests: int) -> float:
            degrees = freedom(worth.seen(requests), worth.per_degree)
            return power_estimated(known(requests), degrees, bad, float(allowed), tests)

        found = _stretched(objective, supposed, worth, shows, passing=not fails)
        return _in_stretches(objective.text, supposed, found, known)
    independent = independent_needed(bad, float(allowed))
    if independent is None:
        return Need(objective.text, None, reason="a true share so near the allowed one is never told from it")
    requests = least(lambda n: worth.judged(n) and known(n) >= independent, most=None)
    runs = _runs(independent, worth, supposed.rate_per_s * supposed.run_s, POOL_LEVELS[not fails])
    return Need(
        text=objective.text,
        independent=independent,
        requests=requests,
        minutes=_minutes(requests, supposed),
        runs=runs,
        reason="" if runs else _too_short(worth, supposed),
    )


def _worth(objective: Objective, supposed: Supposed, earlier: Earlier | None) -> Worth:
    """Return what is supposed of a request, or was found of an earlier run's.

    From that run's n_eff is taken what shrank it: the planned run is cut by its own length. Where too many
    are to be shown, events are worth what they are for a lower bound. Pooled gaps are estimated from seconds:
    never from more than the planned rate leaves, nor, where no earlier run tells, from more than the
    independent requests. The gaps of one request then count as one event.
    """
    gaps = isinstance(objective, Latency) and objective.limit.metric in POOLED_METRICS
    terms = SECONDS if gaps else REQUESTS
    most = 1 / supposed.rate_per_s if gaps else 1.0
    events = units = 1 / supposed.tau
    if earlier and earlier.result.n_eff and earlier.result.degrees:
        events = earlier.result.n_eff / small_sample_factor(earlier.result.degrees) / earlier.requests
        units = (earlier.result.degrees + 1) * terms.per_degree / earlier.requests if gaps else events
        if supposed.part > 1:
            paid = math.sqrt(small_sample_factor(earlier.result.degrees)) if gaps else 1.0
            events = (earlier.result.n_eff_low or earlier.result.n_eff) / paid / earlier.requests
    return Worth(events, min(units, most), most, terms.per_degree, terms.least)


def _stretched(
    objective: Objective, supposed: Supposed, worth: Worth, shows: Shows, *, passing: bool
) -> Stretched:
    """Plan what must hold in every stretch; each of them needs an interval of its own."""

    def judged(requests: float, tests: int) -> float:
        return shows(requests, tests) if worth.surely_judged(requests) else 0.0

    return in_stretches(objective.scope, supposed.rate_per_s, supposed.run_s, judged, passing=passing)


def _in_stretches(
    text: str, supposed: Supposed, found: Stretched, independent: Callable[[float], float]
) -> Need:
    requests = math.ceil(supposed.rate_per_s * supposed.run_s) if found.decides else None
    return Need(
        text=text,
        independent=None if found.each is None else math.ceil(independent(found.each)),
        requests=requests,
        minutes=_minutes(requests, supposed),
        runs=found.runs,
        reason=found.reason,
    )


def _runs(independent: int, worth: Worth, requests: float, level: float) -> int | None:
    """Return how many replications show so many independent events, if they differ by chance only.

    As `pooled_worth` has it: what all of them are worth is cut for how few runs tell it, and is never more
    than what they seem worth by themselves. None for runs so short that some would have no interval: they
    would be worth far less.
    """
    if not worth.surely_judged(requests):
        return None
    within, each = worth.within(requests), requests * worth.events
    return least(
        lambda runs: runs * min(within, each * small_sample_factor(runs - 1, level)) >= independent,
        MIN_RUNS,
    )


def _for_mean(objective: Objective, supposed: Supposed, earlier: Earlier | None) -> Need:
    """Plan a mean: suppose that it is the earlier run's, and that values scatter and depend as there.

    The bound that decides is the one towards the limit. Of one run it has the degrees of freedom that its
    length gives (`statistics.Mean`; where seconds are counted, a run has no more of them than it lasts), of
    replications one less than there are (`statistics.runs_bounds`).
    """
    text, found = objective.text, earlier.result if earlier else None
    terms = terms_of(found.metric if found else "")
    error = mean_error(found.bound_low, found.bound_high, found.n_eff, terms) if found else None
    if not earlier or not found or not error or found.n_eff is None or found.observed_ok_only is None:
        return Need(
            text, None, reason="how values scatter is told by an earlier run that has an interval (--like)"
        )
    distance = found.limit - found.observed_ok_only
    if distance == 0:
        return Need(text, None, reason="the mean was the limit itself: no number decides")
    side = 1 if distance > 0 else 0  # of the levels, lower and upper
    one = abs(distance) / (error * math.sqrt(found.n_eff))  # in standard deviations of an independent value
    most = 1 / supposed.rate_per_s if terms is SECONDS else 1.0
    each = min(found.n_eff / earlier.requests, most)
    in_run = each * supposed.rate_per_s * supposed.run_s
    worth = Worth(each, each, most, terms.per_degree, terms.least)

    def shows(n: float, tests: int = 1) -> float:
        level = 1 - (1 - terms.levels[side]) / tests
        return shown(one * math.sqrt(n), freedom(n, terms.per_degree), level)

    if objective.scope.every_ns is not None:
        passing = (side == 1) != found.at_least
        in_each = _stretched(
            objective, supposed, worth, lambda n, tests: shows(worth.seen(n), tests), passing=passing
        )
        return _in_stretches(text, supposed, in_each, worth.seen)
    independent = least(lambda n: shows(n) >= POWER, terms.least)
    if independent is None:
        return Need(text, None, reason="a mean so near its limit is never told from it")
    requests = least(lambda n: worth.judged(n) and worth.seen(n) >= independent, most=None)
    return Need(
        text=text,
        independent=independent,
        requests=requests,
        minutes=_minutes(requests, supposed),
        runs=least(lambda n: shown(one * math.sqrt(n * in_run), n - 1, RUNS_LEVELS[side]) >= POWER, MIN_RUNS),
    )


def _too_short(worth: Worth, supposed: Supposed) -> str:
    enough_s = least(lambda seconds: worth.surely_judged(seconds * supposed.rate_per_s))
    short = f"of runs of {supposed.run_s:g} s some would have no interval of their own"
    return f"{short}: make them {enough_s:,} s at least (--duration)"


def _minutes(requests: int | None, supposed: Supposed) -> float | None:
    return None if requests is None else requests / supposed.rate_per_s / 60


def blocks_needed(margin: float, cv: float) -> int | None:
    """Return the paired blocks that show a true difference of `margin` (0.05) with a probability of 80 %.

    `cv` is the coefficient of variation of a metric from run to run, for each server; pairs whose blocks have
    less in common than that need no more. Two-sided t-test at 5 % on the log-ratios (`blocks.paired_ratio`),
    where the usual 2 (z_a/2 + z_b)^2 (CV / margin)^2 forgets what few blocks cost (`power.shown`).
    None beyond 10,000 blocks.
    """

    def shows(blocks: int) -> bool:
        distance = math.sqrt(blocks) * math.log1p(margin) / (cv * math.sqrt(2))
        return shown(distance, blocks - 1, (1 + CONFIDENCE) / 2) >= POWER

    return least(shows, 2, MOST_BLOCKS)
