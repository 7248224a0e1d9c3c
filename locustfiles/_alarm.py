"""Wake greenlets on time. The event loop's own timers are late by up to a millisecond; this one is not.

On Linux a timerfd holds the next due time (nanoseconds, absolute, monotonic) and the loop watches it like a
socket. Elsewhere the loop's timers have to do. Lateness is recorded with every request either way.
"""

import ctypes
import heapq
import itertools
import os
import struct
import sys
import time

import gevent
import gevent.event

CLOCK_MONOTONIC = 1  # what perf_counter_ns reads on Linux
TFD_TIMER_ABSTIME = 1
SECOND_NS = 1_000_000_000

_timespecs = struct.Struct("qqqq")  # interval and value, each (seconds, nanoseconds)


class Alarm:
    """One process's alarm clock, for any number of greenlets."""

    def __init__(self) -> None:
        """Open the timer, where there is one."""
        self._waiting: list[tuple[int, int, gevent.event.Event]] = []
        self._order = itertools.count()
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            self._watcher = gevent.get_hub().loop.io(self._fd, 1)
            self._watcher.start(self._ring)

    def wait_until(self, due_ns: int) -> None:
        """Sleep until a time of perf_counter_ns; returns at once if it has passed."""
        now_ns = time.perf_counter_ns()
        if due_ns <= now_ns:
            return
        if self._fd < 0:
            gevent.sleep((due_ns - now_ns) / SECOND_NS)
            return
        rung = gevent.event.Event()
        heapq.heappush(self._waiting, (due_ns, next(self._order), rung))
        if self._waiting[0][2] is rung:
            self._set(due_ns)
        rung.wait()

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set anew meanwhile
        now_ns = time.perf_counter_ns()
        while self._waiting and self._waiting[0][0] <= now_ns:
            heapq.heappop(self._waiting)[2].set()
        if self._waiting:
            self._set(self._waiting[0][0])

    def _set(self, due_ns: int) -> None:
        value = _timespecs.pack(0, 0, *divmod(due_ns, SECOND_NS))
        self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, value, None)

    def close(self) -> None:
        """Close the timer; nobody may be waiting."""
        if self._fd >= 0:
            self._watcher.stop()
            self._watcher.close()
            os.close(self._fd)
            self._fd = -1
