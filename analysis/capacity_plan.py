"""A capacity plan: for each server what one replica carries, the replicas for a demand, and what they cost.

All of it follows from stored runs and a few numbers; to ask "what if" is to make it again with others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .capacity import Capacity, Decided, Level, measure
from .demand import Step, Trace, steps
from .fleet import Assumptions, Autoscaled, Sizing, explain, follow, percent, size
from .objective import FAIL, INCONCLUSIVE, PASS
from .prices import Prices, ReplicaPrice, TokenCost, token_cost
from .record import SCHEMA
from .rundir import Run
from .sla import Sla
from .verdict import EXIT_CODES, Verdict, plain

LOAD_CHANGE = 0.25
UTILISATION_CHANGE = 0.1

MIX_CHANGE = 0.25
"""A trace whose requests have this much more or fewer tokens is not the load that was measured."""

SCALE_NAMES = {1.0: "1_s", 10.0: "10_s", 60.0: "60_s"}


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the fleet: the highest rate, and the trace that it comes from, if any."""

    per_s: float
    words: str
    trace: Trace | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Bill:
    """What a fleet costs, in the currency of the price file."""

    price: ReplicaPrice
    per_hour: float  # all replicas
    autoscaled_per_hour: float | None  # on average over the trace
    at_capacity: TokenCost | None  # one replica at the lower bound of its goodput
    at_utilisation: TokenCost | None


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of the sensitivity table: what a change of one number does."""

    change: str
    replicas: int
    more: int  # than planned
    per_hour: float | None
    per_million_output: float | None  # at the target utilisation


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a server needs for the demand; where there is no sizing, `reason` says why."""

    server: str
    reason: str
    scale: float  # a request of the demand is worth so many of those measured
    sizing: Sizing | None
    lines: tuple[str, ...]
    if_refuted_held: int | None  # replicas, had the lowest level that broke the SLA just kept it
    autoscaled: Autoscaled | None
    bill: Bill | None
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """All servers, under one demand."""

    sla: str
    simulated: bool
    by: Assumptions
    demand: Demand
    capacities: tuple[Capacity, ...]
    fleets: tuple[Fleet, ...]
    missing: tuple[str, ...] = ()  # runs that the experiment planned and that are not there

    @property
    def exit_code(self) -> int:
        """0 with a number of replicas; without one, 3 where a level broke the SLA, else 4 (undecided)."""
        if any(fleet.sizing for fleet in self.fleets):
            return EXIT_CODES[PASS]
        broken = any(one.refuted is not None for one in self.capacities)
        return EXIT_CODES[FAIL if broken else INCONCLUSIVE]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; the steps of a trace are not among them."""
        from .capacity_words import notes, sentences  # noqa: PLC0415 - they are about this class

        fleets = {fleet.server: fleet for fleet in self.fleets}
        found = {
            "schema": SCHEMA,
            "sla": self.sla,
            "simulated": self.simulated,
            "missing": list(self.missing),
            "said": sentences(self),
            "notes": notes(self),
            "assumptions": asdict(self.by),
            "demand": _demand_json(self.demand),
            "servers": [{**asdict(one), "fleet": _fleet_json(fleets[one.server])} for one in self.capacities],
        }
        return {key: plain(value) for key, value in found.items()}


def _demand_json(demand: Demand) -> dict[str, Any]:
    found: dict[str, Any] = {"peak_per_s": demand.per_s, "words": demand.words, "trace": None}
    trace = demand.trace
    if trace:
        mean = trace.mean_per_s
        peaks = {name: trace.peak_per_s(scale_s) for scale_s, name in SCALE_NAMES.items()}
        found["trace"] = {
            "name": trace.name,
            "requests": len(trace.at_s),
            "duration_s": trace.duration_s,
            "times_read_as": trace.unit,
            "grid_s": trace.grid_s,
            "mean_per_s": mean,
            "peak_over_mean": {name: None if peak is None else peak / mean for name, peak in peaks.items()},
            "input_tokens": trace.input_tokens,
            "output_tokens": trace.output_tokens,
            "failed": trace.failed,
        }
    return found


def _fleet_json(fleet: Fleet) -> dict[str, Any]:
    found = asdict(fleet)
    if found["autoscaled"]:
        del found["autoscaled"]["moments"]
    return found


def number(per_s: float) -> Demand:
    """Return a demand that somebody gave as a number (requests/s)."""
    return Demand(per_s, "the demand, as given")


def of_trace(trace: Trace, by: Assumptions) -> Demand:
    """Return the demand of a trace: its highest rate over one reaction time. Raises DemandError."""
    cut = steps(trace, by.reaction_s)
    words = f"the highest rate over {by.reaction_s:g} s in {trace.name}"
    return Demand(max(step.peak_per_s for step in cut), words, trace, cut)


def plan(  # noqa: PLR0913 - what was measured, what is asked, what is decided
    judged: Sequence[tuple[Run, Verdict]],
    sla: Sla,
    demand: Demand,
    by: Assumptions,
    prices: Prices | None = None,
    *,
    by_tokens: bool = False,
    decided: Decided | None = None,
) -> CapacityPlan:
    """Make the plan; `by_tokens` scales the demand by how much longer its requests are than those measured.

    `decided`: see capacity.measure.

    Raises CapacityError and ComparisonError for runs that have no capacity in common.
    """
    capacities = measure(judged, sla, decided)
    return CapacityPlan(
        sla=sla.name,
        simulated=any(verdict.simulated for _, verdict in judged),
        by=by,
        demand=demand,
        capacities=capacities,
        fleets=tuple(
            _fleet(one, demand, by, prices.of(one.server) if prices else None, by_tokens=by_tokens)
            for one in capacities
        ),
    )


def mix(level: Level, trace: Trace | None) -> dict[str, float]:
    """Return by what factor a trace's requests are longer than those measured, for input and output."""
    if not trace:
        return {}
    both = {
        "input": (trace.input_tokens, level.input_tokens),
        "output": (trace.output_tokens, level.output_tokens),
    }
    return {name: asked / had for name, (asked, had) in both.items() if asked and had}


