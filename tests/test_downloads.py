"""What a run's zip holds: the run's files as they were at one moment, and nothing that lies beside them."""

import io
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from locustfiles._downloads import SMALL_BYTES, RefusedError, _pack, snapshot
from locustfiles._rundir import RunDirectory
from tests.test_rundir_writer import RECORDS, START_S, meta, record


def packed(path: Path, *, whole_lines: bool) -> dict[str, bytes]:
    content = io.BytesIO()
    with ExitStack() as stack:
        _pack(content, snapshot(path, stack, whole_lines=whole_lines), path.name)
    with zipfile.ZipFile(content) as file:
        assert file.testzip() is None
        return {info.filename: file.read(info) for info in file.infolist()}


def test_the_files_of_a_run_and_no_others(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run", "run-1", START_S)
    directory.append(RECORDS)
    directory.write_meta(meta())
    directory.write_sla("name: a")
    directory.close()
    own = {f"run/{path.name}": path.read_bytes() for path in directory.path.iterdir()}
    (directory.path / "private.txt").write_text("not the run's")
    (directory.path / ".env").write_text("KEY=secret")
    (tmp_path / "elsewhere.csv").write_text("not the run's")
    (directory.path / "locust_stats.csv").symlink_to(tmp_path / "elsewhere.csv")
    (directory.path / "deeper").mkdir()
    (directory.path / "deeper" / "run.json").write_text("{}")
    assert {"run/run.json", "run/requests.csv", "run/itl.hlog", "run/sla.yaml"} <= own.keys()
    assert packed(directory.path, whole_lines=False) == own


@pytest.mark.parametrize("rows", [3, 5000])
def test_whole_lines_while_it_is_written(tmp_path: Path, rows: int) -> None:
    directory = RunDirectory(tmp_path / "run", "run-1", START_S)
    directory.append([record(number) for number in range(rows)])
    directory.flush()
    whole = (directory.path / "requests.csv").read_bytes()
    assert (len(whole) > SMALL_BYTES) == (rows == 5000)
    with (directory.path / "requests.csv").open("ab") as file:
        file.write(b"run-1,host-0,cha")
    directory.write_meta(meta())
    with ExitStack() as stack:
        parts = snapshot(directory.path, stack, whole_lines=True)
        with (directory.path / "requests.csv").open("ab") as file:
            file.write(b"t,and what comes later\n")
        content = io.BytesIO()
        _pack(content, parts, "run")
    with zipfile.ZipFile(content) as file:
        assert file.read("run/requests.csv") == whole


def test_a_run_that_was_moved_away(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="moved away"), ExitStack() as stack:
        snapshot(tmp_path, stack, whole_lines=False)
