import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis.record import RequestRecord, read_records
from analysis.rundir import RunError, load, load_so_far, window, window_intervals, window_timeline
from tests.run_directories import START_S, Load, write_run

LOAD = Load(seconds=12, rate=20, warmup_s=3, failures={"connect": 0.05, "stall_timeout": 0.05})


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", LOAD)


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "run"))


def change_meta(directory: Path, **changes: Any) -> None:
    path = directory / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_requests_are_those_of_the_file_in_due_order(directory: Path) -> None:
    run = load(directory)
    with (directory / "requests.csv").open(newline="") as file:
        records = sorted(read_records(file), key=lambda record: record.due_unix_ns)
    assert list(run.requests.columns) == list(RequestRecord._fields)
    assert run.requests.due_unix_ns.tolist() == [record.due_unix_ns for record in records]
    for column in ("first_ns", "end_ns", "output_tokens", "gap_sum_ns", "outcome"):
        found = [None if value != value else value for value in run.requests[column].tolist()]  # noqa: PLR0124
        assert found == [getattr(record, column) for record in records]
    assert run.damage == ()
    assert run.server_metrics is None


def test_the_window_holds_what_was_due_in_it(directory: Path) -> None:
    run = load(directory)
    inside = window(run)
    start, end = run.window_ns
    assert (start, end) == ((START_S + 3) * 10**9, (START_S + 12) * 10**9)
    assert len(inside) == sum(start <= due < end for due in run.requests.due_unix_ns)
    assert {interval.second for interval in window_intervals(run, "itl")} == set(
        range(START_S + 3, START_S + 12)
    )
    assert window_timeline(run).unix_s.tolist() == list(range(START_S + 3, START_S + 12))
    gaps = sum(interval.histogram.count for interval in window_intervals(run, "itl"))
    assert gaps == inside.gaps.sum() > 0


def test_a_second_that_the_window_cuts_is_left_out(directory: Path) -> None:
    change_meta(
        directory, window={"start_unix_ns": START_S * 10**9 + 1, "end_unix_ns": (START_S + 5) * 10**9 - 1}
    )
    run = load(directory)
    assert {interval.second for interval in window_intervals(run, "itl")} == set(
        range(START_S + 1, START_S + 4)
    )


def test_server_metrics_are_read_where_they_are(directory: Path) -> None:
    (directory / "server_metrics.csv").write_text("unix_s,vllm:num_requests_running\n1,2\n2,\n")
    metrics = load(directory).server_metrics
    assert metrics is not None
    assert metrics["vllm:num_requests_running"].tolist()[0] == 2


def test_a_reading_of_the_server_that_is_no_number_is_named(directory: Path) -> None:
    (directory / "server_metrics.csv").write_text("unix_s,running\n1,2\n2,\n3,oops\nx,nan\n")
    (said,) = load(directory).damage
    first = "the first line 4: found running = 'oops', expected a number"
    assert said == f"server_metrics.csv: 2 cells cannot be read, {first}"


