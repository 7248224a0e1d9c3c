"""The charts of an experiment's first page, row by row: curves by load, then the runs that decide.

One run of each server at the deciding level shows its distributions and its course over time. In HTML each
chart is a figure of its own, so that a narrow screen puts them below each other.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from .charts import (
    A4_IN,
    INK,
    SOFT,
    Axes,
    Figure,
    draw_itl,
    draw_ttft,
    shortened,
    style,
    watermark,
)
from .charts_capacity import draw_goodput, draw_latency, key, look, looks
from .charts_timeline import draw_timeline, timeline_key
from .overview import Overview
from .page import LEFT, RIGHT
from .page_legend import draw_legend
from .sentences import number
from .ttft_parts import Part, stack

HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
PART_COLORS = ("#1a1a1a", "#56B4E9", "#0072B2", "#F0E442", "#E69F00", "#009E73")

LEAST_IN, MOST_IN = 0.85, 2.6
"""How high a chart is at least, else the last rows are left out, and at most (inches)."""

INDENT = 0.03
"""Room for the numbers of an axis, at the left of the first chart in a row."""


class Row(NamedTuple):
    """Charts side by side: room above and below their axes, and their height (inches; 0: what is left)."""

    head_in: float
    high_in: float
    foot_in: float
    draw: Callable[[Figure, float, float], None]  # into a figure, from here, so high (shares of its height)


def draw_panels(made: Figure, overview: Overview, top: float, bottom: float) -> None:
    """Share the room between the rows; where it is scarce, the last ones are left to the runs' own pages."""
    inch = 1 / made.get_size_inches()[1]
    top = draw_legend(made, looks(overview.capacities), (LEFT, RIGHT), top)
    rows = _rows(overview)

    def left_in() -> float:
        return float((top - bottom) / inch - sum(row.head_in + row.high_in + row.foot_in for row in rows))

    def high_in() -> float:
        return min(MOST_IN, left_in() / sum(not row.high_in for row in rows))

    while high_in() < LEAST_IN and len(rows) > 1:
        rows.pop()
    shared_in = high_in()
    for row in rows:
        high = (row.high_in or shared_in) * inch
        top -= row.head_in * inch + high
        row.draw(made, top, high)
        top -= row.foot_in * inch


def _rows(overview: Overview) -> list[Row]:
    count, bars = len(overview.at_decision()), _bars(overview)
    rows = [
        Row(0.25, 0, 0.62, partial(_by_load, overview)),
        Row(0.22, 0, 0.36 + 0.175 * count, partial(_distributions, overview)),
        Row(0.36, 0.62, 0.24, partial(_timeline, overview)),
    ]
    if bars:
        rows.append(Row(0.28, 0.2 * len(bars), 0.5, partial(_where_ttft_went, bars)))
    return rows


def _columns(count: int, gap: float = 0.062) -> list[tuple[float, float]]:
    """Return (left, width) of so many charts side by side."""
    width = (RIGHT - LEFT - INDENT - (count - 1) * gap) / count
    return [(LEFT + INDENT + i * (width + gap), width) for i in range(count)]


def _by_load(overview: Overview, made: Figure, bottom: float, high: float) -> None:
    axes = [made.add_axes((left, bottom, width, high)) for left, width in _columns(3)]
    for ax, draw in zip(axes, _curves(overview).values(), strict=True):
        draw(ax)
    y = bottom - 0.44 / made.get_size_inches()[1]
    made.text(RIGHT, y, key(overview.capacities), fontsize=6.5, color=SOFT, ha="right", va="top")


def _curves(overview: Overview) -> dict[str, Callable[[Axes], None]]:
    """Return what is drawn by load, by what it shows."""
    capacities = overview.capacities
    return {
        "TTFT by load": lambda ax: draw_latency(ax, capacities, "ttft"),
        "ITL by load": lambda ax: draw_latency(ax, capacities, "itl"),
        "Goodput by load": lambda ax: draw_goodput(ax, capacities, planned=False),
    }


def _distributions(overview: Overview, made: Figure, bottom: float, high: float) -> None:
    axes = [made.add_axes((left, bottom, width, high)) for left, width in _columns(2, 0.075)]
    for ax, draw in zip(axes, _shares(overview).values(), strict=True):
        draw(ax)


def _shares(overview: Overview) -> dict[str, Callable[[Axes], None]]:
    """Return the distributions of the runs that decide, by what they show."""
    shown, at = overview.at_decision(), _deciding(overview)
    servers = [str(run.meta["experiment"]["server"]) for run, _ in shown]
    names = [f"{shortened(server, 8, 0.7)}: " for server in servers]
    drawn = [look(overview.capacities, server) for server in servers]

    def ttft(ax: Axes) -> None:
        draw_ttft(ax, shown, names, drawn)
        ax.set_title(f"TTFT by percentile at {at}, ms")

    def itl(ax: Axes) -> None:
        draw_itl(ax, shown, names, drawn)
        ax.set_title(f"ITL at {at}: share of gaps, ms")

    return {"TTFT by percentile": ttft, "Share of gaps between tokens by length": itl}


