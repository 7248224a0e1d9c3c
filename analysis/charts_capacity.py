"""Charts of a capacity plan: latency and goodput by load, replicas over a trace, what a change would do.

Filled marks are levels that PASS, hollow ones were not shown to, crosses were shown to break the SLA, and a
star at the top stands for an OVERSATURATED level, which has no percentiles. The stretch that a server's
capacity lies in is shaded.
"""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .capacity import BROKEN, Capacity, Level
from .capacity_plan import CapacityPlan, Fleet
from .capacity_words import money
from .charts import FAINT, INK, PAPER, RUNS, SOFT, Axes, log_ticks, shortened
from .charts_comparison import metric_name
from .objective import PASS
from .sentences import number
from .verdict import OVERSATURATED

KEY = "filled: PASS   hollow: undecided   cross: breaks the SLA   star: oversaturated   shaded: the capacity"
REPLICAS_KEY = "dashed: always as for the peak   cross: too few for a while"

HOUR_S = 3600.0


def look(capacities: Sequence[Capacity], server: str) -> tuple[str, Any, str]:
    """Return a server's colour, line style and marker."""
    return RUNS[[one.server for one in capacities].index(server) % len(RUNS)]


def latency_metric(capacities: Sequence[Capacity], name: str) -> str:
    """Return the percentile of a metric that the SLA limits, else p95 (of ITL: p99)."""
    limited = [metric for metric in capacities[0].limits_ms if metric.startswith(f"{name} p")]
    return limited[0] if limited else {"itl": "itl p99"}.get(name, f"{name} p95")


def draw_latency(ax: Axes, capacities: Sequence[Capacity], name: str) -> None:
    """Draw a metric ("ttft" or "itl") by load against its limit; of one server also its other percentiles."""
    metric = latency_metric(capacities, name)
    limit = capacities[0].limits_ms.get(metric)
    alone = len(capacities) == 1
    others = [one for one in (f"{name} p50", f"{name} p95", f"{name} p99") if one != metric and alone]
    seen: list[float] = []
    for capacity in capacities:
        color, line, marker = look(capacities, capacity.server)
        points = _points(capacity, metric)
        seen += [value for _, value in points]
        ax.plot([one.level for one, _ in points], [value for _, value in points], color=color, linestyle=line)
        _marks(ax, points, color, marker)
        for other in others:
            beside = [(one.level, value) for one, value in _points(capacity, other)]
            if beside:
                seen += [value for _, value in beside]
                ax.plot(*zip(*beside, strict=True), color=color, linewidth=0.9, linestyle=(0, (2, 2)))
                _label(ax, beside[-1], other.partition(" ")[2])
        if points and alone:
            _label(ax, (points[-1][0].level, points[-1][1]), metric.partition(" ")[2])
    _value_axis(ax, seen, limit)
    if limit:
        ax.axhspan(limit, ax.get_ylim()[1], facecolor="#f3f3f3", edgecolor=FAINT, hatch="////", zorder=0)
        ax.axhline(limit, color=INK, linewidth=1.1, zorder=1)
        at: Any = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "bbox": PAPER}
        ax.annotate(f"SLA: {number(limit)} ms", (0.01, limit), xytext=(0, 4), fontsize=7.5, **at)
    _level_axis(ax, capacities)
    _intervals(ax, capacities)
    _knees(ax, capacities, name)
    for row, capacity in enumerate(capacities):
        stars = [one.level for one in capacity.levels if one.status == OVERSATURATED]
        heights = [0.96 - 0.06 * row] * len(stars)
        color = look(capacities, capacity.server)[0]
        ax.plot(stars, heights, "*", color=color, markersize=8, transform=ax.get_xaxis_transform(), zorder=5)
    ax.set_title(f"{metric_name(metric)} by load, ms")


def _points(capacity: Capacity, metric: str) -> list[tuple[Level, float]]:
    pairs = [(one, one.values.get(metric)) for one in capacity.levels]
    return [(one, value) for one, value in pairs if value is not None and math.isfinite(value)]


def _marks(ax: Axes, points: Sequence[tuple[Level, float]], color: str, marker: str) -> None:
    """Mark what became of each level."""
    for level, value in points:
        shape = "X" if level.status in BROKEN else marker
        face = color if level.status == PASS or level.status in BROKEN else "white"
        ax.plot([level.level], [value], shape, color=face, markeredgecolor=color, markersize=6, zorder=4)


def _label(ax: Axes, at: tuple[float, float], text: str) -> None:
    """Name a line at its last point."""
    ax.annotate(text, at, xytext=(5, 0), textcoords="offset points", fontsize=7.5, va="center", color=SOFT)


def _value_axis(ax: Axes, seen: Sequence[float], limit: float | None) -> None:
    """Begin at 0, or make the axis logarithmic where the values lie far apart."""
    highest, lowest = max([*seen, limit or 0], default=0), min([*seen, limit or math.inf], default=0)
    if lowest > 0 and highest / lowest > 12:
        ax.set_ylim(lowest / 1.6, highest * 1.8)
        log_ticks(ax, "y")
        return
    ax.set_ylim(0, highest * 1.2 or 1)
    ax.yaxis.set_major_locator(MaxNLocator(5))


