"""The server's own counts, from real vLLM's /metrics and from texts that are none."""

import csv
from pathlib import Path

import pytest

from locustfiles._scrape import COLUMNS, REASONS, TIMES, MetricsLog, counts, read_metrics
from tests.responses import GOLDEN

REAL = (GOLDEN / "vllm-0.32-metrics.txt").read_text(encoding="utf-8")


def naive(text: str, name: str, without: str = "\0") -> float:
    """Add up the samples of one name, line by line."""
    lines = [line for line in text.splitlines() if line.startswith(name + "{") and without not in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_real_vllm() -> None:
    row = read_metrics(REAL)
    assert row.keys() == set(COLUMNS)
    for column, name in {
        "running": "vllm:num_requests_running",
        "waiting": "vllm:num_requests_waiting",
        "kv_cache_usage": "vllm:kv_cache_usage_perc",
        "prompt_tokens": "vllm:prompt_tokens_total",
        "generation_tokens": "vllm:generation_tokens_total",
        "preemptions": "vllm:num_preemptions_total",
        "prefix_cache_queries": "vllm:prefix_cache_queries_total",
        "prompt_tokens_cached": "vllm:prompt_tokens_cached_total",
        "itl_sum_s": "vllm:inter_token_latency_seconds_sum",
        "ttft_sum_s": "vllm:time_to_first_token_seconds_sum",
        "ttft_count": "vllm:time_to_first_token_seconds_count",
        "e2e_count": "vllm:e2e_request_latency_seconds_count",
    }.items():
        assert row[column] == naive(REAL, name), column
    assert row["generation_tokens"] > 0
    assert row["finished"] == naive(REAL, "vllm:request_success_total", without='reason="abort"') > 0
    assert row["finished"] == sum(row[f"finished_{reason}"] for reason in REASONS)
    assert row["finished_stop"] > 0
    assert f'block_size="{row["block_size"]:.0f}"' in REAL


def test_engines_and_models_are_added_up() -> None:
    two = (
        'vllm:generation_tokens_total{engine="0"} 5\nvllm:generation_tokens_total{engine="1"} 7\n'
        'vllm:request_success_total{finished_reason="stop"} 2\n'
        'vllm:request_success_total{finished_reason="length"} 3\n'
        'vllm:request_success_total{finished_reason="abort"} 4\n'
    )
    expected = {"finished": 5, "finished_stop": 2, "finished_length": 3, "aborted": 4}
    assert read_metrics(two) == {"generation_tokens": 12, **expected}


def test_of_several_engines_the_fullest_cache_counts() -> None:
    two = 'vllm:kv_cache_usage_perc{engine="0"} 0.6\nvllm:kv_cache_usage_perc{engine="1"} 0.7\n'
    assert read_metrics(two) == {"kv_cache_usage": 0.7}


OLD = {
    "vllm:gpu_cache_usage_perc": "vllm:kv_cache_usage_perc",
    "vllm:gpu_prefix_cache_queries_total": "vllm:prefix_cache_queries_total",
    "vllm:gpu_prefix_cache_hits_total": "vllm:prefix_cache_hits_total",
    "vllm:time_per_output_token_seconds_sum": "vllm:inter_token_latency_seconds_sum",
    "vllm:time_per_output_token_seconds_count": "vllm:inter_token_latency_seconds_count",
}


@pytest.mark.parametrize(("old", "new"), OLD.items())
def test_old_names_are_known_and_count_once(old: str, new: str) -> None:
    lines = [f'{old}{{engine="0"}} 3.0\n', f'{new}{{engine="0"}} 3.0\n']
    expected = read_metrics(lines[1])
    assert len(expected) == 1
    assert read_metrics(lines[0]) == read_metrics("".join(lines)) == read_metrics("".join(reversed(lines)))
    assert read_metrics(lines[0]) == expected


def test_metrics_without_labels_are_read() -> None:
    assert read_metrics("vllm:num_requests_running 2\n") == {"running": 2}


def test_counts_are_differences() -> None:
    first = read_metrics(REAL)
    last = first | {
        "finished": first["finished"] + 10,
        "aborted": 1.0,
        "generation_tokens": first["generation_tokens"] + 640,
        "prompt_tokens": first["prompt_tokens"] + 1000,
    }
    assert counts(first, last) == (10, 1, 1000, 640, True)
    assert counts(first, first) == (0, 0, 0, 0, True)


@pytest.mark.parametrize("gauge", ["running", "waiting"])
def test_server_that_was_busy_before_is_not_exclusive(gauge: str) -> None:
    assert not counts({gauge: 1.0}, {}).exclusive


def test_counter_that_appears_during_the_run() -> None:
    assert counts({"running": 0.0}, {"finished": 3.0, "generation_tokens": 30.0}) == (3, 0, 0, 30, True)


@pytest.mark.parametrize(
    "page", ["", "# HELP x y\n", "python_info 1\n", "<html>no</html>", "vllm:x{ 1", "\0"]
)
def test_page_that_is_not_vllms(page: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_metrics(page)


def test_log(tmp_path: Path) -> None:
    path = tmp_path / "server_metrics.csv"
    log = MetricsLog(path)
    log.append(1_790_000_000_000_000_000, 1_790_000_000_002_000_000, read_metrics(REAL))
    log.append(1_790_000_001_000_000_000, 1_790_000_001_002_000_000, {"running": 3.0})
    rows = list(csv.DictReader(path.open()))  # flushed row by row: what was read survives a crash
    log.close()
    assert list(rows[0]) == [*TIMES, *COLUMNS]
    assert (rows[0]["unix_s"], rows[0]["read_unix_ns"]) == ("1790000000", "1790000000002000000")
    assert float(rows[0]["generation_tokens"]) == naive(REAL, "vllm:generation_tokens_total")
    assert rows[1]["running"] == "3.0"
    assert rows[1]["generation_tokens"] == ""
