"""What replications say together: runs of one server at one level of load, each with a seed of its own.

Counts are summed. With five runs or more the run is the unit: n_eff follows from how far the runs differ,
with a factor for so few of them, and is never better than what the runs are worth one by one. With fewer,
differences between runs cannot be judged, and the sum of what they are worth has to do. Means take Student's
t over runs.

A run that is INVALID is no evidence and is left out, by name; where more than one in five is, so is the
whole. An OVERSATURATED one is evidence: leaving it out would hide a server's worst minutes, and letting it
alone decide would add up the false alarms of single runs. So its requests are counted, and whether the load
was too much is asked of the averages over all runs, second by second.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .evidence import Evidence
from .objective import ObjectiveResult
from .pooling import Spread, pooled
from .reading import ComparisonError, Place, place
from .record import SCHEMA
from .rundir import Run
from .scopes import judge_objective
from .sla import ErrorRate, Sla
from .verdict import (
    INVALID,
    OVERSATURATED,
    Verdict,
    by_second,
    overall,
    oversaturated,
    plain,
    trends,
    without_percentile,
)

MAX_INVALID_SHARE = 0.2
"""Where more runs than that are INVALID, what is left is a selection."""

Judged = tuple[Run, Verdict]


@dataclass(frozen=True, slots=True)
class Replicate:
    """One of the runs, and what it is taken for: one that is not `counted` is INVALID."""

    name: str
    block: int | None
    status: str
    counted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Replications:
    """The verdict on a server at a level. A percentile's `observed` is the median of the runs' own."""

    status: str
    reasons: tuple[str, ...]
    server: str
    level: float | None
    sla: str
    loop: str
    simulated: bool
    runs: tuple[Replicate, ...]
    objectives: tuple[ObjectiveResult, ...]
    spread: tuple[Spread, ...]
    output_tokens_per_s: float | None  # mean of the runs that count

    @property
    def name(self) -> str:
        """The server, and the level that it was measured at."""
        return self.server if self.level is None else f"{self.server} at {self.level:g}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite latency is the text "inf"."""
        return {"schema": SCHEMA, **{key: plain(value) for key, value in asdict(self).items()}}


def replications(judged: Sequence[Judged], sla: Sla) -> tuple[Replications, ...]:
    """Judge each server at each level by all of its runs, in the order of the first of them.

    A run that belongs to no experiment stands for itself.
    """
    groups: dict[tuple[str, float | None], list[Judged]] = {}
    for run, verdict in judged:
        at = _place(run)
        key = (at.server, at.level) if at else (verdict.name, None)
        groups.setdefault(key, []).append((run, verdict))
    return tuple(pool(server, level, group, sla) for (server, level), group in groups.items())


def decided(together: Sequence[Replications]) -> dict[tuple[str, float], str]:
    """Return the verdict on each server at each level."""
    return {(one.server, one.level): one.status for one in together if one.level is not None}


def pool(server: str, level: float | None, judged: Sequence[Judged], sla: Sla) -> Replications:
    """Judge replications together; of one run that is its own verdict."""
    counted = [(run, verdict) for run, verdict in judged if verdict.status != INVALID]
    first = judged[0][1]
    results: tuple[ObjectiveResult, ...] = ()
    spread: tuple[Spread, ...] = ()
    lost = [verdict for _, verdict in judged if verdict.status == INVALID]
    if len(lost) > MAX_INVALID_SHARE * len(judged):
        status, reasons = INVALID, tuple(f"{one.name}: {one.reasons[0]}" for one in lost)
    elif len(judged) == 1:
        status, reasons, results = first.status, first.reasons, first.objectives
    else:
        status, reasons, results, spread = _together(counted, sla)
        reasons += tuple(f"left out: {one.name}, INVALID ({one.reasons[0]})" for one in lost)
        if status != OVERSATURATED:
            alone = [verdict.name for _, verdict in counted if verdict.status == OVERSATURATED]
            reasons += tuple(f"{name} alone is OVERSATURATED, all runs together are not" for name in alone)
    rates = [
        sum(one.output_tokens_per_s or 0.0 for one in verdict.scenarios)
        for _, verdict in counted
        if verdict.scenarios
    ]
    return Replications(
        status=status,
        reasons=reasons,
        server=server,
        level=level,
        sla=first.sla,
        loop=first.loop,
        simulated=any(verdict.simulated for _, verdict in judged),
        runs=tuple(_replicate(run, verdict) for run, verdict in judged),
        objectives=results,
        spread=spread,
        output_tokens_per_s=float(np.mean(rates)) if rates else None,
    )


def _place(run: Run) -> Place | None:
    try:
        return place(run)
    except ComparisonError:
        return None


def _replicate(run: Run, verdict: Verdict) -> Replicate:
    at = _place(run)
    block = at.block if at else None
    return Replicate(verdict.name, block, verdict.status, verdict.status != INVALID, verdict.reasons[0])


class _Together(NamedTuple):
    status: str
    reasons: tuple[str, ...]
    results: tuple[ObjectiveResult, ...]
    spread: tuple[Spread, ...]


def _together(judged: Sequence[Judged], sla: Sla) -> _Together:
    evidence = [Evidence(run) for run, _ in judged]
    own = [
        verdict.objectives
        if verdict.status != OVERSATURATED  # which keeps no counts
        else tuple(judge_objective(seen, objective) for objective in sla.objectives)
        for (_, verdict), seen in zip(judged, evidence, strict=True)
    ]
    in_flight, ttft_ms = trends(_average(judged, evidence))
    rising = oversaturated(in_flight, ttft_ms)
    periods_h = [one.period_h if isinstance(one, ErrorRate) else None for one in sla.objectives]
    pairs = [pooled(results, period_h) for *results, period_h in zip(*own, periods_h, strict=True)]
    results = tuple(without_percentile(result) if rising else result for result, _ in pairs)
    status, reasons = overall((), results, in_flight if rising else None)
    return _Together(status, reasons, results, tuple(spread for _, spread in pairs) if not rising else ())


def _average(judged: Sequence[Judged], evidence: Sequence[Evidence]) -> pd.DataFrame | None:
    """Return in flight and TTFT by second since the window's start: means over the runs, while all go on."""
    found = []
    for (run, _), seen in zip(judged, evidence, strict=True):
        seconds = by_second(run, seen)
        if seconds is None:
            return None
        start_ns, end_ns = run.window_ns
        first, end = -(-start_ns // 10**9), end_ns // 10**9
        inside = seconds[(seconds.index >= first) & (seconds.index < end)]
        found.append(inside.set_axis(inside.index - first))
    last = min((int(one.index.max()) for one in found if len(one)), default=-1)
    together = pd.concat(found)
    together = together[together.index <= last]
    return together.groupby(together.index).mean()
