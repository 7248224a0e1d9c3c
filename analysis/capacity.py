"""What one replica carries: its curve over the levels of load that were measured, and what follows from it.

A level is an offered load: arrivals a second (open loop) or users (closed loop). Runs of several blocks at
one level are pooled as counts. A run that is INVALID proves nothing and is left out. Goodput is the rate of
the requests that succeeded and kept every limit that one request can keep.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evidence import Evidence
from .goodput import asked, good_share, goodput
from .objective import FAIL, PASS
from .percentile_bounds import Bounds, percentile_bounds
from .pooled_worth import worth
from .reading import LATENCIES, LEVEL_UNITS, Place, metrics, percentile_of, place
from .rundir import Run
from .scopes import judge_whole
from .sla import POOLED_METRICS, Goodput, Latency, Limit, Sla
from .verdict import INVALID, OVERSATURATED, SEVERITY, Verdict

Judged = tuple[Run, Verdict]

Decided = Mapping[tuple[str, float], str]
"""(server, level) -> verdict."""

BROKEN = (FAIL, OVERSATURATED)
"""A level with one of these was shown not to keep the SLA."""

PERCENTILES = ("ttft p50", "ttft p95", "ttft p99", "itl p50", "itl p99")

BOUNDED = ("ttft p", "itl p")
"""What is drawn by load, with its bounds."""

ALLOWED_BAD = 0.05
"""Where dependence is looked for if the SLA has no goodput objective that says how many may miss."""

LEAST_BEND = 0.2
"""A curve that lies nowhere this far (of its own range) below its chord has no knee worth a mark."""


class CapacityError(ValueError):
    """Runs that have no capacity in common: says what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Level:
    """What a server did at one level of load, over its runs.

    `goodput_per_s` is the observed rate of good requests; bounds are one-sided at 95 %. `values` are in ms,
    by metric, and `bounds` are those of TTFT and ITL. None stands for what cannot be said: nothing of an
    INVALID level, no percentiles of an OVERSATURATED one.
    """

    level: float
    status: str  # of all runs together, else the worst of those that are not INVALID
    reason: str
    runs: int
    left_out: int  # INVALID runs beside them
    n: int
    n_eff: float | None
    good_share: float | None
    goodput_per_s: float | None
    goodput_low_per_s: float | None
    goodput_high_per_s: float | None
    requests_per_s: float | None
    output_tokens_per_s: float | None
    input_tokens: float | None  # of an ok request, on average
    output_tokens: float | None
    values: Mapping[str, float | None]
    bounds: Mapping[str, Bounds]


@dataclass(frozen=True, slots=True)
class Capacity:
    """A server's levels, rising, and the interval that its capacity lies in: from `highest` to `refuted`.

    `highest` is the highest level that PASSes with none below it shown to break the SLA; `refuted` the
    lowest one that was shown to break it. None: there is no such level among those measured.
    """

    server: str
    loop: str
    unit: str
    levels: tuple[Level, ...]
    highest: float | None
    refuted: float | None
    undecided: tuple[float, ...]  # levels between the two that say neither
    undecided_below: tuple[float, ...]  # levels under `highest` that say neither: too short, not too slow
    contradicting: tuple[float, ...]  # levels that PASS above `refuted`
    knee: float | None  # where TTFT p95 bends: an annotation, never a decision
    collapse: float | None  # the level from which goodput is below its best by more than chance
    limits_ms: Mapping[str, float]  # the SLA's, by metric
    good: tuple[str, ...]  # what a good request keeps, in words

    @property
    def at_highest(self) -> Level | None:
        """The level that a plan stands on."""
        return next((one for one in self.levels if one.level == self.highest), None)

    def words(self, level: float) -> str:
        """Write a level with its unit: 8 arrivals/s, 1 user."""
        unit = self.unit.removesuffix("s") if level == 1 and self.unit == "users" else self.unit
        return f"{level:g} {unit}"


