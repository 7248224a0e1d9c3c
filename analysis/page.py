"""One A4 page on which a person finds the decision in ten seconds, and why it may be believed.

From top to bottom: the word that decides, the objectives with their bounds, three charts, the instrument's
gates, and where the figures come from. All positions are shares of the page, counted from its bottom left.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from . import wording
from .charts import (
    A4_IN,
    FAINT,
    INK,
    RUNS,
    SIMULATED,
    SOFT,
    STATUS,
    Axes,
    Figure,
    Judged,
    draw_itl,
    draw_ttft,
    shortened,
    style,
    watermark,
    width_in,
    wrapped,
)
from .charts_markers import draw_markers, marker_lines
from .charts_timeline import draw_timeline, timeline_key
from .gates import Gate
from .objective import ObjectiveResult
from .verdict import INVALID

LEFT, RIGHT = 0.06, 0.96
GATE_LINE = 0.0108
NAME_SHARE = 0.29  # of a column of gates
LETTERS = "AB"

MEANING = {
    "PASS": "every objective was shown to hold",
    "FAIL": "an objective was shown to be broken",
    "OVERSATURATED": "more arrives than the server can answer",
    "INCONCLUSIVE": "too little was seen to decide",
    "INVALID": "the measurement failed: nothing follows for the server",
}
"""What a verdict says, under the word."""


def page(judged: Sequence[Judged], said: tuple[str, str] | None = None) -> Figure:
    """Lay out the page for one run or two; `said` is how the two compare: a claim, and what it stands on."""
    with style():
        made = Figure(figsize=A4_IN)
        top = header(made, judged)
        top = _verdicts(made, judged, top)
        top = _said(made, said, top - 0.004) if said else top
        top = _objectives(made, judged, top - 0.012)
        bottom = _provenance(made, judged)
        bottom = _instrument(made, judged, bottom + 0.012)
        _charts(made, judged, top - 0.016, bottom + 0.02)
        watermark(made, judged)
    return made


def header(made: Figure, judged: Sequence[Judged]) -> float:
    """Draw the top of a page: SIMULATED where anything is, our name, whether it goes on, the SLA's name.

    Returns where it ends.
    """
    top = 0.985
    if any(verdict.simulated for _, verdict in judged):
        box = filled(made, (0, 0.972, 1, 0.028), "#4d4d4d")  # a colour of no server and no verdict
        box.text(0.5, 0.47, SIMULATED, fontsize=12, weight="bold", color="white", ha="center", va="center")
        top = 0.966
    goes_on = any(run.so_far for run, _ in judged)
    if goes_on:
        end = datetime.fromtimestamp(max(verdict.window_end_unix_ns for _, verdict in judged) / 1e9, UTC)
        words = f"so far, to {end:%H:%M:%S} UTC: the run goes on"
        made.text(0.22, top - 0.014, words, fontsize=10, weight="bold", va="center")
    sla = " and ".join(dict.fromkeys(verdict.sla for _, verdict in judged))
    made.text(LEFT, top - 0.014, "Tokenswarm", fontsize=13, weight="bold", va="center")
    words = shortened(f"SLA {sla}", 10, 2.8 if goes_on else 5)
    made.text(RIGHT, top - 0.014, words, fontsize=10, va="center", ha="right")
    return top - 0.03


def filled(made: Figure, place: tuple[float, float, float, float], color: str) -> Axes:
    """Fill a box; its text goes from 0 to 1 both ways."""
    box = made.add_axes(place)
    box.set(xticks=[], yticks=[], facecolor=color, xlim=(0, 1), ylim=(0, 1))
    for spine in box.spines.values():
        spine.set_visible(False)
    return box


def _verdicts(made: Figure, judged: Sequence[Judged], top: float) -> float:
    """Draw the word that decides, the run's name and the reason; two runs share the width."""
    if len(judged) == 1:
        decided(made, judged[0][1].status, MEANING[judged[0][1].status], (LEFT, top - 0.085, 0.33, 0.085))
        end = _words(made, judged[0], judged[0][1].name, (LEFT + 0.35, RIGHT), top + 0.002)
        return min(top - 0.085, end)
    width, end = (RIGHT - LEFT - 0.02) / 2, top
    for i, one in enumerate(judged):
        left = LEFT + i * (width + 0.02)
        decided(made, one[1].status, MEANING[one[1].status], (left, top - 0.056, width, 0.056))
        name = f"{LETTERS[i]}  {one[1].name}"
        end = min(end, _words(made, one, name, (left, left + width), top - 0.06))
    return end


