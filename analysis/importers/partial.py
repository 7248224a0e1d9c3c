"""JSON that was cut off, as far as it is whole.

jiter keeps what is open at the end without saying so: a list that lacks its rest, a number that lacks its
last digits. All that is last in its container may be such, so whoever reads does without the last record.
"""

from collections.abc import Iterator
from typing import Any

import jiter

Way = tuple[str | int, ...]
"""Keys and places that lead from the outermost container to a value."""


def read(text: str) -> tuple[Any, Way]:
    """Return the value that a text begins with, and the way to what is last in it; raises ValueError."""
    value = jiter.from_json(text.encode(), partial_mode=True)
    return value, tuple(_last(value))


def _last(value: Any) -> Iterator[str | int]:
    while isinstance(value, dict | list) and value:
        step = next(reversed(value)) if isinstance(value, dict) else len(value) - 1
        yield step
        value = value[step]


def without(value: Any, way: Way) -> Any:
    """Return a copy of a value that lacks what a way leads to; None where it leads nowhere on."""
    if not way:
        return None
    kept = value.copy()
    if len(way) == 1:
        del kept[way[0]]
    else:
        kept[way[0]] = without(kept[way[0]], way[1:])
    return kept
