"""Judge a file that holds percentiles, not requests: as far as they reach, and not a step further.

A percentile says: at least so many values are at most this, and at least so many are at least this. So the
number of values beyond a limit is known as an interval, whose ends are the worst and the best reading. What
these requests are worth as independent ones (`worth`) must come from elsewhere; where nothing tells, nothing
can PASS, and FAIL is only what misses the limit even if all of them are worth WORTH_UNKNOWN.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from .gates import Gate
from .objective import FAIL, INCONCLUSIVE, PASS, WORTH_UNKNOWN, ObjectiveResult, percent
from .rates import UNITS
from .sla import WHOLE, ErrorRate, Goodput, Latency, Limit, Objective, Rate, Sla
from .statistics import share_at_least, share_at_most
from .summary import ScenarioSummary
from .verdict import Verdict, overall

Share = Latency | ErrorRate | Goodput
"""Objectives that allow a share of bad events."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one percentile says: `up_to` values are at most `high_ns`, `from_` are at least `low_ns`.

    The percentile itself lies from `low_ns` to `high_ns`; `shown_ms` is what the file prints.
    """

    percentile: float
    shown_ms: float
    low_ns: float
    high_ns: float
    up_to: int
    from_: int


@dataclass(frozen=True, slots=True)
class Row:
    """A metric of one scenario. Its n values hold the failed requests' own times, or leave them out."""

    metric: str
    scenario: str
    n: int
    failed: int
    failed_inside: bool
    points: tuple[Point, ...]
    mean_ms: float | None


@dataclass(frozen=True, slots=True)
class Worth:
    """How many independent events something is worth at most, and why it is not known where it is None.

    An interval is given from `least` independent ones on, by their own number: `n` is lower where that number
    is an estimate. `n_low` is what it is worth for the lower bound alone, where it is known to be more.
    """

    n: float | None
    why: str
    independent: float
    least: int
    n_low: float = 0.0

    @classmethod
    def unknown(cls, why: str) -> "Worth":
        """Return what nobody can tell."""
        return cls(None, why, 0.0, 0)


class Spread(NamedTuple):
    """Values beyond a limit: certainly `low`, possibly `high`, of n."""

    low: int
    high: int
    n: int


@dataclass(frozen=True, slots=True)
class Coarse:
    """All that is known of a run from percentiles; `errors`: scenario -> message -> requests."""

    tool: str
    version: str | None
    run: str
    name: str
    rows: tuple[Row, ...]
    n: int
    failed: int
    errors: Mapping[str, Mapping[str, int]]
    worth: Worth
    worth_failed: Worth
    mean_bounds_ms: tuple[float, float] | None  # on the mean of e2e
    window_ns: tuple[int, int]
    definitions: tuple[str, ...]
    gates: tuple[Gate, ...]
    rounding: str  # how the tool rounds, in words

    def of(self, metric: str) -> list[Row]:
        """Return the rows of a metric; all of them together are what an objective is about."""
        return [row for row in self.rows if row.metric == metric]


def judge(run: Coarse, sla: Sla) -> Verdict:
    """Judge percentiles by an SLA."""
    objectives = tuple(_judge(run, objective) for objective in sla.objectives)
    status, reasons = overall(run.gates, objectives, None)
    return Verdict(
        status=status,
        reasons=(
            *reasons,
            f"IMPORTED from {run.tool}: percentiles only, and what its instrument was worth is not known",
        ),
        run=run.run,
        name=run.name,
        simulated=False,
        sla=sla.name,
        loop="unknown",
        window_start_unix_ns=run.window_ns[0],
        window_end_unix_ns=run.window_ns[1],
        objectives=objectives,
        gates=run.gates,
        in_flight_trend=None,
        ttft_ms_trend=None,
        server_side=None,
        steady=None,
        scenarios=_scenarios(run),
        imported={"tool": run.tool, "version": run.version, "definitions": list(run.definitions)},
    )


def _judge(run: Coarse, objective: Objective) -> ObjectiveResult:
    if isinstance(objective, Rate):
        return _no_rate(objective)
    unknown = _unknown(run, objective)
    if unknown:
        return _no_data(run, objective, f"not known: {unknown}")
    if isinstance(objective, ErrorRate):
        seen = run.failed / run.n if run.n else None
        return _result(run, objective, Spread(run.failed, run.failed, run.n), run.worth_failed, seen)
    if isinstance(objective, Goodput):
        return _judge_goodput(run, objective)
    rows = run.of(objective.limit.metric)
    if objective.percentile is None:
        return _judge_mean(run, objective, rows)
    shown = _shown(rows, objective.percentile)
    return _result(run, objective, _spread(rows, objective.limit), run.worth, shown)


