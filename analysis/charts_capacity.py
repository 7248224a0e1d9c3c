"""Charts by load: latency against its limit, and goodput.

Filled marks are levels that PASS, hollow ones were not shown to, crosses were shown to break the SLA, and a
star at the top stands for an OVERSATURATED level, which has no percentiles. Whiskers are bounds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform

from .capacity import BROKEN, Capacity, Level
from .charts import FAINT, INK, PAPER, RUNS, SOFT, Axes, Look, log_ticks, width_in
from .charts_comparison import metric_name
from .objective import FAIL, INCONCLUSIVE, PASS
from .sentences import number
from .verdict import OVERSATURATED

MARKS = {
    PASS: "filled: keeps the whole SLA",
    INCONCLUSIVE: "hollow: undecided",
    FAIL: "cross: breaks it",
    OVERSATURATED: "star: oversaturated",
}

ASIDE_PT = 10.0
"""Servers' marks at one level stand beside each other, over this width at most."""


def look(capacities: Sequence[Capacity], server: str) -> Look:
    """Return a server's colour, line style and marker."""
    return RUNS[[one.server for one in capacities].index(server) % len(RUNS)]


def looks(capacities: Sequence[Capacity]) -> Mapping[str, Look]:
    """Return the colour, line style and marker of each server."""
    return {one.server: look(capacities, one.server) for one in capacities}


def key(capacities: Sequence[Capacity]) -> str:
    """Say what the marks mean that are drawn."""
    levels = [level for capacity in capacities for level in capacity.levels]
    told = [words for status, words in MARKS.items() if any(level.status == status for level in levels)]
    known = [bounds for level in levels for bounds in level.bounds.values()]
    known += [(level.goodput_low_per_s, level.goodput_high_per_s) for level in levels]
    bounded = any(None not in bounds for bounds in known)
    return "   ".join([*told, "whisker: 95 % bounds"] if bounded else told)


def latency_metric(capacities: Sequence[Capacity], name: str) -> str:
    """Return the percentile of a metric that the SLA limits, else p95 (of ITL: p99)."""
    limited = [metric for metric in capacities[0].limits_ms if metric.startswith(f"{name} p")]
    return limited[0] if limited else {"itl": "itl p99"}.get(name, f"{name} p95")


def draw_latency(ax: Axes, capacities: Sequence[Capacity], name: str) -> None:
    """Draw a metric ("ttft" or "itl") by load against its limit; of one server also its other percentiles."""
    metric = latency_metric(capacities, name)
    limit = capacities[0].limits_ms.get(metric)
    seen = _others(ax, capacities[0], name, metric) if len(capacities) == 1 else []
    for capacity in capacities:
        color, line, marker = look(capacities, capacity.server)
        points, beside = _points(capacity, metric), _aside(ax, capacities, capacity.server)
        seen += [value for _, value in points]
        ax.plot(*_xy(points), color=color, linestyle=line, transform=beside)
        _marks(ax, points, (color, marker), beside)
    _value_axis(ax, seen, limit, _reaches(capacities, metric))
    if limit:
        first = [value for one in capacities for _, value in _points(one, metric)[:1]]
        _limit(ax, limit, above=max(first, default=0.0) < limit)
    for capacity in capacities:
        for one, _ in _points(capacity, metric):
            low, high = one.bounds.get(metric, (None, None))
            if low is not None and high is not None:
                _whisker(ax, capacities, capacity, (one.level, low, high))
    _level_axis(ax, capacities)
    if len(capacities) == 1:
        _name_lines(ax, capacities[0], name, metric)
    _knees(ax, capacities, name)
    for row, capacity in enumerate(capacities):
        stars = [one.level for one in capacity.levels if one.status == OVERSATURATED]
        heights = [0.96 - 0.06 * row] * len(stars)
        color = look(capacities, capacity.server)[0]
        ax.plot(stars, heights, "*", color=color, markersize=8, transform=ax.get_xaxis_transform(), zorder=5)
    _title(ax, f"{metric_name(metric)} by load, ms")


def _lines_of(capacity: Capacity, name: str, metric: str) -> dict[str, list[tuple[Level, float]]]:
    """Return the points of all percentiles that are drawn of a single server, by metric."""
    every = dict.fromkeys((f"{name} p50", f"{name} p95", f"{name} p99", metric))
    return {one: points for one in every if (points := _points(capacity, one))}


