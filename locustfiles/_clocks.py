"""Clocks of other hosts, sans-IO: how far a worker's is from the master's, and how well that is known.

NTP's formula (RFC 5905, section 8), over Locust's own messages: the master sends at t0 and hears at t3 by its
clock, the worker hears at t1 and answers at t2 by its own. The offset is ((t1 - t0) + (t2 - t3)) / 2; however
much longer one way takes than the other, it is wrong by at most half the round trip. A busy process only
makes the round trip longer, so the quickest of several says most.
"""

from typing import NamedTuple


class Sample(NamedTuple):
    """One exchange: the worker's clock minus the master's, and the round trip's time on the way."""

    offset_ns: int
    round_trip_ns: int

    @property
    def low_ns(self) -> int:
        """The least that the offset can be."""
        return self.offset_ns - self.round_trip_ns // 2

    @property
    def high_ns(self) -> int:
        """The most that the offset can be."""
        return self.offset_ns + self.round_trip_ns // 2

    @property
    def proven_ns(self) -> int:
        """The offset nearest to zero that the exchange allows."""
        return max(self.low_ns, 0) or min(self.high_ns, 0)


def exchange(sent_ns: int, heard_ns: int, answered_ns: int, back_ns: int) -> Sample:
    """Return what one exchange says; the arguments are t0 to t3, t1 and t2 by the other clock."""
    offset_ns = ((heard_ns - sent_ns) + (answered_ns - back_ns)) // 2
    return Sample(offset_ns, max(0, (back_ns - sent_ns) - (answered_ns - heard_ns)))


class Offset:
    """One worker's clock during a run."""

    def __init__(self, first: Sample) -> None:
        """Begin with one exchange."""
        self.best = self.worst = first
        self.samples = 1
        self._low_ns, self._high_ns = first.low_ns, first.high_ns

    def take(self, sample: Sample) -> None:
        """Add an exchange."""
        self.samples += 1
        self.best = min(self.best, sample, key=lambda one: one.round_trip_ns)
        self.worst = max(self.worst, sample, key=lambda one: abs(one.proven_ns))
        self._low_ns = max(self._low_ns, sample.low_ns)
        self._high_ns = min(self._high_ns, sample.high_ns)

    @property
    def moved_ns(self) -> int:
        """How far it moved at least: no one offset can be true of all exchanges."""
        return max(0, self._low_ns - self._high_ns)

    def plain(self, worker: str) -> dict[str, int | str]:
        """Return it for run.json."""
        return {
            "worker": worker,
            "offset_ns": self.best.offset_ns,
            "error_ns": self.best.round_trip_ns // 2,
            "worst_ns": self.worst.proven_ns,
            "moved_ns": self.moved_ns,
            "samples": self.samples,
        }
