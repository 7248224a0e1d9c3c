"""Which sockets can be read, asked in the way that is cheaper: by event, or by the clock.

Theory of operation
-------------------
1. A process that wakes for a single token pays more for the waking than for the token. So, as network
   drivers do: while reads are rare each is an event; once they come faster than one a period, look once a
   period and read everything that is there. With few sockets nothing is saved, and events it is.
2. Nothing else waits for that clock: connections, arrivals and deadlines have the loop's events as ever.
3. A read is late by up to a period, its kernel stamp is not. What one stream sends within a period shares
   the latest stamp, as it does for any late reader; tokens that lost their own this way are `coalesced`.
4. Without the kernel's stamps, or outside Linux, every socket has its own event.
"""

import select
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.monkey import get_original

from locustfiles._timerfd import Timer

PERIOD_NS = 1_000_000
CROWD = 16  # sockets, below which every read is an event
QUIET_PERIODS = 3  # without a read: back to events
READY_MAX = 256  # at once; what is beyond is found again at once

Callback = Callable[[], None]


class EventReader:
    """Calls back for every socket that can be read, when it can."""

    def __init__(self) -> None:
        """Begin with no socket."""
        self._watchers: dict[int, Any] = {}

    def add(self, fd: int, callback: Callback) -> None:
        """Watch a socket."""
        self._watchers[fd] = gevent.get_hub().loop.io(fd, 1)
        self._watchers[fd].start(callback)

    def remove(self, fd: int) -> None:
        """Stop watching a socket; before it is closed. One that is not watched is left alone."""
        watcher = self._watchers.pop(fd, None)
        if watcher:
            watcher.stop()
            watcher.close()

    def close(self) -> None:
        """Stop watching."""
        for fd in list(self._watchers):
            self.remove(fd)


class ClockReader:
    """Calls back for every socket that can be read, once a period where there are many."""

    def __init__(self) -> None:
        """Begin with no socket. Raises OSError or AttributeError where there is no timerfd or no epoll."""
        self._epoll: Any = get_original("select", "epoll")()
        self._callbacks: dict[int, Callback] = {}
        self._read_at_ns = 0
        self._quiet = 0
        self._timer = Timer(self._period)
        self._watcher = gevent.get_hub().loop.io(self._epoll.fileno(), 1)
        self._watcher.start(self._event)

    def add(self, fd: int, callback: Callback) -> None:
        """Watch a socket."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.POLLIN)

    def remove(self, fd: int) -> None:
        """Stop watching a socket; before it is closed. One that is not watched is left alone."""
        if self._callbacks.pop(fd, None):
            self._epoll.unregister(fd)

    def _event(self) -> None:
        """Something can be read: read it, unless the last time was a moment ago."""
        now_ns = time.perf_counter_ns()
        if now_ns - self._read_at_ns < PERIOD_NS and len(self._callbacks) >= CROWD:
            self._watcher.stop()
            self._timer.ring_every(PERIOD_NS)
            self._quiet = 0
        else:
            self._read_at_ns = now_ns
            self._read()

    def _period(self) -> None:
        """Read whatever is there; after some time without anything, wait for events again."""
        self._quiet = 0 if self._read() else self._quiet + 1
        if self._quiet == QUIET_PERIODS:
            self._timer.ring_every(0)
            self._watcher.start(self._event)

    def _read(self) -> int:
        ready = self._epoll.poll(0, READY_MAX)
        for fd, _ in ready:
            callback = self._callbacks.get(fd)
            if callback:  # not closed by one before it
                callback()
        return len(ready)

    def close(self) -> None:
        """Stop watching. Closing again does nothing."""
        if not self._epoll.closed:
            self._timer.close()
            self._watcher.stop()
            self._watcher.close()
            self._callbacks.clear()
            self._epoll.close()


def open_reader(*, stamped: bool) -> EventReader | ClockReader:
    """Return the reader that fits; `stamped` says that the kernel stamps what it receives."""
    if stamped:
        try:
            return ClockReader()
        except (AttributeError, OSError):
            pass
    return EventReader()
