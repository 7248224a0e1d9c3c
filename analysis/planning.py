"""Before a run: what requests, minutes and replications decide an SLA, what blocks a comparison needs.

"Decide" means: with a probability of 80 %, if the truth is what is supposed. A run that is just long enough
to decide when it sees exactly what was expected decides in half of all cases only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from .objective import ObjectiveResult
from .pooling import MIN_RUNS
from .sla import POOLED_METRICS, Latency, Objective
from .statistics import CONFIDENCE, LEAST, MEAN_LEVELS, mean_error, small_sample_factor

POWER = 0.8

MOST = 10**9
"""Nobody waits for more independent events than that."""

MOST_BLOCKS = 10_000


@dataclass(frozen=True, slots=True)
class Supposed:
    """What is supposed of load and server, where no earlier run tells.

    `part` is the true share of bad events as a part of the allowed one (0.5: half as many); `run_s` how long
    one replication measures; `tau` how many neighbouring requests are worth one independent one.
    """

    rate_per_s: float
    run_s: float
    part: float
    tau: float


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run of so many requests found about the objective."""

    result: ObjectiveResult
    requests: int


@dataclass(frozen=True, slots=True)
class Need:
    """What decides an objective: independent events; requests and minutes of one run; or runs of `run_s`.

    None where no number decides, or none can be told: `reason` says why.
    """

    text: str
    independent: int | None
    requests: int | None = None
    minutes: float | None = None
    runs: int | None = None
    reason: str = ""


def need(objective: Objective, supposed: Supposed, earlier: Earlier | None) -> Need:
    """Plan one objective."""
    allowed = getattr(objective, "allowed_share", None)
    counted = allowed is not None and not (isinstance(objective, Latency) and objective.percentile is None)
    if counted:
        independent = independent_needed(supposed.part * float(allowed or 0), float(allowed or 0))
        reason = "" if independent else "a true share so near the allowed one is never told from it"
    else:
        independent, reason = _for_mean(earlier)
    if independent is None:
        return Need(objective.text, None, reason=reason)
    worth = 1 / supposed.tau  # independent events in a request; its gaps count as one
    if earlier and earlier.result.n_eff:
        worth = earlier.result.n_eff / earlier.requests
    pooled_gaps = isinstance(objective, Latency) and objective.limit.metric in POOLED_METRICS
    # That it must tell what they are worth costs a run about 20 of its independent requests.
    price = 0 if pooled_gaps or (earlier and earlier.result.n_eff) else LEAST
    requests = math.ceil((independent + price) / worth)
    return Need(
        text=objective.text,
        independent=independent,
        requests=requests,
        minutes=requests / supposed.rate_per_s / 60,
        runs=_runs(independent, supposed.rate_per_s * supposed.run_s * worth),
    )


def _runs(independent: int, each: float) -> int:
    """Return how many replications are worth so many independent events, if runs differ by chance only."""
    runs = max(MIN_RUNS, math.ceil(independent / each))
    while runs * each * small_sample_factor(runs - 1) < independent:
        runs += 1
    return runs


def _for_mean(earlier: Earlier | None) -> tuple[int | None, str]:
    """Return the independent values that tell an earlier run's mean from its limit."""
    from scipy.special import ndtri  # noqa: PLC0415 - costs 0.1 s that only a judge needs

    found = earlier.result if earlier else None
    error = mean_error(found.bound_low, found.bound_high, found.n_eff) if found else None
    if not found or error is None or found.n_eff is None or found.observed_ok_only is None:
        return None, "how values scatter is told by an earlier run that has an interval (--like)"
    distance = abs(found.limit - found.observed_ok_only)
    if distance == 0:
        return None, "the mean was the limit itself: no number decides"
    reach = float(ndtri(max(MEAN_LEVELS)) + ndtri(POWER))
    return math.ceil(found.n_eff * (reach * error / distance) ** 2), ""


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

    high = _doubled(decides, MOST)
    if high is None:
        return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    while not all(decides(n) for n in range(high, high + max(2, high // 50), max(1, high // 1000))):
        high += max(1, high // 200)
    return high


def power(n: int, share: float, allowed: float) -> float:
    """Return how probable it is that n independent events decide, if `share` of all are bad."""
    from scipy.special import bdtr, bdtrc, bdtrik  # noqa: PLC0415 - as above

    if share < allowed:
        passes = math.floor(float(bdtrik(1 - CONFIDENCE, n, allowed))) + 1
        while passes >= 0 and bdtr(passes, n, allowed) > 1 - CONFIDENCE:
            passes -= 1
        return float(bdtr(passes, n, share)) if passes >= 0 else 0.0
    fails = max(0, math.floor(float(bdtrik(CONFIDENCE, n, allowed))) - 1)
    while bdtrc(fails, n, allowed) > 1 - CONFIDENCE:  # more than `fails` bad ones
        fails += 1
    return float(bdtrc(fails, n, share)) if fails < n else 0.0


def blocks_needed(margin: float, cv: float) -> int | None:
    """Return the paired blocks that show a true difference of `margin` (0.05) with a probability of 80 %.

    `cv` is the coefficient of variation of a metric from run to run, for each server; pairs whose blocks have
    less in common than that need no more. Two-sided t-test at 5 % on the log-ratios (`blocks.paired_ratio`),
    by the noncentral t distribution: the usual 2 (z_a/2 + z_b)^2 (CV / margin)^2 forgets that few blocks must
    estimate their own scatter. None beyond 10,000 blocks.
    """
    from scipy.special import nctdtr, stdtrit  # noqa: PLC0415 - as above

    def shows(blocks: int) -> bool:
        if blocks < 2:
            return False
        shift = math.sqrt(blocks) * math.log1p(margin) / (cv * math.sqrt(2))
        reach = float(stdtrit(blocks - 1, (1 + CONFIDENCE) / 2))
        return float(1 - nctdtr(blocks - 1, shift, reach)) >= POWER

    high = _doubled(shows, MOST_BLOCKS)
    if high is None:
        return None
    return next(blocks for blocks in range(max(2, high // 2), high + 1) if shows(blocks))


def _doubled(enough: Callable[[int], bool], most: int) -> int | None:
    """Return the first power of two that is enough, None beyond `most`."""
    found = 1
    while not enough(found):
        found *= 2
        if found > most:
            return None
    return found
