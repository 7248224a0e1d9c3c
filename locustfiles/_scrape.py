"""The server's own account: vLLM's /metrics, read once a second, and what it says the run did.

One column for one number: labels are added up, a histogram gives its sum and its count. Shares and sizes
are not added up: of several engines the fullest cache counts.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

GAUGES = {
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
}
LARGEST = {
    "kv_cache_usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
}
COUNTERS = {
    "prompt_tokens": ("vllm:prompt_tokens_total",),
    "prompt_tokens_cached": ("vllm:prompt_tokens_cached_total",),
    "generation_tokens": ("vllm:generation_tokens_total",),
    "preemptions": ("vllm:num_preemptions_total",),
    "prefix_cache_queries": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    "prefix_cache_hits": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
}
HISTOGRAMS = {
    "ttft": ("vllm:time_to_first_token_seconds",),
    "itl": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    "queue": ("vllm:request_queue_time_seconds",),
    "prefill": ("vllm:request_prefill_time_seconds",),
    "decode": ("vllm:request_decode_time_seconds",),
    "e2e": ("vllm:e2e_request_latency_seconds",),
}
"""Column -> names of the metric, today's first. A version that shows both shows one number twice."""

FINISHED = "vllm:request_success_total"  # vLLM counts aborted requests here too, under their own reason
REASONS = ("stop", "length", "error", "repetition")
CACHE_CONFIG = "vllm:cache_config_info"  # its labels are the cache's settings

TIMES = ("unix_s", "asked_unix_ns", "read_unix_ns")
COLUMNS = (
    *GAUGES,
    *LARGEST,
    *COUNTERS,
    "finished",
    "aborted",
    *(f"finished_{reason}" for reason in REASONS),
    *(f"{name}_{part}" for name in HISTOGRAMS for part in ("sum_s", "count")),
    "block_size",
)


class _Series(NamedTuple):
    """Where a sample goes: among the metric's names today's is number 0, and the lowest found counts."""

    column: str
    rank: int


_SERIES = {
    name: _Series(column, rank)
    for columns in (GAUGES, LARGEST, COUNTERS)
    for column, names in columns.items()
    for rank, name in enumerate(names)
} | {
    f"{name}_{part.removesuffix('_s')}": _Series(f"{column}_{part}", rank)
    for column, names in HISTOGRAMS.items()
    for rank, name in enumerate(names)
    for part in ("sum_s", "count")
}
_PREFIXES = tuple(f"{name}{end}" for name in (*_SERIES, FINISHED, CACHE_CONFIG) for end in "{ ")


class ServerCounts(NamedTuple):
    """Differences between the first and the last reading."""

    requests: int
    aborted: int
    prompt_tokens: int
    generation_tokens: int
    exclusive: bool  # nothing was running or waiting when the run began


def read_metrics(text: str) -> dict[str, float]:
    """Return the columns found in a Prometheus text; raises ValueError if it is none or not vLLM's."""
    found: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))  # column -> rank -> value
    # Four lines in five of vLLM's page are buckets, and the parser takes 20 us for each.
    wanted = "".join(line + "\n" for line in text.splitlines() if line.startswith(_PREFIXES))
    for family in text_string_to_metric_families(wanted):
        for sample in family.samples:
            for (column, rank), value in _places(sample.name, sample.labels, sample.value):
                ranked = found[column]
                largest = column in LARGEST or column == "block_size"
                ranked[rank] = max(ranked[rank], value) if largest else ranked[rank] + value
    row = {column: ranked[min(ranked)] for column, ranked in found.items()}
    if not row:
        raise ValueError("no vllm:* metric in it")
    return row


def _places(name: str, labels: dict[str, str], value: float) -> Iterable[tuple[_Series, float]]:
    """Yield every column that a sample belongs to, with what it adds there."""
    if name == FINISHED:
        reason = labels.get("finished_reason", "")
        yield _Series("aborted" if reason == "abort" else "finished", 0), value
        if reason in REASONS:
            yield _Series(f"finished_{reason}", 0), value
    elif name == CACHE_CONFIG:
        size = labels.get("block_size", "")
        if size.isdecimal():
            yield _Series("block_size", 0), float(size)
    elif name in _SERIES:
        yield _SERIES[name], value


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
    """server_metrics.csv: TIMES and COLUMNS; a cell is empty where the server has no such metric."""

    def __init__(self, path: Path) -> None:
        """Create the file."""
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._writer: Any = csv.writer(self._file, lineterminator="\n")
        self._row((*TIMES, *COLUMNS))

    def append(self, asked_unix_ns: int, read_unix_ns: int, row: dict[str, float]) -> None:
        """Add one reading, with the times at which it was asked for and complete."""
        cells = (repr(row[name]) if name in row else "" for name in COLUMNS)
        self._row((read_unix_ns // 10**9, asked_unix_ns, read_unix_ns, *cells))

    def _row(self, cells: Iterable[object]) -> None:
        self._writer.writerow(cells)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
