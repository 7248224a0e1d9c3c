"""How much more of a run would decide, where what there is does not."""

import math
from collections.abc import Callable
from typing import NamedTuple

from .evidence import Evidence
from .samples import Tally
from .several import more_events
from .statistics import samples_needed


def growth(tally: Tally, allowed: float, tests: int) -> float | None:
    """Return by what factor a run must grow until it decides, if it goes on as it did; None if never."""
    share, possible = tally.bad / tally.n, (tally.bad + tally.undecided) / tally.n
    needed = samples_needed(possible if possible < allowed else share, allowed)
    if needed is None:
        return None
    if share >= allowed:
        return max(1.0, needed * more_events(tests) / tally.n_eff_low)
    return times_as_long(lambda times: tally.worth(times) >= needed)


def times_as_long(enough: Callable[[float], bool]) -> float:
    """Return by what factor a run must grow until `enough` says so, at least 1, on a hundredth.

    What a short run is worth grows faster than its length, since the run must tell that, too: 300 requests,
    50 of which are worth one, are 14 times too few to show an error rate of 5 %, and not 144 times.
    """
    high = 1.0
    while not enough(high):
        high *= 2
    low = max(1.0, high / 2)
    while high - low > low / 100:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


class More(NamedTuple):
    """What is missing for a decision; None where that cannot be had by a longer run."""

    requests: int | None
    minutes: float | None
    words: str


def more(evidence: Evidence, factor: float | None) -> More:
    """Return the requests and minutes that are missing, at this run's rate."""
    if factor is None or factor <= 1:
        return More(None, None, "")
    if evidence.fixed:
        return More(None, None, f"; needs a window of about {factor * evidence.window_s:,.0f} s")
    requests, minutes = math.ceil((factor - 1) * len(evidence.frame)), (factor - 1) * evidence.window_s / 60
    time = f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes:,.0f} minutes"
    return More(requests, minutes, f"; needs about {requests:,} more requests ({time})")