def _said(made: Figure, said: tuple[str, str], top: float) -> float:
    """Write how two runs compare, the claim in bold; return where it ends."""
    claim, rest = said
    room = (RIGHT - LEFT) * A4_IN[0]
    made.text(LEFT, top, shortened(claim, 10, room * 0.87), fontsize=10, weight="bold", va="top")
    top -= 0.0185
    for line in wrapped(rest[:1].upper() + rest[1:], 8.5, room, 2):
        made.text(LEFT, top, line, fontsize=8.5, va="top")
        top -= 0.0135
    return top


def decided(made: Figure, status: str, below: str, place: tuple[float, float, float, float]) -> None:
    """Fill a box with the word that decides, and under it what that says."""
    color, ink, symbol = STATUS[status]
    word, room_in = f"{symbol} {status}", place[2] * A4_IN[0]
    size = min(25.0, 20 * room_in * 0.8 / width_in(word, 20))  # bold is a fifth wider
    box = filled(made, place, color)
    box.text(0.5, 0.6, word, fontsize=size, weight="bold", color=ink, ha="center", va="center")
    size = _fitting(below, 8, room_in * 0.94)
    box.text(0.5, 0.15, below, fontsize=size, color=ink, ha="center", va="center")


def _words(made: Figure, one: Judged, name: str, across: tuple[float, float], top: float) -> float:
    """Write a run's name, the first reason of its verdict, and its load; return where they end."""
    run, verdict = one
    left, room = across[0], (across[1] - across[0]) * A4_IN[0]
    made.text(left, top - 0.004, shortened(name, 12, room * 0.88), fontsize=12, weight="bold", va="top")
    more = f"  (and {len(verdict.reasons) - 1} more)" if len(verdict.reasons) > 1 else ""
    lines = wrapped(verdict.reasons[0] + more, 9, room, 3)
    for number, line in enumerate(lines):
        made.text(left, top - 0.027 - 0.0145 * number, line, fontsize=9, va="top")
    load = shortened(wording.load(run, verdict), 8, room)
    top -= 0.027 + 0.0145 * len(lines)
    made.text(left, top, load, fontsize=8, va="top", color=SOFT)
    return top - 0.014


_HEADS = (
    (LEFT, "objective:  ✓ holds  ✗ broken  ? undecided", "left"),
    (0.43, "observed", "left"),
    (0.645, "bad, 95 % bounds", "left"),
)
_MORE_HEADS = ((0.83, "allowed", "right"), (RIGHT, "n  (independent)", "right"))


def _objectives(made: Figure, judged: Sequence[Judged], top: float) -> float:
    """Draw a line per objective and run: observed, bounds against what is allowed, n."""
    texts = list(dict.fromkeys(result.text for _, verdict in judged for result in verdict.objectives))
    count = len(texts) * len(judged)
    line = min(0.018 if len(judged) == 1 else 0.0155, 0.30 / (count + 1))
    bottom = top - line * (count + 1)
    for x, head, align in _HEADS + _MORE_HEADS:
        made.text(x, top - 0.4 * line, head, fontsize=7.5, color=SOFT, ha=align, va="center")
    rules = made.add_axes((LEFT, 0, RIGHT - LEFT, 1), ylim=(0, 1))
    rules.axis("off")
    axis = made.add_axes((0.53, bottom, 0.105, top - line - bottom))
    axis.set(xscale="log", xlim=(0.02, 50), ylim=(count - 0.5, -0.5), yticks=[])
    axis.axis("off")
    axis.axvline(1, color=INK, linewidth=1.2)
    made.text(0.5825, top - 0.4 * line, "good │ bad", fontsize=7.5, color=SOFT, ha="center", va="center")
    for number, text in enumerate(texts):
        y = top - line * (number * len(judged) + 1)
        rules.axhline(y, color=FAINT, linewidth=0.6)
        for i, (_, verdict) in enumerate(judged):
            result = next((one for one in verdict.objectives if one.text == text), None)
            if result is None:
                continue
            row = number * len(judged) + i
            _objective(made, result, top - line * (row + 1.5), line, invalid=verdict.status == INVALID)
            _interval(axis, row, result, i)
            if len(judged) > 1:
                made.text(
                    0.415,
                    top - line * (row + 1.5),
                    LETTERS[i],
                    fontsize=min(8, line * 560),
                    va="center",
                    color=SOFT,
                )
        _objective_text(made, text, y - 0.5 * line, line)
    return bottom


def _objective_text(made: Figure, text: str, y: float, line: float) -> None:
    room = (0.41 - LEFT - 0.03) * A4_IN[0]
    size = _fitting(text, min(9.5, line * 560), room)
    made.text(LEFT + 0.026, y, shortened(text, size, room), fontsize=size, va="center")


