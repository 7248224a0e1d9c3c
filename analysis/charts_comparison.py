"""Charts of a comparison: ratios as a forest, and metrics by load or by server.

To the left of 1 the candidate is better, whatever the metric: where more is better the ratio is drawn
inverted, and written as it is. Filled marks are differences that were shown, grey ones equivalence, hollow
ones neither.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .charts import FAINT, INK, PAPER, RUNS, SOFT, Axes, Look, log_ticks, shortened
from .compare import CROSSING, Comparison
from .effects import BETTER, EQUIVALENT, WORSE, Effect
from .reading import PERCENTILES, TOKENS, Reading, lower_is_better
from .sentences import level, number
from .verdict import OVERSATURATED

NAMES = {"ttft": "TTFT", "itl": "ITL", "itl_token": "ITL, per token", "tpot": "TPOT", "e2e": "E2E"}
TICKS = (1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100)
LEAST_REACH = math.log(1.25)
"""The forest reaches at least so far to both sides of 1."""

_ABOVE: Any = {"xytext": (0, 4), "textcoords": "offset points", "fontsize": 7}

MOST_ROWS = 24
LINE, LEAST_PT = 0.8, 5.5
"""How much of a row's height its type has, and how small that may be."""

Row = tuple[str, str]
"""A metric and a candidate."""

BAND = "#ececec"
"""The margin, behind ratios."""


def forest_key(comparison: Comparison, rows: Sequence[Row]) -> str:
    """Explain the forest's marks in a line."""
    words = [
        "filled: shown",
        f"grey: equivalent (band: {comparison.margin * 100:g} %)",
        "hollow: neither shown",
        "bold: limited by the SLA (Holm)",
    ]
    if any(metric == TOKENS for metric, _ in rows):
        words.append("tokens/s: inverted")
    return "   ".join(words)


def metric_name(metric: str) -> str:
    """Write a metric for a person: TTFT p95."""
    name, _, percentile = metric.partition(" ")
    return "tokens/s" if metric == TOKENS else f"{NAMES.get(name, name)} {percentile}"


def look(comparison: Comparison, server: str) -> Look:
    """Return a server's colour, line style and marker."""
    return RUNS[[one.name for one in comparison.servers].index(server) % len(RUNS)]


def forest_levels(comparison: Comparison) -> list[float]:
    """Return the levels that the forest shows: the lowest and the highest that have a ratio."""
    having = sorted({one.level for one in comparison.contrasts if any(e.ratio for e in one.effects)})
    return having if len(having) < 3 else [having[0], having[-1]]


def forest_rows(comparison: Comparison, high_in: float = math.inf) -> list[Row]:
    """Return the rows of the forest that so much height has room for, one metric's beside each other.

    Where all would be too many, what the SLA limits and what may cross over is left, then what it limits,
    then the first of those; comparison.json has all.
    """
    having = {
        (effect.metric, one.candidate): None
        for one in comparison.contrasts
        for effect in one.effects
        if effect.ratio and one.level in forest_levels(comparison)
    }
    order = {effect.metric: i for one in comparison.contrasts for i, effect in enumerate(one.effects)}
    rows = sorted(having, key=lambda row: (order[row[0]], comparison.candidates.index(row[1])))
    most = min(MOST_ROWS, high_in * 72 * LINE / LEAST_PT)
    for kept in ({*comparison.limits_ms, *CROSSING}, {*comparison.limits_ms, CROSSING[0]}):
        rows = rows if len(rows) <= most else [row for row in rows if row[0] in kept]
    while rows and len(rows) > most and rows[0][0] != rows[-1][0]:
        rows = [row for row in rows if row[0] != rows[-1][0]]
    return rows


