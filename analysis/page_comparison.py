"""One A4 page on a whole experiment: what each candidate is worth against the baseline, in words first.

From top to bottom: a paragraph for each candidate, a table of verdicts, quality and cost, the ratios, the
metrics by load, and where the figures come from. Positions are shares of the page, from its bottom left.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .charts import (
    A4_IN,
    FAINT,
    INK,
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
from .charts_comparison import (
    draw_forest,
    draw_metric,
    draw_names,
    draw_shift,
    forest_key,
    forest_levels,
    forest_rows,
    load_metrics,
    look,
    shift_level,
)
from .compare import Comparison, Server
from .page import LEFT, RIGHT, header
from .page_legend import draw_legend
from .sentences import paragraphs
from .verdict import INVALID, OVERSATURATED
from .weighing import Quality, weigh

MEASURES = {"ppl_ratio": "ppl x {:.3f}", "kl": "KL {:.2g}", "top1": "top-1 {:.0%}"}
"""What is told of a quality verdict's measures."""


def page_comparison(comparison: Comparison, judged: Sequence[Judged], quality: Quality) -> Figure:
    """Lay out the page."""
    with style():
        made = Figure(figsize=A4_IN)
        top = header(made, judged)
        top = _paragraphs(made, comparison, quality, top)
        top = _table(made, comparison, quality, top - 0.012)
        bottom = _provenance(made, comparison, judged)
        _charts(made, comparison, top - 0.016, bottom + 0.012)
        watermark(made, judged)
    return made


def chart_comparison(comparison: Comparison, judged: Sequence[Judged]) -> Figure:
    """Return the charts as a figure of its own."""
    with style():
        made = Figure(figsize=(A4_IN[0], 6.4))
        _charts(made, comparison, 0.985, 0.02)
        watermark(made, judged)
    return made


def _paragraphs(made: Figure, comparison: Comparison, quality: Quality, top: float) -> float:
    """Write what a planner reads first: the claim in bold, what it stands on below."""
    told = paragraphs(comparison, quality)
    most, size = {2: (7, 9.0), 3: (6, 9.0), 4: (5, 9.0), 5: (3, 8.0)}.get(len(told), (2, 8.0))
    left, room = LEFT + 0.022, (RIGHT - LEFT - 0.022) * A4_IN[0]
    marks = made.add_axes((LEFT, 0, 0.02, 1), xlim=(0, 1), ylim=(0, 1))
    marks.axis("off")
    for i, (head, rest) in enumerate(told):
        if i < len(comparison.candidates):
            color, _, marker = look(comparison, comparison.candidates[i])
            marks.plot([0.3], [top - 0.008], marker, color=color, markersize=7)
        fitting = max(8.0, min(size + 2, (size + 2) * room * 0.85 / width_in(head, size + 2)))
        claim = shortened(head, fitting, room * 0.87)  # bold is wider
        made.text(left, top, claim, fontsize=fitting, weight="bold", va="top")
        top -= 0.0195
        sentence = rest[:1].upper() + rest[1:] if i < len(comparison.candidates) else rest
        for line in wrapped(sentence, size, room, most):
            made.text(left, top, line, fontsize=size, va="top")
            top -= 0.0016 * size
        top -= 0.007
    return top


