"""Files that were cut off or damaged: what is whole is imported, the rest named, and no such run passes."""

import copy
import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import importers
from analysis.importers import Imported, ImportFileError
from analysis.importers.source import read
from tokenswarm import TokenswarmError
from tokenswarm.cli import cli

GOLDEN = Path(__file__).parent / "golden" / "importers"
VLLM, GUIDELLM = "vllm-0.32-detailed.json", "guidellm-0.8.1.json"
AIPERF, GENAI = "aiperf-0.13.0/profile_export.jsonl", "genai-bench-0.0.5.json"
PERF = "inference-perf-0.7.0/per_request_lifecycle_metrics.json"

FIRST: dict[str, float] = {
    VLLM: 0.7,
    "vllm-0.32-failed.json": 0.6,
    GUIDELLM: 0.75,
    "guidellm-0.8.1-warmup.json": 0.75,
    "guidellm-0.8.1-failed.json": 0.75,
    AIPERF: 0.2,
    "aiperf-0.13.0-failed/profile_export.jsonl": 0.2,
    GENAI: 0.4,
    "genai-bench-0.0.5-failed.json": 0.4,
    PERF: 0.1,
    "inference-perf-0.7.0-failed/per_request_lifecycle_metrics.json": 0.2,
    "vegeta-12.jsonl": 0.1,
    "vegeta-12.csv": 0.1,
    "vegeta-12-failed.jsonl": 0.3,
    "k6.jsonl": 0.2,
    "k6.csv": 0.2,
}
"""From which share of its file on at least one request is whole, roughly: much may come before."""

LINES = {
    "vegeta-12.jsonl": 2,
    "k6.jsonl": next(
        i
        for i, line in enumerate((GOLDEN / "k6.jsonl").read_text().splitlines())
        if '"Point"' in line and '"http_req_duration"' in line
    ),
    AIPERF: 3,
}
"""Files of lines, with the place of a line that holds a request."""

RECORDS: dict[str, tuple[str | int, ...]] = {
    GUIDELLM: ("benchmarks", 0, "requests", "successful", 2),
    GENAI: ("individual_request_metrics", 2),
    PERF: (2,),
}
"""Files that are one JSON, with the way to a request in it. vLLM's has columns instead."""

TIMES: dict[str, tuple[tuple[str | int, ...], str]] = {
    VLLM: (("ttfts", 2), "request 2: ttfts"),
    GUIDELLM: (
        (*RECORDS[GUIDELLM], "info", "timings", "first_token_iteration"),
        "successful request 2: first_token_iteration",
    ),
    GENAI: ((*RECORDS[GENAI], "ttft"), "request 2: ttft"),
    PERF: ((*RECORDS[PERF], "end_time"), "request 2: end_time"),
    AIPERF: (("metrics", "request_latency", "value"), "line 4: request_latency"),
    "vegeta-12.jsonl": (("latency",), "line 3: latency"),
    "k6.jsonl": (("data", "value"), f"line {LINES['k6.jsonl'] + 1}: http_req_duration"),
}
"""Way to a request's time in a file (of its line, in a file of lines), and how it is named."""

ODD: tuple[Any, ...] = (
    *(float("nan"), float("inf"), float("-inf"), -1, -0.5, 1e300, 10**30, 10**17),
    *(None, True, "", "x", [], {}, [1], {"a": 1}),
)


def told(run: Imported) -> Counter[tuple[Any, ...]]:
    """Return each request; of a failed one not why, which may have stood behind a cut."""
    return Counter(
        (one.due_unix_ns, one.sent_ns, one.first_ns, one.last_ns, one.end_ns, one.gaps, one.outcome == "ok")
        for one, _ in run.requests
    )


def imported_or_refused(path: Path) -> Imported | str:
    """Return the one run in a file, or the one line with which it was refused."""
    try:
        (run,) = importers.translate(read(path))
    except ImportFileError as error:
        line = str(error)
    else:
        return run
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


