"""Call back at an absolute time, finer than the event loop's own millisecond.

asyncio sleeps in epoll, whose timeout counts milliseconds. On Linux a timerfd, registered with the loop like
any socket, wakes it within some tens of microseconds. Elsewhere the loop's own timer is used.
"""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from time import perf_counter_ns

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = 0o4000
_TFD_TIMER_ABSTIME = 1


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class Alarm:
    """One heap of due calls, drained in one callback of the loop. Times are perf_counter_ns."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the timer and register it with the loop."""
        self._loop = loop
        self._heap: list[tuple[int, int, Callable[[int], None]]] = []
        self._number = count()  # calls due at the same time keep their order
        self._armed_ns: int | None = None
        self._spec = _TimerSpec()
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK) if self._libc else -1
        if self._fd >= 0:
            loop.add_reader(self._fd, self._rang)

    def at(self, due_ns: int, call: Callable[[int], None]) -> None:
        """Call `call(due_ns)` at that time; at once, from the loop, where it has passed."""
        heappush(self._heap, (due_ns, next(self._number), call))
        if self._armed_ns is None or due_ns < self._armed_ns:
            self._arm(due_ns)

    def _rang(self) -> None:
        with suppress(BlockingIOError):  # armed anew, for a time that has passed, since epoll reported it
            os.read(self._fd, 8)
        self._drain()

    def _drain(self) -> None:
        heap = self._heap
        self._armed_ns = 0  # nobody re-arms while calls are made: one settime at the end is enough
        now = perf_counter_ns()  # taken once: what falls due meanwhile waits until sockets were looked at
        try:
            while heap and heap[0][0] <= now:
                due_ns, _, call = heappop(heap)
                call(due_ns)
        finally:
            self._armed_ns = None
            if heap:
                self._arm(heap[0][0])

    def _arm(self, due_ns: int) -> None:
        self._armed_ns = due_ns
        if self._libc is None or self._fd < 0:
            self._loop.call_at(due_ns / 1e9, self._drain)  # the loop's clock is the same monotonic one
            return
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(max(due_ns, 1), 1_000_000_000)  # zero would disarm
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)
