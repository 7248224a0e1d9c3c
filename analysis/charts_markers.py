"""Markers in charts over time: a numbered line where something happened, and what it was beside the title."""

from collections.abc import Sequence

from . import wording
from .charts import INK, PAPER, RUNS, Axes, Judged, wrapped
from .markers import LOAD

DRAWN = 20
"""So many of a run's markers get a line: more would hide what they explain."""

ROWS = 3
"""Numbers of near markers stand below each other; what has no room has no number, but its line."""

NEAR = 0.06
"""Of a panel's width: nearer numbers would cover each other."""

LONGEST = 400
"""Characters of the markers in words: what two lines of a page hold."""


def draw_markers(axes: Sequence[Axes], judged: Sequence[Judged]) -> None:
    """Draw each run's markers over its timeline's panels: a changed load is dotted, a word is dashed."""
    for ax in axes:
        taken = [-1.0] * ROWS  # up to where (share of the width) each row is full
        for at_s, label, color, kind in sorted(_lines(judged)):
            line = (0, (1, 1.5)) if kind == LOAD else (0, (4, 2))
            ax.axvline(at_s, color=color, linewidth=0.9, linestyle=line)
            left, right = ax.get_xlim()
            place = (at_s - left) / (right - left)
            row = next((row for row, until in enumerate(taken) if until <= place - NEAR), None)
            if row is None or not 0 <= place <= 1:
                continue
            taken[row] = place
            ax.annotate(
                label,
                (at_s, 1),
                xycoords=ax.get_xaxis_transform(),
                xytext=(2 if place < 0.5 else -2, -1 - 9 * row),
                textcoords="offset points",
                fontsize=6.5,
                ha="left" if place < 0.5 else "right",
                va="top",
                bbox=PAPER,
            )


def _lines(judged: Sequence[Judged]) -> list[tuple[float, str, str, str]]:
    """Return (seconds on the axis, label, colour, kind) of what is drawn."""
    return [
        (
            marker.unix_ns / 1e9 - run.first_s,
            f"{letter}{number}",
            INK if len(judged) == 1 else color,
            marker.kind,
        )
        for (run, _), letter, (color, _, _) in zip(judged, _letters(judged), RUNS, strict=False)
        for number, marker in enumerate(run.markers[:DRAWN], 1)
    ]


def marker_lines(judged: Sequence[Judged], size_pt: float, room_in: float, lines: int) -> list[str]:
    """Return the markers in words, as many as fit; nothing where there is none."""
    told = [
        f"{letter}{words}"
        for (run, _), letter in zip(judged, _letters(judged), strict=True)
        for words in wording.markers(run)
    ]
    text = "Markers: " + ";  ".join(told)
    text = text if len(text) <= LONGEST else text[:LONGEST] + "…"  # measuring a text takes its length squared
    return wrapped(text, size_pt, room_in, lines) if told else []


def _letters(judged: Sequence[Judged]) -> list[str]:
    return [""] if len(judged) == 1 else list("AB"[: len(judged)])