def _others(ax: Axes, capacity: Capacity, name: str, metric: str) -> list[float]:
    """Draw a server's other percentiles of a metric; return their values."""
    seen: list[float] = []
    for one, points in _lines_of(capacity, name, metric).items():
        if one != metric:
            seen += [value for _, value in points]
            ax.plot(*_xy(points), color=RUNS[0][0], linewidth=0.9, linestyle=(0, (2, 2)))
    return seen


def _name_lines(ax: Axes, capacity: Capacity, name: str, metric: str) -> None:
    """Name a server's percentiles at their last points, the names of near ones above each other."""
    ends = [(points[-1], one.partition(" ")[2]) for one, points in _lines_of(capacity, name, metric).items()]
    before_pt = -math.inf
    for (level, value), text in sorted(ends, key=lambda end: end[0][1]):
        at_pt = float(ax.transData.transform((level.level, value))[1]) / ax.figure.dpi * 72
        before_pt = max(at_pt, before_pt + 8)
        beside: Any = {"xytext": (6, before_pt - at_pt), "textcoords": "offset points", "va": "center"}
        ax.annotate(text, (level.level, value), fontsize=7.5, color=SOFT, **beside)


def _limit(ax: Axes, limit_ms: float, *, above: bool) -> None:
    """Hatch what the SLA forbids, and name the limit `above` its line or below."""
    ax.axhspan(limit_ms, ax.get_ylim()[1], facecolor="#f3f3f3", edgecolor=FAINT, hatch="////", zorder=0)
    ax.axhline(limit_ms, color=INK, linewidth=1.1, zorder=1)
    at: Any = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "bbox": PAPER}
    at |= {"xytext": (0, 4 if above else -4), "va": "bottom" if above else "top"}
    ax.annotate(f"SLA: {number(limit_ms)} ms", (0.01, limit_ms), fontsize=7.5, zorder=1.5, **at)


def _points(capacity: Capacity, metric: str) -> list[tuple[Level, float]]:
    pairs = [(one, one.values.get(metric)) for one in capacity.levels]
    return [(one, value) for one, value in pairs if value is not None and math.isfinite(value)]


def _xy(points: Sequence[tuple[Level, float]]) -> tuple[list[float], list[float]]:
    return [one.level for one, _ in points], [value for _, value in points]


def _aside(ax: Axes, capacities: Sequence[Capacity], server: str) -> Transform:
    """Return where a server's marks are drawn: a little beside the others' at the same load."""
    count = len(capacities)
    place = [one.server for one in capacities].index(server) - (count - 1) / 2
    apart_pt = min(4.0, ASIDE_PT / count)
    return ax.transData + ScaledTranslation(place * apart_pt / 72, 0, ax.figure.dpi_scale_trans)


def _marks(
    ax: Axes, points: Sequence[tuple[Level, float]], drawn: tuple[str, str], beside: Transform
) -> None:
    """Mark what became of each level."""
    color, marker = drawn
    mark: Any
    for level, value in points:
        if level.status == FAIL:
            mark = {"color": color, "markersize": 6, "markeredgewidth": 2.2, "zorder": 4}
            ax.plot([level.level], [value], "x", transform=beside, **mark)
            continue
        shape = "*" if level.status == OVERSATURATED else marker
        face = color if level.status == PASS or level.status in BROKEN else "white"
        mark = {"color": face, "markeredgecolor": color, "markersize": 6, "zorder": 4}
        ax.plot([level.level], [value], shape, transform=beside, **mark)


def _reaches(capacities: Sequence[Capacity], metric: str) -> list[float]:
    """Return the upper bounds of a metric that are finite."""
    bounds = [one.bounds.get(metric, (None, None))[1] for capacity in capacities for one in capacity.levels]
    return [bound for bound in bounds if bound is not None and math.isfinite(bound)]


