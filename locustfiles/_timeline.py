"""The timeline of a run: a row a second, kept in arrays of an hour, so that a day of them is 7 MB.

No Locust, no files. A row stays open: a request counts at the second it was due when its stream has ended,
however late that is.
"""

from array import array
from collections.abc import Collection, Iterator
from typing import NamedTuple

HOUR_S = 3600
HOLES_MAX_S = 3600
OFFERED, STARTED, OK, FAILED, IN_FLIGHT, TOKENS, LAG, CPU, WORKERS, KNOWN = range(10)  # of a row
WIDTH = 10

Tick = list[int]
"""What one worker says of a second: in flight, chunks, lag (ns), CPU (permille), started."""


class Second(NamedTuple):
    """One row of timeline.csv."""

    unix_s: int
    offered: int  # requests due
    started: int  # requests sent
    ok: int
    failed: int
    in_flight: int
    tokens: int  # token-bearing chunks that arrived
    lag_max_ns: int
    cpu_share_max: float  # of the busiest worker
    workers: int  # that reported


class Timeline:
    """All seconds of a run."""

    def __init__(self) -> None:
        """Begin without any."""
        self._hours: dict[int, array[int]] = {}  # by second // HOUR_S: its rows, one after another
        self._known = self._first = self._last = 0

    def count(self, unix_s: int, column: int) -> None:
        """Count one request's event: OFFERED, STARTED, OK or FAILED."""
        hour, at = self.know(unix_s)
        hour[at + column] += 1

    def add(self, unix_s: int, ticks: Collection[Tick]) -> None:
        """Add what workers said of a second to what is known of it."""
        hour, at = self.know(unix_s)
        hour[at : at + WIDTH] = array("q", _with(hour[at : at + WIDTH], ticks))

    def know(self, unix_s: int) -> tuple["array[int]", int]:
        """Make a second one of the run's; returns its hour and where its row begins there."""
        hour = self._hours.get(unix_s // HOUR_S)
        if hour is None:
            hour = self._hours[unix_s // HOUR_S] = array("q", bytes(8 * WIDTH * HOUR_S))
        at = unix_s % HOUR_S * WIDTH
        if not hour[at + KNOWN]:
            hour[at + KNOWN] = 1
            self._first = min(unix_s, self._first) if self._known else unix_s
            self._last = max(unix_s, self._last) if self._known else unix_s
            self._known += 1
        return hour, at

    def seconds(self) -> Iterator[int]:
        """Yield the seconds from the first to the last, in order."""
        if not self._known:
            return
        span = range(self._first, self._last + 1)
        if len(span) <= self._known + HOLES_MAX_S:
            yield from span
            return
        # A clock that was set by days would ask for millions of empty rows.
        for number in sorted(self._hours):
            hour = self._hours[number]
            for second in range(HOUR_S):
                if hour[second * WIDTH + KNOWN]:
                    yield number * HOUR_S + second

    def row(self, unix_s: int, ticks: Collection[Tick]) -> Second:
        """Return a second's row; `ticks` are those that have not been added yet."""
        hour, at = self._hours.get(unix_s // HOUR_S), unix_s % HOUR_S * WIDTH
        kept = hour[at : at + WIDTH] if hour else array("q", bytes(8 * WIDTH))
        values = _with(kept, ticks)
        return Second._make((unix_s, *values[:CPU], values[CPU] / 1000, values[WORKERS]))


def _with(row: "array[int]", ticks: Collection[Tick]) -> list[int]:
    """Return a row with ticks of several workers."""
    values = row.tolist()
    for in_flight, tokens, lag_ns, cpu_permille, *_ in ticks:
        values[IN_FLIGHT] += in_flight
        values[TOKENS] += tokens
        values[LAG] = max(values[LAG], lag_ns)
        values[CPU] = max(values[CPU], cpu_permille)
    values[WORKERS] += len(ticks)
    return values