def _table(made: Figure, comparison: Comparison, quality: Quality, top: float) -> float:
    """Draw a line for each server: verdicts by load, beside the baseline, quality, time to ready, kernel."""
    line = 0.0185
    levels = comparison.levels
    first = LEFT + 0.15
    step = min(0.04, 0.2 / len(levels))
    against = first + step * len(levels) + 0.04
    beside = against + 0.05
    heads = [(LEFT, "server", "left"), (against, "no worse?", "center")]
    heads += [(beside, "quality", "left")] if quality else []
    weighed = weigh(comparison, quality)
    if any(server.ready_s or server.kernels for server in comparison.servers):
        heads += [(0.69, "ready, s", "right"), (0.775, "memory, MB", "right"), (0.79, "kernel", "left")]
    for x, head, align in heads:
        made.text(x, top - 0.4 * line, head, fontsize=7.5, color=SOFT, ha=align, va="center")
    made.text(first, top - 0.4 * line, comparison.unit, fontsize=7.5, color=SOFT, ha="right", va="center")
    for i, at in enumerate(levels):
        x = first + step * (i + 0.5)
        made.text(x, top - 0.4 * line, f"{at:g}", fontsize=7.5, color=SOFT, ha="center", va="center")
    marks = made.add_axes((LEFT, 0, RIGHT - LEFT, 1), xlim=(LEFT, RIGHT), ylim=(0, 1))
    marks.axis("off")
    for row, server in enumerate(comparison.servers):
        y = top - line * (row + 1.5)
        marks.axhline(y + line / 2, color=FAINT, linewidth=0.6)
        color, _, marker = look(comparison, server.name)
        marks.plot([LEFT + 0.009], [y], marker, color=color, markersize=6)
        name = shortened(server.name, 9, 0.12 * A4_IN[0])
        made.text(LEFT + 0.022, y, name, fontsize=9, va="center")
        for i, at in enumerate(levels):
            _light(made, first + step * (i + 0.5), y, comparison.status(server.name, at))
        if row:
            _light(made, against, y, weighed[server.name].status)
            _quality(made, beside, y, quality.get(server.name))
        _facts(made, y, server)
    return top - line * (len(comparison.servers) + 1)


def _light(made: Figure, x: float, y: float, status: str, word: str = "") -> None:
    """Draw a verdict as a small box with its symbol, and a word where there is room for one."""
    if not status:
        return
    color, ink, symbol = STATUS.get(status, (FAINT, INK, "?"))
    mark = {"facecolor": color, "edgecolor": "none", "boxstyle": "round,pad=0.2"}
    align = "left" if word else "center"
    text = f"{symbol} {word}".strip()
    made.text(x, y, text, fontsize=8, weight="bold", color=ink, ha=align, va="center", bbox=mark)


def _quality(made: Figure, x: float, y: float, found: Mapping[str, Any] | None) -> None:
    if not found:
        return
    status = str(found.get("status"))
    values = {one.get("name"): one.get("value") for one in found.get("measures") or ()}
    told = [
        MEASURES[name].format(value)
        for name, value in values.items()
        if name in MEASURES and isinstance(value, float)
    ]
    across, text = 0.045 + 0.008 * len(status), "  ".join(told)
    fits = width_in(text, 6.5) <= (0.645 - x - across) * A4_IN[0]
    _light(made, x + 0.005, y, status, status if fits else "")
    across = across if fits else 0.025
    room = (0.645 - x - across) * A4_IN[0]
    made.text(x + across, y, shortened(text, 6.5, room), fontsize=6.5, va="center")


def _facts(made: Figure, y: float, server: Server) -> None:
    for x, value in ((0.69, server.ready_s), (0.775, server.memory_mb)):
        text = "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
        made.text(x, y, text, fontsize=8, va="center", ha="right")
    warning = "" if server.kernel_ok is not False else f"not {server.kernel_expected}: "
    kernel = shortened(warning + ", ".join(server.kernels), 7, (RIGHT - 0.79) * A4_IN[0])
    made.text(0.79, y, kernel, fontsize=7, va="center", weight="bold" if warning else "normal")


LOADS_IN = (2.4, 4.4)
"""How high the metrics by load are at least and at most (inches), their legend and axes included."""

HEAD_IN, FOOT_IN = 0.57, 0.25
"""Room above a forest and below it (inches)."""

NAMES_IN, RATIO_IN, VALUES_IN = 1.45, 1.3, 1.4
"""Room for the names at a forest's left, the ratios at its right, and the values beyond (inches)."""


def _charts(made: Figure, comparison: Comparison, top: float, bottom: float) -> None:
    """Share the room between the forest and the metrics by load."""
    rows, high_in = len(forest_rows(comparison)), (top - bottom) * made.get_size_inches()[1]
    middle = top - min(0.17 * rows + 0.75, high_in - LOADS_IN[0]) / made.get_size_inches()[1]
    _forest(made, comparison, top, middle)
    _metrics(made, comparison, middle - 0.03, max(bottom, middle - LOADS_IN[1] / made.get_size_inches()[1]))