def _fitting(text: str, size_pt: float, room_in: float) -> float:
    """Return the size at which a text fits, 6 pt at least."""
    return max(6.0, min(size_pt, 0.99 * size_pt * room_in / width_in(text, size_pt)))


def _objective(made: Figure, result: ObjectiveResult, y: float, line: float, *, invalid: bool) -> None:
    """Draw one result; an INVALID run's figures are grey, since they prove nothing."""
    size = min(9.5, line * 560)
    color, on_color, symbol = (FAINT, SOFT, STATUS[result.status][2]) if invalid else STATUS[result.status]
    ink = SOFT if invalid else INK
    mark = {"facecolor": color, "edgecolor": "none", "boxstyle": "round,pad=0.15"}
    made.text(
        LEFT + 0.009,
        y,
        symbol,
        fontsize=size - 1,
        weight="bold",
        color=on_color,
        ha="center",
        va="center",
        bbox=mark,
    )
    made.text(0.43, y, wording.observed(result), fontsize=size, weight="bold", va="center", color=ink)
    bounds = wording.bounds(result)
    fitting = _fitting(bounds, size - 0.5, 0.118 * A4_IN[0])
    made.text(0.645, y, bounds, fontsize=fitting, va="center", color=ink)
    allowed = "" if result.allowed is None else wording.figure(result, result.allowed)
    made.text(0.83, y, allowed, fontsize=size - 0.5, va="center", ha="right", color=SOFT)
    worth = "" if result.n_eff is None else f"  ({result.n_eff:,.0f})"
    made.text(RIGHT, y, f"{result.n:,}{worth}", fontsize=size - 0.5, va="center", ha="right", color=ink)


def _interval(ax: Axes, y: float, result: ObjectiveResult, run: int) -> None:
    """Draw the interval of the bad share, relative to the allowed one, on a logarithmic axis around 1."""
    if result.bound_high is None or result.bound_low is None or not result.allowed:
        return
    left, right = ax.get_xlim()
    own = result.statistic in {"mean", "rate"}  # bounds of the value itself, not of a share of bad events
    middle = result.observed_ok_only or 0.0 if own else (result.bad or 0) / result.n
    points = [bound / result.allowed for bound in (result.bound_low, middle, result.bound_high)]
    if result.at_least:  # more is better: to the right of 1 is bad all the same
        points = [1 / point if point else right for point in points]
    low, high = (min(max(point, left), right) for point in (points[0], points[2]))
    color, _, marker = RUNS[run]
    ax.plot([low, high], [y, y], color=color, linewidth=4, solid_capstyle="butt")
    if left < points[1] < right:
        ax.plot([points[1]], [y], marker, color="white", markeredgecolor=color, markersize=5)


def _charts(made: Figure, judged: Sequence[Judged], top: float, bottom: float) -> None:
    """Share the room between the distributions and the timeline."""
    names = [""] if len(judged) == 1 else [f"{letter}  " for letter in LETTERS]
    below = 0.03 + 0.012 * len(judged)
    high = (top - bottom) * 0.52 - below - 0.02
    draw_ttft(made.add_axes((LEFT + 0.03, top - 0.02 - high, 0.40, high)), judged, names)
    draw_itl(made.add_axes((0.56, top - 0.02 - high, RIGHT - 0.56, high)), judged, names)
    top -= high + below + 0.02
    made.text(LEFT, top - 0.008, "Timeline, s", fontsize=10, weight="bold", va="center")
    made.text(RIGHT, top - 0.008, timeline_key(judged), fontsize=7, color=SOFT, va="center", ha="right")
    lines = marker_lines(judged, 7, (RIGHT - LEFT) * A4_IN[0], 2)
    for number, line in enumerate(lines, 1):
        made.text(LEFT, top - 0.008 - 0.0115 * number, line, fontsize=7, va="center")
    top -= 0.034 + 0.0115 * len(lines)
    high = (top - bottom - 0.04) / 2
    left, width = LEFT + 0.03, 0.40
    boxes = [(x, y, width, high) for y in (top - high, bottom) for x in (left, RIGHT - width)]
    panels = [made.add_axes(box) for box in boxes]
    draw_timeline(panels, judged)
    draw_markers(panels, judged)


