"""A table on a page: the replicas of each server, what they cost, and what one of them carries."""

from collections.abc import Mapping, Sequence

from .capacity import Capacity
from .capacity_words import bounds, money
from .charts import A4_IN, FAINT, SOFT, Figure, shortened, width_in
from .charts_capacity import look
from .page import LEFT, RIGHT
from .sized import Needed

LINE = 0.0185
COUNT, HOUR, TOKENS, KEEPS = 0.31, 0.40, 0.60, 0.62
"""Where the columns are: the first three end there, the last begins."""


def draw_fleets(
    made: Figure, capacities: Sequence[Capacity], needed: Mapping[str, Needed], top: float
) -> float:
    """Draw a line for each server that somebody asked for; return where the table ends."""
    asked = [one for one in capacities if one.server in needed]
    rules = made.add_axes((LEFT, 0, RIGHT - LEFT, 1), xlim=(LEFT, RIGHT), ylim=(0, 1))
    rules.axis("off")
    currency = next((one.currency for one in needed.values() if one.per_hour is not None), "")
    keeps = KEEPS if currency else COUNT + 0.05
    heads = [
        (LEFT, "server", "left"),
        (COUNT, "replicas", "right"),
        (keeps, "one replica keeps the SLA", "left"),
        (RIGHT, "good requests/s (95 %)", "right"),
    ]
    if currency:
        heads += [
            (HOUR, f"{currency} an hour", "right"),
            (TOKENS, f"{currency} per M output tokens", "right"),
        ]
    for x, head, align in heads:
        made.text(x, top - 0.4 * LINE, head, fontsize=7.5, color=SOFT, ha=align, va="center")
    for row, capacity in enumerate(asked):
        y = top - LINE * (row + 1.5)
        rules.axhline(y + LINE / 2, color=FAINT, linewidth=0.6)
        color, _, marker = look(capacities, capacity.server)
        rules.plot([LEFT + 0.009], [y], marker, color=color, markersize=6)
        name = shortened(capacity.server, 9, 1.2)  # bold is wider
        made.text(LEFT + 0.022, y, name, fontsize=9, va="center", weight="bold")
        _needed(made, needed[capacity.server], y)
        room = 0.2 * A4_IN[0] if currency else 3.0
        made.text(keeps, y, shortened(_keeps(capacity), 8.5, room), fontsize=8.5, va="center")
        carries = bounds(capacity.at_highest) if capacity.at_highest else ""
        made.text(RIGHT, y, carries, fontsize=8.5, va="center", ha="right")
    return top - LINE * (len(asked) + 1)


def _keeps(capacity: Capacity) -> str:
    if capacity.highest is None:
        return "at no level" if capacity.refuted is not None else "not decided"
    end = f", not {capacity.refuted:g}" if capacity.refuted is not None else " or more"
    return f"up to {capacity.highest:g}{end} {capacity.unit}"


def _needed(made: Figure, found: Needed, y: float) -> None:
    """Write the replicas and their costs."""
    count = "none" if found.replicas is None else f"{found.replicas:,}"
    made.text(COUNT, y, count, fontsize=10, weight="bold", va="center", ha="right")
    if found.per_hour is not None:
        made.text(HOUR, y, money(found.per_hour), fontsize=8.5, va="center", ha="right")
    if found.per_million_output is not None and found.per_million_at_capacity is not None:
        text = f"{money(found.per_million_output)}  ({money(found.per_million_at_capacity)} at capacity)"
        size = min(8.5, 8.5 * (TOKENS - HOUR - 0.015) * A4_IN[0] / width_in(text, 8.5))
        made.text(TOKENS, y, text, fontsize=size, va="center", ha="right")
