"""When requests are due, sans-IO: a seed in, an endless schedule in absolute time out.

One user is one arrival a second, or `rate` of them (37.4 arrivals a second are 38 users of 37.4 / 38 each). A
schedule never looks at the server or at the clock, so a late arrival does not move the next one.
"""

import random
from collections.abc import Iterator

GOLDEN = 0.6180339887498949  # consecutive multiples, modulo 1, spread evenly however many there are
SECOND_NS = 1_000_000_000

ARRIVALS = ("poisson", "constant")


def poisson(seed: str, rate: float = 1.0) -> Iterator[int]:
    """Yield due times (ns from the user's start): exponential gaps of 1 / rate seconds in the mean.

    The arrivals of N such users together are a Poisson process of N * rate a second.
    """
    gaps = random.Random(seed)
    due_s = 0.0
    while True:
        due_s += gaps.expovariate(rate)
        yield int(due_s * SECOND_NS)


def phase(user: int) -> float:
    """Return a user's place within a period, 0 <= phase < 1: any number of users is spread evenly."""
    return user * GOLDEN % 1.0


def period_ns(rate: float) -> int:
    """Return the time between two arrivals of a user where they are constant."""
    return round(SECOND_NS / rate)


def constant(user: int, rate: float = 1.0) -> Iterator[int]:
    """Yield due times (ns from a start that all users share): evenly spaced, out of phase with the others."""
    due_ns = int(phase(user) * period_ns(rate))
    while True:
        yield due_ns
        due_ns += period_ns(rate)
