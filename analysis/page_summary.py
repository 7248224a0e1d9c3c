"""The first page of an experiment's report: the decision, up to which load it holds, and why to believe it.

From top to bottom: the word that decides and what it means, verdicts by server and load, latency and goodput
by load, first tokens by percentile and where their time went, and the instrument. Positions are shares of
the page, from its bottom left.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .capacity import Level
from .charts import (
    A4_IN,
    INK,
    PAPER,
    SOFT,
    STATUS,
    Axes,
    Figure,
    draw_ttft,
    shortened,
    style,
    watermark,
    width_in,
    wrapped,
)
from .charts_capacity import KEY, draw_goodput, draw_latency, look
from .objective import INCONCLUSIVE, PASS, percent
from .overview import Overview
from .page import LEFT, RIGHT, filled, header
from .replications import Replications
from .sentences import number
from .ttft_parts import Part, stack
from .verdict import INVALID, OVERSATURATED

ROOM_IN = (RIGHT - LEFT) * A4_IN[0]
LINE = 0.0195
MOST_LEVELS = 10
MOST_SERVERS = 8
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
PART_COLORS = ("#1a1a1a", "#56B4E9", "#0072B2", "#F0E442", "#E69F00", "#009E73")


def page_summary(overview: Overview) -> Figure:
    """Lay out the page."""
    with style():
        made = Figure(figsize=A4_IN)
        top = header(made, overview.judged)
        top = _decision(made, overview, top)
        top = _grid(made, overview, top - 0.014)
        bottom = _instrument(made, overview)
        _charts(made, overview, top - 0.016, bottom + 0.012)
        watermark(made, overview.judged)
    return made


def chart_summary(overview: Overview) -> Figure:
    """Return the charts as a figure of its own."""
    with style():
        made = Figure(figsize=(A4_IN[0], 6.6))
        _charts(made, overview, 0.99, 0.012)
        watermark(made, overview.judged)
    return made


def _decision(made: Figure, overview: Overview, top: float) -> float:
    """Fill a box with the word that decides; beside it what it means and why."""
    color, ink, symbol = STATUS[overview.status]
    word, wide = f"{symbol} {overview.status}", 0.3
    size = min(27.0, 20 * wide * A4_IN[0] * 0.8 / width_in(word, 20))
    box = filled(made, (LEFT, top - 0.075, wide, 0.075), color)
    box.text(0.5, 0.47, word, fontsize=size, weight="bold", color=ink, ha="center", va="center")
    left, room = LEFT + wide + 0.02, (RIGHT - LEFT - wide - 0.02) * A4_IN[0]
    y = top - 0.001
    for line in wrapped(overview.decision(), 10.5, room * 0.88, 3):  # bold is wider
        made.text(left, y, line, fontsize=10.5, weight="bold", va="top")
        y -= 0.0175
    for line in wrapped(_because(overview), 8, room, 2):
        made.text(left, y - 0.002, line, fontsize=8, va="top", color=SOFT)
        y -= 0.0125
    return min(top - 0.075, y)


def _because(overview: Overview) -> str:
    """Return the first reason of the worst verdict."""
    worst = next((one for one in overview.together if one.status == overview.status), None)
    if overview.missing and overview.status == INCONCLUSIVE:
        return f"not measured: {', '.join(overview.missing)}"
    if worst is None or overview.status == PASS:
        return ""
    return f"{_name(overview, worst)}: {worst.reasons[0]}"


def _name(overview: Overview, one: Replications) -> str:
    if one.level is None or len(overview.levels()) < 2:
        return one.server
    return f"{one.server} at {overview.capacities[0].words(one.level)}"


def _grid(made: Figure, overview: Overview, top: float) -> float:
    """Draw the verdict and the share of good requests for each server at each level."""
    levels = overview.levels()
    shown = levels if len(levels) <= MOST_LEVELS else levels[: MOST_LEVELS - 1] + levels[-1:]
    first, unit = LEFT + 0.2, overview.capacities[0].unit
    step = min(0.105, (RIGHT - first) / len(shown))
    made.text(LEFT, top - 0.4 * LINE, "Verdicts", fontsize=10, weight="bold", va="center")
    made.text(first - 0.01, top - 0.4 * LINE, unit, fontsize=7.5, color=SOFT, ha="right", va="center")
    marks = made.add_axes((LEFT, 0, RIGHT - LEFT, 1), xlim=(LEFT, RIGHT), ylim=(0, 1))
    marks.axis("off")
    for i, at in enumerate(shown):
        x = first + step * (i + 0.5)
        made.text(x, top - 0.4 * LINE, f"{at:g}", fontsize=8.5, color=INK, ha="center", va="center")
    servers = overview.capacities[:MOST_SERVERS]
    for row, capacity in enumerate(servers):
        y = top - LINE * (row + 1.5)
        color, _, marker = look(overview.capacities, capacity.server)
        marks.plot([LEFT + 0.009], [y], marker, color=color, markersize=6)
        made.text(LEFT + 0.022, y, shortened(capacity.server, 9, 1.3), fontsize=9, va="center")
        for i, at in enumerate(shown):
            found = overview.of(capacity.server, at)
            level = next((one for one in capacity.levels if one.level == at), None)
            if found:
                _cell(
                    made, (first + step * i + 0.002, y - 0.43 * LINE, step - 0.004, 0.86 * LINE), found, level
                )
    bottom = top - LINE * (len(servers) + 1)
    key = "the share of good requests: those that succeeded and kept every limit that one request can keep"
    made.text(RIGHT, bottom - 0.004, key, fontsize=6.5, color=SOFT, ha="right", va="top")
    return bottom - 0.016


def _cell(
    made: Figure, place: tuple[float, float, float, float], found: Replications, level: Level | None
) -> None:
    """Draw one cell; what is undecided is hatched, too, so that grey paper shows it."""
    color, ink, symbol = STATUS[found.status]
    box = filled(made, place, color)
    if found.status == INCONCLUSIVE:
        box.axhspan(0, 1, facecolor="none", edgecolor=SOFT, hatch="////", linewidth=0)
    good = level.good_share if level and found.status not in (INVALID, OVERSATURATED) else None
    text = symbol if good is None else f"{symbol} {percent(good)}"
    size = min(8.5, 8.5 * place[2] * A4_IN[0] * 0.85 / width_in(text, 8.5))
    bbox = {**PAPER, "facecolor": color, "alpha": 1.0}
    box.text(0.5, 0.45, text, fontsize=size, weight="bold", color=ink, ha="center", va="center", bbox=bbox)


def _charts(made: Figure, overview: Overview, top: float, bottom: float) -> None:
    """Share the room: latency and goodput by load above, percentiles and the parts of TTFT below."""
    inch = 1 / made.get_size_inches()[1]
    capacities, left, width = overview.capacities, LEFT + 0.03, 0.395
    top = _legend(made, overview, top)
    names_in = 0.14 * len(overview.at_decision()) + 0.38
    high = (top - bottom - (1.1 + names_in) * inch) / 2
    upper = top - 0.25 * inch - high
    made.text(RIGHT, upper - 0.42 * inch, KEY, fontsize=6.5, color=SOFT, ha="right", va="top")
    boxes: list[tuple[float, Callable[[Axes], None]]] = [
        (left, lambda ax: draw_latency(ax, capacities, "ttft")),
        (RIGHT - width, lambda ax: draw_goodput(ax, capacities, planned=False)),
    ]
    for x, draw in boxes:
        draw(made.add_axes((x, upper, width, high)))
    lower = bottom + names_in * inch
    shown = overview.at_decision()
    level = shown[0][0].meta["experiment"]["level"]
    names = [f"{run.meta['experiment']['server']}: " for run, _ in shown]
    ax = made.add_axes((left, lower, width, high))
    draw_ttft(ax, shown, names)
    ax.set_title(f"TTFT by percentile at {capacities[0].words(float(level))}, ms")
    bars, beside = _bars(overview), made.add_axes((RIGHT - width, lower, width, high))
    if bars:
        _parts(beside, bars)
    else:
        draw_latency(beside, capacities, "itl")


def _legend(made: Figure, overview: Overview, top: float) -> float:
    """Name the servers once for all charts; return where the legend ends."""
    if len(overview.capacities) < 2:
        return top
    inch = 1 / made.get_size_inches()[1]
    legend = made.add_axes((LEFT, top - 0.16 * inch, RIGHT - LEFT, 0.16 * inch), xlim=(0, 1), ylim=(0, 1))
    legend.axis("off")
    step = 1 / max(4, len(overview.capacities))
    for i, capacity in enumerate(overview.capacities):
        color, line, marker = look(overview.capacities, capacity.server)
        legend.plot([i * step, i * step + 0.035], [0.5, 0.5], color=color, linestyle=line)
        legend.plot([i * step + 0.0175], [0.5], marker, color=color, markersize=5)
        name = shortened(capacity.server, 8, (step - 0.06) * ROOM_IN)
        legend.text(i * step + 0.045, 0.45, name, fontsize=8, va="center")
    return float(top - 0.2 * inch)


def _bars(overview: Overview) -> list[tuple[str, tuple[Part, ...]]]:
    """Return where the time to the first token went, for each server that told, at the decision's level."""
    bars = []
    for run, verdict in overview.at_decision():
        side = verdict.server_side
        if side and side.window and side.window.ttft:
            bars.append((str(run.meta["experiment"]["server"]), stack(side.window.ttft)))
    return bars


