"""One verdict on several runs: effective counts add up, and what one run cannot decide several can."""

from pathlib import Path

import pytest

from analysis import sla as slas
from analysis.rundir import load
from analysis.together import together
from analysis.verdict import Verdict, judge
from tests.run_directories import Load, write_run

SLA = slas.parse("name: x\nobjectives: [ttft p95 < 75 ms, itl p99 < 30 ms, error_rate < 5 %]", "SLA")


def judged(folder: Path, seed: int, **knobs: object) -> Verdict:
    own = {"seconds": 15, "warmup_s": 1, "rate": 10.0, "tokens": 10, "seed": seed, **knobs}
    return judge(load(write_run(folder / str(seed), Load(**own))), SLA)  # type: ignore[arg-type] # mixed knobs


def test_runs_that_are_too_short_alone_decide_together(tmp_path: Path) -> None:
    runs = [judged(tmp_path, seed, rate=6.0) for seed in range(1, 9)]
    assert {run.status for run in runs} == {"INCONCLUSIVE"}  # fewer than 100 requests each
    assert together(runs[:1])[0] == "INCONCLUSIVE"
    assert together(runs) == ("PASS", "all 3 objectives hold over 8 runs")


def test_what_fails_fails_with_its_bound(tmp_path: Path) -> None:
    runs = [judged(tmp_path, seed, ttft_ms=53.0) for seed in range(1, 9)]
    assert {run.status for run in runs} == {"INCONCLUSIVE", "FAIL"}
    status, reason = together(runs)
    assert status == "FAIL"
    assert reason.startswith("ttft p95 < 75 ms: between ")


def test_one_run_is_itself_and_an_invalid_one_does_not_count(tmp_path: Path) -> None:
    good = judged(tmp_path, 1, rate=60.0, seconds=30)
    late = judged(tmp_path, 2, rate=60.0, seconds=30, dispatch_lag_ms=50.0)
    assert (good.status, late.status) == ("PASS", "INVALID")
    assert together([good]) == together([late, good]) == together([good, late]) == ("PASS", good.reasons[0])
    assert together([late])[0] == "INVALID"


@pytest.mark.parametrize(
    ("rising", "status"), [(1, "INCONCLUSIVE"), (2, "OVERSATURATED"), (4, "OVERSATURATED")]
)
def test_one_run_in_four_that_oversaturated_leaves_it_undecided(
    tmp_path: Path, rising: int, status: str
) -> None:
    long = {"rate": 40.0, "seconds": 60}
    runs = [judged(tmp_path, seed, **long) for seed in range(1, 5 - rising)]
    over = {"ttft_rise_ms": 900.0, "in_flight_rise": 400.0}
    runs += [judged(tmp_path, seed, **long, **over) for seed in range(10, 10 + rising)]
    assert sum(run.status == "OVERSATURATED" for run in runs) == rising
    assert together(runs)[0] == status
