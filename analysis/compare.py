"""Servers against a baseline: runs of the same block and level are pairs, and pairs give ratios.

An experiment measures its servers in mirrored blocks (A B, B A, ...), at one or several levels of load; the
runs of a block share their seed, prompts and schedule. So whatever the machine did meanwhile hits both, and
each block gives one ratio. Only what the SLA limits is a claim: those metrics are tested together (Holm)
for each candidate and level, all others describe. Where a candidate shares no block with the baseline its
runs are no pairs and stand against the baseline's as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from . import reading
from .blocks import crossings
from .conditions import OF_AN_EXPERIMENT, Difference, differences, is_declared
from .effects import MARGIN, Effect, Sides, Terms, effects_of
from .reading import LEVEL_UNITS, TOKENS, ComparisonError, Place, Reading
from .record import SCHEMA
from .rundir import Run
from .shift import Shift, shifts_of
from .verdict import OVERSATURATED, SEVERITY, Verdict, plain

MISSING = "missing"

CROSSING = ("ttft p95", "itl p50", "e2e p50", TOKENS)
"""Metrics whose crossover is looked for; in an open loop not the tokens, which follow the arrivals."""


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
    blocks: tuple[int, ...]  # that count; of the baseline where the runs are no pairs
    paired: bool
    runs: tuple[int, int]  # that count: the candidate's and the baseline's
    effects: tuple[Effect, ...]
    shifts: tuple[Shift, ...]
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
class Decision:
    """The verdict on a server at a level, over all of its runs."""

    server: str
    level: float
    status: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All candidates against one baseline."""

    baseline: str
    sla: str
    simulated: bool
    unit: str  # of levels: users or arrivals/s
    levels: tuple[float, ...]  # in rising order
    limits_ms: Mapping[str, float]  # the SLA's, by metric
    margin: float  # a ratio between 1 / (1 + margin) and 1 + margin makes no difference
    declared: tuple[str, ...]  # conditions that may differ
    differences: Mapping[str, tuple[Difference, ...]]  # that were found, by candidate
    servers: tuple[Server, ...]  # the baseline first
    readings: tuple[Reading, ...]
    contrasts: tuple[Contrast, ...]  # by candidate, then by level
    crossovers: tuple[Crossover, ...]
    decisions: tuple[Decision, ...]

    @property
    def candidates(self) -> tuple[str, ...]:
        """The names of all servers but the baseline."""
        return tuple(server.name for server in self.servers[1:])

    def of(self, candidate: str) -> list[Contrast]:
        """Return a candidate's contrasts, in rising order of level."""
        return [contrast for contrast in self.contrasts if contrast.candidate == candidate]

    def status(self, server: str, level: float) -> str:
        """Return the verdict on a server at a level; "" where it was not measured there."""
        return next((d.status for d in self.decisions if (d.server, d.level) == (server, level)), "")

    def named(self, level: float) -> str:
        """Return a level with its unit: 1 user, 4 users, 20 arrivals/s."""
        unit = self.unit.removesuffix("s") if level == 1 and self.unit == "users" else self.unit
        return f"{level:g} {unit}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite latency is the text "inf"."""
        return {"schema": SCHEMA, **{key: plain(value) for key, value in asdict(self).items()}}


def compare(
    judged: Sequence[tuple[Run, Verdict]],
    *,
    margin: float | None = None,
    declared: Sequence[str] = OF_AN_EXPERIMENT,
    decided: Mapping[tuple[str, float], str] | None = None,
) -> Comparison:
    """Compare the runs of an experiment. `declared` are conditions that may differ between its servers.

    `decided` has the verdict on all runs of a server at a level; elsewhere it is the worst of its runs.
    Without a margin the experiment's own counts, else 5 %. Raises ComparisonError where the runs are no
    pairs, or none at all.
    """
    runs = _placed([run for run, _ in judged])
    baseline = _baseline(judged)
    differing = _check_conditions(runs, baseline, declared)
    metrics, limits = reading.metrics([verdict for _, verdict in judged])
    margin = reading.margin_of(judged[0][0], MARGIN) if margin is None else margin
    terms = Terms(limits, reading.error_rate(judged[0][1]), margin)
    readings = sorted(
        (reading.read(run, verdict, metrics) for run, verdict in judged),
        key=lambda one: (one.level, one.block),
    )
    candidates = [name for name in dict.fromkeys(place.server for place in runs) if name != baseline]
    levels = sorted({place.level for place in runs})
    contrasts = [
        _contrast([one for one in readings if one.level == level], baseline, Place(level, 0, name), terms)
        for name in candidates
        for level in levels
    ]
    unit = LEVEL_UNITS[judged[0][1].loop]
    return Comparison(
        baseline=baseline,
        sla=judged[0][1].sla,
        simulated=any(verdict.simulated for _, verdict in judged),
        unit=unit,
        levels=tuple(levels),
        limits_ms=limits,
        margin=margin,
        declared=tuple(declared),
        differences=differing,
        servers=tuple(_server(name, runs) for name in (baseline, *candidates)),
        readings=tuple(readings),
        contrasts=tuple(contrasts),
        crossovers=tuple(_crossovers(contrasts, candidates, unit)),
        decisions=_decisions(readings, decided or {}),
    )


