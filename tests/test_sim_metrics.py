"""/metrics and /sim/summary against what a client saw."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.sim_server import TIMEOUT_S, Sim, call, chat, post, running_sim, stream

CHAT = "/v1/chat/completions"
USAGE = {"include_usage": True}
GOLDEN = Path(__file__).parent / "golden" / "vllm-0.32-metrics.txt"


@pytest.fixture
def sim() -> Iterator[Sim]:
    with running_sim("--model", "m") as running:
        yield running


def scrape(sim: Sim) -> dict[str, float]:
    """Return every sample by its name, and by its reason or bound where it has one."""
    values = {}
    for family in text_string_to_metric_families(call(sim.port, "/metrics").body.decode()):
        for sample in family.samples:
            assert sample.labels["model_name"] == "m"
            assert sample.labels["engine"] == "0"
            values[sample.name + sample.labels.get("finished_reason", sample.labels.get("le", ""))] = (
                sample.value
            )
    return values


def wait_until(sim: Sim, name: str, value: float) -> dict[str, float]:
    deadline = time.monotonic() + TIMEOUT_S
    while (values := scrape(sim))[name] != value:
        assert time.monotonic() < deadline, values
        time.sleep(0.01)
    return values


def test_names_labels_and_bounds_are_those_of_real_vllm(sim: Sim) -> None:
    def series(text: str) -> set[tuple[str, str, tuple[tuple[str, str], ...]]]:
        return {
            (family.type, sample.name, tuple(sorted((sample.labels | {"model_name": ""}).items())))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    ours = series(call(sim.port, "/metrics").body.decode())
    assert ours <= series(GOLDEN.read_text(encoding="utf-8"))


def test_counters_equal_what_clients_were_told(sim: Sim) -> None:
    bodies = [
        chat(max_tokens=40, n=1 + number % 3, ignore_eos=number % 2 == 0, stream_options=USAGE)
        for number in range(24)
    ]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda body: stream(sim.port, body), bodies))
    scripted = stream(sim.port, chat(stream_options=USAGE), {"ttft_ms": 1, "itl_ms": 1, "tokens": 7})
    usages = [events[-1]["usage"] for events in (*answers, scripted)]
    values = scrape(sim)
    tokens = sum(usage["completion_tokens"] for usage in usages)
    choices = sum(body["n"] for body in bodies) + 1
    reasons = [
        event["choices"][0]["finish_reason"]
        for events in (*answers, scripted)
        for event in events
        if event["choices"] and event["choices"][0]["finish_reason"]
    ]
    assert values["vllm:generation_tokens_total"] == tokens
    for reason in ("stop", "length"):
        assert values[f"vllm:request_success_total{reason}"] == reasons.count(reason)
    assert len(reasons) == choices
    assert values["vllm:request_success_totalabort"] == 0
    assert values["vllm:prompt_tokens_total"] == sum(
        usage["prompt_tokens"] * n
        for usage, n in zip(usages, [*(body["n"] for body in bodies), 1], strict=True)
    )
    assert values["vllm:time_to_first_token_seconds_count"] == choices
    assert values["vllm:inter_token_latency_seconds_count"] == tokens - choices
    assert values["vllm:e2e_request_latency_seconds_count"] == choices
    assert values["vllm:num_requests_running"] == values["vllm:num_requests_waiting"] == 0
    assert values["vllm:kv_cache_usage_perc"] == 0


def test_queue_prefill_and_decode_add_up_to_the_whole(sim: Sim) -> None:
    for _ in range(3):
        stream(sim.port, chat(max_tokens=10, ignore_eos=True))
    values = scrape(sim)
    parts = sum(values[f"vllm:request_{part}_time_seconds_sum"] for part in ("queue", "prefill", "decode"))
    assert parts == pytest.approx(values["vllm:e2e_request_latency_seconds_sum"], abs=1e-9)
    assert parts > 3 * 9 * 0.011  # nine gaps of a step each


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_aborts_its_request(sim: Sim, streamed: bool) -> None:
    with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(post(CHAT, chat(max_tokens=5000, ignore_eos=True, stream=streamed)))
        running = wait_until(sim, "vllm:num_requests_running", 1)
        assert running["vllm:kv_cache_usage_perc"] > 0
    values = wait_until(sim, "vllm:num_requests_running", 0)
    assert values["vllm:request_success_totalabort"] == 1
    assert values["vllm:kv_cache_usage_perc"] == 0
    assert values["vllm:generation_tokens_total"] < 5000


def test_more_than_max_num_seqs_wait(sim: Sim) -> None:
    with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(post(CHAT, chat(max_tokens=5000, n=128, ignore_eos=True)))
        wait_until(sim, "vllm:num_requests_running", 128)
        with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as other:
            body = {"prompt": ["a", "b"], "n": 100, "max_tokens": 5000, "ignore_eos": True, "stream": True}
            other.sendall(post("/v1/completions", body))
            values = wait_until(sim, "vllm:num_requests_running", 256)
            assert values["vllm:num_requests_waiting"] == 72


def test_a_repeated_prompt_hits_the_prefix_cache(sim: Sim) -> None:
    body = {"prompt": "the same long prompt " * 100, "max_tokens": 1, "stream": True}
    stream(sim.port, body)
    assert scrape(sim)["vllm:prefix_cache_hits_total"] == 0
    stream(sim.port, body)
    values = scrape(sim)
    assert values["vllm:prefix_cache_queries_total"] == 2 * 525
    assert values["vllm:prefix_cache_hits_total"] == 525 // 16 * 16
    assert values["vllm:prompt_tokens_cached_total"] == 525 // 16 * 16


def test_the_summary_counts_and_measures(tmp_path: Path) -> None:
    with running_sim("--send-log", str(tmp_path / "sends.jsonl")) as sim:
        for _ in range(3):
            stream(sim.port, chat(), {"ttft_ms": 30, "itl_ms": 5, "tokens": 10})
        summary = call(sim.port, "/sim/summary").json
    assert summary["simulated"] is True
    assert (summary["requests"], summary["tokens"]) == (3, 30)
    assert summary["finished"] == {"stop": 0, "length": 3, "abort": 0}
    assert (summary["ttft_ms"]["n"], summary["itl_ms"]["n"]) == (3, 27)
    assert summary["ttft_ms"]["p50"] >= 30
    lines = [json.loads(line) for line in (tmp_path / "sends.jsonl").read_text(encoding="utf-8").splitlines()]
    gaps = [
        later - earlier
        for line in lines
        for earlier, later in zip(line["sends"], line["sends"][1:], strict=False)
    ]
    assert summary["itl_ms"]["max"] == max(gaps) / 1e6
