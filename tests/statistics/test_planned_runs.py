"""Runs as long as planned decide as often as promised: drawn, judged and counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.objective import ObjectiveResult
from analysis.planned_worth import SCATTER
from analysis.planning import Earlier, Supposed, need
from analysis.pooling import pooled
from analysis.power import POWER
from analysis.sla import parse_objective
from analysis.statistics import LEAST, MIN_CLUSTERS, autocorrelation_time, mean_of
from tests.marks import more
from tests.statistics.coverage import FloatArray, of_gap_mean, of_gaps, of_share
from tests.statistics.queues import mm1, mm1_quantile
from tests.statistics.results import averaged

RATE_PER_S, RUNS = 20, 300
LEAST_DECIDED = POWER - 3 * (POWER * (1 - POWER) / RUNS) ** 0.5
LIMIT_NS, ALLOWED = 20_000_000, 0.05


def of_mean(values: FloatArray, limit: float) -> ObjectiveResult:
    mean = mean_of(values, np.ones(len(values)))
    bounds = mean.bounds() if mean.independent >= LEAST else (None, None)
    figures = {"n": len(values), "n_eff": mean.independent, "limit": limit, "allowed": limit}
    return averaged(mean.value, bounds=bounds, **figures)


def decided(result: ObjectiveResult) -> bool:
    """Say whether a run's own bounds lie to one side of what is allowed."""
    low, high, allowed = result.bound_low, result.bound_high, result.allowed
    return low is not None and high is not None and allowed is not None and (high < allowed or low >= allowed)


def promised(
    what: str, results: Callable[[int], Sequence[ObjectiveResult]], requests: int, part: float = 1 / 2
) -> None:
    """Check that so many requests decide in 80 of 100 cases, and that a part of them does not."""
    found, fewer = (np.mean([decided(one) for one in results(n)]) for n in (requests, int(part * requests)))
    print(
        f"\n  {what:<40} {requests:7,} requests decide in {found:.0%}, {part:.0%} of them in {fewer:.0%}",
        end="",
    )
    assert found >= LEAST_DECIDED
    assert fewer < POWER


def supposed(part: float = 0.5) -> Supposed:
    return Supposed(RATE_PER_S, run_s=60, part=part, tau=1)


@pytest.mark.parametrize("n", [20, 100, 400, 2000])
def test_independent_values_seem_a_little_alike(n: int) -> None:
    rng = np.random.default_rng(2)
    found = np.mean([autocorrelation_time(rng.normal(size=n)) for _ in range(1000)])
    assert found == pytest.approx(1 + min(SCATTER, 2 / n**0.5), abs=0.05)


@pytest.mark.parametrize("limit", [more(100.0), 90.0, more(84.0), more(60.0), 70.0, more(76.0)])
def test_a_mean_of_independent_values(limit: float) -> None:
    rng, mean, sd = np.random.default_rng(3), 80.0, 40.0
    values = rng.normal(size=100_000)
    values = mean + sd * (values - values.mean()) / values.std()
    objective = parse_objective(f"ttft mean < {limit} ms")
    found = need(objective, supposed(), Earlier(of_mean(values, limit), len(values)))
    assert found.requests is not None
    promised(
        objective.text,
        lambda n: [of_mean(run, limit) for run in rng.normal(mean, sd, (RUNS, n))],
        found.requests,
        part=2 / 3,
    )


