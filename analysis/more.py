"""How much more of a run would decide, where what there is does not."""

import math
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
    return max(1.0, needed / tally.n_eff * (more_events(tests) if share >= allowed else 1.0))


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
