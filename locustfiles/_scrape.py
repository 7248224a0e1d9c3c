"""The server's own account: vLLM's /metrics, read once a second, and what it says the run did.

One column for one number: labels are added up, a histogram gives its sum and its count.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

GAUGES = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_usage",
}
COUNTERS = {
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "generation_tokens",
    "vllm:num_preemptions_total": "preemptions",
    "vllm:prefix_cache_queries_total": "prefix_cache_queries",
    "vllm:prefix_cache_hits_total": "prefix_cache_hits",
}
HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": "ttft",
    "vllm:request_queue_time_seconds": "queue",
    "vllm:request_prefill_time_seconds": "prefill",
    "vllm:request_decode_time_seconds": "decode",
    "vllm:e2e_request_latency_seconds": "e2e",
}
FINISHED = "vllm:request_success_total"  # vLLM counts aborted requests here too, under their own reason
_PREFIXES = (
    *(f"{name}{{" for name in (*GAUGES, *COUNTERS, FINISHED)),
    *(f"{name} " for name in (*GAUGES, *COUNTERS, FINISHED)),
    *(f"{name}_{part}" for name in HISTOGRAMS for part in ("sum", "count")),
)
COLUMNS = (
    *GAUGES.values(),
    *COUNTERS.values(),
    "finished",
    "aborted",
    *(f"{name}_{part}" for name in HISTOGRAMS.values() for part in ("sum_s", "count")),
)


class ServerCounts(NamedTuple):
    """Differences between the first and the last reading."""

    requests: int
    aborted: int
    prompt_tokens: int
    generation_tokens: int
    exclusive: bool  # nothing was running or waiting when the run began


def read_metrics(text: str) -> dict[str, float]:
    """Return the columns found in a Prometheus text; raises ValueError if it is none or not vLLM's."""
    row: dict[str, float] = {}
    # Four lines in five of vLLM's page are buckets, and the parser takes 20 us for each.
    wanted = "".join(line + "\n" for line in text.splitlines() if line.startswith(_PREFIXES))
    for family in text_string_to_metric_families(wanted):
        for sample in family.samples:
            column = _column(sample.name, sample.labels)
            if column:
                row[column] = row.get(column, 0.0) + sample.value
    if not row:
        raise ValueError("no vllm:* metric in it")
    return row


def _column(name: str, labels: dict[str, str]) -> str | None:
    if name == FINISHED:
        return "aborted" if labels.get("finished_reason") == "abort" else "finished"
    base, _, part = name.rpartition("_")
    if base in HISTOGRAMS and part in {"sum", "count"}:
        return f"{HISTOGRAMS[base]}_{'sum_s' if part == 'sum' else 'count'}"
    return GAUGES.get(name) or COUNTERS.get(name)


def counts(first: dict[str, float], last: dict[str, float]) -> ServerCounts:
    """Return what happened between two readings; a counter that is missing counts as zero."""

    def grown(column: str) -> int:
        return round(last.get(column, 0) - first.get(column, 0))

    return ServerCounts(
        requests=grown("finished"),
        aborted=grown("aborted"),
        prompt_tokens=grown("prompt_tokens"),
        generation_tokens=grown("generation_tokens"),
        exclusive=not first.get("running", 0) + first.get("waiting", 0),
    )


class MetricsLog:
    """server_metrics.csv: unix_s and COLUMNS, an empty cell where the server has no such metric."""

    def __init__(self, path: Path) -> None:
        """Create the file."""
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._writer: Any = csv.writer(self._file, lineterminator="\n")
        self._row(("unix_s", *COLUMNS))

    def append(self, unix_s: int, row: dict[str, float]) -> None:
        """Add one reading."""
        self._row((unix_s, *(repr(row[name]) if name in row else "" for name in COLUMNS)))

    def _row(self, cells: Iterable[object]) -> None:
        self._writer.writerow(cells)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
