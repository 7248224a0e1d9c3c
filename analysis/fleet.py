"""How many replicas a demand needs, step by step.

    for the load   ceil(demand * (1 + growth) / (goodput * utilisation)), one at least
    + spare        replicas that may be missing at any time (N + k)
    lost zone      with z zones, evenly filled, those left when the fullest is lost still carry all:
                   ceil(m * z / (z - 1)) with m = ceil(demand * (1 + growth) / goodput)

`goodput` is the lower bound of one replica's. Demand and goodput are first rounded to four digits, to the
safe side, so that whoever recomputes the printed lines gets the printed result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

from .demand import Step

DIGITS = 4
HOURS_PER_DAY = 24


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a planner decides; shares lie between 0 and 1."""

    growth: float = 0.0
    utilisation: float = 0.7
    spare: int = 1
    zones: int = 1  # one of them may be lost, where there are several
    reaction_s: float = 60.0  # from a rise of the demand until more replicas answer


@dataclass(frozen=True, slots=True)
class Sizing:
    """Replicas for a demand, and every number on the way to them."""

    demand_per_s: float
    planned_per_s: float  # with growth
    goodput_low_per_s: float  # of one replica
    used_per_s: float  # of one replica, at the target utilisation
    ratio: float
    for_load: int
    with_spare: int
    for_lost_zone: int | None  # None: no zones
    replicas: int
    per_zone: tuple[int, ...]


def size(demand_per_s: float, goodput_low_per_s: float, by: Assumptions) -> Sizing:
    """Return the replicas for a demand (requests/s), at a goodput (requests/s, above 0) of one replica."""
    demand, goodput = _rounded(demand_per_s, ROUND_CEILING), _rounded(goodput_low_per_s, ROUND_FLOOR)
    planned, used = demand * (1 + by.growth), goodput * by.utilisation
    for_load = max(1, _whole(planned / used))
    with_spare = for_load + by.spare
    for_lost_zone = None
    if by.zones > 1:
        left = max(1, _whole(planned / goodput))
        for_lost_zone = -(-left * by.zones // (by.zones - 1))
    replicas = max(with_spare, for_lost_zone or 0)
    each, rest = divmod(replicas, by.zones)
    return Sizing(
        demand_per_s=demand,
        planned_per_s=planned,
        goodput_low_per_s=goodput,
        used_per_s=used,
        ratio=planned / used,
        for_load=for_load,
        with_spare=with_spare,
        for_lost_zone=for_lost_zone,
        replicas=replicas,
        per_zone=tuple(each + (zone < rest) for zone in range(by.zones)),
    )


def _rounded(value: float, towards: str) -> float:
    return float(Context(prec=DIGITS, rounding=towards).create_decimal(repr(float(value))))


def _whole(value: float) -> int:
    """Round up, but not for the last digit of a binary fraction."""
    return math.ceil(round(value, 9))


def explain(found: Sizing, by: Assumptions, demand: str, highest: str) -> tuple[str, ...]:
    """Say how the replicas were found, a line a step; `demand` and `highest` name what stands behind two."""
    planned, goodput, used = (
        f"{value:.6g}" for value in (found.planned_per_s, found.goodput_low_per_s, found.used_per_s)
    )
    lines = [f"{found.demand_per_s:.6g} requests/s: {demand}"]
    if by.growth:
        lines.append(f"x (1 + {percent(by.growth)}) growth = {planned} requests/s")
    lines += [
        f"one replica at {highest}: at least {goodput} good requests/s (lower 95 % bound)",
        f"x {percent(by.utilisation)} utilisation = {used} requests/s",
        f"{planned} / {used} = {found.ratio:.5g}, rounded up: {found.for_load}",
    ]
    if by.spare:
        lines.append(f"+ {by.spare} spare = {found.with_spare}")
    if found.for_lost_zone is not None:
        left = found.replicas - max(found.per_zone)
        lines.append(
            f"{by.zones} zones, {' + '.join(map(str, found.per_zone))}: when the fullest is lost, "
            f"{left} x {goodput} = {left * found.goodput_low_per_s:.6g} requests/s are left for {planned}"
        )
        if found.replicas > found.with_spare:
            lines.append(f"a lost zone needs {found.for_lost_zone}, more than {found.with_spare}")
    return tuple(lines)


def percent(share: float) -> str:
    """Write a share: 30 %."""
    return f"{share * 100:.4g} %"


@dataclass(frozen=True, slots=True)
class Moment:
    """A step of a trace: the replicas that its demand needs, and those that answer by then."""

    start_s: float
    arrivals: int
    peak_per_s: float  # in requests of the measured shape
    needed: int
    ready: int
    short: bool  # the demand is beyond the goodput of all that are ready


@dataclass(frozen=True, slots=True)
class Autoscaled:
    """A fleet that follows a trace, one reaction time behind."""

    moments: tuple[Moment, ...]
    highest: int
    mean: float
    lowest: int
    short_share: float  # of the requests: they arrive while the fleet is too small
    replica_hours_per_day: float
    static_replica_hours_per_day: float  # of a fleet that always has what the peak needs


def follow(trace: Sequence[Step], scale: float, goodput_low_per_s: float, by: Assumptions) -> Autoscaled:
    """Let a fleet follow a trace whose steps are one reaction time long.

    In each step those replicas answer that the step before needed: the autoscaler has seen its demand, and
    had the time to react. `scale` turns the trace's requests into such as were measured.
    """
    sizes = [size(step.peak_per_s * scale, goodput_low_per_s, by) for step in trace]
    moments = []
    for step, own, before in zip(trace, sizes, [sizes[0], *sizes], strict=False):
        short = own.planned_per_s > before.replicas * own.goodput_low_per_s
        moments.append(
            Moment(step.start_s, step.arrivals, own.demand_per_s, own.replicas, before.replicas, short)
        )
    ready = [one.ready for one in moments]
    mean = sum(ready) / len(ready)
    return Autoscaled(
        moments=tuple(moments),
        highest=max(ready),
        mean=mean,
        lowest=min(ready),
        short_share=sum(one.arrivals for one in moments if one.short) / sum(one.arrivals for one in moments),
        replica_hours_per_day=mean * HOURS_PER_DAY,
        static_replica_hours_per_day=max(one.replicas for one in sizes) * HOURS_PER_DAY,
    )
