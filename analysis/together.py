"""One verdict on several runs of the same server at the same load: their effective counts, added up.

Runs with seeds of their own are independent of each other, so what they are worth adds up: bad events and n,
each run's divided by its own design effect. How runs differ from each other beyond that is not looked at.
"""

import math
from collections.abc import Sequence

from .objective import FAIL, INCONCLUSIVE, PASS, ObjectiveResult, percent
from .sla import POOLED_METRICS
from .statistics import BATCH_TAU, BATCHES, share_bounds
from .verdict import INVALID, OVERSATURATED, SEVERITY, Verdict


def together(verdicts: Sequence[Verdict]) -> tuple[str, str]:
    """Return (status, reason) for runs that were judged by the same SLA; those that are INVALID do not count.

    OVERSATURATED where half of the runs are; where fewer are, they leave the whole undecided at best.
    """
    valid = [one for one in verdicts if one.status != INVALID]
    if len(valid) <= 1:
        last = (valid or list(verdicts))[-1]
        return last.status, last.reasons[0]
    saturated = [one for one in valid if one.status == OVERSATURATED]
    if 2 * len(saturated) >= len(valid):
        return OVERSATURATED, f"{len(saturated)} of {len(valid)} runs: {saturated[0].reasons[0]}"
    found = [_objective(results) for results in zip(*(one.objectives for one in valid), strict=True)]
    if not found:
        return INCONCLUSIVE, valid[0].reasons[0]
    status, reason = min(found, key=lambda one: SEVERITY.index(one[0]))
    if status == PASS and saturated:
        return INCONCLUSIVE, f"{len(saturated)} of {len(valid)} runs OVERSATURATED"
    return status, reason if status != PASS else f"all {len(found)} objectives hold over {len(valid)} runs"


def _objective(results: Sequence[ObjectiveResult]) -> tuple[str, str]:
    """Judge one objective over runs: shares by their bounds, means only where all runs say the same."""
    text, allowed = results[0].text, results[0].allowed
    statuses = {result.status for result in results}
    if len(statuses) == 1 and statuses != {INCONCLUSIVE}:
        return results[0].status, f"{text}: {results[0].status} in each of {len(results)} runs"
    worth = math.fsum(result.n_eff or 0.0 for result in results if result.bad is not None)
    if reason := _refusal(results, worth):
        return INCONCLUSIVE, f"{text}: {reason}"
    low, high = (
        math.fsum(
            ((result.bad or 0) + more * result.undecided) * (result.n_eff or 0.0) / result.n
            for result in results
            if result.n
        )
        for more in (0, 1)
    )
    lower, upper = share_bounds(low, high, worth)
    share = allowed or 0.0
    status = PASS if upper < share else FAIL if lower >= share else INCONCLUSIVE
    bounds = f"between {percent(lower)} and {percent(upper)} bad, {percent(share)} allowed"
    return status, f"{text}: {bounds} ({len(results)} runs)"


def _refusal(results: Sequence[ObjectiveResult], worth: float) -> str:
    """Say why runs cannot be added up; empty where they can."""
    first = results[0]
    if first.statistic == "mean" or not worth:
        return first.reason
    if first.metric in POOLED_METRICS:  # their design effects need seconds enough, in most runs
        refused = [result.reason for result in results if result.bound_high is None]
        return refused[0] if 2 * len(refused) > len(results) else ""
    needed = BATCHES * BATCH_TAU
    return "" if worth >= needed else f"worth {worth:.0f} independent requests, needs {needed}"