def draw_names(ax: Axes, comparison: Comparison, rows: Sequence[Row]) -> None:
    """Name the rows of a forest, on axes of the same height at its left."""
    size = _row_size(ax, len(rows))
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
    ax.axis("off")
    width_in = ax.get_window_extent().width / ax.figure.dpi
    before = ""
    for y, (metric, candidate) in enumerate(rows):
        if metric != before:
            weight = "bold" if metric in comparison.limits_ms else "normal"
            ax.text(0, y, metric_name(metric), fontsize=size, weight=weight, va="center")
        name = shortened(candidate, size, 0.44 * width_in)
        ax.text(0.55, y, name, fontsize=size, va="center", color=SOFT)
        before = metric


def draw_forest(ax: Axes, comparison: Comparison, at: float, rows: Sequence[Row], *, values: bool) -> None:
    """Draw the ratios at one level, with their intervals; `values` adds what they are ratios of."""
    effects = {
        (effect.metric, one.candidate): effect
        for one in comparison.contrasts
        if one.level == at
        for effect in one.effects
    }
    reach = max([LEAST_REACH, *(_reach(effects[row]) for row in rows if row in effects)])
    ax.set(xscale="log", xlim=(math.exp(-reach), math.exp(reach)), ylim=(len(rows) - 0.5, -0.5), yticks=[])
    _ratio_ticks(ax.xaxis, reach, 1 / 3)
    ax.axvspan(1 / (1 + comparison.margin), 1 + comparison.margin, color=BAND, zorder=0)
    ax.axvline(1, color=INK, linewidth=1.1)
    ax.spines["left"].set_visible(False)
    for y, row in enumerate(rows):
        if y and row[0] != rows[y - 1][0]:
            ax.axhline(y - 0.5, color=FAINT, linewidth=0.6)
        if row in effects:
            _draw_ratio(ax, y, effects[row], look(comparison, row[1]), values=values)
    for x, text, align in ((0, "← better", "left"), (1, "worse →", "right")):
        ax.text(x, 1.01, text, transform=ax.transAxes, fontsize=7.5, color=SOFT, va="bottom", ha=align)
    ax.set_title(f"at {level(comparison, at)}", fontsize=8.5, pad=14)


def _row_size(ax: Axes, rows: int) -> float:
    """Return the size of type (pt) that so many rows have room for."""
    height_in = ax.get_window_extent().height / ax.figure.dpi
    return float(min(8.0, LINE * height_in * 72 / max(rows, 1)))


def _reach(effect: Effect) -> float:
    """Return how far from 1 an effect must be drawn, on the logarithmic axis; wide intervals are cut."""
    if not effect.ratio:
        return 0.0
    away = abs(math.log(effect.ratio))
    bounds = [abs(math.log(bound)) for bound in (effect.low, effect.high) if bound]
    return 1.1 * min(max([away, *bounds]), away + math.log(2))


def _ratio_ticks(axis: Any, reach: float, apart: float) -> None:
    """Choose ticks that lie well apart, the same to both sides of 1."""
    chosen = [1.0]
    for tick in TICKS:
        if math.log(tick) <= reach and math.log(tick / chosen[-1]) >= reach * apart:
            chosen.append(tick)
    axis.set_major_locator(FixedLocator([1 / tick for tick in chosen[:0:-1]] + chosen))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}" if value < 1 else f"{value:g}"))


def _draw_ratio(ax: Axes, y: int, effect: Effect, drawn: Look, *, values: bool) -> None:
    color, _, marker = drawn
    size = _row_size(ax, round(ax.get_ylim()[0] + 0.5))
    shown = effect.outcome in (BETTER, WORSE)

    def beside(offset_pt: float, text: str, weight: str = "normal") -> None:
        ax.annotate(
            text,
            (1, y),
            xycoords=ax.get_yaxis_transform(),
            xytext=(offset_pt, 0),
            textcoords="offset points",
            fontsize=size,
            weight=weight,
            va="center",
            color=INK if shown else SOFT,
        )

    if effect.ratio is None:
        beside(6, shortened(effect.reason, size, 1.3))
        return
    power = 1 if lower_is_better(effect.metric) else -1
    if effect.low and effect.high:
        ax.plot([effect.low**power, effect.high**power], [y, y], color=color, linewidth=2.2)
    face = color if shown else FAINT if effect.outcome == EQUIVALENT else "white"
    ax.plot([effect.ratio**power], [y], marker, color=face, markeredgecolor=color, markersize=0.75 * size)
    beside(6, f"{effect.ratio:.2f}", "bold")
    beside(34, "one pair" if effect.low is None else f"{effect.low:.2f} to {effect.high:.2f}")
    if values:
        unit = " ms" if effect.unit == "ms" else ""
        beside(104, f"{number(effect.candidate or 0)} against {number(effect.baseline or 0)}{unit}")


