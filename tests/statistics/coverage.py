"""How often the judge's own intervals cover a truth that is known: counted and printed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.histogram import Histogram, Interval
from analysis.objective import ObjectiveResult
from analysis.pooling import pooled
from analysis.samples import Tally, gap_tally, pooled_gaps, share_tally
from analysis.sla import Limit
from analysis.statistics import REQUESTS, SECONDS, Terms, mean_of, share_bounds
from tests.statistics.results import averaged, counted

FloatArray = NDArray[np.float64]

Bounds = tuple[float, float] | None
"""Lower and upper; None where the interval is refused."""


@dataclass(frozen=True)
class Coverage:
    """Shares of the bounds that were given: the truth below the upper one, above the lower one, within."""

    upper: float
    lower: float
    both: float
    given: float  # share of all that were asked for


def covered(what: str, found: Sequence[Bounds], truth: float) -> Coverage:
    """Count, and print a line; nominal are 95 % of what lies between both."""
    bounds = [one for one in found if one is not None]
    count = max(1, len(bounds))
    upper = sum(high >= truth for _, high in bounds) / count
    lower = sum(low <= truth for low, _ in bounds) / count
    both = sum(low <= truth <= high for low, high in bounds) / count
    given = len(bounds) / len(found)
    print(f"\n  {what:<56} both {both:6.1%}  upper {upper:6.1%}  lower {lower:6.1%}", end="")
    print(f"  given {given:4.0%}", end="")
    return Coverage(upper, lower, both, given)


def of_share(values: FloatArray, limit: float, allowed: float) -> ObjectiveResult:
    """Judge a run by its values at or above the limit, as `judge_objective` does."""
    bad = values >= limit
    return of_tally(share_tally(bad, bad, [values], allowed), allowed)


def of_gaps(gaps: Sequence[NDArray[np.int64]], limit_ns: int, allowed: float) -> ObjectiveResult:
    """Judge a run by its gaps (ns), by second."""
    intervals = []
    for second, found in enumerate(gaps):
        if len(found):
            one = Histogram()
            one.record(found.tolist())
            intervals.append(Interval("", second, one))
    none_failed = pd.DataFrame({"due_unix_ns": [], "outcome": []}, dtype="int64")
    log = pooled_gaps(intervals, none_failed, range(len(gaps)))
    limit = Limit("itl", strict=True, limit_ns=limit_ns)
    return of_tally(gap_tally(log, limit, allowed), allowed)


def of_tally(tally: Tally, allowed: float) -> ObjectiveResult:
    bounds = None if tally.refusal else tally.bounds()
    figures = {
        name: getattr(tally, name) for name in ("n", "bad", "undecided", "n_eff", "n_eff_low", "degrees")
    }
    return counted(allowed=allowed, bounds=bounds or (None, None), **figures)


def of_mean(values: FloatArray) -> ObjectiveResult:
    """Judge a run by its mean."""
    return _of_terms(values, np.ones(len(values)), REQUESTS)


def of_gap_mean(gaps: Sequence[NDArray[np.int64]]) -> ObjectiveResult:
    """Judge a run by the mean (ns) of its gaps, by second, as gaps that are spread over tokens are."""
    filled = [second for second in gaps if len(second)]
    sums, counts = ([float(of(second)) for second in filled] for of in (np.sum, len))
    return _of_terms(np.array(sums), np.array(counts), SECONDS)


def _of_terms(total: FloatArray, count: FloatArray, terms: Terms) -> ObjectiveResult:
    mean = mean_of(total, count, terms)
    bounds = mean.bounds() if mean.independent >= terms.least else (None, None)
    metric = "itl_token" if terms is SECONDS else "ttft"
    return averaged(mean.value, metric=metric, n=int(count.sum()), n_eff=mean.independent, bounds=bounds)


def bounds_of(result: ObjectiveResult) -> Bounds:
    if result.bound_low is None or result.bound_high is None:
        return None
    return result.bound_low, result.bound_high


def together(results: Iterable[ObjectiveResult], runs: int) -> list[ObjectiveResult]:
    """Return what each so many runs say together."""
    source, found = iter(results), []
    while group := list(islice(source, runs)):
        found.append(pooled(group)[0])
    return found


def can_be_missed(results: Sequence[ObjectiveResult], allowed: float) -> bool:
    """Say whether a sample of this worth could show less than is allowed at all, if it had nothing bad.

    At 5 % it must be worth 59 independent requests, at 1 % 299. Where few are, upper bounds hold always.
    """
    worth = float(np.median([one.n_eff or 0.0 for one in results]))
    return worth > 0 and share_bounds(0, 0, worth)[1] < allowed