def _parts(ax: Axes, bars: Sequence[tuple[str, tuple[Part, ...]]]) -> None:
    """Stack where the time to the first token went."""
    ax.set_title("What TTFT is made of (means), ms")
    ends = np.zeros(len(bars))
    for i, part in enumerate(bars[0][1]):
        widths = np.array([max(0.0, parts[i].ms) for _, parts in bars])
        ax.barh(
            range(len(bars)),
            widths,
            left=ends,
            color=PART_COLORS[i],
            edgecolor=INK,
            linewidth=0.5,
            hatch=HATCHES[i],
            height=0.6,
            label=f"{part.label} {' / '.join(number(parts[i].ms) for _, parts in bars)}",
        )
        ends += widths
    room_in = 0.9
    ax.set_yticks(
        range(len(bars)), [shortened(name, 8, room_in) for name, _ in bars], rotation=90, va="center"
    )
    ax.set(ylim=(max(len(bars), 3) - 0.4, -0.6), xlim=(0, float(ends.max()) * 1.02 or 1))
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.1), ncols=2, fontsize=7, borderaxespad=0)


def _instrument(made: Figure, overview: Overview) -> float:
    """Say at the foot what was measured, and which gates did not hold; return where it ends."""
    count = len(overview.judged)
    broken: dict[str, list[str]] = {}
    for _, verdict in overview.judged:
        for gate in verdict.gates:
            if not gate.ok and gate.severity != "note":
                broken.setdefault(f"{gate.severity}: {gate.name}", []).append(verdict.name)
    invalid = sum(verdict.status == INVALID for _, verdict in overview.judged)
    requests = sum(scenario.n for _, verdict in overview.judged for scenario in verdict.scenarios)
    blocks = {run.meta["experiment"]["block"] for run, _ in overview.judged}
    each = f" in {len(blocks)} blocks" if len(blocks) > 1 else ""
    head = f"{count} run{'s' if count > 1 else ''}{each}, {requests:,} requests judged, {invalid} INVALID. "
    tools = sorted({str(one["tool"]) for run, _ in overview.judged if (one := run.meta.get("imported"))})
    if tools:
        head += f"What the instrument was worth is not known: imported from {', '.join(tools)}. "
    if broken:
        head += "Gates that did not hold: "
    elif not tools:
        head += "All gates of the instrument held."
    told = [
        f"{name} ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})" for name, names in broken.items()
    ]
    lines = wrapped(head + "; ".join(told), 7.5, ROOM_IN * 0.98, 3)
    first = overview.judged[0][0]
    target, versions = first.meta["target"], first.meta.get("versions") or {}
    origin = [
        f"runs {min(v.run for _, v in overview.judged)} to {max(v.run for _, v in overview.judged)}",
        f"model {target.get('model')}",
        f"{first.meta['load'].get('loop')} loop",
        f"clock {first.meta.get('clock')}",
        f"system {versions.get('system')}",
        f"tokenswarm {first.meta.get('tokenswarm')}",
        "every figure is in verdict.json, here or in the runs' folders",
    ]
    small = wrapped("; ".join(origin), 6.5, ROOM_IN * 0.97, 2)
    y = 0.016
    for line in reversed(small):
        made.text(LEFT, y, line, fontsize=6.5, va="bottom", color=SOFT)
        y += 0.01
    y += 0.004
    for line in reversed(lines):
        made.text(LEFT, y, line, fontsize=7.5, va="bottom")
        y += 0.0118
    title = "Instrument: may this be believed?"
    made.text(LEFT, y + 0.002, title, fontsize=10, weight="bold", va="bottom")
    return y + 0.018