def _forest(made: Figure, comparison: Comparison, top: float, bottom: float) -> None:
    wide_in, high_in = made.get_size_inches()
    made.text(
        LEFT, top, f"Ratio to {shortened(comparison.baseline, 10, 3)}", fontsize=10, weight="bold", va="top"
    )
    rows = forest_rows(comparison, (top - bottom) * high_in - HEAD_IN - FOOT_IN)
    key = forest_key(comparison, rows)
    made.text(RIGHT, top - 0.02 / high_in, key, fontsize=7, color=SOFT, va="top", ha="right")
    levels = forest_levels(comparison)
    if not levels:
        none = "No pair of runs gives a ratio; the reasons stand above."
        made.text(LEFT, top - 0.35 / high_in, none, va="center")
        return
    top, bottom = top - HEAD_IN / high_in, bottom + FOOT_IN / high_in
    left = LEFT + NAMES_IN / wide_in
    beside = (RATIO_IN + (VALUES_IN if len(levels) == 1 else 0)) / wide_in
    width = (RIGHT - left) / len(levels) - beside
    draw_names(made.add_axes((LEFT, bottom, NAMES_IN / wide_in, top - bottom)), comparison, rows)
    for at in levels:
        ax = made.add_axes((left, bottom, width, top - bottom))
        draw_forest(ax, comparison, at, rows, values=len(levels) == 1)
        left += width + beside


def _metrics(made: Figure, comparison: Comparison, top: float, bottom: float) -> None:
    high_in = made.get_size_inches()[1]
    looks = {server.name: look(comparison, server.name) for server in comparison.servers}
    saturated = any(one.status == OVERSATURATED for one in comparison.readings)
    top = draw_legend(made, looks, (LEFT, RIGHT), top, "star at the top: oversaturated" if saturated else "")
    shift = shift_level(comparison)
    named_in = 0.42 if len(comparison.levels) > 1 or shift is not None else 0.25  # where an axis has a name
    top, bottom = top - 0.25 / high_in, bottom + named_in / high_in
    drawn: list[Callable[[Axes], None]] = [
        partial(draw_metric, comparison=comparison, metric=metric) for metric in load_metrics(comparison)
    ]
    drawn += [partial(draw_shift, comparison=comparison, at=shift)] if shift is not None else []
    width = (RIGHT - LEFT - 0.03 - (len(drawn) - 1) * 0.055) / len(drawn)
    for i, draw in enumerate(drawn):
        left = LEFT + 0.03 + i * (width + 0.055)
        draw(made.add_axes((left, bottom, width, top - bottom)))


def _how_compared(comparison: Comparison) -> list[str]:
    """Say what a ratio stands on: pairs, groups of runs, or both."""
    kinds = {one.paired for one in comparison.contrasts if one.effects}
    told = []
    if True in kinds:
        told.append("a pair is two runs of one block with the same load, prompts and schedule")
        told.append("ratio: geometric mean over pairs, 95 % interval by Student's t on their logarithms")
    if False in kinds:
        told.append("where seeds do not agree runs are no pairs: ratio of geometric means, Welch's t")
    if any(one.shifts for one in comparison.contrasts):
        told.append("ratios by percentile: their intervals hold all at once")
    return told


def _provenance(made: Figure, comparison: Comparison, judged: Sequence[Judged]) -> float:
    """Print what the page stands on, in small type at the foot; return where it ends."""
    first, _ = judged[0]
    blocks = {one.block for one in comparison.readings}
    invalid = sum(one.status == INVALID for one in comparison.readings)
    words = [
        f"{len(judged)} runs ({invalid} INVALID) in {len(blocks)} block{'s' if len(blocks) > 1 else ''}",
        f"from {min(verdict.run for _, verdict in judged)} to {max(verdict.run for _, verdict in judged)}",
        f"{first.meta['load'].get('loop')} loop",
        f"target {first.meta['target'].get('url')}",
        f"system {(first.meta.get('versions') or {}).get('system')}",
        f"tokenswarm {first.meta.get('tokenswarm')}",
        *_how_compared(comparison),
        "verdict by load: of all blocks together",
        f"no worse?: is anything that the SLA limits, or quality, worse than {comparison.baseline}'s",
    ]
    lines = wrapped("; ".join(words), 6.5, (RIGHT - LEFT) * A4_IN[0] * 0.95, 4)
    for number, line in enumerate(reversed(lines)):
        made.text(LEFT, 0.016 + 0.01 * number, line, fontsize=6.5, va="bottom", color=SOFT)
    return 0.016 + 0.01 * len(lines)
