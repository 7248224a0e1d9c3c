"""How far an experiment is, and how long it will still take: loads as planned, all else as it was so far."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean

from tokenswarm.experiment import Run
from tokenswarm.tables import Progress

AROUND_S = 6.0
"""Before anything was measured: what a run takes beside its load (Locust starts, streams drain)."""


class Pace:
    """Adds to what is shown of a run where it stands in the whole."""

    def __init__(self, show: Callable[[Progress], None], now_s: Callable[[], float] = time.monotonic) -> None:
        """Begin an experiment."""
        self._show = show
        self._now_s = now_s
        self._starts_s: list[float] = []
        self._around_s: list[float] = []
        self._where = ""
        self._loads_s: Sequence[float] = ()
        self._starts = 0

    def expect(self, where: str, loads_s: Sequence[float], starts: int) -> None:
        """Say what is to come: the loads of the runs from the next one on, and how often a server starts."""
        self._where, self._loads_s, self._starts = where, loads_s, starts

    @contextmanager
    def start(self) -> Iterator[None]:
        """Time the start of a server."""
        began_s = self._now_s()
        yield
        self._starts_s.append(self._now_s() - began_s)
        self._starts = max(0, self._starts - 1)

    @contextmanager
    def run(self, load_s: float) -> Iterator[None]:
        """Time a run."""
        began_s = self._now_s()
        yield
        self._around_s.append(max(0.0, self._now_s() - began_s - load_s))

    def left_s(self, elapsed_s: float) -> float | None:
        """Return the time left, so far into the current load; None while a start was never timed."""
        if self._starts and not self._starts_s:
            return None
        around_s = fmean(self._around_s or [AROUND_S]) * len(self._loads_s)
        starts_s = fmean(self._starts_s or [0.0]) * self._starts
        return max(0.0, sum(self._loads_s) + around_s + starts_s - elapsed_s)

    def __call__(self, state: Progress) -> None:
        """Show a state, with where it stands."""
        left_s = self.left_s(state.elapsed_s)
        about = "" if left_s is None else f", about {spoken(left_s)} left"
        self._show(state._replace(ahead=self._where + about if self._where else ""))


def spoken(seconds: float) -> str:
    """Write a length of time for a person."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def load_s(run: Run, warmup_s: float) -> float:
    """Return how long a run loads its server: Locust's time, and a second in which its users come."""
    return run.duration_s + warmup_s + 1


def starts(runs: Sequence[Run]) -> int:
    """Return how often our own servers start for these runs."""
    return len({(run.server.name, run.start) for run in runs if not run.server.url})