def shift_level(comparison: Comparison) -> float | None:
    """Return the highest level at which the quantiles of the first token have ratios, if there is one."""
    having = [
        one.level for one in comparison.contrasts if any(shift.metric == "ttft" for shift in one.shifts)
    ]
    return max(having, default=None)


def draw_shift(ax: Axes, comparison: Comparison, at: float) -> None:
    """Draw the ratio of the first token's quantiles at a level, and so where a candidate is slower."""
    reach, names = LEAST_REACH, list(PERCENTILES)
    ax.axhspan(1 / (1 + comparison.margin), 1 + comparison.margin, color=BAND, zorder=0)
    ax.axhline(1, color=INK, linewidth=1.1, zorder=1)
    own = [one for one in comparison.contrasts if one.level == at]
    for number_of, contrast in enumerate(own):
        color, line, marker = look(comparison, contrast.candidate)
        points = next((one.points for one in contrast.shifts if one.metric == "ttft"), ())
        aside = 0.16 * (number_of - (len(own) - 1) / 2)
        xs = [names.index(one.percentile) + aside for one in points]
        ax.plot(xs, [one.ratio for one in points], color=color, linestyle=line, linewidth=1.2)
        for x, one in zip(xs, points, strict=True):
            reach = max(reach, 1.1 * abs(math.log(one.ratio)))
            if one.low and one.high:
                ax.plot([x, x], [one.low, one.high], color=color, linewidth=1.0)
                away = max(abs(math.log(one.low)), abs(math.log(one.high)))
                reach = max(reach, 1.05 * min(away, abs(math.log(one.ratio)) + math.log(2)))
            face = color if one.sign else "white"
            ax.plot([x], [one.ratio], marker, color=face, markeredgecolor=color, markersize=4)
    ax.set(yscale="log", ylim=(math.exp(-reach), math.exp(reach)), xlim=(-0.6, len(names) - 0.4))
    _ratio_ticks(ax.yaxis, reach, 1 / 5)
    shown = [names.index(one) for one in (10, 50, 90, 99)]
    ax.set_xticks(shown, [f"p{names[i]}" for i in shown])
    ax.set_title("TTFT ratio")
    ax.set_xlabel(f"at {level(comparison, at)}")


def load_metrics(comparison: Comparison) -> tuple[str, str, str]:
    """Return what the charts by load show; in an open loop the tokens follow the arrivals."""
    return ("ttft p95", "itl p50", TOKENS if comparison.unit == "users" else "e2e p50")


