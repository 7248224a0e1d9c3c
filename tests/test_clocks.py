"""Clocks of workers: NTP's formula, what it is worth, and the gate."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import rundir, sla, verdict
from analysis.rundir import RunError
from locustfiles._clocks import Offset, Sample, exchange
from tests.run_directories import Load, change_meta, write_run

MS = 10**6
HOUR_NS = 3600 * 10**9


@given(st.integers(-HOUR_NS, HOUR_NS), st.integers(0, 10**10), st.integers(0, 10**10), st.integers(0, 10**10))
def test_true_offset_lies_within_half_the_round_trip_however_the_ways_differ(
    offset: int, there: int, answering: int, back: int
) -> None:
    sent = 10**18
    heard = sent + there + offset
    sample = exchange(sent, heard, heard + answering, sent + there + answering + back)
    assert sample.round_trip_ns == there + back
    assert sample.low_ns - 1 <= offset <= sample.high_ns + 1


@given(st.lists(st.tuples(st.integers(0, 50 * MS), st.integers(0, 50 * MS)), min_size=1, max_size=20))
def test_clock_that_stood_still_is_never_said_to_have_moved(ways: list[tuple[int, int]]) -> None:
    samples = [exchange(0, 7 * MS + there, 7 * MS + there, there + back) for there, back in ways]
    offset = Offset(samples[0])
    for sample in samples[1:]:
        offset.take(sample)
    assert offset.moved_ns <= 1
    assert abs(offset.worst.proven_ns) <= 7 * MS + 1
    assert abs(offset.best.offset_ns - 7 * MS) <= offset.best.round_trip_ns // 2 + 1
    assert offset.best.round_trip_ns == min(there + back for there, back in ways)


def test_step_of_an_hour_is_seen_to_within_the_round_trips() -> None:
    offset = Offset(Sample(1 * MS, 2 * MS))
    offset.take(Sample(HOUR_NS, 4 * MS))
    offset.take(Sample(0, 3 * MS))
    found = offset.plain("far-1")
    assert HOUR_NS - 4 * MS <= int(found["moved_ns"]) <= HOUR_NS
    assert found["worst_ns"] == HOUR_NS - 2 * MS
    assert found["offset_ns"] == 1 * MS
    assert found["error_ns"] == 1 * MS
    assert found["samples"] == 3


def judged(path: Path, **clock: int) -> verdict.Verdict:
    told = {"worker": "far-1", "offset_ns": 0, "error_ns": 50_000, "worst_ns": 0, "moved_ns": 0} | clock
    write_run(path / "run", Load())
    change_meta(path / "run", {"worker_clocks": [{**told, "worker": "near-0", "worst_ns": 1}, told]})
    return verdict.judge(rundir.load(path / "run"), sla.default())


@pytest.mark.parametrize(
    ("offset_ms", "ok", "severity"),
    [(99, True, "warning"), (-101, False, "warning"), (-1001, False, "invalid"), (3.6e6, False, "invalid")],
)
def test_gate_asks_whether_the_timeline_can_bear_it(
    tmp_path: Path, offset_ms: float, ok: bool, severity: str
) -> None:
    ns = int(offset_ms * MS)
    found = judged(tmp_path, offset_ns=ns, worst_ns=ns)
    (gate,) = [gate for gate in found.gates if gate.name == "workers' clocks"]
    assert (gate.ok, gate.severity) == (ok, severity)
    assert "far-1" in gate.found
    assert (found.status == "INVALID") == (severity == "invalid")


def test_latencies_do_not_know_of_it(tmp_path: Path) -> None:
    near, far = judged(tmp_path / "a", worst_ns=0), judged(tmp_path / "b", worst_ns=500 * MS)
    assert [one.observed for one in near.objectives] == [one.observed for one in far.objectives]
    assert near.status == far.status


def test_clocks_that_are_none_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run", Load())
    change_meta(tmp_path / "run", {"worker_clocks": 7})
    with pytest.raises(RunError, match="found worker_clocks = 7, expected a list of clocks"):
        verdict.judge(rundir.load(tmp_path / "run"), sla.default())