@pytest.mark.parametrize("file", FIRST)
def test_wherever_a_file_is_cut_the_requests_before_are_imported(file: str, tmp_path: Path) -> None:
    content, cut = (GOLDEN / file).read_bytes(), tmp_path / "cut"
    (whole,) = importers.translate(importers.read(GOLDEN / file))
    before: Counter[tuple[Any, ...]] = Counter()
    step = len(content) // 41 + 1
    for end in (*range(1, len(content), step), *range(len(content) - 8, len(content))):
        cut.write_bytes(content[:end])
        run = imported_or_refused(cut)
        if isinstance(run, str):
            assert end < FIRST[file] * len(content), run
            continue
        assert told(run) <= told(whole)
        assert before <= told(run), "a later cut has what an earlier one has, and more"
        before = told(run)
        if content[end - 1 : end] == b"\n" or content[end : end + 1] in b"\n":
            continue  # between two lines a cut cannot be seen
        assert f"was cut off behind its request {len(run.requests) + run.warmup}" in run.missing[0]
    assert len(whole.requests) - before.total() <= 1


@pytest.mark.parametrize("file", FIRST)
def test_a_cut_run_is_judged_and_invalid_with_the_reason(file: str, tmp_path: Path) -> None:
    content, out = (GOLDEN / file).read_bytes(), tmp_path / "run"
    (tmp_path / "cut.json").write_bytes(content[: int(len(content) * 0.8)])
    imported = call("import", tmp_path / "cut.json", "--out", out, *closed(file))
    assert imported.exit_code == 0, imported.output
    n = len((out / "requests.csv").read_text().splitlines()) - 1
    reason = "cut.json was cut off behind its request"
    assert f"INVALID: {reason} " in imported.stderr
    verdict = json.loads(call("verdict", out, "--json").stdout)
    assert (verdict["status"], verdict["exit_code"]) == ("INVALID", 5)
    assert verdict["reasons"][0].startswith(f"complete: found {reason} ")
    assert "import the whole file" in verdict["reasons"][0]
    assert sum(one["n"] for one in verdict["scenarios"]) == n > 0


