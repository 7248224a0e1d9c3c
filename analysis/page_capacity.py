"""One A4 page on capacity: how many replicas, of which server, at what cost, and how that was found.

From top to bottom: the number, a line for each server, the way to the number, latency and goodput by load,
what a change would do, the trace, and what to know before it is believed. Positions are shares of the page.
"""

from collections.abc import Callable, Sequence

from .capacity import Capacity
from .capacity_plan import CapacityPlan, Fleet
from .capacity_words import bounds, money, notes
from .charts import (
    A4_IN,
    FAINT,
    INK,
    RUNS,
    SOFT,
    STATUS,
    Axes,
    Figure,
    Judged,
    shortened,
    style,
    watermark,
    width_in,
    wrapped,
)
from .charts_capacity import (
    KEY,
    REPLICAS_KEY,
    draw_demand,
    draw_goodput,
    draw_latency,
    draw_replicas,
    draw_sensitivity,
    look,
)
from .fleet import percent
from .page import LEFT, RIGHT, filled, header
from .sentences import number

LABELS = 0.165
"""Room for what was changed, at the left of the sensitivity."""

SYMBOLS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚"}
"""The servers' markers, as letters."""

ROOM_IN = (RIGHT - LEFT) * A4_IN[0]


def page_capacity(plan: CapacityPlan, judged: Sequence[Judged]) -> Figure:
    """Lay out the page."""
    with style():
        made = Figure(figsize=A4_IN)
        top = header(made, judged)
        top = _decision(made, plan, top)
        top = _servers(made, plan, top - 0.010)
        top = _way(made, plan, top - 0.014) - 0.004
        bottom = _notes(made, plan)
        _charts(made, plan, top - 0.012, bottom + 0.008)
        watermark(made, judged)
    return made


def _decision(made: Figure, plan: CapacityPlan, top: float) -> float:
    """Fill a box with the number that decides, and say what it is for."""
    sized = [fleet for fleet in plan.fleets if fleet.sizing]
    word, status = "No measured load holds the SLA", "FAIL"
    if len(sized) == 1 and sized[0].sizing:
        count = sized[0].sizing.replicas
        word = f"{count:,} replica{'s' if count > 1 else ''}"
    elif sized:
        first, *rest = [(one.sizing.replicas, one.server) for one in sized if one.sizing]
        others = [f"{count:,} of {server}" for count, server in rest]
        word = ", ".join([f"{first[0]:,} replicas of {first[1]}", *others])
    elif not any(one.refuted is not None for one in plan.capacities):
        word, status = "Not decided", "INCONCLUSIVE"
    color, ink, _ = (RUNS[0][0], "white", "") if sized else STATUS[status]
    box = filled(made, (LEFT, top - 0.052, RIGHT - LEFT, 0.052), color)
    size = min(27.0, 20 * ROOM_IN * 0.8 / width_in(word, 20))
    box.text(0.5, 0.47, word, fontsize=size, weight="bold", color=ink, ha="center", va="center")
    by = plan.by
    text = f"for {number(plan.demand.per_s)} requests/s ({plan.demand.words})"
    text += f" + {percent(by.growth)} growth" if by.growth else ""
    text += f", {percent(by.utilisation)} utilisation, {by.spare} spare"
    text += f", one of {by.zones} zones may be lost" if by.zones > 1 else ""
    size = max(7.0, min(9.5, 9.5 * ROOM_IN / width_in(text, 9.5)))
    middle = 0.5 * (LEFT + RIGHT)
    made.text(middle, top - 0.066, shortened(text, size, ROOM_IN), fontsize=size, ha="center", va="center")
    return top - 0.076


