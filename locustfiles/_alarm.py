"""Wake greenlets on time, for any number of them, by one timerfd; elsewhere the loop's timers have to do.

Lateness is recorded with every request either way.
"""

import contextlib
import heapq
import itertools
import time

import gevent
import gevent.event

from locustfiles._timerfd import SECOND_NS, Timer


class Alarm:
    """One process's alarm clock."""

    def __init__(self) -> None:
        """Open the timer, where there is one."""
        self._waiting: list[tuple[int, int, gevent.event.Event]] = []
        self._order = itertools.count()
        self._timer: Timer | None = None
        with contextlib.suppress(OSError):
            self._timer = Timer(self._ring)

    def wait_until(self, due_ns: int) -> None:
        """Sleep until a time of perf_counter_ns; returns at once if it has passed."""
        now_ns = time.perf_counter_ns()
        if due_ns <= now_ns:
            return
        if self._timer is None:
            gevent.sleep((due_ns - now_ns) / SECOND_NS)
            return
        rung = gevent.event.Event()
        heapq.heappush(self._waiting, (due_ns, next(self._order), rung))
        if self._waiting[0][2] is rung:
            self._timer.ring_at(due_ns)
        rung.wait()

    def _ring(self) -> None:
        now_ns = time.perf_counter_ns()
        while self._waiting and self._waiting[0][0] <= now_ns:
            heapq.heappop(self._waiting)[2].set()
        if self._timer and self._waiting:
            self._timer.ring_at(self._waiting[0][0])

    def close(self) -> None:
        """Close the timer; nobody may be waiting."""
        if self._timer:
            self._timer.close()
            self._timer = None