def _decisions(readings: Sequence[Reading], decided: Mapping[tuple[str, float], str]) -> tuple[Decision, ...]:
    """Return the verdict on each server at each level that was measured."""
    found: dict[tuple[str, float], str] = {}
    for one in sorted(readings, key=lambda one: SEVERITY.index(one.status)):
        found.setdefault((one.server, one.level), one.status)
    return tuple(Decision(*at, decided.get(at, status)) for at, status in sorted(found.items()))


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
    if first.loop not in LEVEL_UNITS:
        raise ComparisonError(f"{first_run.path}: found the loop {first.loop!r}, expected open or closed")
    names = dict.fromkeys(reading.place(run).server for run, _ in judged)
    if baseline not in names or len(names) < 2:
        expected = f"the baseline {baseline!r} and another server"
        raise ComparisonError(f"found runs of {', '.join(names)}, expected {expected}")
    return baseline


def _check_conditions(
    runs: Mapping[Place, Run], baseline: str, declared: Sequence[str]
) -> dict[str, tuple[Difference, ...]]:
    """Compare each run with the baseline's of its block, or else of its level.

    Returns what differs, by candidate. Raises ComparisonError for a difference that was not declared.
    """
    ordered = sorted(runs.items(), key=lambda item: item[0].server != baseline)
    same_block: dict[tuple[float, int], Run] = {}
    same_level: dict[float, Run] = {}
    found: dict[str, dict[str, Difference]] = {}
    for place, run in ordered:
        of_level = same_level.setdefault(place.level, run)
        other = same_block.setdefault((place.level, place.block), run)
        may = declared
        if other is run:  # of another block: it has a seed of its own
            other, may = of_level, (*declared, "load.seed")
        for one in differences(run, other):
            if not is_declared(one.name, may):
                told = f"found {one.name} {one.found!r}, expected {one.expected!r} as in"
                raise ComparisonError(f"{run.path}: {told} {other.path}: they are no pair")
            if place.server != baseline:  # its own blocks differ in their seeds
                found.setdefault(place.server, {}).setdefault(one.name, one)
    return {server: tuple(one.values()) for server, one in found.items()}


def _contrast(readings: Sequence[Reading], baseline: str, place: Place, terms: Terms) -> Contrast:
    """Set a candidate's readings at a level against the baseline's, in pairs if they share a block.

    A run of which the instrument failed is left out, with its pair. Where a server was oversaturated nothing
    is compared: to leave out just those blocks would flatter it.
    """
    mine, its = (
        {one.block: one for one in readings if one.server == name} for name in (place.server, baseline)
    )
    paired = bool({*mine} & {*its}) or not (mine and its)
    useless = [one for runs in (mine, its) for one in runs.values() if not one.values]
    left_out = [LeftOut(one.block, one.server, one.status, one.reason) for one in useless]
    if paired:
        left_out += [LeftOut(block, place.server, MISSING, "") for block in its.keys() - mine.keys()]
        left_out += [LeftOut(block, baseline, MISSING, "") for block in mine.keys() - its.keys()]
        out = {one.block for one in left_out}
        mine, its = ({block: runs[block] for block in runs if block not in out} for runs in (mine, its))
    else:
        mine, its = ({block: one for block, one in runs.items() if one.values} for runs in (mine, its))
    if any(one.status == OVERSATURATED for one in readings if one.server in (place.server, baseline)):
        mine, its = {}, {}
    sides = Sides([mine[block] for block in sorted(mine)], [its[block] for block in sorted(its)], paired)
    return Contrast(
        candidate=place.server,
        level=place.level,
        blocks=tuple(sorted(its)),
        paired=paired,
        runs=(len(mine), len(its)),
        effects=effects_of(sides, terms),
        shifts=shifts_of(sides),
        left_out=tuple(sorted(left_out, key=lambda one: (one.block, one.what == MISSING))),
    )


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