def _whisker(
    ax: Axes, capacities: Sequence[Capacity], capacity: Capacity, at: tuple[float, float, float]
) -> None:
    """Draw the bounds (low, high) at a level; open-ended where they leave the axes."""
    level, low, high = at
    bottom, top = ax.get_ylim()
    color, beside = look(capacities, capacity.server)[0], _aside(ax, capacities, capacity.server)
    ends = [min(max(end, bottom), top) for end in (low, high)]
    caps = [end for end in (low, high) if bottom <= end <= top]
    drawn: Any = {"color": color, "transform": beside, "zorder": 3}
    ax.plot([level] * 2, ends, linewidth=1.2, **drawn)
    ax.plot([level] * len(caps), caps, "_", markersize=9, markeredgewidth=1.2, **drawn)


def _value_axis(ax: Axes, seen: Sequence[float], limit: float | None, bounds: Sequence[float]) -> None:
    """Begin at 0, or make the axis logarithmic where the values lie far apart.

    A bound has room up to one and a half times the highest value, so that a wide one does not flatten all.
    """
    highest, lowest = max([*seen, limit or 0], default=0), min([*seen, limit or math.inf], default=0)
    reach = max([highest, *(min(bound, 1.5 * highest) for bound in bounds)])
    if lowest > 0 and highest / lowest > 12:
        ax.set_ylim(lowest / 1.6, max(highest * 1.8, reach * 1.1))
        log_ticks(ax, "y")
        return
    ax.set_ylim(0, max(highest * 1.2, reach * 1.05) or 1)
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
    end_in = -math.inf
    for level in levels:
        half_in = width_in(f"{level:g}", 8) / 2 + 0.03
        middle_in = float(ax.transData.transform((level, 1))[0]) / ax.figure.dpi
        if middle_in - half_in > end_in:
            kept.append(level)
            end_in = middle_in + half_in
    return kept


def _title(ax: Axes, text: str) -> None:
    """Write the title, smaller where the chart is narrow."""
    narrow = ax.get_window_extent().width < 2.5 * ax.figure.dpi
    ax.set_title(text, fontsize=9 if narrow else 10, pad=5)


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
    known = {
        one.server: [(level, level.goodput_per_s) for level in one.levels if level.goodput_per_s is not None]
        for one in capacities
    }
    highest = max([0.0, *(value for points in known.values() for _, value in points)])
    ax.set_ylim(0, highest * 1.3 or 1)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    for capacity in capacities:
        color, line, marker = look(capacities, capacity.server)
        beside, points = _aside(ax, capacities, capacity.server), known[capacity.server]
        ax.plot(*_xy(points), color=color, linestyle=line, transform=beside)
        for one, _ in points:
            low, high = one.goodput_low_per_s, one.goodput_high_per_s
            if low is not None and high is not None:
                _whisker(ax, capacities, capacity, (one.level, low, high))
        _marks(ax, points, (color, marker), beside)
        if capacity.collapse is not None:
            _collapse(ax, capacity, color)
    _level_axis(ax, capacities)
    if capacities[0].loop == "open":
        _all_good(ax)
    if planned:
        _used(ax, capacities)
    _title(ax, "Good requests/s by load")


def _all_good(ax: Axes) -> None:
    """Draw what would be answered if every request that arrives were good."""
    right = min(ax.get_xlim()[1], ax.get_ylim()[1])
    ax.plot([0, right], [0, right], color=SOFT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1, scalex=False)
    beside: Any = {"xytext": (-4, 3), "textcoords": "offset points", "ha": "right"}
    ax.annotate("all good", (0.8 * right, 0.8 * right), fontsize=7, color=SOFT, **beside)


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
    """Ring the figure that the plan stands on; its words stand where the curve is not."""
    for row, capacity in enumerate(capacities):
        level = capacity.at_highest
        if level and level.goodput_low_per_s:
            x, y = level.level, level.goodput_low_per_s
            ring: Any = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": INK, "zorder": 6}
            ax.plot([x], [y], "o", transform=_aside(ax, capacities, capacity.server), **ring)
            across = float(ax.transAxes.inverted().transform(ax.transData.transform((x, y)))[0])
            offset, align = ((9, -12 - 11 * row), "left") if across < 0.4 else ((-9, 7 + 11 * row), "right")
            words: Any = {"xytext": offset, "textcoords": "offset points", "ha": align, "bbox": PAPER}
            ax.annotate(f"plan: {number(y)}", (x, y), fontsize=7.5, zorder=7, **words)