def draw_metric(ax: Axes, comparison: Comparison, metric: str) -> None:
    """Draw a metric by load, or by server where there is one load only; dots are blocks, lines medians."""
    by_load = len(comparison.levels) > 1
    seen: list[float] = []
    for number_of, server in enumerate(comparison.servers):
        own = [one for one in comparison.readings if one.server == server.name]
        dots = [(one, value) for one in own if (value := one.values.get(metric)) and math.isfinite(value)]
        color, line, marker = look(comparison, server.name)
        seen += [value for _, value in dots]
        xs = [one.level if by_load else number_of for one, _ in dots]
        ax.plot(xs, [value for _, value in dots], marker, color=color, markersize=3.5, alpha=0.7)
        middles = {x: median(value for at, (_, value) in zip(xs, dots, strict=True) if at == x) for x in xs}
        if by_load:
            ax.plot(sorted(middles), [middles[x] for x in sorted(middles)], color=color, linestyle=line)
            _mark_saturated(ax, own, (color, number_of))
        for x, value in middles.items() if not by_load else ():
            ax.plot([x - 0.25, x + 0.25], [value, value], color=color, linewidth=2)
            highest = max(value for at, (_, value) in zip(xs, dots, strict=True) if at == x)
            ax.annotate(number(value), (x, highest), **_ABOVE, ha="center", bbox=PAPER, zorder=6)
    limit = comparison.limits_ms.get(metric)
    _value_axis(ax, seen, limit)
    if limit:
        ax.axhspan(limit, ax.get_ylim()[1], facecolor="#f3f3f3", edgecolor=FAINT, hatch="////", zorder=0)
        ax.axhline(limit, color=INK, linewidth=1.1, zorder=1)
        at = (0.02, limit)
        text = f"SLA: {number(limit)} ms"
        ax.annotate(text, at, xycoords=ax.get_yaxis_transform(), **_ABOVE, ha="left", bbox=PAPER)
    ax.set_title(metric_name(metric) + ("" if metric == TOKENS else ", ms"))
    (_level_axis if by_load else _server_axis)(ax, comparison)
    _crossovers(ax, comparison, metric)


def _value_axis(ax: Axes, seen: list[float], limit: float | None) -> None:
    """Begin at 0, or make the axis logarithmic where the values lie far apart."""
    highest, lowest = max([*seen, limit or 0], default=0), min([*seen, limit or math.inf], default=0)
    if lowest > 0 and highest / lowest > 15:
        ax.set_ylim(lowest / 2, highest * 1.5)
        log_ticks(ax, "y")
        return
    ax.set_ylim(0, highest * 1.18 or 1)
    ax.yaxis.set_major_locator(MaxNLocator(5))


def _level_axis(ax: Axes, comparison: Comparison) -> None:
    low, high = comparison.levels[0], comparison.levels[-1]
    if high / low >= 4:
        log_ticks(ax, "x")
        ax.set_xlim(low / 1.15, high * 1.15)
    ax.xaxis.set_major_locator(FixedLocator(comparison.levels))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel(comparison.unit)


def _server_axis(ax: Axes, comparison: Comparison) -> None:
    room_in = ax.get_window_extent().width / ax.figure.dpi / len(comparison.servers)
    names = [shortened(server.name, 7.5, room_in) for server in comparison.servers]
    ax.set_xticks(range(len(names)), names, fontsize=7.5)
    ax.set_xlim(-0.6, len(names) - 0.4)


def _mark_saturated(ax: Axes, own: list[Reading], drawn: tuple[str, int]) -> None:
    """Mark at the top the levels at which a server was oversaturated: it has no figures there."""
    levels = sorted({one.level for one in own if one.status == OVERSATURATED})
    color, row = drawn
    top = ax.get_xaxis_transform()
    y = [0.95 - 0.07 * row] * len(levels)
    ax.plot(levels, y, "*", color=color, markersize=8, transform=top, zorder=5)


def _crossovers(ax: Axes, comparison: Comparison, metric: str) -> None:
    """Mark where a candidate crosses the baseline, between the two levels that show it."""
    found = [one for one in comparison.crossovers if one.metric == metric and one.between]
    for row, one in enumerate(found):
        color, _, _ = look(comparison, one.candidate)
        y = 0.05 + 0.09 * row
        for below, above in one.between:
            ax.plot(
                [below, above],
                [y, y],
                color=color,
                linewidth=4,
                alpha=0.5,
                transform=ax.get_xaxis_transform(),
            )
            ax.annotate(
                f"{one.candidate} crosses",
                (math.sqrt(below * above) if ax.get_xscale() == "log" else (below + above) / 2, y),
                xycoords=ax.get_xaxis_transform(),
                **_ABOVE,
                ha="center",
                bbox=PAPER,
            )