def test_a_run_that_was_cut_off_loads_and_says_so(directory: Path, pristine: Path) -> None:
    change_meta(directory, ended_unix_ns=None, window={}, accounting={}, instrument={})
    for name in ("requests.csv", "timeline.csv", "itl.hlog"):
        text = (directory / name).read_text()
        start_of_last = text[:-1].rindex("\n") + 1
        (directory / name).write_text(text[: start_of_last + (len(text) - start_of_last) // 3])
    run = load(directory)
    assert any("cut off" in line and "requests.csv" in line for line in run.damage)
    assert any("no end" in line for line in run.damage)
    assert any(line.startswith("itl.hlog: line ") for line in run.damage)
    assert any(line.startswith("timeline.csv: 1 of ") for line in run.damage)
    assert len(run.requests) == len(load(pristine).requests) - 1
    assert len(window(run)) == len(run.requests) > 100


def test_an_interrupted_run_says_so(directory: Path) -> None:
    change_meta(directory, interrupted="SIGINT")
    assert load(directory).damage == ("interrupted: SIGINT",)


def test_a_missing_timeline_is_damage(directory: Path) -> None:
    (directory / "timeline.csv").unlink()
    run = load(directory)
    assert run.damage == ("there is no timeline.csv",)
    assert len(window_timeline(run)) == 0


def fails(directory: Path, message: str) -> None:
    with pytest.raises(RunError, match=message) as raised:
        load(directory)
    assert "\n" not in str(raised.value)


def test_what_is_no_run_directory_is_one_line(tmp_path: Path) -> None:
    fails(tmp_path / "none", "none: found no directory, expected a run directory")
    fails(tmp_path, "found an empty directory")
    (tmp_path / "notes.txt").write_text("hello")
    fails(tmp_path, "found no run.json, expected a run directory")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"run\.json: not JSON"),
        ("[1]", r"run\.json: found a list, expected an object"),
        ("{}", r"run\.json: found schema None, expected a number up to 1"),
        ('{"schema": 7}', r"run\.json: schema 7, this Tokenswarm reads up to 1"),
        ('{"schema": 1, "run": 5}', r"run\.json: found run = 5, expected a str"),
    ],
)
def test_a_bad_run_json_is_one_line(directory: Path, text: str, message: str) -> None:
    (directory / "run.json").write_text(text)
    fails(directory, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": None}, "found window = None, expected an object"),
        ({"window": {}}, "found a window from None to None"),
        ({"accounting": {"started": 1}}, "found accounting.records = None, expected a whole number"),
        ({"load": {"loop": "half"}}, "found load.loop = 'half', expected open or closed"),
    ],
)
def test_a_run_that_ended_without_its_accounts_is_refused(
    directory: Path, changes: dict[str, Any], message: str
) -> None:
    change_meta(directory, **changes)
    fails(directory, message)


def test_bad_tables_are_one_line(directory: Path) -> None:
    requests = directory / "requests.csv"
    text = requests.read_text()
    requests.write_text(text.replace("due_unix_ns", "due", 1))
    fails(directory, r"requests\.csv: line 1: found columns")
    requests.unlink()
    fails(directory, r"found no requests\.csv")
    requests.write_text(text)
    (directory / "timeline.csv").write_text("unix_s,in_flight\n1,2\n")
    fails(directory, r"timeline\.csv: found columns \['unix_s', 'in_flight'\]")


def test_rows_of_another_run_are_named(directory: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", Load(seconds=12, rate=20, seed=9)) / "requests.csv"
    rows = [line.replace("-run-1,", "-run-2,", 1) for line in other.read_text().splitlines(keepends=True)[1:]]
    with (directory / "requests.csv").open("a") as file:
        file.writelines(rows)
    assert load(directory).damage == (
        f"{len(rows):,} rows of requests.csv are of the run 20260921-run-2, expected 20260921-run-1",
    )


def test_a_cut_line_is_no_other_run(directory: Path) -> None:
    path = directory / "requests.csv"
    text = path.read_text()
    path.write_text(text[: text.rindex("run-1,") + 3])
    assert load(directory).damage == ("the last line of requests.csv was cut off",)


def test_a_row_that_cannot_be_read_is_left_out_and_named(directory: Path, pristine: Path) -> None:
    path = directory / "requests.csv"
    lines = path.read_text().splitlines()
    cells = lines[3].split(",")
    lines[3] = ",".join([*cells[:5], "nan", *cells[6:]])
    lines[-1] = lines[-1].rpartition(",")[0]  # nothing cut the file off: the line has its end
    path.write_text("\n".join(lines) + "\n")
    run = load(directory)
    why = "line 4: found sent_ns = 'nan', expected a whole number"
    assert run.damage == (f"requests.csv: 2 rows left out that cannot be read, the first {why}",)
    with pytest.raises(RunError, match=f"requests.csv: {why}"):
        load_so_far(directory, {})
    assert len(run.requests) == len(load(pristine).requests) - 2


def test_where_no_row_can_be_read_there_is_no_run(directory: Path) -> None:
    path = directory / "requests.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(row.replace(",", ";") for row in rows)]) + "\n")
    fails(directory, rf"line 2: found 1 cells, expected 27; of {len(rows)} rows none can be read")
