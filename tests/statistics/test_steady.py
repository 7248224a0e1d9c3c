from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.evidence import Evidence
from analysis.rundir import load
from analysis.sla import default
from analysis.steady import Steady, mser5, steady
from analysis.verdict import judge
from tests.run_directories import MS, Load, draw_requests, write_run
from tests.statistics.coverage import bounds_of, covered, of_share
from tests.statistics.queues import mm1, mm1_quantile


def directly(series: list[float]) -> tuple[int, float]:
    """MSER-5 as it is written: the cut that makes sum (Y - mean)^2 / kept^2 smallest."""
    means = [float(np.mean(series[i : i + 5])) for i in range(0, len(series) // 5 * 5, 5)]
    found = {}
    for cut in range(len(means) - len(means) // 4):
        rest = np.array(means[cut:])
        found[cut] = float(((rest - rest.mean()) ** 2).sum()) / len(rest) ** 2
    best = min(found, key=lambda cut: (found[cut], cut))
    return best * 5, found[best]


@given(st.lists(st.integers(0, 50), min_size=50, max_size=120))
def test_mser5_is_what_its_definition_says(values: list[int]) -> None:
    series = [float(value) for value in values]
    found, wanted = mser5(np.array(series)), directly(series)
    assert found is not None
    assert found[1] == pytest.approx(wanted[1], rel=1e-9, abs=1e-9)


def test_a_beginning_that_differs_is_found() -> None:
    rng = np.random.default_rng(1)
    found = mser5(np.concatenate([np.full(60, 300.0), 100 + rng.standard_normal(600)]))
    assert found is not None
    assert found[0] == 60


@pytest.mark.parametrize("series", [np.zeros(0), np.ones(49)])
def test_too_little_says_nothing(series: np.ndarray) -> None:
    assert mser5(series) is None


def seen(path: Path) -> Steady:
    run = load(path)
    return steady(run, Evidence(run))


LOAD = Load(seconds=62, warmup_s=2, rate=30.0, tokens=3)


def test_a_run_that_is_steady_is_said_to_be(tmp_path: Path) -> None:
    found = seen(write_run(tmp_path / "run", LOAD))
    assert found.steady
    assert "differ" not in found.reason


def test_slow_first_seconds_ask_for_a_longer_warm_up_and_stay_in_the_window(tmp_path: Path) -> None:
    requests = draw_requests(LOAD, np.random.default_rng(LOAD.seed))
    first_ns = requests[0][0].due_unix_ns
    slow = []
    for record, gaps in requests:
        late = 300 * MS if record.due_unix_ns - first_ns < 12e9 else 0
        times = ("first_ns", "visible_ns", "last_ns", "end_ns")
        moved = {name: getattr(record, name) + late for name in times if getattr(record, name) is not None}
        slow.append((record._replace(**moved), gaps))
    path = write_run(tmp_path / "run", LOAD, slow)
    found, run = seen(path), load(path)
    frame = Evidence(run).frame
    by_ttft = mser5(frame.first_ns.to_numpy(float))
    assert by_ttft is not None
    ttft_s = (frame.due_unix_ns.iloc[by_ttft[0]] - run.window_ns[0]) / 1e9
    assert 9.5 < ttft_s < 10.5  # 12 s less the warm-up, and requests come in fives, 30 a second
    # Requests in flight, 60 seconds in fives of which two were slow, say so less finely; the later counts.
    assert ttft_s <= found.start_s <= 30
    assert (found.start_s > ttft_s) == (found.by == "in flight")
    assert found.steady
    assert "s differ from the rest" in found.reason
    assert "longer" in found.reason
    verdict = judge(load(path), default())
    assert verdict.steady == found
    assert verdict.window_start_unix_ns == load(path).window_ns[0]
    assert verdict.objectives[0].bad is not None
    assert verdict.objectives[0].bad > 250  # they are counted
    assert verdict.to_json()["steady"]["start_s"] == found.start_s


def test_a_run_that_never_settles_has_no_steady_state(tmp_path: Path) -> None:
    found = seen(write_run(tmp_path / "run", Load(seconds=62, rate=30.0, tokens=3, in_flight_rise=400.0)))
    assert found.by == "in flight"
    assert found.steady is False
    assert "no steady state" in found.reason


def test_a_run_without_requests_cannot_be_told(tmp_path: Path) -> None:
    found = seen(write_run(tmp_path / "run", Load(seconds=20, rate=0.0)))
    assert (found.steady, found.reason) == (None, "too little data to tell")


def test_trimming_by_mser5_would_cost_the_upper_bound_its_coverage() -> None:
    rho, allowed = 0.5, 0.05
    limit = mm1_quantile(rho, 1 - allowed)
    whole, cut = [], []
    for values in mm1(rho, 2500, 300, np.random.default_rng(6)):
        found = mser5(values)
        assert found is not None
        whole.append(bounds_of(of_share(values, limit, allowed)))
        cut.append(bounds_of(of_share(values[found[0] :], limit, allowed)))
    kept = covered("M/M/1 rho 0.5, p95, whole window", whole, allowed)
    trimmed = covered("M/M/1 rho 0.5, p95, trimmed by MSER-5", cut, allowed)
    assert kept.upper >= trimmed.upper + 0.015
