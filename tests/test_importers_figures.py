"""What a tool prints of its own run, and what its imported run says: the same, where both mean the same."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import importers
from analysis.importers import directory
from analysis.rundir import Run, load
from analysis.samples import request_sample
from analysis.sla import Sla, parse_objective
from analysis.verdict import judge

GOLDEN = Path(__file__).parent / "golden" / "importers"
PERCENTILES = (50, 90, 95, 99)
NS_OF_MS = 1e6
FAILED = {
    "vllm-0.32-failed.json": 20,
    "guidellm-0.8.1-failed.json": 10,
    "inference-perf-0.7.0-failed": 10,
    "genai-bench-0.0.5-failed.json": 24,
    "aiperf-0.13.0-failed": 10,
    "vegeta-12-failed.jsonl": 20,
}
"""Files of servers that answered 503, 429 or broke off, and how many requests were sent."""

Figures = Mapping[str, Mapping[str, float]]
"""Metric of ours to statistic (mean, p50 ...) to what the tool says, in ms."""


def brought(name: str, out: Path) -> Run:
    source = importers.find(GOLDEN / name)
    (run,) = importers.translate(source)
    return load(directory.write(replace(run, loop=run.loop or "closed"), source, out, None))


def read(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


def ours_ms(run: Run, metric: str) -> NDArray[np.float64]:
    if metric == "e2e_sent":  # no metric of ours: what the tools mean by latency
        ok = run.requests[run.requests.outcome == "ok"]
        return (ok.end_ns - ok.sent_ns).to_numpy(dtype=np.float64) / NS_OF_MS
    return request_sample(run.requests, metric).of_ok() / NS_OF_MS


def vllm() -> Figures:
    found = read("vllm-0.32-detailed.json")
    theirs = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2el"}
    keys = {"mean": "mean_{}_ms"} | {f"p{p}": f"p{p}_{{}}_ms" for p in PERCENTILES}
    return {ours: {k: found[v.format(name)] for k, v in keys.items()} for ours, name in theirs.items()}


def aiperf() -> Figures:
    found = read("aiperf-0.13.0/profile_export_aiperf.json")
    theirs = {"ttft": "time_to_first_token", "e2e": "request_latency", "ttfo": "time_to_first_output_token"}
    names = {"mean": "avg"} | {f"p{p}": f"p{p}" for p in PERCENTILES}
    return {ours: {k: found[name][v] for k, v in names.items()} for ours, name in theirs.items()}


def genai_bench() -> Figures:
    stats = read("genai-bench-0.0.5.json")["aggregated_metrics"]["stats"]
    theirs = {"ttft": "ttft", "e2e": "e2e_latency"}
    names = ("mean", *(f"p{p}" for p in PERCENTILES))
    return {ours: {k: stats[name][k] * 1e3 for k in names} for ours, name in theirs.items()}


def inference_perf() -> Figures:
    found = read("inference-perf-0.7.0/summary_lifecycle_metrics.json")["successes"]["latency"]
    theirs = {"ttft": "time_to_first_token", "e2e": "request_latency"}
    names = {"mean": "mean", "p50": "median"} | {f"p{p}": f"p{p}" for p in PERCENTILES[1:]}
    return {ours: {k: found[name][v] * 1e3 for k, v in names.items()} for ours, name in theirs.items()}


def vegeta() -> Figures:
    found = read("vegeta-12-report.json")["latencies"]  # its percentiles are estimates
    return {"e2e": {name: found[name] / NS_OF_MS for name in ("mean", "min", "max")}}


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("vegeta-12.jsonl", vegeta()),
        ("vegeta-12.csv", vegeta()),
        ("vllm-0.32-detailed.json", vllm()),
        ("aiperf-0.13.0", aiperf()),
        ("genai-bench-0.0.5.json", genai_bench()),
        ("inference-perf-0.7.0", inference_perf()),
    ],
)
def test_latencies_are_those_that_the_tool_prints(name: str, figures: Figures, tmp_path: Path) -> None:
    run = brought(name, tmp_path / "run")
    for metric, theirs in figures.items():
        values = ours_ms(run, metric)
        ours = {"mean": values.mean(), "min": values.min(), "max": values.max()}
        ours |= {f"p{p}": np.percentile(values, p) for p in PERCENTILES}
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-5), metric


def test_guidellms_latencies_are_ours_from_the_send_and_its_scheduled_one_from_when_due(
    tmp_path: Path,
) -> None:
    metrics = read("guidellm-0.8.1.json")["benchmarks"][0]["metrics"]
    run = brought("guidellm-0.8.1.json", tmp_path / "run")
    for ours, theirs, unit_ms in (
        ("ttft_sent", "time_to_first_token_ms", 1.0),
        ("e2e_sent", "request_latency", 1e3),
        ("e2e", "request_scheduled_latency", 1e3),
        ("dispatch_lag", "request_dispatch_delay", 1e3),
    ):
        values, found = ours_ms(run, ours), metrics[theirs]["successful"]
        for of, name in ((np.mean, "mean"), (np.min, "min"), (np.max, "max"), (len, "count")):
            unit = 1.0 if name == "count" else unit_ms
            # Its times are floats of Unix seconds, a quarter of a microsecond apart.
            assert of(values) == pytest.approx(found[name] * unit, abs=1e-3), (theirs, name)
        for p in PERCENTILES:  # a value of the sample, at its rank or, where rounding says so, the next
            ranked = np.sort(values)[int(np.ceil(p / 100 * len(values))) - 1 :][:2]
            assert np.abs(ranked - found["percentiles"][f"p{p}"] * unit_ms).min() < 1e-3, (theirs, p)


def test_guidellms_warm_up_is_left_out_as_in_its_own_figures(tmp_path: Path) -> None:
    benchmark = read("guidellm-0.8.1-warmup.json")["benchmarks"][0]
    run = brought("guidellm-0.8.1-warmup.json", tmp_path / "run")
    said = benchmark["metrics"]["time_to_first_token_ms"]["successful"]
    made = benchmark["scheduler_metrics"]["requests_made"]["total"]
    assert (len(run.requests), made > said["count"]) == (
        benchmark["metrics"]["request_totals"]["total"],
        True,
    )
    assert run.meta["imported"]["warmup_requests_left_out"] == made - len(run.requests)
    latency = benchmark["metrics"]["request_latency"]["successful"]
    assert ours_ms(run, "e2e_sent").mean() == pytest.approx(latency["mean"] * 1e3, abs=1e-3)


def test_guidellms_itl_is_our_tpot_weighted_by_its_gaps(tmp_path: Path) -> None:
    theirs = read("guidellm-0.8.1.json")["benchmarks"][0]["metrics"]["inter_token_latency_ms"]["successful"]
    run = brought("guidellm-0.8.1.json", tmp_path / "run")
    gaps = run.requests.output_tokens.to_numpy(dtype=np.float64) - 1
    assert np.average(ours_ms(run, "tpot"), weights=gaps) == pytest.approx(theirs["mean"], abs=1e-3)


def test_gaps_add_up_to_those_that_the_tool_prints(tmp_path: Path) -> None:
    def total_ms(name: str) -> tuple[float, int]:
        requests = brought(name, tmp_path / name).requests
        return float(requests.gap_sum_ns.sum()) / NS_OF_MS, int(requests.gaps.sum())

    vllm_ms, vllm_gaps = total_ms("vllm-0.32-detailed.json")
    assert vllm_ms / vllm_gaps == pytest.approx(read("vllm-0.32-detailed.json")["mean_itl_ms"])
    aiperf_ms, aiperf_gaps = total_ms("aiperf-0.13.0")
    theirs = read("aiperf-0.13.0/profile_export_aiperf.json")["inter_chunk_latency"]["avg"]
    assert aiperf_ms / aiperf_gaps == pytest.approx(theirs)
    # inference-perf counts a gap of 0 for each further token of a chunk: more gaps, the same sum.
    perf_ms, perf_gaps = total_ms("inference-perf-0.7.0")
    found = read("inference-perf-0.7.0/per_request_lifecycle_metrics.json")
    tokens = [len(one["info"]["response_metrics"]["output_token_times"]) for one in found]
    mean = read("inference-perf-0.7.0/summary_lifecycle_metrics.json")["successes"]["latency"]
    assert perf_ms == pytest.approx(mean["inter_token_latency"]["mean"] * 1e3 * (sum(tokens) - len(tokens)))
    assert perf_gaps <= sum(tokens) - len(tokens)


def test_inference_perfs_tpot_divides_by_the_tokens_that_it_counted_itself(tmp_path: Path) -> None:
    found = read("inference-perf-0.7.0/per_request_lifecycle_metrics.json")
    requests = brought("inference-perf-0.7.0", tmp_path / "run").requests
    by_start = sorted(found, key=lambda one: one["start_time"])
    counted = np.array([one["info"]["response_metrics"]["output_tokens"] for one in by_start])
    said = read("inference-perf-0.7.0/summary_lifecycle_metrics.json")["successes"]["latency"]
    theirs_ms = (requests.last_ns - requests.first_ns).to_numpy() / NS_OF_MS / (counted - 1)
    assert theirs_ms.mean() == pytest.approx(said["time_per_output_token"]["mean"] * 1e3)
    assert (counted != requests.output_tokens).any()  # where the two differ, ours is the server's


def test_requests_and_tokens_are_those_that_the_tool_prints(tmp_path: Path) -> None:
    def sums(name: str) -> tuple[int, int, int]:
        requests = brought(name, tmp_path / name).requests
        ok = requests[requests.outcome == "ok"]
        return len(ok), int(ok.prompt_tokens.sum()), int(ok.output_tokens.sum())

    found = read("vllm-0.32-detailed.json")
    theirs = tuple(found[name] for name in ("completed", "total_input_tokens", "total_output_tokens"))
    assert sums("vllm-0.32-detailed.json") == theirs
    found = read("aiperf-0.13.0/profile_export_aiperf.json")
    names = ("request_count", "total_usage_prompt_tokens", "total_usage_completion_tokens")
    assert sums("aiperf-0.13.0") == tuple(found[name]["avg"] for name in names)
    total = read("genai-bench-0.0.5.json")["aggregated_metrics"]
    tokens = [total["stats"][name]["sum"] for name in ("num_input_tokens", "num_output_tokens")]
    assert sums("genai-bench-0.0.5.json") == (total["num_completed_requests"], *tokens)
    found = read("inference-perf-0.7.0/summary_lifecycle_metrics.json")["successes"]
    counts = (found["count"], found["prompt_tokens"]["total"], found["output_tokens"]["total"])
    assert sums("inference-perf-0.7.0") == counts
    metrics = read("guidellm-0.8.1.json")["benchmarks"][0]["metrics"]
    tokens = [metrics[n]["successful"]["total_sum"] for n in ("prompt_token_count", "output_token_count")]
    assert sums("guidellm-0.8.1.json") == (metrics["request_totals"]["successful"], *tokens)


def failures_said(name: str) -> int:
    """Return how many failures the tool itself prints."""
    if name.startswith("guidellm"):
        return int(read(name)["benchmarks"][0]["metrics"]["request_totals"]["errored"])
    if name.startswith("vllm"):
        return int(read(name)["failed"])
    if name.startswith("vegeta"):
        found = read(name.replace(".jsonl", "-report.json"))
        return int(found["requests"] - found["status_codes"]["200"])
    if name.startswith("genai"):
        return int(read(name)["aggregated_metrics"]["num_error_requests"])
    if name.startswith("aiperf"):
        return int(read(f"{name}/profile_export_aiperf.json")["error_request_count"]["avg"])
    return int(read(f"{name}/summary_lifecycle_metrics.json")["failures"]["count"])


@pytest.mark.parametrize("name", FAILED)
def test_failures_are_of_the_kinds_that_the_server_played(name: str, tmp_path: Path) -> None:
    run = brought(name, tmp_path / "run")
    failed = run.requests[run.requests.outcome != "ok"]
    assert set(failed.outcome) == {"http_429", "http_5xx", "truncated"}
    assert len(run.requests) == FAILED[name]
    assert len(failed) == failures_said(name)
    assert failed.output_tokens.isna().all()
    result = judge(run, Sla("test", (parse_objective("error_rate < 10 %"),))).objectives[0]
    assert result.observed == pytest.approx(failures_said(name) / FAILED[name])


def test_a_failures_detail_says_what_the_tool_said(tmp_path: Path) -> None:
    details = " | ".join(brought("guidellm-0.8.1-failed.json", tmp_path / "run").requests.detail)
    for words in ("503 Service Unavailable", "429 Too Many Requests", "incomplete chunked read"):
        assert words in details


def test_the_load_is_the_one_that_the_tool_was_told(tmp_path: Path) -> None:
    for name, loop, users, rate in (
        ("guidellm-0.8.1.json", "open", None, 10),
        ("guidellm-0.8.1-failed.json", "closed", 2, None),
        ("inference-perf-0.7.0", "open", None, 8),
        ("inference-perf-0.7.0-failed", "closed", 2, None),
        ("aiperf-0.13.0", "closed", 4, None),
        ("aiperf-0.13.0-failed", "open", None, 10),
        ("genai-bench-0.0.5-failed.json", "closed", 2, None),
    ):
        load = brought(name, tmp_path / name).meta["load"]
        assert (load["loop"], load.get("users"), load.get("rate_per_s")) == (loop, users, rate), name
