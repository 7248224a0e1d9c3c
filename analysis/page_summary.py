"""The first page of an experiment's report: the decision, up to which load it holds, and why to believe it.

From top to bottom: the word that decides and what it means, verdicts by server and load, the candidates
against the baseline, replicas and cost, the charts, and the instrument. Positions are shares of the page,
from its bottom left.
"""

import math
from typing import Any

from .charts import A4_IN, PAPER, SOFT, STATUS, Figure, shortened, style, watermark, width_in, wrapped
from .charts_capacity import look
from .compare import Comparison
from .objective import INCONCLUSIVE
from .overview import Overview
from .overview_words import (
    UNSIZED,
    against,
    asked,
    because,
    believed,
    holds_up_to,
    lacking,
    origin,
    tally,
    target_words,
)
from .page import LEFT, MEANING, RIGHT, decided, filled, header
from .page_fleet import draw_fleets
from .page_panels import draw_panels
from .replications import Replications
from .sentences import paragraphs
from .verdict import INVALID, OVERSATURATED
from .weighing import Quality

ROOM_IN = (RIGHT - LEFT) * A4_IN[0]
LINE = 0.0195
MOST_LEVELS = 10
MOST_SERVERS = 8
MOST_CANDIDATES = 4

SHARE_KEY = (
    "share of good requests: within every limit that one request can keep; "
    "? undecided, and what would decide it if all goes on so"
)
RATIO_KEY = "TTFT p95 as a ratio, below 1 is sooner, with its 95 % interval; the next page has all"


def page_summary(
    overview: Overview, comparison: Comparison | None = None, quality: Quality | None = None
) -> Figure:
    """Lay out the page."""
    with style():
        made = Figure(figsize=A4_IN)
        top = header(made, overview.judged)
        top = _tested(made, overview, top)
        top = _decision(made, overview, top - 0.004)
        top = _grid(made, overview, top - 0.012)
        if comparison:
            claims = [head for head, _ in paragraphs(comparison, quality)]
            top = _against(made, overview, comparison, claims, top - 0.010)
        top = _replicas(made, overview, top - 0.010)
        bottom = _instrument(made, overview)
        draw_panels(made, overview, top - 0.012, bottom + 0.006)
        watermark(made, overview.judged)
    return made


def _tested(made: Figure, overview: Overview, top: float) -> float:
    """Say what was measured, and what was asked of it."""
    for text in (target_words(overview), asked(overview)):
        for line in wrapped(text, 8.5, ROOM_IN * 0.97, 2):
            made.text(LEFT, top, line, fontsize=8.5, va="top")
            top -= 0.0145
    return top


def _decision(made: Figure, overview: Overview, top: float) -> float:
    """Fill a box with the word that decides; beside it what it means and why."""
    wide, count = 0.3, len(overview.together)
    worst = overview.status in {one.status for one in overview.together}
    below = f"of {count} verdicts: {tally(overview)}" if worst and count > 1 else MEANING[overview.status]
    if not worst:
        below = "runs are missing" if overview.missing else "by quality, not by speed"
    decided(made, overview.status, below, (LEFT, top - 0.075, wide, 0.075))
    left, room = LEFT + wide + 0.02, (RIGHT - LEFT - wide - 0.02) * A4_IN[0]
    y = top - 0.001
    for line in wrapped(overview.decision(), 10.5, room * 0.88, 3):  # bold is wider
        made.text(left, y, line, fontsize=10.5, weight="bold", va="top")
        y -= 0.0175
    for line in wrapped(because(overview), 8, room, 2):
        made.text(left, y - 0.002, line, fontsize=8, va="top", color=SOFT)
        y -= 0.0125
    return min(top - 0.075, y)


def shown_levels(overview: Overview) -> list[float]:
    """Return the levels that the grid has room for: the lowest ones and the highest."""
    levels = overview.levels()
    return levels if len(levels) <= MOST_LEVELS else levels[: MOST_LEVELS - 1] + levels[-1:]


def _grid(made: Figure, overview: Overview, top: float) -> float:
    """Draw the verdict and the share of good requests for each server at each level."""
    shown = shown_levels(overview)
    first, unit = LEFT + 0.2, overview.capacities[0].unit
    step = min(0.105, (RIGHT - 0.20 - first) / len(shown))
    head: Any = {"fontsize": 7.5, "color": SOFT, "ha": "right", "va": "center"}
    made.text(LEFT, top - 0.4 * LINE, "Verdicts", fontsize=10, weight="bold", va="center")
    made.text(first - 0.01, top - 0.4 * LINE, unit, **head)
    made.text(RIGHT, top - 0.4 * LINE, "SLA holds up to", **head)
    marks = made.add_axes((LEFT, 0, RIGHT - LEFT, 1), xlim=(LEFT, RIGHT), ylim=(0, 1))
    marks.axis("off")
    for i, at in enumerate(shown):
        x = first + step * (i + 0.5)
        made.text(x, top - 0.4 * LINE, f"{at:g}", fontsize=8.5, ha="center", va="center")
    servers = overview.capacities[:MOST_SERVERS]
    for row, capacity in enumerate(servers):
        y = top - LINE * (row + 1.5)
        color, _, marker = look(overview.capacities, capacity.server)
        marks.plot([LEFT + 0.009], [y], marker, color=color, markersize=6)
        made.text(LEFT + 0.022, y, shortened(capacity.server, 9, 1.3), fontsize=9, va="center")
        made.text(RIGHT, y, holds_up_to(capacity), fontsize=8.5, weight="bold", ha="right", va="center")
        for i, at in enumerate(shown):
            found = overview.of(capacity.server, at)
            if found:
                place = (first + step * i + 0.002, y - 0.43 * LINE, step - 0.004, 0.86 * LINE)
                _cell(made, place, found, overview.good_share(capacity.server, at))
    bottom = top - LINE * (len(servers) + 1)
    made.text(RIGHT, bottom - 0.003, SHARE_KEY, fontsize=6.5, color=SOFT, ha="right", va="top")
    return bottom - 0.013


