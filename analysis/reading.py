"""One run of an experiment as a comparison reads it: where it belongs, what became of it, its values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .evidence import Evidence
from .histogram import Histogram
from .rundir import Run
from .samples import pooled_quantile, rank_quantile
from .sla import POOLED_METRICS, REQUEST_METRICS
from .statistics import autocorrelation_time
from .verdict import INVALID, OVERSATURATED, Verdict

TOKENS, ERRORS = "output tokens/s", "error share"
LATENCIES = ("ttft p50", "ttft p95", "itl p50", "itl p99", "tpot p50", "e2e p50")
"""Read always; other percentiles where the SLA limits them."""

PERCENTILES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)
SHIFTING = ("ttft", "tpot", "e2e")
"""Metrics whose quantiles are read at all of PERCENTILES."""

TAIL_VALUES = 10
"""Of them a quantile is read where so many values lie above it: else it is the maximum by another name."""

_ORDER = ("ttft", *POOLED_METRICS, *REQUEST_METRICS[1:])


LEVEL_UNITS = {"closed": "users", "open": "arrivals/s"}
"""What a level of load counts, by the kind of loop."""


class ComparisonError(ValueError):
    """Runs that cannot be compared: says where, what was found and what was expected."""


class Place(NamedTuple):
    """Where a run belongs in its experiment; `level` is in users or arrivals/s."""

    level: float
    block: int
    server: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One run: where it belongs, what became of it, and its values, by metric.

    Values are in ms, tokens/s or a share; None: there is none; infinite: failures reach that percentile.
    A run that is INVALID or OVERSATURATED has no values, for they would prove nothing.
    """

    server: str
    level: float
    block: int
    run: str
    status: str
    reason: str
    values: Mapping[str, float | None]
    quantiles: Mapping[str, tuple[float | None, ...]]  # of SHIFTING, at PERCENTILES
    n: int
    failed: int
    worth: float  # how many independent requests n are worth, as far as failures tell


def lower_is_better(metric: str) -> bool:
    """Say which way is good."""
    return metric != TOKENS


def place(run: Run) -> Place:
    """Return where a run belongs; raises ComparisonError where run.json does not say."""
    found = run.meta.get("experiment")
    if isinstance(found, dict):
        level, block, server, baseline = (found.get(key) for key in ("level", "block", "server", "baseline"))
        named = isinstance(server, str) and isinstance(baseline, str)
        if isinstance(level, int | float) and isinstance(block, int) and named:
            return Place(float(level), block, str(server))
    expected = "an object with server, baseline, level and block"
    raise ComparisonError(f"{run.path}: run.json: found experiment = {found!r}, expected {expected}")


def margin_of(run: Run, default: float) -> float:
    """Return the margin that a run's experiment asked for; raises ComparisonError where it is no share."""
    experiment = run.meta.get("experiment")
    found = experiment.get("margin", default) if isinstance(experiment, dict) else default
    if not isinstance(found, int | float) or not 0 < found < 1:
        expected = "a number between 0 and 1"
        raise ComparisonError(
            f"{run.path}: run.json: found experiment.margin = {found!r}, expected {expected}"
        )
    return float(found)


def metrics(verdicts: Sequence[Verdict]) -> tuple[tuple[str, ...], dict[str, float]]:
    """Return the metrics to read, in the order of printing, and the SLA's limits on some of them (ms)."""
    limits = {
        f"{result.metric} {result.statistic}": result.limit
        for verdict in verdicts
        for result in verdict.objectives
        if result.statistic.startswith("p") and result.metric != "dispatch_lag" and not result.scope
    }

    def order(metric: str) -> tuple[int, float]:
        name, _, percentile = metric.partition(" p")
        return _ORDER.index(name), float(percentile)

    return (*sorted({*LATENCIES, *limits}, key=order), TOKENS, ERRORS), limits


def error_rate(verdict: Verdict) -> float | None:
    """Return the share of failed requests that the SLA allows; None where it does not say."""
    failures = ("error_rate", "error_budget")
    found = (one.allowed for one in verdict.objectives if one.metric in failures and not one.scope)
    return next(found, None)


def read(run: Run, verdict: Verdict, names: Sequence[str]) -> Reading:
    """Read the named metrics of a run."""
    evidence, where = Evidence(run), place(run)
    believed = verdict.status not in (INVALID, OVERSATURATED)
    n = len(evidence.frame)
    return Reading(
        server=where.server,
        level=where.level,
        block=where.block,
        run=verdict.run,
        status=verdict.status,
        reason=verdict.reasons[0],
        values={name: _value(evidence, verdict, name) for name in names} if believed else {},
        quantiles=_quantiles(evidence) if believed else {},
        n=n,
        failed=int(evidence.failed.sum()),
        worth=n / autocorrelation_time(evidence.failed),
    )


def _value(evidence: Evidence, verdict: Verdict, metric: str) -> float | None:
    if metric == TOKENS:
        rates = [one.output_tokens_per_s for one in verdict.scenarios if one.output_tokens_per_s is not None]
        return sum(rates) if rates else None
    if metric == ERRORS:
        return float(evidence.failed.mean()) if len(evidence.failed) else None
    return percentile_of([evidence], metric)


def percentile_of(evidences: Sequence[Evidence], metric: str) -> float | None:
    """Return a percentile (ms) of all runs' values together, such as "ttft p95"; infinite: failures reach it.

    None where a run cannot know the metric, no ok request has it, or no value lies above the percentile.
    """
    name, _, percentile = metric.partition(" p")
    if any(name in evidence.unknown for evidence in evidences):
        return None
    q = float(percentile) / 100
    if name in POOLED_METRICS:
        pooled, failed = gaps_together(evidences, name)
        known = pooled.count and _exists(pooled.count + failed, q)
        return pooled_quantile(pooled, failed, q) / 1e6 if known else None
    samples = [evidence.sample(name) for evidence in evidences]
    values = np.concatenate([sample.worst() for sample in samples])
    known = any(len(sample.of_ok()) for sample in samples) and _exists(len(values), q)
    return rank_quantile(values, q) / 1e6 if known else None


def gaps_together(evidences: Sequence[Evidence], name: str) -> tuple[Histogram, int]:
    """Return the gaps of all runs in one histogram, and how many more are infinite: the failed requests."""
    every = [evidence.gaps(name) for evidence in evidences]
    pooled = Histogram()
    for one in every:
        pooled.merge(one.pooled)
    return pooled, sum(one.failed for one in every)


def _quantiles(evidence: Evidence) -> dict[str, tuple[float | None, ...]]:
    found: dict[str, tuple[float | None, ...]] = {}
    for metric in SHIFTING:
        if metric in evidence.unknown:
            found[metric] = (None,) * len(PERCENTILES)
            continue
        values = evidence.sample(metric).worst()
        found[metric] = tuple(
            rank_quantile(values, percentile / 100) / 1e6
            if len(values) * (100 - percentile) >= 100 * TAIL_VALUES
            else None
            for percentile in PERCENTILES
        )
    return found


def _exists(n: int, q: float) -> bool:
    """Say whether at least one value lies above a quantile."""
    return round(n * (1 - q), 9) >= 1