def measure(judged: Sequence[Judged], sla: Sla, decided: Decided | None = None) -> tuple[Capacity, ...]:
    """Return the capacity of each server, in the order of the runs.

    `decided` has the verdicts on all runs of a level together; elsewhere a level has the worst verdict of its
    runs.

    Raises CapacityError for runs of both kinds of loop, ComparisonError for a run that no experiment placed.
    """
    loops = {verdict.loop: run.path for run, verdict in judged}
    if len(loops) > 1:
        where = " and ".join(f"{loop} in {path}" for loop, path in sorted(loops.items()))
        raise CapacityError(f"found loops of two kinds ({where}), expected one: they have no unit in common")
    placed: dict[str, dict[float, list[Judged]]] = {}
    for one in judged:
        at: Place = place(one[0])
        placed.setdefault(at.server, {}).setdefault(at.level, []).append(one)
    wanted = good_request(sla)
    return tuple(_capacity(server, levels, wanted, decided or {}) for server, levels in placed.items())


def good_request(sla: Sla) -> Goodput:
    """Return what makes one request good, as an objective.

    Where the SLA has goodput objectives, all of their limits; else, for each metric with one value per
    request, the limit of its highest percentile. Pooled gaps and means belong to no single request: they
    decide which level holds, not which request is good. So do limits for one scenario.
    """
    objectives = [one for one in sla.objectives if one.scope.scenario is None]
    own = [objective for objective in objectives if isinstance(objective, Goodput)]
    if own:
        limits = tuple(dict.fromkeys(limit for objective in own for limit in objective.limits))
        return Goodput("goodput", limits, min(objective.allowed_share for objective in own))
    highest: dict[str, tuple[float, Limit]] = {}
    for objective in objectives:
        if not isinstance(objective, Latency) or objective.percentile is None:
            continue
        metric = objective.limit.metric
        if metric in POOLED_METRICS or metric == "dispatch_lag":
            continue
        if metric not in highest or objective.percentile > highest[metric][0]:
            highest[metric] = (objective.percentile, objective.limit)
    return Goodput("goodput", tuple(limit for _, limit in highest.values()), ALLOWED_BAD)


def _capacity(
    server: str, levels: Mapping[float, Sequence[Judged]], wanted: Goodput, decided: Decided
) -> Capacity:
    verdicts = [verdict for own in levels.values() for _, verdict in own]
    names, limits_ms = metrics(verdicts)
    shown = [name for name in names if name in limits_ms or name in (*PERCENTILES, *LATENCIES)]
    read = [*PERCENTILES, *shown]
    made = [_level(at, levels[at], wanted, read, decided.get((server, at))) for at in sorted(levels)]
    refuted = next((one.level for one in made if one.status in BROKEN), None)
    top = math.inf if refuted is None else refuted
    passed = [one.level for one in made if one.status == PASS]
    highest = max((level for level in passed if level < top), default=None)
    bottom = -math.inf if highest is None else highest
    neither = [one.level for one in made if one.status != PASS and one.status not in BROKEN]
    return Capacity(
        server=server,
        loop=verdicts[0].loop,
        unit=LEVEL_UNITS.get(verdicts[0].loop, "load"),
        levels=tuple(made),
        highest=highest,
        refuted=refuted,
        undecided=tuple(level for level in neither if bottom < level < top),
        undecided_below=tuple(level for level in neither if level < bottom),
        contradicting=tuple(level for level in passed if level > top),
        knee=knee([(one.level, one.values.get("ttft p95")) for one in made]),
        collapse=collapse(made),
        limits_ms=limits_ms,
        good=("success", *(_words(limit) for limit in wanted.limits)),
    )


def _words(limit: Limit) -> str:
    return f"{limit.metric} {'<' if limit.strict else '<='} {limit.limit_ns / 1e6:g} ms"