def _cell(
    made: Figure, place: tuple[float, float, float, float], found: Replications, good: float | None
) -> None:
    """Draw one cell; what is undecided is hatched, too, so that grey paper shows it."""
    color, ink, _ = STATUS[found.status]
    box = filled(made, place, color)
    if found.status == INCONCLUSIVE:
        box.axhspan(0, 1, facecolor="none", edgecolor=SOFT, hatch="////", linewidth=0)
    text = cell_words(found, good)
    size = min(8.5, 8.5 * place[2] * A4_IN[0] * 0.85 / width_in(text, 8.5))
    bbox = {**PAPER, "facecolor": color, "alpha": 1.0}
    box.text(0.5, 0.45, text, fontsize=size, weight="bold", color=ink, ha="center", va="center", bbox=bbox)


def cell_words(found: Replications, good: float | None) -> str:
    """Write a verdict as its symbol, with the share of good requests or what an undecided one lacks."""
    symbol = STATUS[found.status][2]
    if good is None or found.status in (INVALID, OVERSATURATED):
        return symbol
    if found.status == INCONCLUSIVE:
        return f"{symbol} {lacking(found)}".strip()
    return f"{symbol} {math.floor(good * 1000) / 10:g} %"  # rounded down: 100 % are all


def _against(
    made: Figure, overview: Overview, comparison: Comparison, claims: list[str], top: float
) -> float:
    """Write a line for each candidate: what was shown of the first token, and by how much it differs."""
    title = f"Against {shortened(comparison.baseline, 10, 2.5)}"
    made.text(LEFT, top, title, fontsize=10, weight="bold", va="top")
    made.text(RIGHT, top - 0.002, RATIO_KEY, fontsize=6.5, color=SOFT, ha="right", va="top")
    marks = made.add_axes((LEFT, 0, RIGHT - LEFT, 1), xlim=(LEFT, RIGHT), ylim=(0, 1))
    marks.axis("off")
    top -= 0.0185
    for name, claim in list(zip(comparison.candidates, claims, strict=False))[:MOST_CANDIDATES]:
        color, _, marker = look(overview.capacities, name)
        marks.plot([LEFT + 0.009], [top - 0.006], marker, color=color, markersize=6)
        words = against(comparison, name, overview.deciding_level())
        made.text(RIGHT, top, words, fontsize=8.5, weight="bold", ha="right", va="top")
        room = ROOM_IN - 0.3 - 1.2 * width_in(words, 8.5)  # bold is wider
        for line in wrapped(claim, 8.5, room, 2):
            made.text(LEFT + 0.022, top, line, fontsize=8.5, va="top")
            top -= 0.0140
        top -= 0.0025
    left_out = len(comparison.candidates) - MOST_CANDIDATES
    if left_out > 0:
        made.text(LEFT + 0.022, top, f"and {left_out} more", fontsize=8, color=SOFT, va="top")
        top -= 0.0165
    return top


def _replicas(made: Figure, overview: Overview, top: float) -> float:
    """Say what a fleet needs and costs where somebody asked, else how to ask."""
    beside = LEFT + 0.19
    made.text(LEFT, top, "Replicas and cost", fontsize=10, weight="bold", va="top")
    if not overview.sized:
        made.text(beside, top - 0.0015, UNSIZED, fontsize=7.5, color=SOFT, va="top")
        return top - 0.015
    words = shortened(overview.sized.words, 7.5, (RIGHT - beside) * A4_IN[0])
    made.text(RIGHT, top - 0.002, words, fontsize=7.5, color=SOFT, ha="right", va="top")
    return draw_fleets(made, overview.capacities[:MOST_SERVERS], overview.sized.needed, top - 0.018)


def _instrument(made: Figure, overview: Overview) -> float:
    """Say at the foot what was measured, and which gates did not hold; return where it ends."""
    y = 0.014
    for line in reversed(wrapped(origin(overview), 6.5, ROOM_IN * 0.97, 3)):
        made.text(LEFT, y, line, fontsize=6.5, va="bottom", color=SOFT)
        y += 0.01
    y += 0.004
    for line in reversed(wrapped(believed(overview), 7.5, ROOM_IN * 0.98, 3)):
        made.text(LEFT, y, line, fontsize=7.5, va="bottom")
        y += 0.0118
    title = "Instrument: may this be believed?"
    made.text(LEFT, y + 0.002, title, fontsize=10, weight="bold", va="bottom")
    return y + 0.018
