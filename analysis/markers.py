"""Markers in a run.json: what happened to a run at a moment. The load side writes them as they are set."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

LOAD = "load"


class Marker(NamedTuple):
    """A word at a moment; of a changed load, `until_unix_ns` is when it was reached (None: it never was)."""

    unix_ns: int
    until_unix_ns: int | None
    text: str
    kind: str  # note | load

    @property
    def clock(self) -> str:
        """The moment as a time of day."""
        return f"{datetime.fromtimestamp(self.unix_ns / 1e9, UTC):%H:%M:%S} UTC"

    def meets(self, start_ns: int, end_ns: int) -> bool:
        """Say whether any of it lies within start <= t < end."""
        until = end_ns if self.until_unix_ns is None else self.until_unix_ns
        return self.unix_ns < end_ns and (self.unix_ns >= start_ns or until > start_ns)


def read(meta: Mapping[str, Any]) -> tuple[Marker, ...]:
    """Return the markers of a run.json; none where it is older than they are. Raises ValueError."""
    found = meta.get("markers", [])
    if not isinstance(found, list):
        raise ValueError(f"found markers = {found!r}, expected a list")  # noqa: TRY004 - of a file, not of code
    return tuple(_marker(entry) for entry in found)


def _marker(entry: Any) -> Marker:
    if isinstance(entry, dict):
        values: Any = [entry.get(name) for name in Marker._fields]
        made = Marker(*values)
        whens = [when for when in made[:2] if when is not None]
        timed = made.unix_ns is not None and all(isinstance(w, int) and 0 <= w < 1 << 63 for w in whens)
        if timed and isinstance(made.text, str) and isinstance(made.kind, str):
            return made
    raise ValueError(f"found {entry!r} among markers, expected unix_ns, text and kind")
