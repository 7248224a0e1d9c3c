"""What an experiment's fleet was found to need and to cost, as the first page of its report tells it.

`tokenswarm capacity` leaves its answer in capacity.json; here it is read back. A file of other runs, or for
another SLA, than the page is about says nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .capacity import Capacity
from .capacity_plan import Fleet
from .capacity_words import asked
from .fleet import Assumptions

FILE = "capacity.json"


@dataclass(frozen=True, slots=True)
class Needed:
    """What a server needs: no replicas where no level holds the SLA, no costs where no prices were given."""

    replicas: int | None
    currency: str = ""
    per_hour: float | None = None
    per_million_output: float | None = None  # at the planned utilisation
    per_million_at_capacity: float | None = None


@dataclass(frozen=True, slots=True)
class Sized:
    """The answer to one question: what was asked for, in words, and what each server needs."""

    words: str
    needed: Mapping[str, Needed]


class _Level(msgspec.Struct):
    level: float
    status: str
    n: int


class _Sizing(msgspec.Struct):
    replicas: int


class _Price(msgspec.Struct):
    currency: str


class _Cost(msgspec.Struct):
    per_million_output: float


class _Bill(msgspec.Struct):
    price: _Price
    per_hour: float
    at_utilisation: _Cost | None
    at_capacity: _Cost | None


class _Fleet(msgspec.Struct):
    sizing: _Sizing | None
    bill: _Bill | None


class _Server(msgspec.Struct):
    server: str
    limits_ms: dict[str, float]
    good: tuple[str, ...]
    levels: tuple[_Level, ...]
    fleet: _Fleet


class _Demand(msgspec.Struct):
    peak_per_s: float
    words: str


class _Plan(msgspec.Struct):
    demand: _Demand
    assumptions: Assumptions
    servers: tuple[_Server, ...]


def needs(fleet: Fleet | _Fleet) -> Needed:
    """Return what a fleet needs, as planned now or as read back."""
    replicas = fleet.sizing.replicas if fleet.sizing else None
    bill = fleet.bill
    if bill is None:
        return Needed(replicas)
    costs = [one.per_million_output if one else None for one in (bill.at_utilisation, bill.at_capacity)]
    return Needed(replicas, bill.price.currency, bill.per_hour, *costs)


def read(path: Path, capacities: Sequence[Capacity]) -> Sized | None:
    """Return what capacity.json says of these capacities; None where it is not there or about others."""
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=_Plan)
    except (OSError, msgspec.DecodeError):
        return None
    now = {one.server: one for one in capacities}
    if not plan.servers or not all(_is_of(one, now.get(one.server)) for one in plan.servers):
        return None
    words = asked(plan.demand.peak_per_s, plan.demand.words, plan.assumptions)
    return Sized(words, {one.server: needs(one.fleet) for one in plan.servers})


def _is_of(stored: _Server, now: Capacity | None) -> bool:
    """Say whether a stored answer is about the same requests, verdicts and limits."""
    if now is None or (stored.limits_ms, stored.good) != (dict(now.limits_ms), now.good):
        return False
    then = [(one.level, one.status, one.n) for one in stored.levels]
    return then == [(one.level, one.status, one.n) for one in now.levels]
