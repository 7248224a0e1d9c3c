"""How probable it is that so many independent events, or values, decide; and how many it takes."""

import math
from collections.abc import Callable

from .statistics import CONFIDENCE

POWER = 0.8

POINTS = 40
"""So many values stand for all that an estimate may be."""

MOST = 10**9
"""Nobody waits for more independent events than that."""


def independent_needed(share: float, allowed: float) -> int | None:
    """Return the independent events that decide with a probability of 80 %, at least; None if none do.

    Exact binomial: at n events a PASS needs so few bad ones that no more would be seen in 5 % of all runs,
    were the allowed share the true one; a FAIL so many that no fewer would. Powers of neighbouring n go up
    and down a little, as counts are whole: all numbers from the one returned to a fiftieth above it decide.
    """
    if share == allowed:
        return None

    def decides(n: int) -> bool:
        return power(n, share, allowed) >= POWER

    high = least(decides)
    if high is None:
        return None
    while not all(decides(n) for n in range(high, high + max(2, high // 50), max(1, high // 1000))):
        high += max(1, high // 200)
    return high


def power(n: int, share: float, allowed: float, tests: int = 1) -> float:
    """Return how probable it is that n independent events decide, if `share` of all are bad.

    A FAIL is one of so many `tests`, and taken at 5 % of all of them together (`analysis.several`).
    """
    from scipy.special import bdtr, bdtrc, bdtrik  # noqa: PLC0415 - costs 0.1 s that only a judge needs

    if share < allowed:
        passes = math.floor(float(bdtrik(1 - CONFIDENCE, n, allowed))) + 1
        while passes >= 0 and bdtr(passes, n, allowed) > 1 - CONFIDENCE:
            passes -= 1
        return float(bdtr(passes, n, share)) if passes >= 0 else 0.0
    chance = (1 - CONFIDENCE) / tests
    fails = max(0, math.floor(float(bdtrik(1 - chance, n, allowed))) - 1)
    while bdtrc(fails, n, allowed) > chance:  # more than `fails` bad ones
        fails += 1
    return float(bdtrc(fails, n, share)) if fails < n else 0.0


def power_estimated(n: float, degrees: float, share: float, allowed: float, tests: int = 1) -> float:
    """Return the same where what events are worth, n on average, is estimated with so many degrees.

    A single test gains by that about as often as it loses; that each of ten does what it must is decided by
    the worst estimate of ten. So a PASS is taken over all that the estimate may be, by chi-squared. And what
    shows many bad events also shows how alike they are, so n is taken half a standard deviation lower. With
    half the degrees for the scatter, and not with all, runs of ten stretches PASS as often as promised where
    requests queue (tests/statistics).
    """
    from scipy.special import chdtri  # noqa: PLC0415 - as above

    n /= 1 + math.sqrt(2 / degrees) / 2
    if share >= allowed:
        return power(int(n), share, allowed, tests)
    half, chances = degrees / 2, ((i + 0.5) / POINTS for i in range(POINTS))
    worth = (n * half / float(chdtri(half, chance)) for chance in chances)
    return sum(power(int(one), share, allowed) for one in worth) / POINTS


def shown(distance: float, degrees: float, level: float) -> float:
    """Return how probable it is that Student's t bound shows a true distance of so many standard errors.

    By the noncentral t distribution: the usual sum of two normal quantiles forgets that a short run must
    estimate its own scatter.
    """
    from scipy.special import nctdtr, stdtrit  # noqa: PLC0415 - as above

    return float(1 - nctdtr(degrees, distance, stdtrit(degrees, level)))


def least(enough: Callable[[int], bool], first: int = 1, most: int | None = MOST) -> int | None:
    """Return the least number that is enough, where all larger ones are, too; None beyond `most`."""
    low, high = first - 1, first
    while not enough(high):
        low, high = high, 2 * high
        if most and high > most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
