"""A capacity plan in words: the decision in sentences, and what to know before it is believed."""

import math
from collections.abc import Iterator

from .capacity import Capacity, Level
from .capacity_plan import MIX_CHANGE, CapacityPlan, Fleet, mix
from .demand import Trace
from .fleet import Assumptions, percent
from .sentences import number
from .verdict import INVALID


def sentences(plan: CapacityPlan) -> list[str]:
    """Return one sentence for each server on replicas, one on its load, and one on the difference."""
    said = []
    for capacity, fleet in zip(plan.capacities, plan.fleets, strict=True):
        said += [needs(plan, fleet), holds(capacity)]
    sized = [fleet for fleet in plan.fleets if fleet.sizing]
    if len(sized) > 1:
        said.append(_difference(sized))
    return said


def asked(per_s: float, words: str, by: Assumptions) -> str:
    """Say what a fleet is sized for: a demand (requests/s, and where it comes from) and what is assumed."""
    text = f"for {number(per_s)} requests/s ({words})"
    text += f" + {percent(by.growth)} growth" if by.growth else ""
    text += f", {percent(by.utilisation)} utilisation, {by.spare} spare"
    return text + (f", one of {by.zones} zones may be lost" if by.zones > 1 else "")


def needs(plan: CapacityPlan, fleet: Fleet) -> str:
    """Say how many replicas a server needs, and what they cost."""
    asked = f"{number(plan.demand.per_s)} requests/s"
    if not fleet.sizing:
        return f"{fleet.server}: no number of replicas for {asked}, for {fleet.reason}."
    count = fleet.sizing.replicas
    text = f"{fleet.server}: {count:,} replica{'s' if count > 1 else ''} for {asked}"
    if plan.by.growth:
        text += f" + {percent(plan.by.growth)}"
    if fleet.bill:
        currency = fleet.bill.price.currency
        text += f", {money(fleet.bill.per_hour)} {currency} an hour"
        if fleet.bill.at_utilisation:
            cost = money(fleet.bill.at_utilisation.per_million_output)
            used = percent(plan.by.utilisation)
            text += f", {cost} {currency} per million output tokens at {used} utilisation"
    return text + "."


def holds(capacity: Capacity) -> str:
    """Say up to which load a server keeps the SLA, as an interval, and its goodput there."""
    level, above = capacity.at_highest, capacity.refuted
    if level is None:
        if above is None:
            levels = f"{_listed(tuple(one.level for one in capacity.levels))} {capacity.unit}"
            return f"{capacity.server} was not shown to hold the SLA, nor to break it, at {levels}."
        below = f"undecided at {_listed(capacity.undecided)}, " if capacity.undecided else ""
        return f"{capacity.server} does not hold the SLA: {below}broken from {capacity.words(above)}."
    end = f", not at {above:g}" if above is not None else ", the highest that was measured"
    text = f"{capacity.server} holds the SLA up to {capacity.words(level.level)}{end}"
    if level.goodput_low_per_s:
        text += f"; there a replica gives {bounds(level)} good requests/s"
    return text + "."


def bounds(level: Level) -> str:
    """Write the bounds of a level's goodput."""
    if level.goodput_low_per_s is None or level.goodput_high_per_s is None:
        return "none" if level.goodput_per_s is not None else "-"
    return f"{number(level.goodput_low_per_s)} to {number(level.goodput_high_per_s)}"


def money(value: float) -> str:
    """Write an amount with two decimals, or three digits where it is small."""
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.3g}"


def _difference(sized: list[Fleet]) -> str:
    first, *others = sized
    told = []
    for fleet in others:
        if not fleet.sizing or not first.sizing:
            continue
        fewer = first.sizing.replicas - fleet.sizing.replicas
        kind = "fewer" if fewer > 0 else "more"
        text = f"{fleet.server} needs {abs(fewer)} replicas {kind} than {first.server}"
        if not fewer:
            text = f"{fleet.server} needs as many replicas as {first.server}"
        if fleet.bill and first.bill:
            text += f" and costs {fleet.bill.per_hour / first.bill.per_hour:.2f} times as much"
        told.append(text)
    return f"{'; '.join(told)}."


def notes(plan: CapacityPlan) -> list[str]:
    """Return what a planner must know: how the load and the demand differ, and what was not shown."""
    made = [f"Not measured: {', '.join(plan.missing)}."] if plan.missing else []
    made += _of_demand(plan)
    for capacity, fleet in zip(plan.capacities, plan.fleets, strict=True):
        made += [f"{capacity.server}: {note}" for note in _of_server(plan, capacity, fleet)]
    return list(dict.fromkeys(made))


