"""What each scenario did: outcomes, percentiles and rates over the window."""

from collections.abc import Mapping
from dataclasses import dataclass

from .evidence import Evidence
from .rundir import Run, window_intervals
from .samples import Gaps, pooled_gaps, rank_quantiles, request_sample
from .sla import REQUEST_METRICS
from .statistics import FloatArray

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """A metric's percentiles (ms): `all` counts a failed request as infinite, `ok` leaves it out.

    A percentile is None where fewer than one value lies above it. Keys: p50 p90 p95 p99 p99.9 max.
    """

    n: int
    all: Mapping[str, float | None]
    n_ok: int
    ok: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class ScenarioSummary:
    """One scenario over the window; `latencies` is None where they would depend on the run's length."""

    scenario: str
    n: int
    ok: int
    failed: Mapping[str, int]
    requests_per_s: float | None
    output_tokens_per_s: float | None  # of ok requests that were due in the window
    tokens_per_chunk: float | None
    latencies: Mapping[str, Percentiles] | None


def summarise(run: Run, evidence: Evidence, *, percentiles: bool) -> tuple[ScenarioSummary, ...]:
    """Summarise every scenario, in the order of their names."""
    names = sorted(evidence.frame.scenario.unique())
    return tuple(_summarise(run, evidence, name, percentiles=percentiles) for name in names)


def _summarise(run: Run, evidence: Evidence, scenario: str, *, percentiles: bool) -> ScenarioSummary:
    chosen = evidence.frame.scenario == scenario
    whole = chosen.all()  # a million rows are not copied for nothing
    frame = evidence.frame if whole else evidence.frame[chosen]
    ok = frame[["output_tokens", "chunks"]][frame.outcome == "ok"]
    counted = ok[ok.output_tokens.notna()]
    seconds = evidence.window_s
    chunks = int(counted.chunks.sum())
    outcomes = frame.outcome[frame.outcome != "ok"].astype("str").value_counts().sort_index()
    latencies = {}
    if percentiles:
        for metric in REQUEST_METRICS:
            if whole and metric not in run.unknown:
                sample = evidence.sample(metric)
            else:
                sample = request_sample(frame[:0] if metric in run.unknown else frame, metric)
            latencies[metric] = _of_values(sample.worst(), sample.of_ok())
        own = window_intervals(run, "itl").of(scenario)
        seen = frame[:0] if "itl" in run.unknown else frame
        latencies["itl"] = _of_gaps(pooled_gaps(own, seen, evidence.whole_s))
    return ScenarioSummary(
        scenario=scenario,
        n=len(frame),
        ok=len(ok),
        failed={str(outcome): int(count) for outcome, count in outcomes.items()},
        requests_per_s=len(frame) / seconds if seconds else None,
        output_tokens_per_s=float(counted.output_tokens.sum()) / seconds
        if seconds and len(counted)
        else None,
        tokens_per_chunk=float(counted.output_tokens.sum()) / chunks if chunks else None,
        latencies=latencies if percentiles else None,
    )


def _of_values(worst: FloatArray, ok: FloatArray) -> Percentiles:
    def table(values: FloatArray) -> dict[str, float | None]:
        n = len(values)
        known = [p for p in PERCENTILES if _exists(n, p)]
        found = dict(zip(known, rank_quantiles(values, [p / 100 for p in known]), strict=True))
        told = {f"p{p:g}": found[p] / 1e6 if p in found else None for p in PERCENTILES}
        return {**told, "max": float(values.max()) / 1e6 if n else None}

    return Percentiles(len(worst), table(worst), len(ok), table(ok))


def _of_gaps(gaps: Gaps) -> Percentiles:
    finite = gaps.finite()

    def table(of: Gaps) -> dict[str, float | None]:
        found = {f"p{p:g}": of.quantile(p / 100) / 1e6 if _exists(of.n, p) else None for p in PERCENTILES}
        return {**found, "max": of.quantile(1.0) / 1e6 if of.n else None}

    return Percentiles(gaps.n, table(gaps), finite.n, table(finite))


def _exists(n: int, percentile: float) -> bool:
    return round(n * (1 - percentile / 100), 9) >= 1