def _level_axis(ax: Axes, capacities: Sequence[Capacity]) -> None:
    levels = sorted({one.level for capacity in capacities for one in capacity.levels})
    low, high = levels[0], levels[-1]
    if high / low > 12:
        log_ticks(ax, "x")
        ax.set_xlim(low / 1.2, high * 1.25)
    else:
        margin = 0.08 * (high - low) or 0.5 * high
        ax.set_xlim(max(0.0, low - margin), high + 1.5 * margin)
    ax.xaxis.set_major_locator(FixedLocator(_apart(levels, ax)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    unit = capacities[0].unit
    ax.set_xlabel(f"{unit} on one replica")


def _apart(levels: Sequence[float], ax: Axes) -> list[float]:
    """Leave out levels whose numbers would overlap."""
    kept: list[float] = []
    width_px = ax.get_window_extent().width
    for level in levels:
        x_px = float(ax.transData.transform((level, 1))[0])
        if not kept or x_px - float(ax.transData.transform((kept[-1], 1))[0]) > width_px / 14:
            kept.append(level)
    return kept


def _intervals(ax: Axes, capacities: Sequence[Capacity]) -> None:
    """Shade from the highest level that holds to the lowest that does not."""
    for capacity in capacities:
        color, line, _ = look(capacities, capacity.server)
        left, right = ax.get_xlim()
        if capacity.highest is None:
            continue
        ends = (capacity.highest, right if capacity.refuted is None else capacity.refuted)
        ax.axvspan(max(ends[0], left), min(ends[1], right), color=color, alpha=0.13, linewidth=0, zorder=0.5)
        ax.axvline(capacity.highest, color=color, linestyle=line, linewidth=1.0, zorder=1)


def _knees(ax: Axes, capacities: Sequence[Capacity], name: str) -> None:
    """Mark the knee of TTFT, which decides nothing."""
    for capacity in capacities if name == "ttft" else ():
        if capacity.knee is not None:
            color = look(capacities, capacity.server)[0]
            foot: Any = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points"}
            ax.plot(
                [capacity.knee], [0.0], "^", color=color, markersize=7, transform=ax.get_xaxis_transform()
            )
            ax.annotate("knee", (capacity.knee, 0.0), xytext=(6, 3), fontsize=7, color=SOFT, **foot)


def draw_goodput(ax: Axes, capacities: Sequence[Capacity], *, planned: bool) -> None:
    """Draw the rate of good requests by load with its bounds; in an open loop against all being good.

    `planned` rings the figures that a plan stands on.
    """
    highest = 0.0
    for capacity in capacities:
        color, line, marker = look(capacities, capacity.server)
        known = [(one, one.goodput_per_s) for one in capacity.levels if one.goodput_per_s is not None]
        ax.plot([one.level for one, _ in known], [value for _, value in known], color=color, linestyle=line)
        for one, _ in known:
            low, high = one.goodput_low_per_s, one.goodput_high_per_s
            if low is not None and high is not None:
                ax.plot([one.level] * 2, [low, high], "_-", color=color, linewidth=1.2, markersize=6)
        _marks(ax, known, color, marker)
        highest = max([highest, *(value for _, value in known)])
        if capacity.collapse is not None:
            _collapse(ax, capacity, color)
    ax.set_ylim(0, highest * 1.3 or 1)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    _level_axis(ax, capacities)
    if capacities[0].loop == "open":
        right = min(ax.get_xlim()[1], ax.get_ylim()[1])
        ax.plot(
            [0, right], [0, right], color=SOFT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1, scalex=False
        )
        at = 0.8 * right
        ax.annotate(
            "all good",
            (at, at),
            xytext=(-4, 3),
            textcoords="offset points",
            fontsize=7,
            color=SOFT,
            ha="right",
        )
    _intervals(ax, capacities)
    if planned:
        _used(ax, capacities)
    ax.set_title("Goodput by load, good requests/s")


def _collapse(ax: Axes, capacity: Capacity, color: str) -> None:
    at = next(one for one in capacity.levels if one.level == capacity.collapse)
    ax.annotate(
        "falls",
        (at.level, at.goodput_per_s or 0.0),
        xytext=(0, 22),
        textcoords="offset points",
        ha="center",
        fontsize=7.5,
        arrowprops={"arrowstyle": "->", "color": color},
        bbox=PAPER,
    )


def _used(ax: Axes, capacities: Sequence[Capacity]) -> None:
    """Ring the figure that the plan stands on."""
    for row, capacity in enumerate(capacities):
        level = capacity.at_highest
        if level and level.goodput_low_per_s:
            at = (level.level, level.goodput_low_per_s)
            ax.plot(*at, "o", markersize=11, markerfacecolor="none", markeredgecolor=INK, zorder=6)
            ax.annotate(
                f"plan: {number(at[1])}",
                at,
                xytext=(8, -11 - 10 * row),
                textcoords="offset points",
                fontsize=7.5,
                bbox=PAPER,
                zorder=7,
            )


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
    ax.spines["left"].set_visible(False)


def _beside(sized: Sequence[Fleet], row: int) -> str:
    """Write the replicas of a row, and of a single server their cost."""
    told = [f"{fleet.variants[row].replicas:,}" for fleet in sized]
    cost = sized[0].variants[row].per_hour
    if len(sized) == 1 and sized[0].bill and cost is not None:
        told.append(f"{money(cost)} {sized[0].bill.price.currency}/h")
    return " · ".join(told)