@pytest.mark.parametrize(("limit", "seconds"), [more(82.0, 15), (84.0, 15), more(78.0, 15)])
def test_a_mean_over_replications(limit: float, seconds: int) -> None:
    rng, mean, sd, each = np.random.default_rng(3), 80.0, 40.0, RATE_PER_S * seconds
    values = rng.normal(size=100_000)
    values = mean + sd * (values - values.mean()) / values.std()
    earlier = Earlier(of_mean(values, limit), len(values))
    plan = need(parse_objective("ttft mean < 1 ms"), Supposed(RATE_PER_S, seconds, 0.5, 1), earlier)
    assert plan.runs is not None

    def shown(runs: int) -> float:
        drawn = rng.normal(mean, sd, (RUNS, runs, each))
        together = (pooled([of_mean(run, limit) for run in one])[0] for one in drawn)
        return sum(one.status in {"PASS", "FAIL"} for one in together) / RUNS

    found = shown(plan.runs)
    print(f"\n  limit {limit}: {plan.runs} runs decide in {found:.0%}", end="")
    assert found >= LEAST_DECIDED
    assert plan.runs <= 6 or shown(2 * plan.runs // 3) < POWER


@pytest.mark.parametrize("limit_ns", [more(1.05e7), 1.1e7, more(0.9e7)])
def test_a_mean_over_seconds(limit_ns: float) -> None:
    rng, each = np.random.default_rng(7), 2 * RATE_PER_S

    def drawn(seconds: int, runs: int) -> list[ObjectiveResult]:
        gaps_ns = rng.gamma(0.5, 2e7, (runs, seconds, each)).astype(np.int64)
        return [replace(of_gap_mean(run), limit=limit_ns, allowed=limit_ns) for run in gaps_ns]

    (long,) = drawn(4000, 1)
    exact = replace(long, observed_ok_only=1e7)
    plan = need(parse_objective("itl_token mean < 1 ms"), supposed(), Earlier(exact, RATE_PER_S * 4000))
    assert plan.requests is not None
    assert plan.requests >= MIN_CLUSTERS * RATE_PER_S
    what = f"mean of gaps, limit {limit_ns / 1e6:g} ms"
    promised(what, lambda n: drawn(-(-n // RATE_PER_S), RUNS), plan.requests, part=2 / 3)


@pytest.mark.parametrize(
    ("part", "rho"), [(0.5, 0.5), more(2.0, 0.5), more(0.1, 0.5), more(0.5, 0.0), more(2.0, 0.0)]
)
def test_a_percentile_of_requests(part: float, rho: float) -> None:
    rng = np.random.default_rng(4)
    limit = mm1_quantile(rho, 1 - ALLOWED * part)

    def drawn(n: int, runs: int) -> list[ObjectiveResult]:
        values = mm1(rho, n, runs, rng) if rho else iter(rng.exponential(1, (runs, n)))
        return [of_share(run, limit, ALLOWED) for run in values]

    long = 400_000
    plan = need(parse_objective("ttft p95 < 1 ms"), supposed(part), Earlier(drawn(long, 1)[0], long))
    assert plan.requests is not None
    promised(f"p95, {part} of what is allowed, rho {rho}", lambda n: drawn(n, RUNS), plan.requests)


@dataclass(frozen=True)
class Clusters:
    """A server whose seconds are independent: `size` gaps each, alike within a second by `icc`."""

    size: int
    icc: float
    part: float

    def gaps(self, seconds: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        share, scale = ALLOWED * self.part, (1 - self.icc) / self.icc
        bad = rng.binomial(self.size, rng.beta(share * scale, (1 - share) * scale, seconds))
        good_ns, bad_ns = LIMIT_NS // 2, 2 * LIMIT_NS
        return [np.repeat(np.array([good_ns, bad_ns]), [self.size - one, one]) for one in bad]


@pytest.mark.parametrize(
    ("server", "earlier_s"),
    [
        (Clusters(200, 0.05, 0.5), 2000),
        more(Clusters(200, 0.05, 2.0), 2000),
        more(Clusters(200, 0.05, 4.0), 2000),
        more(Clusters(200, 0.05, 2.0), 40),
        more(Clusters(200, 0.1, 0.2), 40),
    ],
)
def test_a_percentile_of_gaps(server: Clusters, earlier_s: int) -> None:
    rng = np.random.default_rng(5)

    def drawn(seconds: int, runs: int) -> list[ObjectiveResult]:
        return [of_gaps(server.gaps(seconds, rng), LIMIT_NS, ALLOWED) for _ in range(runs)]

    planned = [
        need(parse_objective("itl p95 < 20 ms"), supposed(server.part), Earlier(one, RATE_PER_S * earlier_s))
        for one in drawn(earlier_s, 40 if earlier_s < 1000 else 3)
    ]
    # One short run says little about what its gaps are worth: that many of them tell it is what is checked.
    requests = int(np.median([plan.requests or 0 for plan in planned]))
    promised(f"{server}, like {earlier_s} s", lambda n: drawn(-(-n // RATE_PER_S), RUNS), requests)


def test_gaps_without_an_earlier_run_are_measured_for_so_long_that_they_are_judged() -> None:
    server, rng = Clusters(20 * 8, 1.0 / (20 * 8 - 1) * 7, 4.0), np.random.default_rng(6)
    # 160 gaps a second of 20 requests; alike as those of one are: 8 are worth one.
    found = need(parse_objective("itl p95 < 20 ms"), supposed(server.part), None)
    assert found.requests is not None
    seconds = found.requests / RATE_PER_S
    results = [of_gaps(server.gaps(round(seconds), rng), LIMIT_NS, ALLOWED) for _ in range(RUNS)]
    share = np.mean([decided(one) for one in results])
    print(f"\n  {seconds:.1f} s decide in {share:.0%}", end="")
    assert seconds >= MIN_CLUSTERS
    assert share >= LEAST_DECIDED
