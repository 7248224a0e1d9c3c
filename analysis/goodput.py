"""The rate of good requests over runs at one level of load, and bounds that hold where runs differ."""

from collections.abc import Sequence
from statistics import mean

from .evidence import Evidence
from .objective import ObjectiveResult
from .pooled_worth import MIN_RUNS
from .pooling import few_bounds, pooled
from .rates import Served, served
from .statistics import runs_bounds


def good_share(results: Sequence[ObjectiveResult]) -> float:
    """Return the share of the runs' requests that were good."""
    return 1 - sum(result.bad or 0 for result in results) / sum(result.n for result in results)


def asked(evidence: Evidence) -> Served:
    """Return the rate of a run's requests, whatever became of them."""
    return served(evidence.frame.assign(outcome="ok"), "requests_per_s", evidence.window_ns)


def goodput(
    results: Sequence[ObjectiveResult], rate: float | Sequence[Served]
) -> tuple[float | None, float | None, float | None]:
    """Return the goodput that was observed and its bounds (requests/s), where there are any.

    The share of good requests, bounded as it is judged, times the rate. In an open loop `rate` is the one
    that was scheduled; in a closed one each run's was measured, too, and has bounds of its own. Of several
    runs, Student's t over their goodputs is taken instead on the side where it is wider, for runs may differ
    by more than their requests tell.
    """
    if not results:
        return None, None, None
    rates = [rate] * len(results) if isinstance(rate, float) else [one.mean.value for one in rate]
    observed = mean(rates) * good_share(results)
    bad, _ = pooled(results)
    known = (rate, rate) if isinstance(rate, float) else _bounds(rate)
    if bad.bound_low is None or bad.bound_high is None or known is None:
        return observed, None, None
    low, high = known[0] * (1 - bad.bound_high), known[1] * (1 - bad.bound_low)
    if len(results) > 1:  # negative, for goodput scatters further down than up
        negative = [-good_share([result]) * one for result, one in zip(results, rates, strict=True)]
        most, least = (-bound for bound in runs_bounds(negative))
        low, high = min(low, least), max(high, most)
    return observed, max(0.0, low), high


def _bounds(rates: Sequence[Served]) -> tuple[float, float] | None:
    """Return bounds on the rate of closed loops; None where one of few runs is too short.

    As a rate is judged: few runs by their own errors together, five or more by how they differ.
    """
    runs = [one.mean for one in rates]
    if len(runs) >= MIN_RUNS:
        low, high = runs_bounds([one.value for one in runs])
        return max(0.0, low), high
    if not all(one.bounded for one in rates):
        return None
    values, errors, independent, terms = zip(*runs, strict=True)
    low, high = few_bounds(values, errors, sum(independent), terms[0])
    edge = mean(one.edge_per_s for one in rates)
    return max(0.0, low - edge), high + edge