def _deciding(overview: Overview) -> str:
    return overview.capacities[0].words(float(overview.at_decision()[0][0].meta["experiment"]["level"]))


def _timeline(overview: Overview, made: Figure, bottom: float, high: float) -> None:
    inch = 1 / made.get_size_inches()[1]
    y = bottom + high + 0.3 * inch
    title = f"Timeline at {_deciding(overview)}, s"
    made.text(LEFT, y, title, fontsize=10, weight="bold", va="center")
    made.text(
        RIGHT, y, timeline_key(overview.at_decision()), fontsize=6.5, color=SOFT, va="center", ha="right"
    )
    _draw_course([made.add_axes((left, bottom, width, high)) for left, width in _columns(4, 0.055)], overview)


def _draw_course(axes: Sequence[Axes], overview: Overview) -> None:
    shown = overview.at_decision()
    drawn = [look(overview.capacities, str(run.meta["experiment"]["server"])) for run, _ in shown]
    draw_timeline(axes, shown, drawn)


Bars = list[tuple[str, tuple[Part, ...]]]


def _bars(overview: Overview) -> Bars:
    """Return where the time to the first token went, for each server that told, at the deciding level."""
    bars = []
    for run, verdict in overview.at_decision():
        side = verdict.server_side
        if side and side.window and side.window.ttft:
            bars.append((str(run.meta["experiment"]["server"]), stack(side.window.ttft)))
    return bars


def _where_ttft_went(bars: Bars, made: Figure, bottom: float, high: float) -> None:
    _draw_parts(made.add_axes((LEFT + 0.11, bottom, RIGHT - LEFT - 0.11, high)), bars, columns=3)


def _draw_parts(ax: Axes, bars: Bars, columns: int) -> None:
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
            height=0.7,
            label=f"{part.label} {' / '.join(number(parts[i].ms) for _, parts in bars)}",
        )
        ends += widths
    ax.set_yticks(range(len(bars)), [shortened(name, 8, 0.85) for name, _ in bars])
    ax.set(ylim=(len(bars) - 0.5, -0.5), xlim=(0, float(ends.max()) * 1.01 or 1))
    ax.tick_params(axis="y", length=0)
    below = -0.24 / (ax.get_window_extent().height / ax.figure.dpi)
    ax.legend(loc="upper left", bbox_to_anchor=(0, below), ncols=columns, fontsize=7, borderaxespad=0)


def panel_figures(overview: Overview) -> dict[str, Figure]:
    """Return the charts as figures of their own, by what they show."""
    wide_in, made = A4_IN[0] / 2, {}
    count, servers = len(overview.at_decision()), looks(overview.capacities)
    with style():
        for name, draw in _curves(overview).items():
            made[name] = Figure(figsize=(wide_in, 3.2))
            above = draw_legend(made[name], servers, (0.03, 0.97), 0.99)
            high = above - 0.25 / 3.2 - 0.14
            draw(made[name].add_axes((0.13, 0.14, 0.84, high)))
        for name, draw in _shares(overview).items():
            foot = (0.3 + 0.175 * count) / 3.2
            made[name] = Figure(figsize=(wide_in, 3.2))
            draw(made[name].add_axes((0.13, foot, 0.84, 0.91 - foot)))
        name = "Requests, in flight, TTFT and tokens over time"
        made[name] = Figure(figsize=(wide_in, 3.2))
        boxes = [(left, bottom, 0.38, 0.27) for bottom in (0.56, 0.13) for left in (0.1, 0.59)]
        _draw_course([made[name].add_axes(box) for box in boxes], overview)
        made[name].text(0.03, 0.94, f"Timeline at {_deciding(overview)}, s", fontsize=10, weight="bold")
        words = timeline_key(overview.at_decision())
        made[name].text(0.97, 0.015, words, fontsize=6, color=SOFT, ha="right")
        bars = _bars(overview)
        if bars:
            made["What TTFT is made of"] = over = Figure(figsize=(wide_in, 1.2 + 0.25 * len(bars)))
            high = 0.25 * len(bars) / (1.2 + 0.25 * len(bars))
            _draw_parts(over.add_axes((0.22, 0.95 - high - 0.1, 0.74, high)), bars, columns=2)
        for figure in made.values():
            watermark(figure, overview.judged)
    return made