def _fleet(
    capacity: Capacity, demand: Demand, by: Assumptions, price: ReplicaPrice | None, *, by_tokens: bool
) -> Fleet:
    level = capacity.at_highest
    reason = ""
    if level is None:
        broken = capacity.refuted is not None and capacity.refuted == capacity.levels[0].level
        reason = "no level that was measured holds the SLA"
        if not broken:
            reason = "no level was shown to hold the SLA"
    elif not level.goodput_low_per_s:
        reason = f"no valid lower bound on the goodput at {capacity.words(level.level)}: measure longer"
    if level is None or not level.goodput_low_per_s:
        return Fleet(capacity.server, reason, 1.0, None, (), None, None, None, ())
    goodput = level.goodput_low_per_s
    scale = max(mix(level, demand.trace).values(), default=1.0) if by_tokens else 1.0
    sizing = size(demand.per_s * scale, goodput, by)
    words = demand.words
    if scale != 1.0:
        words += f", x {scale:.4g} since its requests have so many more tokens"
    autoscaled = follow(demand.steps, scale, goodput, by) if demand.steps else None
    above = next((one for one in capacity.levels if one.level == capacity.refuted), None)
    at_best = capacity.refuted if capacity.loop == "open" else above and above.requests_per_s
    return Fleet(
        server=capacity.server,
        reason="",
        scale=scale,
        sizing=sizing,
        lines=explain(sizing, by, words, capacity.words(level.level)),
        if_refuted_held=size(demand.per_s * scale, at_best, by).replicas if at_best else None,
        autoscaled=autoscaled,
        bill=_bill(level, sizing, autoscaled, by, price) if price else None,
        variants=tuple(_variants(level, goodput, demand.per_s * scale, by, price)),
    )


def _bill(
    level: Level, sizing: Sizing, autoscaled: Autoscaled | None, by: Assumptions, price: ReplicaPrice
) -> Bill:
    goodput = level.goodput_low_per_s or 0.0
    return Bill(
        price=price,
        per_hour=sizing.replicas * price.per_hour,
        autoscaled_per_hour=autoscaled.mean * price.per_hour if autoscaled else None,
        at_capacity=_token_cost(level, goodput, price),
        at_utilisation=_token_cost(level, goodput * by.utilisation, price),
    )


def _token_cost(level: Level, requests_per_s: float, price: ReplicaPrice) -> TokenCost | None:
    if not level.output_tokens:
        return None
    return token_cost(price, requests_per_s, level.input_tokens, level.output_tokens)


def _variants(
    level: Level, goodput: float, demand_per_s: float, by: Assumptions, price: ReplicaPrice | None
) -> list[Variant]:
    """Change one number at a time; longer requests to the first order: a replica keeps its tokens/s."""
    planned = size(demand_per_s, goodput, by).replicas
    observed = level.goodput_per_s or goodput
    less, more = max(0.05, by.utilisation - UTILISATION_CHANGE), min(1.0, by.utilisation + UTILISATION_CHANGE)
    growth = (0.0, 2 * by.growth) if by.growth else (0.25, 0.5)
    longer, shorter = 1 + LOAD_CHANGE, 1 - LOAD_CHANGE
    changes: Mapping[str, tuple[float, float, Assumptions, float]] = {
        "as planned": (1.0, goodput, by, 1.0),
        f"load {percent(-LOAD_CHANGE)}": (shorter, goodput, by, 1.0),
        f"load +{percent(LOAD_CHANGE)}": (longer, goodput, by, 1.0),
        **{f"growth {percent(one)}": (1.0, goodput, replace(by, growth=one), 1.0) for one in growth},
        **{
            f"utilisation {percent(one)}": (1.0, goodput, replace(by, utilisation=one), 1.0)
            for one in (less, more)
            if one != by.utilisation
        },
        f"requests {percent(LOAD_CHANGE)} shorter": (1.0, goodput / shorter, by, shorter),
        f"requests {percent(LOAD_CHANGE)} longer": (1.0, goodput / longer, by, longer),
        "goodput as observed": (1.0, observed, by, 1.0),
    }
    made = []
    for change, (load, carried, assumed, length) in changes.items():
        found = size(demand_per_s * load, carried, assumed).replicas
        own = replace(level, output_tokens=level.output_tokens and level.output_tokens * length)
        own = replace(own, input_tokens=level.input_tokens and level.input_tokens * length)
        cost = _token_cost(own, carried * assumed.utilisation, price) if price else None
        made.append(
            Variant(
                change=change,
                replicas=found,
                more=found - planned,
                per_hour=found * price.per_hour if price else None,
                per_million_output=cost.per_million_output if cost else None,
            )
        )
    return made
