"""Other tools' files: whole ones become runs that the judge reads; broken ones become one line."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import capacity, importers, reading
from analysis.importers import ImportFileError, directory
from analysis.importers.source import read
from analysis.overview import Overview
from analysis.page_summary import page_summary
from analysis.replications import replications
from analysis.rundir import Run, load
from analysis.samples import request_sample
from analysis.sla import Sla, parse_objective
from analysis.verdict import Verdict, judge
from tokenswarm.cli_importing import TOOLS

GOLDEN = Path(__file__).parent / "golden" / "importers"
FILES = {
    "vllm bench": "vllm-0.32-detailed.json",
    "guidellm": "guidellm-0.8.1.json",
    "aiperf": "aiperf-0.13.0/profile_export.jsonl",
    "genai-bench": "genai-bench-0.0.5.json",
    "inference-perf": "inference-perf-0.7.0/per_request_lifecycle_metrics.json",
    "vegeta": "vegeta-12.jsonl",
    "k6": "k6.jsonl",
}


def sla(*texts: str) -> Sla:
    return Sla("test", tuple(parse_objective(text) for text in texts))


def brought(path: Path, out: Path, loop: str = "closed") -> Run:
    """Import the one run in a file, and load it as any other."""
    source = importers.find(path)
    (run,) = importers.translate(source)
    run = replace(run, loop=run.loop or loop)
    return load(directory.write(run, source, out, None))


def judged(path: Path, out: Path, *texts: str) -> Verdict:
    return judge(brought(path, out), sla(*texts))


@pytest.mark.parametrize("tool", FILES)
def test_a_file_is_recognised_by_what_it_holds(tool: str, tmp_path: Path) -> None:
    disguised = shutil.copyfile(GOLDEN / FILES[tool], tmp_path / "results")
    assert importers.recognise(read(disguised)) == tool


@pytest.mark.parametrize("tool", FILES)
def test_an_imported_run_is_judged_and_says_so(tool: str, tmp_path: Path) -> None:
    run = brought(GOLDEN / FILES[tool], tmp_path / "run")
    assert not run.damage
    found = judge(run, sla("e2e p50 < 1 s", "error_rate < 50 %"))
    assert found.status in {"PASS", "FAIL", "INCONCLUSIVE"}
    assert f"IMPORTED from {tool}" in found.reasons[-1]
    assert found.imported is not None
    assert all(sentence for sentence in found.imported["definitions"])
    lights = {gate.name: gate for gate in found.gates}
    for name in (
        "workers",
        "dispatch lag p99",
        "read lag p99",
        "coalesced chunks",
        "clock jumps",
        "unaccounted",
    ):
        if name in lights:
            assert (lights[name].found, lights[name].ok, lights[name].severity) == (
                "not known: imported",
                False,
                "note",
            )
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["imported"]["tool"] == tool


@pytest.mark.parametrize("tool", FILES)
def test_the_same_file_gives_the_same_bytes(tool: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        brought(GOLDEN / FILES[tool], tmp_path / name)
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert files == sorted(file.name for file in (tmp_path / "two").iterdir())
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


@pytest.mark.parametrize("tool", FILES)
def test_a_file_of_another_tool_is_named(tool: str) -> None:
    asked = next(name for name in FILES if name != tool)
    with pytest.raises(ImportFileError, match=f"looks like a file of {tool}, expected one of {asked}"):
        importers.translate(read(GOLDEN / FILES[tool]), asked)


def test_the_front_door_names_the_tools_there_are() -> None:
    assert tuple(module.TOOL for module in importers.TOOLS) == TOOLS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "found an empty file"),
        (b" \n", "found an empty file"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[]", "nothing that a known tool writes"),
        (b"{}", "nothing that a known tool writes"),
        (b"{", "not JSON"),
        (b"hello, world", "nothing that a known tool writes"),
        (b'{"latencies": {}, "success": 1, "status_codes": {}}', "vegeta's report, .* vegeta encode"),
        (b'{"metrics": {}, "root_group": {}}', "k6's summary"),
        (b'{"aiperf_version": "0.13.0"}', "aiperf's summary, .*profile_export.jsonl"),
        (b"Metric,avg,min\nTTFT,1,2\n", "aiperf's summary"),
        (b"Run Info,Benchmark\n", "guidellm's CSV"),
        (b'{"load_summary": {}, "successes": {}}', "inference-perf's summary"),
        (b"Type,Name,Request Count\n", "Locust's CSV"),
    ],
)
def test_what_cannot_be_imported_says_what_it_is(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ImportFileError, match=words) as caught:
        importers.translate(read(tmp_path / "file"))
    assert "\n" not in str(caught.value)


def test_of_a_folder_the_one_file_with_requests_is_taken(tmp_path: Path) -> None:
    assert importers.find(GOLDEN / "aiperf-0.13.0").path.name == "profile_export.jsonl"
    with pytest.raises(ImportFileError, match="found none, expected one file"):
        importers.find(tmp_path)
    for name in ("a.json", "b.json"):
        shutil.copyfile(GOLDEN / FILES["vllm bench"], tmp_path / name)
    with pytest.raises(ImportFileError, match=r"found a\.json, b\.json, expected one file"):
        importers.find(tmp_path)


Change = Callable[[Any], Any]


def third(lines: list[str]) -> tuple[list[str], str, list[str]]:
    return lines[:2], lines[2], lines[3:]


def changed(tool: str, tmp_path: Path, change: Change) -> Path:
    """Change a golden file's JSON: all of it, or its third line."""
    text = (GOLDEN / FILES[tool]).read_text()
    before, text, after = ([], text, []) if FILES[tool].endswith(".json") else third(text.splitlines())
    found = json.loads(text)
    change(found)
    (tmp_path / "changed").write_text("\n".join([*before, json.dumps(found), *after]))
    return tmp_path / "changed"