@pytest.mark.parametrize("file", FIRST)
def test_wherever_a_disk_damaged_a_file_what_is_whole_is_imported(file: str, tmp_path: Path) -> None:
    content, whole = (GOLDEN / file).read_bytes(), golden(file)
    for at in range(100, len(content) - 100, len(content) // 23):
        (tmp_path / "damaged").write_bytes(content[:at] + b"\0" * 60 + content[at + 60 :])
        run = imported_or_refused(tmp_path / "damaged")
        if isinstance(run, Imported):
            assert told(run) <= told(whole)
            assert run.missing or told(run) == told(whole)


@pytest.mark.parametrize("file", [VLLM, *RECORDS])
def test_a_json_that_goes_on_behind_its_damage_was_not_cut_off(file: str, tmp_path: Path) -> None:
    text, path, whole = (GOLDEN / file).read_text(), tmp_path / "damaged.json", golden(file)
    at = text.index('"', int(len(text) * (0.9 if file == VLLM else 0.8)))
    path.write_text(text[: at + 1] + "\0" * 5 + text[at + 6 :])
    run = imported_or_refused(path)
    assert isinstance(run, Imported)
    assert told(run) <= told(whole)
    (line,) = run.missing
    found = re.fullmatch(
        r"damaged.json was damaged behind its request (\d+), at (line \d+ column \d+): import the whole file",
        line,
    )
    assert found, line
    assert 0 < int(found[1]) == len(run.requests) + run.warmup <= len(whole.requests)
    assert place_in(text, found[2]) in range(at, at + 7)


def place_in(text: str, place: str) -> int:
    """Return where in a text a line and a column are."""
    _, line, _, column = place.split()
    return sum(len(one) + 1 for one in text.split("\n")[: int(line) - 1]) + int(column) - 1


def test_a_json_that_is_damaged_before_its_first_request_says_so(tmp_path: Path) -> None:
    text, path = (GOLDEN / PERF).read_text(), tmp_path / "damaged.json"
    path.write_text(text[:40] + "\0" * 9 + text[49:])
    with pytest.raises(
        ImportFileError, match=r"and more text follows: was it damaged\? No request in it is whole"
    ):
        importers.translate(read(path))


def test_percentiles_that_were_cut_off_are_not_judged(tmp_path: Path) -> None:
    text = (GOLDEN / "vllm-0.32-plain.json").read_text()
    for end in (text.index('"p99_ttft_ms"') + 18, len(text) - 3):
        (tmp_path / "cut.json").write_text(text[:end])
        error = call("verdict", tmp_path / "cut.json").exception
        assert isinstance(error, TokenswarmError)
        assert "was it cut off? Expected the whole file" in str(error)
        assert [file.name for file in tmp_path.iterdir()] == ["cut.json"]


def test_of_a_cut_sweep_the_runs_before_are_imported(tmp_path: Path) -> None:
    found = json.loads((GOLDEN / GUIDELLM).read_text())
    found["benchmarks"] *= 2
    text = json.dumps(found)
    second = text.rindex('"generative_benchmark"')
    for end, runs in ((second + 200, 1), (text.rindex('"requests": {') + 20, 1), (len(text) - 2000, 2)):
        (tmp_path / "cut").write_text(text[:end])
        made = importers.translate(read(tmp_path / "cut"))
        assert len(made) == runs
        assert all("was cut off" in run.missing[0] for run in made)
    (whole,) = importers.translate(read(GOLDEN / GUIDELLM))
    assert told(made[0]) == told(whole)


def test_genai_benchs_unit_is_told_by_its_speeds_where_the_end_is_lost(tmp_path: Path) -> None:
    found = json.loads((GOLDEN / GENAI).read_text())
    in_s = importers.translate(read(GOLDEN / GENAI))[0].requests
    for row in found["individual_request_metrics"]:
        times = ("ttft", "tpot", "e2e_latency", "output_latency")
        row |= {name: row[name] and row[name] * 1000 for name in times}
    text = json.dumps(found | {"_time_unit": "ms"}, indent=4)
    (tmp_path / "cut").write_text(text[: text.index('"_time_unit"')])
    (run,) = importers.translate(read(tmp_path / "cut"))
    assert [one.end_ns for one, _ in run.requests] == pytest.approx(
        [one.end_ns for one, _ in in_s][:-1], abs=1
    )
    for row in found["individual_request_metrics"]:
        row["output_inference_speed"] = None
    text = json.dumps(found, indent=4)
    (tmp_path / "cut").write_text(text[: text.index('"_time_unit"')])
    with pytest.raises(ImportFileError, match="_time_unit, which stands last, is lost"):
        importers.translate(read(tmp_path / "cut"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.25, "soon"])
@pytest.mark.parametrize("file", TIMES)
def test_a_request_with_a_time_that_none_has_is_left_out_and_named(
    file: str, value: Any, tmp_path: Path
) -> None:
    way, name = TIMES[file]
    path, out = changed(file, way, value, tmp_path / "changed.json"), tmp_path / "run"
    imported = call("import", path, "--out", out, *closed(file))
    assert imported.exit_code == 0, imported.output
    line = (
        f"changed.json: 1 request left out that cannot be read, the first {name}: found {value!r}, expected a"
    )
    assert f"INVALID: {line}" in imported.stderr
    (whole,) = importers.translate(read(GOLDEN / file))
    assert len((out / "requests.csv").read_text().splitlines()) - 1 == len(whole.requests) - 1
    verdict = json.loads(call("verdict", out, "--json").stdout)
    assert (verdict["status"], verdict["exit_code"]) == ("INVALID", 5)
    assert verdict["reasons"][0].startswith(f"complete: found {line}")


@pytest.mark.parametrize("file", TIMES)
def test_where_no_request_can_be_read_the_file_is_refused(file: str, tmp_path: Path) -> None:
    way, name = TIMES[file]
    text = (GOLDEN / file).read_text()
    if file in LINES:
        lines = [json.dumps(put(json.loads(text.splitlines()[LINES[file]]), way, None))] * 3
        (tmp_path / "changed").write_text("\n".join(lines))
    else:
        found = json.loads(text)
        place = max(i for i, step in enumerate(way) if isinstance(step, int))
        for i in range(len(got(found, way[:place]))):
            found = put(found, (*way[:place], i, *way[place + 1 :]), [float("nan")])
        (tmp_path / "changed").write_text(json.dumps(found))
    error = call("import", tmp_path / "changed", "--out", tmp_path / "run", *closed(file)).exception
    assert isinstance(error, TokenswarmError)
    assert error.exit_code == 2
    assert "requests none can be read" in str(error)
    assert name.split(": ")[-1] in str(error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", LINES)
def test_a_line_that_is_none_is_left_out_and_named(file: str, tmp_path: Path) -> None:
    lines = (GOLDEN / file).read_text().splitlines()
    (whole,) = importers.translate(read(GOLDEN / file))
    for damaged in (lines[LINES[file]][:40], "[1]", '"text"', "\x00" * 20, "[" * 5000, "{}"):
        (tmp_path / "file").write_text(
            "\n".join([*lines[: LINES[file]], damaged, *lines[LINES[file] + 1 :]]) + "\n"
        )
        (run,) = importers.translate(read(tmp_path / "file"))
        assert len(run.requests) == len(whole.requests) - 1
        assert f"1 request left out that cannot be read, the first line {LINES[file] + 1}: " in run.missing[0]


@pytest.mark.parametrize("file", [*RECORDS, *LINES])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_request_holds_there_is_no_traceback(
    file: str, data: st.DataObject, tmp_path: Path
) -> None:
    whole = golden(file)
    base = RECORDS.get(file, ())
    way = data.draw(st.sampled_from(list(ways(got(document(file), base)))))
    path = changed(file, (*base, *way), data.draw(st.sampled_from(ODD)), tmp_path / "changed")
    run = imported_or_refused(path)
    if isinstance(run, str):
        return
    assert len(whole.requests) - len(run.requests) <= 1
    assert (
        len(run.requests) == len(whole.requests)
        or run.missing
        or {"metric", "type", "benchmark_phase"} & {*way}
    )


@pytest.mark.parametrize("file", [VLLM, *RECORDS])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_around_the_requests_there_is_no_traceback(
    file: str, data: st.DataObject, tmp_path: Path
) -> None:
    way = data.draw(st.sampled_from(around(file)))
    path = changed(file, way, data.draw(st.sampled_from(ODD)), tmp_path / "changed")
    out = Path(f"{tmp_path}/{data.draw(st.uuids())}")
    answer = call("import", path, "--out", out, *closed(file))
    if answer.exception:
        assert isinstance(answer.exception, TokenswarmError), answer.exception
        assert "\n" not in str(answer.exception)
    else:
        assert (out / "run.json").exists()


def test_a_clock_that_jumped_by_years_is_one_line(tmp_path: Path) -> None:
    path = changed("vegeta-12.jsonl", ("timestamp",), "1999-12-31T23:59:59Z", tmp_path / "changed")
    error = call("import", path, "--out", tmp_path / "run").exception
    assert isinstance(error, TokenswarmError)
    assert "found requests over 9,8" in str(error)


@functools.cache
def golden(file: str) -> Imported:
    (whole,) = importers.translate(read(GOLDEN / file))
    return whole


def call(*words: Any) -> Any:
    return CliRunner().invoke(cli, [str(word) for word in words])


def closed(file: str) -> tuple[str, ...]:
    return ("--loop", "closed") if file.startswith(("k6", "aiperf", "inference-perf")) else ()


@functools.cache
def around(file: str) -> list[tuple[str | int, ...]]:
    return [way for way in ways(document(file)) if "successful" not in way]


@functools.cache
def document(file: str) -> Any:
    """Return a file's JSON; of a file of lines that of one which holds a request."""
    text = (GOLDEN / file).read_text()
    return json.loads(text.splitlines()[LINES[file]] if file in LINES else text)


def changed(file: str, way: tuple[str | int, ...], value: Any, to: Path) -> Path:
    text = json.dumps(put(document(file), way, value))
    if file in LINES:
        lines = (GOLDEN / file).read_text().splitlines()
        lines[LINES[file]] = text
        text = "\n".join(lines) + "\n"
    to.write_text(text)
    return to


def got(found: Any, way: tuple[str | int, ...]) -> Any:
    for step in way:
        found = found[step]
    return found


def put(found: Any, way: tuple[str | int, ...], value: Any) -> Any:
    if not way:
        return value
    found = copy.copy(found)
    found[way[0]] = put(found[way[0]], way[1:], value)
    return found


def ways(found: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield way
    steps = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for step, inner in steps:
        yield from ways(inner, (*way, step))
