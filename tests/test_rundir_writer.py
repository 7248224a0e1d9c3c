"""What the load side writes is there while the run goes on, and what analysis reads is what was written."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from analysis import rundir
from analysis.histogram import Histogram, Interval, read_log
from analysis.record import RequestRecord, read_records
from locustfiles._rundir import RunDirectory
from locustfiles._timeline import Second

START_S = 1_790_000_000


def record(number: int, **changes: Any) -> RequestRecord:
    plain = RequestRecord(
        worker="host-0",
        scenario="chat",
        request=number,
        due_unix_ns=START_S * 10**9 + number * 10**8,
        sent_ns=50_000,
        connect_ns=0,
        first_ns=40_000_000,
        visible_ns=40_000_000,
        last_ns=60_000_000,
        end_ns=61_000_000,
        prompt_tokens=10,
        output_tokens=3,
        chunks=3,
        gaps=2,
        gap_sum_ns=20_000_000,
        gap_max_ns=11_000_000,
        reads=4,
        coalesced=0,
        lag_max_ns=30_000,
        body_bytes=700,
        status=200,
        connection="new",
        clock="kernel",
        clock_jump_ns=-12,
        outcome="ok",
        detail="",
    )
    return plain._replace(**changes)


RECORDS = [
    record(0),
    record(1, sent_ns=None, first_ns=None, visible_ns=None, last_ns=None, status=None, outcome="connect"),
    record(2, detail='a "quoted", odd\ndetail \u2028 é', scenario="a, b", outcome="http_5xx", status=500),
]


def second(unix_s: int) -> Second:
    return Second(unix_s, 1, 1, 1, 0, 0, 3, 30_000, 0.123, 1)


def meta() -> dict[str, Any]:
    return {
        "schema": 1,
        "run": "run-1",
        "name": "chat é",
        "started_unix_ns": START_S * 10**9,
        "ended_unix_ns": None,
        "load": {"loop": "closed"},
        "window": {"start_unix_ns": START_S * 10**9, "end_unix_ns": None},
    }


def read_back(path: Path) -> list[RequestRecord]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(read_records(file))


def test_written_is_read(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run", "run-1", START_S)
    gaps = Histogram()
    gaps.record([9_000_000, 11_000_000])
    directory.append(RECORDS[:1])
    directory.append([])
    directory.append(RECORDS[1:])
    directory.append_intervals(
        [("itl", Interval("chat", START_S, gaps)), ("lag", Interval("a, b", START_S, gaps))]
    )
    directory.append_intervals([("itl_token", Interval("chat", START_S, gaps))])
    directory.write_timeline([second(START_S), second(START_S + 1)])
    directory.write_meta(meta())
    directory.close()
    directory.close()

    assert read_back(directory.path / "requests.csv") == RECORDS
    run = rundir.load(directory.path)
    assert list(run.requests.request) == [0, 1, 2]
    assert run.meta["name"] == "chat é"
    assert len(run.timeline) == 2
    assert {name: len(log) for name, log in run.logs.items()} == {"itl": 1, "itl_token": 1, "lag": 1}
    (interval,) = run.logs["itl"]
    assert (interval.scenario, interval.second, interval.histogram.count) == ("chat", START_S, 2)
    assert run.logs["lag"][0].scenario == "a;_b"
    assert run.damage == ("run.json has no end: the run was cut off",)
    for name in ("ttft", "e2e"):
        with (directory.path / f"{name}.hlog").open() as file:
            assert list(read_log(file)) == []


def test_flushed_is_there_before_the_end(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run", "run-1", START_S)
    gaps = Histogram()
    gaps.record([9_000_000])
    directory.write_meta(meta())
    directory.append(RECORDS)
    directory.append_intervals([("itl", Interval("chat", START_S, gaps))])
    directory.write_timeline([second(START_S)])
    directory.flush()
    run = rundir.load(directory.path)  # as after a SIGKILL: nothing was closed
    assert len(run.requests) == 3
    assert run.logs["itl"][0].histogram.count == 1
    directory.close()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        directory = RunDirectory(tmp_path / "run", f"run-{number}", START_S)
        directory.append([record(number)])
        directory.write_meta({"run": f"run-{number}"})
        directory.close()
        paths.append(directory.path)
    assert [path.name for path in paths] == ["run", "run-2", "run-3"]
    for number, path in enumerate(paths):
        assert json.loads((path / "run.json").read_text())["run"] == f"run-{number}"
        assert [row.request for row in read_back(path / "requests.csv")] == [number]


def test_replaced_files_leave_no_drafts(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run", "run-1", START_S)
    for number in range(3):
        directory.write_meta({"number": number})
        directory.write_timeline([second(START_S + i) for i in range(number)])
    directory.close()
    assert json.loads((directory.path / "run.json").read_text()) == {"number": 2}
    rows = list(csv.reader((directory.path / "timeline.csv").open()))
    assert rows[0] == list(rundir.TIMELINE)
    assert len(rows) == 3
    assert not list(directory.path.glob("*.part"))


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        RunDirectory(tmp_path / "file" / "run", "run-1", START_S)