def _servers(made: Figure, plan: CapacityPlan, top: float) -> float:
    """Draw a line for each server: replicas, the load it holds, goodput of one replica, cost."""
    line = 0.0185
    rules = made.add_axes((LEFT, 0, RIGHT - LEFT, 1), xlim=(LEFT, RIGHT), ylim=(0, 1))
    rules.axis("off")
    bill = next((fleet.bill for fleet in plan.fleets if fleet.bill), None)
    heads = [
        (LEFT, "server", "left"),
        (0.31, "replicas", "right"),
        (0.62, "one replica keeps the SLA", "left"),
    ]
    heads.append((RIGHT, "good requests/s (95 %)", "right"))
    if bill:
        heads.append((0.40, f"{bill.price.currency} an hour", "right"))
        heads.append((0.60, f"{bill.price.currency} per M output tokens", "right"))
    for x, head, align in heads:
        made.text(x, top - 0.4 * line, head, fontsize=7.5, color=SOFT, ha=align, va="center")
    for row, (capacity, fleet) in enumerate(zip(plan.capacities, plan.fleets, strict=True)):
        y = top - line * (row + 1.5)
        rules.axhline(y + line / 2, color=FAINT, linewidth=0.6)
        color, _, marker = look(plan.capacities, capacity.server)
        rules.plot([LEFT + 0.009], [y], marker, color=color, markersize=6)
        name = shortened(capacity.server, 9, 1.75)
        made.text(LEFT + 0.022, y, name, fontsize=9, va="center", weight="bold")
        count = f"{fleet.sizing.replicas:,}" if fleet.sizing else "none"
        made.text(0.31, y, count, fontsize=10, weight="bold", va="center", ha="right")
        made.text(0.62, y, shortened(_keeps(capacity), 8.5, 0.2 * A4_IN[0]), fontsize=8.5, va="center")
        made.text(
            RIGHT,
            y,
            bounds(capacity.at_highest) if capacity.at_highest else "",
            fontsize=8.5,
            va="center",
            ha="right",
        )
        _cost(made, fleet, y)
    return top - line * (len(plan.fleets) + 1)


def _keeps(capacity: Capacity) -> str:
    if capacity.highest is None:
        return "at no level" if capacity.refuted is not None else "not decided"
    end = f", not {capacity.refuted:g}" if capacity.refuted is not None else " or more"
    return f"up to {capacity.highest:g}{end} {capacity.unit}"


def _cost(made: Figure, fleet: Fleet, y: float) -> None:
    if not fleet.bill:
        return
    made.text(0.40, y, money(fleet.bill.per_hour), fontsize=8.5, va="center", ha="right")
    if fleet.bill.at_capacity and fleet.bill.at_utilisation:
        both = (fleet.bill.at_utilisation, fleet.bill.at_capacity)
        text = f"{money(both[0].per_million_output)}  ({money(both[1].per_million_output)} at capacity)"
        made.text(0.60, y, text, fontsize=8.5, va="center", ha="right")


WAYS = 2
"""So many servers' ways to their number have room beside each other; capacity.json has all."""


def _way(made: Figure, plan: CapacityPlan, top: float) -> float:
    """Print how the number was found, a line a step."""
    told = [fleet for fleet in plan.fleets if fleet.lines][:WAYS]
    if not told:
        return top
    width = (RIGHT - LEFT - 0.02 * (len(told) - 1)) / len(told)
    lowest = top
    for i, fleet in enumerate(told):
        left, y = LEFT + i * (width + 0.02), top
        head = f"How {fleet.server} comes to {fleet.sizing.replicas if fleet.sizing else 0:,}"
        made.text(left, y, shortened(head, 10, width * A4_IN[0] * 0.85), fontsize=10, weight="bold", va="top")
        y -= 0.018
        for step in fleet.lines:
            for line in wrapped(step, 8, width * A4_IN[0], 3):
                made.text(left, y, line, fontsize=8, va="top")
                y -= 0.0125
        lowest = min(lowest, y)
    return lowest


def _charts(made: Figure, plan: CapacityPlan, top: float, bottom: float) -> None:
    """Share the room between the curves and, below, what a change or the trace does."""
    key = f"{KEY}   {REPLICAS_KEY}" if plan.demand.trace else KEY
    made.text(RIGHT, bottom, key, fontsize=6.5, color=SOFT, ha="right", va="bottom")
    bottom += 0.012
    gap = 0.075
    names = 0.012 if len(plan.capacities) > 1 else 0.0
    high = (top - bottom - gap - names - 0.045) / 2
    left, width = LEFT + 0.03, 0.395
    upper, lower = top - 0.018 - names - high, bottom + 0.03
    _legend(made, plan, top)
    draw_latency(made.add_axes((left, upper, width, high)), plan.capacities, "ttft")
    draw_goodput(made.add_axes((RIGHT - width, upper, width, high)), plan.capacities, planned=True)
    if any(fleet.variants for fleet in plan.fleets):
        beside = 0.115 if len(plan.fleets) == 1 else 0.02 + 0.035 * len(plan.fleets)  # for the counts
        across = (LEFT + LABELS, lower, left + width - LEFT - LABELS - beside, high)
        draw_sensitivity(made.add_axes(across), plan)
        title = "Replicas if one number were another"
        made.text(LEFT, lower + high + 0.0075, title, fontsize=10, weight="bold", va="bottom")
    if plan.demand.trace:
        third = high * 0.3
        draw_demand(made.add_axes((RIGHT - width, lower + high - third, width, third)), plan)
        draw_replicas(made.add_axes((RIGHT - width, lower, width, high - third - 0.035)), plan)
    else:
        at = RIGHT - width if any(fleet.variants for fleet in plan.fleets) else left
        draw_latency(made.add_axes((at, lower, width, high)), plan.capacities, "itl")


