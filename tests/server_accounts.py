"""The server's account of a synthetic run: what its /metrics must have shown, once a second.

A `Server` says where each request of a run spent its time; everything it counts follows from the records.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.record import RequestRecord, read_records
from locustfiles._scrape import MetricsLog

MS = 10**6
READ_NS = 3 * MS
"""How long before the full second a reading is asked for, and after it is complete."""


@dataclass(frozen=True)
class Server:
    """Times in ms of every request; the prefill is what the record's TTFT leaves."""

    network_ms: float = 1.0  # there, and as much back
    handover_ms: float = 2.0
    queue_ms: float = 4.0
    hit_tokens: int = 0  # of each prompt
    block_size: int | None = 16
    kv_cache_usage: float = 0.3
    gauge: float = 1.0  # what the gauges show, as a multiple of the truth
    ttft: float = 1.0  # what the sum of TTFT shows
    spent: float = 1.0  # what the sums of decode and e2e show
    waiting_more: int = 0
    preemptions: int = 0
    restart_at_s: int | None = None  # seconds after the first reading
    missing: tuple[str, ...] = ()
    columns: dict[str, float] = field(default_factory=dict)  # overwritten in every reading


def records_of(path: Path) -> list[RequestRecord]:
    with (path / "requests.csv").open(encoding="utf-8", newline="") as file:
        return list(read_records(file))


def write_account(path: Path, server: Server) -> None:
    """Write server_metrics.csv for the run directory at `path`, from before the run to its end."""
    records = [record for record in records_of(path) if record.first_ns is not None]
    meta = json.loads((path / "run.json").read_text())
    times = _times(records, server)
    end = int(max(times.left.max(), meta["window"]["end_unix_ns"]))
    first = meta["started_unix_ns"] // 10**9
    seconds = range(first, end // 10**9 + 2)
    log = MetricsLog(path / "server_metrics.csv")
    forgotten: dict[str, float] = {}
    for number, second in enumerate(seconds):
        row = _counters(times, second * 10**9, server)
        if number == server.restart_at_s:
            forgotten = row
        row = {name: value - forgotten.get(name, 0.0) for name, value in row.items()}
        row |= _gauges(times, second * 10**9, server) | server.columns
        kept = {name: value for name, value in row.items() if name not in server.missing}
        log.append(second * 10**9 - READ_NS, second * 10**9 + READ_NS, kept)
    log.close()


def _times(records: list[RequestRecord], server: Server) -> pd.DataFrame:
    """Return for each request, in unix ns, when it came to the server's clock, was queued, scheduled, ..."""
    way = round(server.network_ms * MS)
    rows = []
    for record in records:
        assert record.sent_ns is not None
        assert record.first_ns is not None
        assert record.last_ns is not None
        came = record.due_unix_ns + record.sent_ns + way
        queued = came + round(server.handover_ms * MS)
        scheduled = queued + round(server.queue_ms * MS)
        first = record.due_unix_ns + record.first_ns - way
        assert scheduled <= first, "no time is left for the prefill"
        left = record.due_unix_ns + record.last_ns - way
        rows.append((came, queued, scheduled, first, left, record.prompt_tokens or 200, record.chunks))
    names = ("came", "queued", "scheduled", "first", "left", "prompt_tokens", "tokens")
    return pd.DataFrame(rows, columns=list(names))


def _counters(times: pd.DataFrame, at_ns: int, server: Server) -> dict[str, float]:
    started, ended = times[times["first"] <= at_ns], times[times.left <= at_ns]

    def histogram(name: str, spans: Any) -> dict[str, float]:
        return {f"{name}_sum_s": float(spans.sum()) / 1e9, f"{name}_count": float(len(spans))}

    return {
        "prompt_tokens": float(started.prompt_tokens.sum()),
        "generation_tokens": float(ended.tokens.sum()),
        "prefix_cache_queries": float(started.prompt_tokens.sum()),
        "prefix_cache_hits": float(len(started) * server.hit_tokens),
        "preemptions": float(server.preemptions * (len(ended) > len(times) / 2)),
        "finished": float(len(ended)),
        "finished_length": float(len(ended)),
        "aborted": 0.0,
        **histogram("ttft", server.ttft * (started["first"] - started.came)),
        **histogram("queue", ended.scheduled - ended.queued),
        **histogram("prefill", ended["first"] - ended.scheduled),
        **histogram("decode", server.spent * (ended.left - ended["first"])),
        **histogram("e2e", server.spent * (ended.left - ended.came)),
    }


def _gauges(times: pd.DataFrame, at_ns: int, server: Server) -> dict[str, float]:
    running = np.sum((times.scheduled <= at_ns) & (at_ns < times.left))
    waiting = np.sum((times.queued <= at_ns) & (at_ns < times.scheduled))
    gauges = {
        "running": float(running) * server.gauge,
        "waiting": float(waiting) * server.gauge + server.waiting_more,
        "kv_cache_usage": server.kv_cache_usage,
    }
    return gauges if server.block_size is None else gauges | {"block_size": float(server.block_size)}