def _of_demand(plan: CapacityPlan) -> Iterator[str]:
    good = _listed(plan.capacities[0].good)
    yield f"A good request: {good}. Other limits of the SLA decide which load holds, no single request."
    if plan.capacities[0].loop == "closed":
        yield (
            "The loop was closed: users wait for their answers, so requests never pile up as independent "
            "arrivals do. Measure an open loop before you rely on this."
        )
    trace = plan.demand.trace
    if trace is None:
        yield "The demand is taken as requests of the shape that was measured."
        return
    yield _trace_read(trace)
    if trace.grid_s:
        yield (
            f"{trace.name}: times lie on a grid of {trace.grid_s:g} s; arrivals were spread evenly in it; "
            "peaks over less cannot be told."
        )
    if trace.failed:
        yield (
            f"{trace.name}: {trace.failed:,} of {len(trace.at_s):,} requests had no answer; they count as "
            "arrivals, not in the mean answer."
        )


def _trace_read(trace: Trace) -> str:
    units = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "date": "dates"}
    peaks = [(scale_s, trace.peak_per_s(scale_s)) for scale_s in (1.0, 10.0, 60.0)]
    told = ", ".join(f"{peak / trace.mean_per_s:.3g} over {scale_s:g} s" for scale_s, peak in peaks if peak)
    length = trace.duration_s
    long = f"{length / 3600:.3g} h" if length >= 3600 else f"{length:.3g} s"
    return (
        f"{trace.name}: {len(trace.at_s):,} requests in {long} (times read as {units[trace.unit]}), "
        f"{number(trace.mean_per_s)} a second on average" + (f"; peak over mean {told}." if told else ".")
    )


def _of_server(plan: CapacityPlan, capacity: Capacity, fleet: Fleet) -> Iterator[str]:
    level = capacity.at_highest
    if len(capacity.levels) == 1:
        yield "one level was measured: where it breaks is not known" if level else "one level was measured"
    elif capacity.refuted == capacity.levels[0].level:
        yield f"lower levels than {capacity.words(capacity.levels[0].level)} were not measured: look there"
    elif level and capacity.refuted is None:
        yield f"no level broke the SLA: the limit lies above {capacity.words(capacity.levels[-1].level)}"
    unfit = tuple(one.level for one in capacity.levels if one.status == INVALID)
    if unfit:
        yield f"INVALID at {_listed(unfit)} {capacity.unit}: a longer run mends nothing, see why it is so"
    short = tuple(level for level in capacity.undecided if level not in unfit)
    if short:
        yield f"undecided at {_listed(short)} {capacity.unit}: measure longer there"
    if capacity.undecided_below:
        yield f"undecided at {_listed(capacity.undecided_below)} {capacity.unit}, but a higher load passed"
    if capacity.contradicting:
        passed, above = _listed(capacity.contradicting), capacity.words(capacity.refuted or 0)
        yield f"{passed} {capacity.unit} passed above {above} that did not: taken as chance, measure again"
    invalid = sum(one.left_out for one in capacity.levels)
    if invalid:
        yield f"{invalid} INVALID run{'s' if invalid > 1 else ''} left out"
    if capacity.collapse is not None:
        yield f"goodput falls from {capacity.words(capacity.collapse)} on: more load gives fewer good answers"
    if fleet.sizing and fleet.if_refuted_held and capacity.refuted and level:
        fewer = fleet.sizing.replicas - fleet.if_refuted_held
        if fewer > 0:
            between = f"between {level.level:g} and {capacity.words(capacity.refuted)} nothing was decided"
            yield f"{between}: levels there could save up to {fewer} of {fleet.sizing.replicas} replicas"
    yield from _of_mix(plan, level, fleet)


def _of_mix(plan: CapacityPlan, level: Level | None, fleet: Fleet) -> Iterator[str]:
    if level is None:
        return
    trace = plan.demand.trace
    if trace is None:
        if level.input_tokens and level.output_tokens:
            measured = f"{level.input_tokens:,.0f} tokens in and {level.output_tokens:,.0f} out"
            yield f"a request as measured has {measured} on average"
        return
    factors = mix(level, trace)
    if not factors:
        yield f"{trace.name} has no tokens: its requests are taken to be like those measured"
    told = " and ".join(f"{number(factor)} x the {name} tokens" for name, factor in factors.items())
    if fleet.scale != 1.0:
        yield f"{trace.name} has {told} of a measured request: scaled by the larger, a first-order estimate"
    elif any(abs(math.log(factor)) > math.log(1 + MIX_CHANGE) for factor in factors.values()):
        advice = "measure that mix, or scale roughly with --by tokens"
        yield f"{trace.name} has {told} of a measured request: {advice}"


def _listed(words: tuple[float, ...] | tuple[str, ...]) -> str:
    texts = [word if isinstance(word, str) else f"{word:g}" for word in words]
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else "".join(texts)
