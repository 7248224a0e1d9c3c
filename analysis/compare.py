"""Servers against a baseline: runs of the same block and level are pairs, and pairs give ratios.

An experiment measures its servers in mirrored blocks (A B, B A, ...), at one or several levels of load; the
runs of a block share their seed, prompts and schedule. So whatever the machine did meanwhile hits both, and
each block gives one ratio. Only what the SLA limits is a claim: those metrics are tested together (Holm)
for each candidate and level, all others describe.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from . import reading
from .blocks import CONFIDENCE, crossings, holm, paired_ratio
from .reading import ERRORS, TOKENS, ComparisonError, Place, Reading, lower_is_better
from .record import SCHEMA
from .rundir import Run
from .statistics import share_bounds
from .verdict import OVERSATURATED, Verdict, plain

BETTER, WORSE, NO_DIFFERENCE = "better", "worse", "no difference shown"
ONE_PAIR, NO_RATIO = "one pair", "no ratio"
MISSING = "missing"

CROSSING = ("ttft p95", "itl p50", "e2e p50", TOKENS)
"""Metrics whose crossover is looked for; in an open loop not the tokens, which follow the arrivals."""

_UNITS = {"closed": "users", "open": "arrivals/s"}


@dataclass(frozen=True, slots=True)
class Effect:
    """A metric of a candidate against the baseline's, over the paired blocks of one level.

    `candidate` and `baseline` are medians over blocks; `ratio`, candidate / baseline, is the geometric mean
    of the blocks' own ratios, with a two-sided 95 % interval. None stands for what cannot be said.
    """

    metric: str
    unit: str  # ms, tokens/s or share
    limited: bool  # by the SLA
    candidate: float | None
    baseline: float | None
    ratio: float | None
    low: float | None
    high: float | None
    p: float | None  # Holm's, over the limited metrics; the metric's own otherwise
    outcome: str
    reason: str  # where the outcome needs one

    @property
    def sign(self) -> int:
        """1 where the candidate is worse, -1 where it is better, 0 where neither was shown or seen."""
        if self.outcome == ONE_PAIR and self.ratio is not None:
            change = self.ratio - 1 if lower_is_better(self.metric) else 1 - self.ratio
            return (change > 0) - (change < 0)
        return {WORSE: 1, BETTER: -1}.get(self.outcome, 0)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that does not count: INVALID, OVERSATURATED or missing, and why."""

    block: int
    server: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Contrast:
    """A candidate against the baseline at one level."""

    candidate: str
    level: float
    blocks: tuple[int, ...]  # that count
    effects: tuple[Effect, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where a candidate turns from better to worse, or back: between neighbouring levels that show it."""

    candidate: str
    metric: str
    levels: tuple[float, ...]  # with a ratio, in rising order
    undecided: tuple[float, ...]  # of them, without a difference shown
    between: tuple[tuple[float, float], ...]
    better_below: bool  # the first one of them, if any


@dataclass(frozen=True, slots=True)
class Server:
    """What is known of a server; None and () where it was not started by us."""

    name: str
    kernels: tuple[str, ...]
    kernel_expected: str
    kernel_ok: bool | None
    ready_s: float | None  # median over its runs
    memory_mb: float | None  # the same


@dataclass(frozen=True, slots=True)
class Comparison:
    """All candidates against one baseline."""

    baseline: str
    sla: str
    simulated: bool
    unit: str  # of levels: users or arrivals/s
    levels: tuple[float, ...]  # in rising order
    limits_ms: Mapping[str, float]  # the SLA's, by metric
    servers: tuple[Server, ...]  # the baseline first
    readings: tuple[Reading, ...]
    contrasts: tuple[Contrast, ...]  # by candidate, then by level
    crossovers: tuple[Crossover, ...]

    @property
    def candidates(self) -> tuple[str, ...]:
        """The names of all servers but the baseline."""
        return tuple(server.name for server in self.servers[1:])

    def of(self, candidate: str) -> list[Contrast]:
        """Return a candidate's contrasts, in rising order of level."""
        return [contrast for contrast in self.contrasts if contrast.candidate == candidate]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite latency is the text "inf"."""
        return {"schema": SCHEMA, **{key: plain(value) for key, value in asdict(self).items()}}


def compare(judged: Sequence[tuple[Run, Verdict]]) -> Comparison:
    """Compare the runs of an experiment; raises ComparisonError where they are no pairs, or none at all."""
    runs = _placed([run for run, _ in judged])
    baseline = _baseline(judged)
    _check_conditions(runs, baseline)
    metrics, limits = reading.metrics([verdict for _, verdict in judged])
    readings = sorted(
        (reading.read(run, verdict, metrics) for run, verdict in judged),
        key=lambda one: (one.level, one.block),
    )
    candidates = [name for name in dict.fromkeys(place.server for place in runs) if name != baseline]
    levels = sorted({place.level for place in runs})
    contrasts = [
        _contrast([one for one in readings if one.level == level], baseline, name, level, limits)
        for name in candidates
        for level in levels
    ]
    unit = _UNITS[judged[0][1].loop]
    return Comparison(
        baseline=baseline,
        sla=judged[0][1].sla,
        simulated=any(verdict.simulated for _, verdict in judged),
        unit=unit,
        levels=tuple(levels),
        limits_ms=limits,
        servers=tuple(_server(name, runs) for name in (baseline, *candidates)),
        readings=tuple(readings),
        contrasts=tuple(contrasts),
        crossovers=tuple(_crossovers(contrasts, candidates, unit)),
    )


def _placed(runs: Sequence[Run]) -> dict[Place, Run]:
    if not runs:
        raise ComparisonError("found no runs, expected those of an experiment")
    placed: dict[Place, Run] = {}
    for run in runs:
        place = reading.place(run)
        if place in placed:
            text = f"found the same server, level and block as in {placed[place].path}"
            raise ComparisonError(f"{run.path}: {text}")
        placed[place] = run
    return placed


def _baseline(judged: Sequence[tuple[Run, Verdict]]) -> str:
    """Return the baseline's name. Raises ComparisonError unless it was measured, and is not alone."""
    first_run, first = judged[0]
    baseline = str(first_run.meta["experiment"]["baseline"])
    for run, verdict in judged:
        for what, found, expected in (
            ("baseline", run.meta["experiment"]["baseline"], baseline),
            ("loop", verdict.loop, first.loop),
            ("SLA", verdict.sla, first.sla),
        ):
            if found != expected:
                raise ComparisonError(f"{run.path}: found the {what} {found!r}, expected {expected!r}")
    if first.loop not in _UNITS:
        raise ComparisonError(f"{first_run.path}: found the loop {first.loop!r}, expected open or closed")
    names = dict.fromkeys(reading.place(run).server for run, _ in judged)
    if baseline not in names or len(names) < 2:
        expected = f"the baseline {baseline!r} and another server"
        raise ComparisonError(f"found runs of {', '.join(names)}, expected {expected}")
    return baseline


def _check_conditions(runs: Mapping[Place, Run], baseline: str) -> None:
    """Raise ComparisonError where a run differs from the baseline's of its block in what must be the same."""
    ordered = sorted(runs.items(), key=lambda item: item[0].server != baseline)
    first: dict[tuple[float, int], Run] = {}
    for place, run in ordered:
        other = first.setdefault((place.level, place.block), run)
        mine, its = reading.conditions(run), reading.conditions(other)
        for key in (*its, *mine):
            if mine.get(key) != its.get(key):
                found = f"found {key} {mine.get(key)!r}, expected {its.get(key)!r} as in {other.path}"
                raise ComparisonError(f"{run.path}: {found}: they are no pair")


def _contrast(
    readings: Sequence[Reading], baseline: str, candidate: str, level: float, limits: Mapping[str, float]
) -> Contrast:
    """Pair a candidate's readings at a level with the baseline's.

    A pair of which the instrument failed is left out. Where a server was oversaturated nothing is paired:
    to leave out just those blocks would flatter it.
    """
    mine, its = ({one.block: one for one in readings if one.server == name} for name in (candidate, baseline))
    pairs: list[tuple[Reading, Reading]] = []
    left_out: list[LeftOut] = []
    for block in sorted({*mine, *its}):
        found = [runs[block] for runs in (mine, its) if block in runs]
        useless = [one for one in found if not one.values]
        left_out += [LeftOut(block, one.server, one.status, one.reason) for one in useless]
        if len(found) == 2 and not useless:
            pairs.append((found[0], found[1]))
        elif len(found) < 2:
            left_out.append(LeftOut(block, baseline if block in mine else candidate, MISSING, ""))
    if any(one.status == OVERSATURATED for one in (*mine.values(), *its.values())):
        pairs = []
    metrics = pairs[0][0].values if pairs else ()
    effects = [_effect(metric, pairs, limited=metric in limits) for metric in metrics]
    return Contrast(
        candidate=candidate,
        level=level,
        blocks=tuple(one.block for one, _ in pairs),
        effects=_together([one for one in effects if one.candidate is not None or one.reason]),
        left_out=tuple(left_out),
    )


def _effect(metric: str, pairs: Sequence[tuple[Reading, Reading]], *, limited: bool) -> Effect:
    mine, its = ([pair[side].values.get(metric) for pair in pairs] for side in (0, 1))
    known = [[value for value in values if value is not None] for values in (mine, its)]
    effect = Effect(
        metric=metric,
        unit={TOKENS: "tokens/s", ERRORS: "share"}.get(metric, "ms"),
        limited=limited,
        candidate=median(known[0]) if known[0] else None,
        baseline=median(known[1]) if known[1] else None,
        ratio=None,
        low=None,
        high=None,
        p=None,
        outcome=NO_RATIO,
        reason="",
    )
    if metric == ERRORS:
        return _compared_failures(effect, pairs)
    if not known[0] and not known[1]:
        return effect  # a server that counts no tokens has no tpot
    if min(len(values) for values in known) < len(pairs):
        return replace(effect, reason="not every run has a value")
    values = [*known[0], *known[1]]
    if math.inf in values:
        return replace(effect, reason="failed requests reach that percentile")
    if min(values) <= 0:
        return replace(effect, reason="a value is 0")
    found = paired_ratio(known[0], known[1])
    outcome = ONE_PAIR if found.p is None else _outcome(metric, found.ratio, found.p)
    reason = "one pair: no interval" if found.p is None else ""
    return replace(
        effect, ratio=found.ratio, low=found.low, high=found.high, p=found.p, outcome=outcome, reason=reason
    )


def _outcome(metric: str, ratio: float, p: float) -> str:
    if p >= 1 - CONFIDENCE:
        return NO_DIFFERENCE
    return BETTER if (ratio < 1) == lower_is_better(metric) else WORSE


def _compared_failures(effect: Effect, pairs: Sequence[tuple[Reading, Reading]]) -> Effect:
    """Compare the shares of failed requests: different where their bounds have nothing in common.

    No failures have no ratio, and few have no variance between blocks: counts are what there is. Each bound
    is one-sided at 95 %.
    """
    (low, high), (base_low, base_high) = (_failure_bounds([pair[side] for pair in pairs]) for side in (0, 1))
    outcome = WORSE if low > base_high else BETTER if high < base_low else NO_DIFFERENCE
    return replace(effect, outcome=outcome if len(pairs) > 1 else ONE_PAIR)


def _failure_bounds(readings: Sequence[Reading]) -> tuple[float, float]:
    n, failed, worth = (sum(getattr(one, name) for one in readings) for name in ("n", "failed", "worth"))
    if not n:
        return 0.0, 1.0
    return share_bounds(failed * worth / n, failed * worth / n, worth)


def _together(effects: list[Effect]) -> tuple[Effect, ...]:
    """Correct the outcomes of what the SLA limits for being several."""
    family = [i for i, effect in enumerate(effects) if effect.limited and effect.p is not None]
    adjusted = holm([effects[i].p or 0.0 for i in family])
    for i, p in zip(family, adjusted, strict=True):
        effect = effects[i]
        outcome = _outcome(effect.metric, effect.ratio or 1.0, p)
        lost = outcome != effect.outcome
        reason = f"alone it would count, among {len(family)} limited metrics it does not" if lost else ""
        effects[i] = replace(effect, p=p, outcome=outcome, reason=reason)
    return tuple(effects)


def _crossovers(contrasts: Sequence[Contrast], candidates: Sequence[str], unit: str) -> list[Crossover]:
    """Look for crossovers where there are two levels at least."""
    found = []
    metrics = CROSSING if unit == "users" else CROSSING[:-1]
    for candidate in candidates:
        for metric in metrics:
            seen = [
                (contrast.level, effect)
                for contrast in contrasts
                for effect in contrast.effects
                if contrast.candidate == candidate and effect.metric == metric and effect.ratio is not None
            ]
            if len(seen) < 2:
                continue
            signs = [(level, effect.sign) for level, effect in seen]
            found.append(
                Crossover(
                    candidate=candidate,
                    metric=metric,
                    levels=tuple(level for level, _ in seen),
                    undecided=tuple(level for level, sign in signs if not sign),
                    between=crossings(signs),
                    better_below=next((sign for _, sign in signs if sign), 0) < 0,
                )
            )
    return found


def _server(name: str, runs: Mapping[Place, Run]) -> Server:
    sections = [run.meta.get("server") for place, run in runs.items() if place.server == name]
    known = [section for section in sections if isinstance(section, dict)]
    first = known[0] if known else {}

    def middle(key: str) -> float | None:
        values = [float(section[key]) for section in known if section.get(key)]
        return median(values) if values else None

    return Server(
        name=name,
        kernels=tuple(str(kernel) for kernel in first.get("kernels") or () if kernel),
        kernel_expected=str(first.get("kernel_expected") or ""),
        kernel_ok=first.get("kernel_ok"),
        ready_s=middle("ready_s"),
        memory_mb=middle("memory_mb"),
    )