def _unknown(run: Coarse, objective: Share) -> str:
    """Return why the file says nothing of what an objective is about; empty where it does."""
    if objective.scope != WHOLE:
        return "the file tells no scenario and no stretch of time alone"
    limits: tuple[Limit, ...] = ()
    if isinstance(objective, Latency):
        limits = (objective.limit,)
    elif isinstance(objective, Goodput):
        limits = objective.limits
    missing = [limit.metric for limit in limits if not run.of(limit.metric)]
    return f"the imported file has no {' and no '.join(missing)}" if missing else ""


def _judge_goodput(run: Coarse, objective: Goodput) -> ObjectiveResult:
    """Bound the requests that miss any limit: at least the most of one, at most the sum of all (Fréchet)."""
    spreads = [_spread(run.of(limit.metric), limit) for limit in objective.limits]
    n = max(spread.n for spread in spreads)
    high = min(n, sum(spread.high - run.failed for spread in spreads) + run.failed)
    return _result(run, objective, Spread(max(spread.low for spread in spreads), high, n), run.worth, None)


def _spread(rows: Sequence[Row], limit: Limit) -> Spread:
    """Add up what the rows of a metric say about a limit; a failed request lies beyond any."""
    low = high = n = 0
    for row in rows:
        good = max((point.up_to for point in row.points if _within(point.high_ns, limit)), default=0)
        bad = max((point.from_ for point in row.points if not _within(point.low_ns, limit)), default=0)
        if row.failed_inside:
            low += max(bad, row.failed)
            high += min(row.n, row.n - good + row.failed)
            n += row.n
        else:
            low += bad + row.failed
            high += row.n - good + row.failed
            n += row.n + row.failed
    return Spread(low, high, n)


def _within(value_ns: float, limit: Limit) -> bool:
    return value_ns < limit.limit_ns if limit.strict else value_ns <= limit.limit_ns


def _shown(rows: Sequence[Row], percentile: float) -> Point | None:
    """Return the percentile that the file prints; of several rows none is the percentile of all."""
    points = [point for row in rows for point in row.points if point.percentile == percentile]
    return points[0] if len(rows) == 1 and points else None


def _result(
    run: Coarse, objective: Share, spread: Spread, worth: Worth, seen: float | Point | None
) -> ObjectiveResult:
    """Return the result on values beyond a limit; `seen` is a share, or the percentile in the file."""
    allowed = objective.allowed_share
    point = seen if isinstance(seen, Point) else None
    observed = seen.shown_ms if isinstance(seen, Point) else seen
    status, reason, bounds = INCONCLUSIVE, "no data", None
    if spread.n:
        status, reason, bounds = _decide(run, objective, spread, worth, point)
    if isinstance(objective, Latency):
        metric, statistic, limit = (
            objective.limit.metric,
            _statistic(objective),
            objective.limit.limit_ns / 1e6,
        )
    else:
        errors = isinstance(objective, ErrorRate)
        metric, statistic, limit = (
            ("error_rate", "share", allowed) if errors else ("goodput", "share", 1 - allowed)
        )
    return ObjectiveResult(
        text=objective.text,
        metric=metric,
        statistic=statistic,
        status=status,
        reason=reason,
        unit="share" if statistic == "share" else "ms",
        observed=observed,
        observed_ok_only=None,
        limit=limit,
        margin=None if observed is None else observed / limit,
        n=spread.n,
        bad=spread.low if spread.n else None,
        undecided=spread.high - spread.low,
        n_eff=None if worth.n is None or not spread.n else min(worth.n, spread.n),
        n_eff_low=None if worth.n is None or not spread.n else min(max(worth.n, worth.n_low), spread.n),
        bound_low=bounds[0] if bounds else None,
        bound_high=bounds[1] if bounds else None,
        allowed=allowed,
        resolution=(point.high_ns - point.low_ns) / 1e6 if point else None,
    )


def _statistic(objective: Latency) -> str:
    return "mean" if objective.percentile is None else f"p{objective.percentile:g}"


def _decide(
    run: Coarse, objective: Share, spread: Spread, worth: Worth, point: Point | None
) -> tuple[str, str, tuple[float, float] | None]:
    """Return (status, reason, bounds on the bad share); bounds only where the worth is known."""
    allowed, n = objective.allowed_share, spread.n
    known = worth.n is not None and min(worth.independent, n) >= worth.least
    n_eff = min(worth.n or 0, n) if known else min(WORTH_UNKNOWN, n)
    n_low = min(max(n_eff, worth.n_low), n)
    lower = share_at_least(spread.low * n_low / n, n_low)
    upper = share_at_most(spread.high * n_eff / n, n_eff)
    if lower >= allowed:
        least = f"at least {percent(lower)} bad, {percent(allowed)} allowed"
        return (
            FAIL,
            least if known or worth.n_low else f"{least}, were all {n:,} worth {n_eff:g}",
            (lower, upper) if known else None,
        )
    if known and upper < allowed:
        return PASS, f"at most {percent(upper)} bad, {percent(allowed)} allowed", (lower, upper)
    # The best or the worst reading of what was rounded would decide: then it is the rounding that does not.
    if spread.low / n < allowed <= spread.high / n:
        return INCONCLUSIVE, _unresolved(run, objective, spread, point), (lower, upper) if known else None
    if not known:
        return INCONCLUSIVE, _no_interval(worth, n), None
    words = f"between {percent(lower)} and {percent(upper)} bad, {percent(allowed)} allowed"
    return INCONCLUSIVE, words, (lower, upper)