def put(*way: Any, value: Any) -> Change:
    """Return what puts a value at the end of a way of keys and indices."""

    def change(found: Any) -> None:
        for step in way[:-1]:
            found = found[step]
        found[way[-1]] = value

    return change


NAN = float("nan")
REQUEST = ("benchmarks", 0, "requests", "successful", 3)


@pytest.mark.parametrize(
    ("tool", "change", "words"),
    [
        ("vllm bench", put("start_times", value=[]), "found 0 start_times and"),
        ("vllm bench", put("latencies", value=[0.5]), "found 1 latencies and"),
        ("vllm bench", put("latencies", value=0.5), "latencies: found a float, expected a list"),
        ("vllm bench", put("completed", value=1), "requests without an error, expected the 1 completed"),
        (
            "guidellm",
            put("benchmarks", 0, "requests", "successful", value=[]),
            "found 0 of .* successful requests",
        ),
        ("genai-bench", put("_time_unit", value="h"), "found _time_unit 'h', expected s or ms"),
        ("genai-bench", put("individual_request_metrics", value=[]), "found no requests"),
        ("genai-bench", put("aggregated_metrics", "run_duration", value=NAN), "run_duration: found nan"),
        ("vllm bench", put("duration", value=-1), "duration: found -1, expected a time of at least 0"),
    ],
)
def test_a_value_that_cannot_be_is_one_line(tool: str, change: Change, words: str, tmp_path: Path) -> None:
    path = changed(tool, tmp_path, change)
    with pytest.raises(ImportFileError, match=words) as caught:
        brought(path, tmp_path / "run")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("tool", "change", "words"),
    [
        ("vllm bench", put("itls", 2, value=["x"]), "request 2: itls: found 'x', expected a time"),
        ("guidellm", put(*REQUEST, "info", "timings", "request_end", value=1), "the wall clock went back"),
        ("aiperf", put("metrics", "time_to_first_token", "unit", value="h"), "line 3: found the unit 'h'"),
        ("aiperf", put("metadata", "request_end_ns", value=-1), "line 3: request_end_ns: found -1"),
        ("genai-bench", put("individual_request_metrics", 0, "ttft", value=None), "request 0: found no ttft"),
        (
            "inference-perf",
            put(0, "end_time", value=0.0),
            "request 0: found a time before the one it follows",
        ),
        ("vegeta", put("timestamp", value="yesterday"), "line 3: found the time 'yesterday'"),
    ],
)
def test_a_request_that_cannot_be_is_left_out(tool: str, change: Change, words: str, tmp_path: Path) -> None:
    run = brought(changed(tool, tmp_path, change), tmp_path / "run")
    assert len(run.requests) == len(brought(GOLDEN / FILES[tool], tmp_path / "whole").requests) - 1
    (damage,) = run.damage
    assert damage.startswith("changed: 1 request left out that cannot be read, the first ")
    assert words in damage
    assert judge(run, sla("error_rate < 90 %")).status == "INVALID"