def _level(
    at: float, own: Sequence[Judged], wanted: Goodput, names: Sequence[str], decided: str | None
) -> Level:
    """Put the runs of a level together; `decided` is the verdict on all of them, if there is one."""
    believed = [one for one in own if one[1].status != INVALID]
    verdict = min((verdict for _, verdict in believed or own), key=lambda one: SEVERITY.index(one.status))
    evidences = [Evidence(run) for run, _ in believed]
    status = decided or verdict.status
    judged = [(evidence, judge_whole(evidence, wanted)) for evidence in evidences]
    judged = [(evidence, result) for evidence, result in judged if result.n]  # not those that cannot know it
    results = [result for _, result in judged]
    rate = float(at) if verdict.loop == "open" else [asked(evidence) for evidence, _ in judged]
    observed, low, high = goodput(results, rate)
    seconds = sum(evidence.window_s for evidence in evidences)
    n = sum(len(evidence.frame) for evidence in evidences)
    tokens = _tokens(evidences)
    read = names if evidences and status not in (INVALID, OVERSATURATED) else ()
    values = {name: percentile_of(evidences, name) for name in dict.fromkeys(read)}
    return Level(
        level=at,
        status=status,
        reason=verdict.reasons[0] if status == verdict.status else f"{status} over all runs",
        runs=len(believed),
        left_out=len(own) - len(believed),
        n=n,
        n_eff=worth(results) if results else None,
        good_share=good_share(results) if results else None,
        goodput_per_s=observed,
        goodput_low_per_s=low,
        goodput_high_per_s=high,
        requests_per_s=n / seconds if seconds else None,
        output_tokens_per_s=_tokens_per_s(evidences),
        input_tokens=_mean(*tokens["prompt_tokens"]),
        output_tokens=_mean(*tokens["output_tokens"]),
        values=values,
        bounds={
            name: percentile_bounds(evidences, name, value)
            for name, value in values.items()
            if name.startswith(BOUNDED)
        },
    )


def _tokens(evidences: Sequence[Evidence]) -> dict[str, tuple[float, int]]:
    """Return the sum of the ok requests' tokens and how many requests say theirs, by column."""
    found: dict[str, tuple[float, int]] = {}
    for name in ("prompt_tokens", "output_tokens"):
        known: list[Any] = [one.frame[one.frame.outcome == "ok"][name].dropna() for one in evidences]
        found[name] = sum(float(one.sum()) for one in known), sum(len(one) for one in known)
    return found


def _tokens_per_s(evidences: Sequence[Evidence]) -> float | None:
    """Return the output tokens of ok requests a second; None where no run says what its answers held."""
    total = seconds = 0.0
    for evidence in evidences:
        tokens = evidence.frame[evidence.frame.outcome == "ok"].output_tokens
        if tokens.notna().any() or tokens.empty:
            total, seconds = total + float(tokens.sum()), seconds + evidence.window_s
    return total / seconds if seconds else None


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None


def knee(curve: Sequence[tuple[float, float | None]]) -> float | None:
    """Return the level at which a rising curve lies deepest below its chord; None where it hardly bends.

    Both axes are scaled to their range, as in Kneedle (Satopää et al. 2011); so the knee depends on which
    levels were measured, and marks a place to look at.
    """
    known = [(level, value) for level, value in curve if value is not None and math.isfinite(value)]
    if len(known) < 4:
        return None
    x, y = (np.array(axis, dtype=np.float64) for axis in zip(*known, strict=True))
    if y[-1] <= y[0]:
        return None
    below = (x - x[0]) / (x[-1] - x[0]) - (y - y[0]) / (y[-1] - y[0])
    deepest = int(below.argmax())
    return float(x[deepest]) if below[deepest] >= LEAST_BEND else None


def collapse(levels: Sequence[Level]) -> float | None:
    """Return the lowest level above the best goodput at which goodput is lower by more than chance.

    Its upper bound lies below the best one's lower bound. An OVERSATURATED level has often no bounds, and
    its goodput falls on as long as the load lasts: there what was observed is enough.
    """
    bounded = [one for one in levels if one.goodput_low_per_s is not None]
    if not bounded:
        return None
    best = max(bounded, key=lambda one: one.goodput_low_per_s or 0.0)
    for one in levels:
        high = one.goodput_per_s if one.status == OVERSATURATED else one.goodput_high_per_s
        if one.level > best.level and high is not None and high < (best.goodput_low_per_s or 0.0):
            return one.level
    return None
