"""The names of the servers with their colours, lines and markers, once for all charts below."""

from collections.abc import Mapping

from .charts import SOFT, Figure, Look, shortened, width_in

ROW_IN = 0.17
LEAST_IN = 1.75
"""The room of a name at least (inches)."""


def draw_legend(
    made: Figure, looks: Mapping[str, Look], across: tuple[float, float], top: float, note: str = ""
) -> float:
    """Name servers from left to right, in as many rows as they need; return where the legend ends.

    `looks` are theirs by name; a single server needs no legend. `note` stands at the right of the first row.
    """
    if len(looks) < 2 and not note:
        return top
    wide_in, high_in = made.get_size_inches()
    left, right = across
    noted_in = width_in(note, 7) + 0.15 if note else 0.0
    room_in = (right - left) * wide_in - noted_in
    columns = max(1, min(len(looks), int(room_in / LEAST_IN)))
    rows = -(-len(looks) // columns)
    room_in = min(room_in, 1.95 * columns)
    bottom = top - rows * ROW_IN / high_in
    place = (left, bottom, room_in / wide_in, top - bottom)
    ax = made.add_axes(place, xlim=(0, room_in), ylim=(rows - 0.5, -0.5))
    ax.axis("off")
    for number, (name, (color, line, marker)) in enumerate(looks.items() if len(looks) > 1 else ()):
        row, column = divmod(number, columns)
        x, step_in = column * room_in / columns, room_in / columns
        ax.plot([x, x + 0.27], [row, row], color=color, linestyle=line)
        ax.plot([x + 0.135], [row], marker, color=color, markersize=5)
        ax.text(x + 0.34, row + 0.05, shortened(name, 8, step_in - 0.42), fontsize=8, va="center")
    if note:
        y = top - ROW_IN / 2 / high_in
        made.text(right, y, note, fontsize=7, color=SOFT, ha="right", va="center")
    return float(bottom - 0.04 / high_in)
