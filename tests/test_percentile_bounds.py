"""Bounds on a percentile: the verdict's own, turned round."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.evidence import Evidence
from analysis.percentile_bounds import percentile_bounds, share_beyond_lower, share_beyond_upper
from analysis.reading import percentile_of
from analysis.rundir import load
from analysis.sla import parse
from analysis.statistics import share_bounds
from analysis.verdict import judge
from tests.run_directories import Load, write_run


@given(st.sampled_from([0.5, 0.1, 0.05, 0.01, 0.001]), st.floats(2, 1e5))
def test_the_shares_are_those_whose_own_bounds_are_what_the_percentile_leaves_above(
    allowed: float, n: float
) -> None:
    below, above = share_beyond_lower(allowed, n), share_beyond_upper(allowed, n)
    if above is None:
        assert share_bounds(0, 0, n)[1] > allowed, "nothing seen beyond is not enough"
    else:
        assert above < allowed
        assert share_bounds(above * n, above * n, n)[1] == pytest.approx(allowed, rel=1e-6)
    if below is None:
        assert share_bounds(n, n, n)[0] < allowed, "all seen beyond is not enough"
    else:
        assert below > allowed
        assert share_bounds(below * n, below * n, n)[0] == pytest.approx(allowed, rel=1e-6)


def evidence(path: Path, **knobs: object) -> Evidence:
    return Evidence(load(write_run(path, Load(**{"seconds": 40, "rate": 40.0, "tokens": 8, **knobs}))))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return evidence(tmp_path_factory.mktemp("calm"))


@pytest.mark.parametrize("metric", ["ttft p50", "ttft p95", "itl p50", "itl p99"])
def test_bounds_enclose_what_was_observed(calm: Evidence, metric: str) -> None:
    value = percentile_of([calm], metric)
    low, high = percentile_bounds([calm], metric, value)
    assert value is not None
    assert low is not None
    assert high is not None
    assert low <= value <= high
    assert high < 1.3 * low


def test_two_runs_are_worth_more_than_one(calm: Evidence, tmp_path: Path) -> None:
    other = evidence(tmp_path, seed=2)
    wide, narrow = (
        percentile_bounds(runs, "ttft p95", percentile_of(runs, "ttft p95"))
        for runs in ([calm], [calm, other])
    )
    assert narrow[1] is not None
    assert wide[1] is not None
    assert narrow[1] - (narrow[0] or 0) < wide[1] - (wide[0] or 0)


def test_a_limit_beyond_the_upper_bound_passes_and_one_below_the_lower_fails(tmp_path: Path) -> None:
    run = load(write_run(tmp_path, Load(seconds=60, rate=50, phi=0.5)))
    value = percentile_of([Evidence(run)], "ttft p95")
    low, high = percentile_bounds([Evidence(run)], "ttft p95", value)
    found = [
        judge(run, parse(f"name: n\nobjectives: [ttft p95 < {limit:.4f} ms]", "n")).status
        for limit in (
            0.999 * (low or 0),
            1.001 * (low or 0),
            value or 0,
            0.999 * (high or 0),
            1.001 * (high or 0),
        )
    ]
    assert found == ["FAIL", "INCONCLUSIVE", "INCONCLUSIVE", "INCONCLUSIVE", "PASS"]


def test_what_is_worth_too_little_has_no_bounds(tmp_path: Path) -> None:
    short = evidence(tmp_path, seconds=8, rate=10.0, phi=0.9)
    assert percentile_bounds([short], "ttft p95", percentile_of([short], "ttft p95")) == (None, None)
    assert percentile_bounds([short], "ttft p99", None) == (None, None)


def test_failures_can_reach_the_upper_bound_alone(tmp_path: Path) -> None:
    failing = evidence(tmp_path, failures={"http_5xx": 0.045})
    value = percentile_of([failing], "ttft p95")
    low, high = percentile_bounds([failing], "ttft p95", value)
    assert value is not None
    assert low is not None
    assert low < value < float("inf")
    assert high == float("inf")
