"""One A4 page on capacity: how many replicas, of which server, at what cost, and how that was found.

From top to bottom: the number, a line for each server, the way to the number, latency and goodput by load,
what a change would do, the trace, and what to know before it is believed. Positions are shares of the page.
"""

from collections.abc import Callable, Sequence

from .capacity_plan import CapacityPlan
from .capacity_words import asked, notes
from .charts import (
    A4_IN,
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
from .charts_capacity import draw_goodput, draw_latency, key, looks
from .charts_fleet import REPLICAS_KEY, draw_demand, draw_replicas, draw_sensitivity
from .page import LEFT, RIGHT, filled, header
from .page_fleet import draw_fleets
from .page_legend import draw_legend
from .sized import needs

LABELS = 0.165
"""Room for what was changed, at the left of the sensitivity."""

ROOM_IN = (RIGHT - LEFT) * A4_IN[0]


def page_capacity(plan: CapacityPlan, judged: Sequence[Judged]) -> Figure:
    """Lay out the page."""
    with style():
        made = Figure(figsize=A4_IN)
        top = header(made, judged)
        top = _decision(made, plan, top)
        needed = {fleet.server: needs(fleet) for fleet in plan.fleets}
        top = draw_fleets(made, plan.capacities, needed, top - 0.010)
        top = _way(made, plan, top - 0.014) - 0.004
        bottom = _notes(made, plan)
        _charts(made, plan, top - 0.008, bottom + 0.008)
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
    text = asked(plan.demand.per_s, plan.demand.words, plan.by)
    size = max(7.0, min(9.5, 9.5 * ROOM_IN / width_in(text, 9.5)))
    middle = 0.5 * (LEFT + RIGHT)
    made.text(middle, top - 0.066, shortened(text, size, ROOM_IN), fontsize=size, ha="center", va="center")
    return top - 0.076


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
    inch = 1 / A4_IN[1]
    keys = [key(plan.capacities), *([REPLICAS_KEY] if plan.demand.trace else [])]
    for row, words in enumerate(reversed(keys)):
        made.text(RIGHT, bottom + 0.12 * row * inch, words, fontsize=6.5, color=SOFT, ha="right", va="bottom")
    bottom += (0.12 * len(keys) + 0.45) * inch  # the axis and its name
    top = draw_legend(made, looks(plan.capacities), (LEFT, RIGHT), top)
    above = 0.25 * inch
    varied = any(fleet.variants for fleet in plan.fleets)
    second = above if not plan.demand.trace else 0.22 * inch
    high = (top - bottom - above - 0.5 * inch - second) / 2
    left, width = LEFT + 0.03, 0.395
    upper, lower = top - above - high, bottom
    draw_latency(made.add_axes((left, upper, width, high)), plan.capacities, "ttft")
    draw_goodput(made.add_axes((RIGHT - width, upper, width, high)), plan.capacities, planned=True)
    if varied:
        beside = 0.115 if len(plan.fleets) == 1 else 0.02 + 0.035 * len(plan.fleets)  # for the counts
        across = (LEFT + LABELS, lower, left + width - LEFT - LABELS - beside, high)
        draw_sensitivity(made.add_axes(across), plan)
        title = "Replicas if one number were another"
        made.text(LEFT, lower + high + 0.0125, title, fontsize=10, weight="bold", va="bottom")
    if plan.demand.trace:
        third = high * 0.3
        draw_demand(made.add_axes((RIGHT - width, lower + high - third, width, third)), plan)
        draw_replicas(made.add_axes((RIGHT - width, lower, width, high - third - 0.035)), plan)
    else:
        at = RIGHT - width if varied else left
        draw_latency(made.add_axes((at, lower, width, high)), plan.capacities, "itl")


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
    made: dict[str, Figure] = {}

    def figure(name: str, draw: Callable[[Axes], None]) -> None:
        made[name] = Figure(figsize=(7.0, 4.2))
        above = draw_legend(made[name], looks(plan.capacities), (0.09, 0.96), 0.985)
        high = above - 0.27 / 4.2 - 0.17
        draw(made[name].add_axes((0.09, 0.17, 0.87, high)))
        made[name].text(0.96, 0.015, key(plan.capacities), fontsize=6, color=SOFT, ha="right")

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
