"""Charts of a fleet: demand and replicas over a trace, and what a change of one number would do."""

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from .capacity_plan import CapacityPlan, Fleet
from .capacity_words import money
from .charts import FAINT, INK, PAPER, SOFT, Axes, shortened
from .charts_capacity import look

REPLICAS_KEY = "dashed: always as for the peak   cross: too few for a while"

HOUR_S = 3600.0


def draw_demand(ax: Axes, plan: CapacityPlan) -> None:
    """Draw a trace's highest rate in each reaction time, and its mean."""
    trace, at_h = plan.demand.trace, [step.start_s / _unit_s(plan) for step in plan.demand.steps]
    if not trace:
        return
    peaks = [step.peak_per_s for step in plan.demand.steps]
    ax.fill_between(at_h, peaks, step="post", color=FAINT, linewidth=0)
    ax.plot(at_h, peaks, color=SOFT, linewidth=0.9, drawstyle="steps-post")
    ax.axhline(trace.mean_per_s, color=INK, linewidth=0.9, linestyle=(0, (4, 2)))
    _label_right(ax, trace.mean_per_s, "mean")
    ax.set(xlim=(0, _end(plan)), ylim=(0, max(peaks) * 1.15))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.tick_params(axis="x", labelbottom=False)
    ax.set_title(f"Demand, requests/s (highest over {plan.by.reaction_s:g} s)")


def draw_replicas(ax: Axes, plan: CapacityPlan) -> None:
    """Draw the replicas that answer over a trace, and those that a fleet without autoscaling has."""
    highest = 1
    for fleet in plan.fleets:
        if not (fleet.autoscaled and fleet.sizing):
            continue
        color, line, _ = look(plan.capacities, fleet.server)
        at = [one.start_s / _unit_s(plan) for one in fleet.autoscaled.moments]
        ready = [one.ready for one in fleet.autoscaled.moments]
        ax.plot(
            [*at, _end(plan)],
            [*ready, ready[-1]],
            color=color,
            linestyle=line,
            drawstyle="steps-post",
            linewidth=1.4,
        )
        ax.axhline(fleet.sizing.replicas, color=color, linewidth=0.9, linestyle=(0, (4, 2)))
        _label_right(ax, fleet.sizing.replicas, f"{fleet.server}, not autoscaled: {fleet.sizing.replicas}")
        short = [(one.start_s / _unit_s(plan), one.ready) for one in fleet.autoscaled.moments if one.short]
        if short:
            ax.plot(*zip(*short, strict=True), "x", color=color, markersize=5)
        highest = max(highest, fleet.sizing.replicas, *ready)
    ax.set(xlim=(0, _end(plan)), ylim=(0, highest * 1.25))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_xlabel("hours" if _unit_s(plan) == HOUR_S else "minutes")
    ax.set_title("Replicas, autoscaled")


def _unit_s(plan: CapacityPlan) -> float:
    return HOUR_S if plan.demand.trace and plan.demand.trace.duration_s >= 3 * HOUR_S else 60.0


def _end(plan: CapacityPlan) -> float:
    return (plan.demand.steps[-1].start_s + plan.by.reaction_s) / _unit_s(plan)


def _label_right(ax: Axes, y: float, text: str) -> None:
    at: Any = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "bbox": PAPER}
    ax.annotate(text, (1.0, y), xytext=(-2, 3), fontsize=7, ha="right", color=SOFT, **at)


def draw_sensitivity(ax: Axes, plan: CapacityPlan) -> None:
    """Draw how many replicas a change of one number leaves, a row for each change."""
    sized = [fleet for fleet in plan.fleets if fleet.variants]
    if not sized:
        return
    rows = len(sized[0].variants)
    size = 7.5
    width_in = ax.get_window_extent().width / ax.figure.dpi
    for number_of, fleet in enumerate(sized):
        color, _, marker = look(plan.capacities, fleet.server)
        shift = 0.5 * ((number_of + 0.5) / len(sized) - 0.5)
        base = fleet.variants[0].replicas
        ax.axvline(base, color=color, linewidth=0.9, linestyle=(0, (4, 2)), zorder=0)
        for y, one in enumerate(fleet.variants):
            ax.plot([base, one.replicas], [y + shift] * 2, color=color, linewidth=3, alpha=0.6)
            ax.plot([one.replicas], [y + shift], marker, color=color, markersize=4.5)
    counts = [one.replicas for fleet in sized for one in fleet.variants]
    low, high = min(counts), max(counts)
    margin = max(1.0, 0.08 * (high - low))
    ax.set(xlim=(low - margin, high + margin), ylim=(rows - 0.5, -0.5))
    ax.set_yticks(range(rows), [shortened(one.change, size, 2.2) for one in sized[0].variants], fontsize=size)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for y in range(rows):
        ax.axhline(y + 0.5, color=FAINT, linewidth=0.5, zorder=0)
        ax.annotate(
            shortened(_beside(sized, y), 7, max(0.5, width_in)),
            (1, y),
            xycoords=ax.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
        )
    if len(sized) > 1:
        names = shortened(" · ".join(fleet.server for fleet in sized), 6.5, 0.85)
        at: Any = {"xycoords": "axes fraction", "xytext": (4, 1), "textcoords": "offset points"}
        ax.annotate(names, (1, 1), fontsize=6.5, color=SOFT, **at)
    ax.spines["left"].set_visible(False)


def _beside(sized: Sequence[Fleet], row: int) -> str:
    """Write the replicas of a row, and of a single server their cost."""
    told = [f"{fleet.variants[row].replicas:,}" for fleet in sized]
    cost = sized[0].variants[row].per_hour
    if len(sized) == 1 and sized[0].bill and cost is not None:
        told.append(f"{money(cost)} {sized[0].bill.price.currency}/h")
    return " · ".join(told)
