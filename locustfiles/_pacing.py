"""When requests are due, sans-IO: a seed in, an endless schedule in absolute time out.

One user is one arrival a second. A schedule never looks at the server or at the clock, so a late arrival
does not move the next one.
"""

import random
from collections.abc import Iterator

GOLDEN = 0.6180339887498949  # consecutive multiples, modulo 1, spread evenly however many there are
SECOND_NS = 1_000_000_000

ARRIVALS = ("poisson", "constant")


def poisson(seed: str) -> Iterator[int]:
    """Yield due times (ns from the user's start): exponential gaps of one second in the mean.

    The arrivals of N such users together are a Poisson process of N a second.
    """
    gaps = random.Random(seed)
    due_s = 0.0
    while True:
        due_s += gaps.expovariate(1.0)
        yield int(due_s * SECOND_NS)


def phase(user: int) -> float:
    """Return a user's place within a second, 0 <= phase < 1: any number of users is spread evenly."""
    return user * GOLDEN % 1.0


def constant(user: int) -> Iterator[int]:
    """Yield due times (ns from a start that all users share): one a second, out of phase with the others."""
    due_ns = int(phase(user) * SECOND_NS)
    while True:
        yield due_ns
        due_ns += SECOND_NS
