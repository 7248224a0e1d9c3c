"""A locustfile for the benchmarks: the floor client's load. Streams start 2 ms apart, as its do.

Streams in step come in bursts, and a burst costs each of its tokens less than a lone token: a ratio is fair
only where both clients read the same pattern.
"""

import itertools

import gevent

from locustfiles._users import ClosedLoopUser


class Staggered(ClosedLoopUser):
    """Ask again as soon as an answer is complete."""

    places = itertools.count()

    def on_start(self) -> None:
        gevent.sleep(0.002 * next(self.places))