def _no_interval(worth: Worth, n: int) -> str:
    if worth.n is None:
        return f"no valid interval: {worth.why}"
    return (
        f"no valid interval: {worth.why}: worth {math.floor(min(worth.independent, n))}, needs {worth.least}"
    )


def _unresolved(run: Coarse, objective: Share, spread: Spread, point: Point | None) -> str:
    """Say why the file cannot tell: the limit lies within a rounded percentile, or between two of them."""
    if isinstance(objective, Latency) and point:
        limit = objective.limit.limit_ns
        if point.low_ns <= limit <= point.high_ns and point.low_ns < point.high_ns:
            stands = f"{point.shown_ms:g} ms stands for {point.low_ns / 1e6:g} to {point.high_ns / 1e6:g} ms"
            return f"{run.rounding}: p{point.percentile:g} of {stands}, and the limit lies inside"
    low, high = percent(spread.low / spread.n), percent(spread.high / spread.n)
    return (
        f"the file's percentiles allow from {low} to {high} bad, {percent(objective.allowed_share)} allowed"
    )


def _judge_mean(run: Coarse, objective: Latency, rows: Sequence[Row]) -> ObjectiveResult:
    """Judge the mean of e2e by what the history tells; failed requests have none, so one forbids a PASS."""
    limit = objective.limit.limit_ns / 1e6
    n = sum(row.n for row in rows)
    known = [row.mean_ms for row in rows if row.mean_ms is not None]
    weighed = sum((row.mean_ms or 0) * row.n for row in rows) / n if n and len(known) == len(rows) else None
    failed = sum(row.failed for row in rows)
    bounds = run.mean_bounds_ms if objective.limit.metric == "e2e" else None
    status, reason = INCONCLUSIVE, "no valid interval: the file does not tell how the mean varied"
    if bounds:
        status = PASS if bounds[1] < limit else FAIL if bounds[0] >= limit else INCONCLUSIVE
        reason = f"mean between {bounds[0]:.4g} and {bounds[1]:.4g} ms"
    if status == PASS and failed:
        status = INCONCLUSIVE
        reason = f"{failed:,} requests failed, so there is no mean: use a percentile"
    return ObjectiveResult(
        text=objective.text,
        metric=objective.limit.metric,
        statistic="mean",
        status=status,
        reason=reason,
        unit="ms",
        observed=weighed,
        observed_ok_only=None,
        limit=limit,
        margin=None if weighed is None else weighed / limit,
        allowed=limit,
        n=n,
        n_eff=run.worth.n if bounds else None,
        bound_low=bounds[0] if bounds else None,
        bound_high=bounds[1] if bounds else None,
    )


def _no_rate(objective: Rate) -> ObjectiveResult:
    return ObjectiveResult(
        text=objective.text,
        metric=objective.metric,
        statistic="rate",
        status=INCONCLUSIVE,
        reason="not known: percentiles tell no rate",
        unit=UNITS[objective.metric],
        observed=None,
        observed_ok_only=None,
        limit=objective.limit,
        margin=None,
        allowed=objective.limit,
        at_least=not objective.upper,
    )


def _no_data(run: Coarse, objective: Share, reason: str) -> ObjectiveResult:
    nothing = _result(run, objective, Spread(0, 0, 0), Worth.unknown(""), None)
    return replace(nothing, reason=reason)


def _scenarios(run: Coarse) -> tuple[ScenarioSummary, ...]:
    seconds = (run.window_ns[1] - run.window_ns[0]) / 1e9
    rows = [row for row in run.rows if row.metric == "e2e"] or list(run.rows)[:1]
    return tuple(
        ScenarioSummary(
            scenario=row.scenario,
            n=row.n if row.failed_inside else row.n + row.failed,
            ok=row.n - row.failed if row.failed_inside else row.n,
            failed=run.errors.get(row.scenario) or ({"failed": row.failed} if row.failed else {}),
            requests_per_s=row.n / seconds if seconds > 0 else None,
            output_tokens_per_s=None,
            tokens_per_chunk=None,
            latencies=None,
        )
        for row in rows
    )