def _legend(made: Figure, plan: CapacityPlan, top: float) -> None:
    """Name the servers once for all charts."""
    if len(plan.capacities) < 2:
        return
    legend = made.add_axes((LEFT, top - 0.004, RIGHT - LEFT, 0.014), xlim=(0, 1), ylim=(0, 1))
    legend.axis("off")
    step = 1 / max(4, len(plan.capacities))
    for i, capacity in enumerate(plan.capacities):
        color, line, marker = look(plan.capacities, capacity.server)
        legend.plot([i * step, i * step + 0.035], [0.5, 0.5], color=color, linestyle=line)
        legend.plot([i * step + 0.0175], [0.5], marker, color=color, markersize=5)
        name = shortened(capacity.server, 8, (step - 0.06) * ROOM_IN)
        legend.text(i * step + 0.045, 0.45, name, fontsize=8, va="center")


def _notes(made: Figure, plan: CapacityPlan) -> float:
    """Print at the foot what to know before the number is believed; return where it ends."""
    lines = [line for note in notes(plan) for line in wrapped(note, 7, ROOM_IN * 0.97, 2)]
    for row, line in enumerate(reversed(lines)):
        made.text(LEFT, 0.014 + 0.0108 * row, line, fontsize=7, va="bottom", color=INK)
    top = 0.014 + 0.0108 * len(lines)
    made.text(LEFT, top + 0.003, "Before you rely on it", fontsize=10, weight="bold", va="bottom")
    return top + 0.02


def chart_figures(plan: CapacityPlan, judged: Sequence[Judged]) -> dict[str, Figure]:
    """Return the charts as figures of their own, by file name."""

    def figure(name: str, draw: Callable[[Axes], None]) -> None:
        made[name] = Figure(figsize=(7.0, 4.2))
        draw(made[name].add_axes((0.09, 0.14, 0.87, 0.70)))
        _legend_above(made[name], plan)

    made: dict[str, Figure] = {}
    with style():
        figure("capacity-ttft", lambda ax: draw_latency(ax, plan.capacities, "ttft"))
        figure("capacity-itl", lambda ax: draw_latency(ax, plan.capacities, "itl"))
        figure("capacity-goodput", lambda ax: draw_goodput(ax, plan.capacities, planned=True))
        if any(fleet.variants for fleet in plan.fleets):
            made["capacity-sensitivity"] = Figure(figsize=(7.0, 4.2))
            draw_sensitivity(made["capacity-sensitivity"].add_axes((0.38, 0.1, 0.42, 0.8)), plan)
        if plan.demand.trace:
            made["capacity-trace"] = over = Figure(figsize=(8.0, 5.0))
            draw_demand(over.add_axes((0.07, 0.72, 0.89, 0.2)), plan)
            draw_replicas(over.add_axes((0.07, 0.1, 0.89, 0.5)), plan)
        for one in made.values():
            watermark(one, judged)
    return made


def _legend_above(made: Figure, plan: CapacityPlan) -> None:
    """Name the servers and the marks above a chart."""
    made.text(0.09, 0.015, KEY, fontsize=6.5, color=SOFT)
    x = 0.09
    for capacity in plan.capacities if len(plan.capacities) > 1 else ():
        color, _, marker = look(plan.capacities, capacity.server)
        made.text(x, 0.945, f"{SYMBOLS[marker]} {capacity.server}", color=color, fontsize=9, weight="bold")
        x += (width_in(capacity.server, 9) * 1.15 + 0.4) / 7.0