def fail_all(found: Any) -> None:
    n = 10 * len(found["ttfts"])
    found |= {name: found[name] * 10 for name in ("input_lens", "start_times")}
    found |= {"completed": 0, "failed": n, "errors": ["Service Unavailable"] * n, "output_lens": [0] * n}
    found |= {"ttfts": [0.0] * n, "itls": [[]] * n, "latencies": [0.0] * n}


def test_where_all_failed_the_verdict_is_fail(tmp_path: Path) -> None:
    path = changed("vllm bench", tmp_path, fail_all)
    run = brought(path, tmp_path / "run")
    assert set(run.requests.outcome) == {"http_5xx"}
    assert judge(run, sla("error_rate < 10 %")).status == "FAIL"


def test_vllm_values_are_those_of_the_file(tmp_path: Path) -> None:
    found = json.loads((GOLDEN / FILES["vllm bench"]).read_text())
    run = brought(GOLDEN / FILES["vllm bench"], tmp_path / "run")
    assert run.requests.first_ns.to_numpy() / 1e9 == pytest.approx(found["ttfts"])
    assert run.requests.gaps.tolist() == [len(gaps) for gaps in found["itls"]]
    assert run.requests.gap_max_ns.to_numpy() / 1e9 == pytest.approx([max(gaps) for gaps in found["itls"]])
    assert np.diff(run.requests.due_unix_ns) / 1e9 == pytest.approx(np.diff(found["start_times"]), abs=1e-6)
    tpot = request_sample(run.requests, "tpot").worst() / 1e6
    assert tpot.mean() == pytest.approx(found["mean_tpot_ms"], rel=1e-6)
    assert run.requests.output_tokens.sum() == found["total_output_tokens"]


def test_vllm_waiting_for_a_free_slot_is_in_ttft(tmp_path: Path) -> None:
    def queue(found: Any) -> None:
        found |= {"max_concurrency": 4, "queue_times": [0.5] * len(found["ttfts"])}

    plain = brought(GOLDEN / FILES["vllm bench"], tmp_path / "plain")
    run = brought(changed("vllm bench", tmp_path, queue), tmp_path / "run")
    assert (run.requests.first_ns - plain.requests.first_ns).to_numpy() / 1e9 == pytest.approx(0.5)
    assert any("--max-concurrency" in sentence for sentence in run.meta["imported"]["definitions"])


def test_aiperf_gaps_are_its_inter_chunk_latency_and_its_itl_our_tpot(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (GOLDEN / FILES["aiperf"]).read_text().splitlines()]
    lines = [line for line in lines if line["metadata"]["benchmark_phase"] == "profiling"]
    run = brought(GOLDEN / FILES["aiperf"], tmp_path / "run")
    metrics = [{name: one["value"] for name, one in line["metrics"].items()} for line in lines]
    ours = request_sample(run.requests, "tpot").of_ok() / 1e6
    decoding = [one["request_latency"] - one["time_to_first_token"] for one in metrics]
    gaps = [one["usage_completion_tokens"] - 1 for one in metrics]
    assert sorted(ours) == pytest.approx(sorted(np.divide(decoding, gaps)), rel=1e-6)
    chunks = [len(line["metrics"]["inter_chunk_latency"]["value"]) for line in lines if not line.get("error")]
    assert run.requests.gaps.sum() == sum(chunks)
    assert len(run.requests) == len(lines)
    assert run.meta["imported"]["warmup_requests_left_out"] > 0


def test_guidellm_itl_is_our_tpot_and_single_gaps_are_not_known(tmp_path: Path) -> None:
    found = json.loads((GOLDEN / FILES["guidellm"]).read_text())["benchmarks"][0]["requests"]["successful"]
    run = brought(GOLDEN / FILES["guidellm"], tmp_path / "run")
    ours = sorted(request_sample(run.requests, "tpot").of_ok() / 1e6)
    assert ours == pytest.approx(sorted(one["inter_token_latency_ms"] for one in found), rel=1e-3)
    result = judge(run, sla("itl p99 < 20 ms")).objectives[0]
    assert (result.status, result.reason) == ("INCONCLUSIVE", "not known: the imported file has no itl")
    assert result.observed is None
    assert result.n == 0


def test_what_guidellm_never_sent_is_missed_by_nobody(tmp_path: Path) -> None:
    never_sent = put("benchmarks", 0, "scheduler_metrics", "requests_made", "incomplete", value=3)
    plain = brought(GOLDEN / FILES["guidellm"], tmp_path / "plain")
    run = brought(changed("guidellm", tmp_path, never_sent), tmp_path / "run")
    assert len(run.requests) == len(plain.requests)


