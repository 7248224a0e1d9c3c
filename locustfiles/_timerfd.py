"""Linux's timerfd: a timer that the event loop watches like a socket, on time to some 50 microseconds.

The loop's own timers are late by up to a millisecond. Python has timerfd from 3.13 on; until then, ctypes.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Callable

import gevent

CLOCK_MONOTONIC = 1  # what perf_counter_ns reads on Linux
TFD_TIMER_ABSTIME = 1
SECOND_NS = 1_000_000_000

_timespecs = struct.Struct("qqqq")  # interval and value, each (seconds, nanoseconds)


class Timer:
    """Calls back in the loop of the greenlet that made it. Raises OSError where there is no timerfd."""

    def __init__(self, callback: Callable[[], None]) -> None:
        """Open the timer; it rings only after `ring_at` or `ring_every`."""
        if sys.platform != "linux":
            raise OSError("no timerfd outside Linux")
        self._callback = callback
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._watcher = gevent.get_hub().loop.io(self._fd, 1)
        self._watcher.start(self._ring)

    def ring_at(self, at_ns: int) -> None:
        """Ring once, at this time of perf_counter_ns. Forgets what was set before."""
        self._set(TFD_TIMER_ABSTIME, 0, at_ns)

    def ring_every(self, period_ns: int) -> None:
        """Ring again and again, this far apart; 0: no more."""
        self._set(0, period_ns, period_ns)

    def _set(self, flags: int, period_ns: int, value_ns: int) -> None:
        value = _timespecs.pack(*divmod(period_ns, SECOND_NS), *divmod(value_ns, SECOND_NS))
        self._libc.timerfd_settime(self._fd, flags, value, None)

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set anew meanwhile: too early to ring
        self._callback()

    def close(self) -> None:
        """Never ring again. Closing again does nothing."""
        if self._fd >= 0:
            self._watcher.stop()
            self._watcher.close()
            os.close(self._fd)
            self._fd = -1