def _instrument(made: Figure, judged: Sequence[Judged], bottom: float) -> float:
    height = GATE_LINE * -(-len(_gate_names(judged)) // 2)
    _draw_gates(made.add_axes((LEFT, bottom, RIGHT - LEFT, height)), judged)
    title = (
        "Instrument: may this run be believed?"
        if len(judged) == 1
        else "Instrument: may A and B be believed?"
    )
    heads = 0.008 if len(judged) > 1 else 0.0
    made.text(LEFT, bottom + height + 0.012 + heads, title, fontsize=10, weight="bold", va="center")
    return bottom + height + 0.024 + heads


def _draw_gates(ax: Axes, judged: Sequence[Judged], columns: int = 2) -> None:
    """Draw the instrument box: every gate, a light and what was found per run; the limit where it failed."""
    names = _gate_names(judged)
    rows = -(-len(names) // columns)
    ax.set(xlim=(0, columns), ylim=(rows - 0.4, -0.6))
    ax.axis("off")
    column_in = ax.get_window_extent().width / ax.figure.dpi / columns
    share = (0.98 - NAME_SHARE) / len(judged)
    for column in range(columns):
        for i in range(len(judged) if len(judged) > 1 else 0):
            at = column + NAME_SHARE + i * share
            ax.text(at, -1.0, LETTERS[i], va="center", ha="center", fontsize=7, weight="bold")
    for number, name in enumerate(names):
        column, row = divmod(number, rows)
        ax.text(column, row, shortened(name, 7, (NAME_SHARE - 0.03) * column_in), va="center", fontsize=7)
        for i, (_, verdict) in enumerate(judged):
            gate = next((gate for gate in verdict.gates if gate.name == name), None)
            if gate is None:
                continue
            at = column + NAME_SHARE + i * share
            light, color, size = _light(gate)
            ax.plot([at], [row], light, color=color, markersize=size, clip_on=False)
            text = gate.found if gate.ok else f"{gate.found}, limit {gate.limit}"
            room_in = (share - 0.035) * column_in
            weight = "normal" if gate.ok else "bold"
            text = shortened(text, 7 if gate.ok else 8, room_in)  # bold is wider
            ax.text(at + 0.02, row, text, va="center", fontsize=7, weight=weight)


def _gate_names(judged: Sequence[Judged]) -> list[str]:
    """Return the names of all gates of all runs, in the order of printing."""
    return list({gate.name: None for _, verdict in judged for gate in verdict.gates})


def _light(gate: Gate) -> tuple[str, str, float]:
    if gate.ok:
        return "o", RUNS[2][0], 4.5
    return {"invalid": ("X", STATUS["FAIL"][0], 7.0), "warning": ("^", RUNS[1][0], 6.0)}.get(
        gate.severity, ("o", SOFT, 3.5)
    )


def _provenance(made: Figure, judged: Sequence[Judged]) -> float:
    """Print where the figures come from, in small type at the foot; return where it ends."""
    room = (RIGHT - LEFT) * A4_IN[0]
    lines: list[str] = []
    for letter, (run, verdict) in zip(LETTERS, judged, strict=False):
        before = f"{letter}: " if len(judged) > 1 else ""
        lines.extend(wrapped(before + wording.origin(run.meta, verdict), 6.5, room, 2))
        if verdict.imported:  # what the tool's words mean, since they are not ours
            words = ". ".join(verdict.imported["definitions"])
            lines.extend(wrapped(f"{before}{words}.", 6.5, room, 8 if len(judged) == 1 else 4))
    for number, line in enumerate(reversed(lines)):
        made.text(LEFT, 0.016 + 0.01 * number, line, fontsize=6.5, va="bottom", color=SOFT)
    return 0.016 + 0.01 * len(lines)


def chart_figures(judged: Sequence[Judged]) -> dict[str, Figure]:
    """Return the charts as figures of their own, by file name."""
    made = {}
    with style():
        names = [f"{shortened(verdict.name, 8, 2.4)}: " for _, verdict in judged]
        for name, draw in (("ttft", draw_ttft), ("itl", draw_itl)):
            made[name] = Figure(figsize=(7.0, 4.2))
            draw(made[name].add_axes((0.09, 0.25, 0.87, 0.64)), judged, names)
        made["timeline"] = Figure(figsize=(8.0, 5.0))
        boxes = [(left, bottom, 0.41, 0.33) for bottom in (0.57, 0.08) for left in (0.07, 0.56)]
        panels = [made["timeline"].add_axes(box) for box in boxes]
        draw_timeline(panels, judged)
        draw_markers(panels, judged)
        for line in marker_lines(judged, 7, 7.2, 1):
            made["timeline"].text(0.07, 0.012, line, fontsize=7)
        made["timeline"].text(0.07, 0.96, f"Timeline, s    ({timeline_key(judged)})")
        made["instrument"] = Figure(figsize=(8.0, 2.4))
        _draw_gates(made["instrument"].add_axes((0.03, 0.04, 0.94, 0.82)), judged)
        made["instrument"].text(
            0.03, 0.92, "Instrument: " + "   ".join(verdict.name for _, verdict in judged)
        )
        for figure in made.values():
            watermark(figure, judged)
    return made