def test_genai_bench_has_no_times_so_there_is_no_interval(tmp_path: Path) -> None:
    path = GOLDEN / FILES["genai-bench"]
    worst = max(row["ttft"] or 0 for row in json.loads(path.read_text())["individual_request_metrics"])
    below, above = judged(
        path, tmp_path / "run", f"ttft p95 < {worst * 1e4:.3f} ms", "ttft p95 < 1 us"
    ).objectives
    assert (below.status, below.n_eff, below.bound_high) == ("INCONCLUSIVE", None, None)
    assert "has no times" in below.reason
    assert above.status == "FAIL"
    assert "worth 10" in above.reason


def test_what_does_not_look_into_the_stream_has_no_ttft(tmp_path: Path) -> None:
    found = judged(
        GOLDEN / FILES["vegeta"],
        tmp_path / "run",
        "ttft p95 < 100 ms",
        "goodput(ttft < 1 s, e2e < 1 s) >= 90 %",
    )
    for result in found.objectives:
        assert (result.status, result.reason) == ("INCONCLUSIVE", "not known: the imported file has no ttft")


def test_k6_json_and_csv_tell_the_same(tmp_path: Path) -> None:
    one = brought(GOLDEN / "k6.jsonl", tmp_path / "json")
    other = brought(GOLDEN / "k6.csv", tmp_path / "csv")
    assert sorted(one.requests.end_ns) == pytest.approx(sorted(other.requests.end_ns), abs=1000)
    assert (
        one.requests.outcome.tolist().count("connect")
        == other.requests.outcome.tolist().count("connect")
        == 1
    )
    assert "whole seconds" in " ".join(other.meta["imported"]["definitions"])


def test_vegeta_json_and_csv_tell_the_same(tmp_path: Path) -> None:
    one = brought(GOLDEN / "vegeta-12.jsonl", tmp_path / "json")
    other = brought(GOLDEN / "vegeta-12.csv", tmp_path / "csv")
    for column in ("due_unix_ns", "end_ns", "outcome"):
        assert one.requests[column].tolist() == other.requests[column].tolist()


def test_a_whole_answer_fits_into_a_cell_and_a_line(tmp_path: Path) -> None:
    rows = (GOLDEN / "vegeta-12.csv").read_text().splitlines()
    cells = rows[0].split(",")
    long = ",".join([*cells[:6], "QUFB" * 50_000, *cells[7:]])
    (tmp_path / "long.csv").write_text("\n".join([long, *rows[1:]]))
    assert len(brought(tmp_path / "long.csv", tmp_path / "csv").requests) == len(rows)
    lines = (GOLDEN / "vegeta-12.jsonl").read_text().splitlines()
    (tmp_path / "lines.jsonl").write_text(
        "\n".join([lines[0].replace('"attack":""', '"attack":"\u2028"'), *lines[1:]])
    )
    assert len(brought(tmp_path / "lines.jsonl", tmp_path / "lines").requests) == len(lines)


def test_a_comparison_reads_no_quantiles_of_what_is_not_known(tmp_path: Path) -> None:
    run = brought(GOLDEN / FILES["vegeta"], tmp_path / "run")
    where = {"server": "a", "baseline": "a", "level": 5, "block": 1}
    run = replace(run, meta={**run.meta, "experiment": where})
    found = reading.read(run, judge(run, sla("error_rate < 50 %")), ["ttft p50", "e2e p50"])
    assert (found.values["ttft p50"], set(found.quantiles["ttft"])) == (None, {None})
    assert found.values["e2e p50"] is not None


@pytest.mark.parametrize("tool", ["vllm bench", "vegeta"])
def test_an_experiments_first_page_does_not_vouch_for_another_tool(tool: str, tmp_path: Path) -> None:
    run, by = brought(GOLDEN / FILES[tool], tmp_path / "run"), sla("e2e p50 < 1 s")
    run = replace(
        run, meta={**run.meta, "experiment": {"server": "a", "baseline": "a", "level": 5, "block": 1}}
    )
    pairs = [(run, judge(run, by))]
    curves = capacity.measure(pairs, by)
    made = page_summary(Overview(pairs, replications(pairs, by), curves, {}, []))
    text = " ".join(one.get_text() for one in reversed(made.texts))
    assert f"What the instrument was worth is not known: imported from {tool}." in text
    assert "All gates" not in text
