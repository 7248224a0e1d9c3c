"""Run directories from a seeded generator, written by the real writers: what tests of the judge read.

A `Load` says how the service behaves; every request is drawn from it, and the directory's accounts,
histograms and timeline follow from the requests, so that a run is consistent unless a test breaks it.
"""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from analysis.histogram import Histogram, Interval, write_interval, write_log_header
from analysis.record import RequestRecord, write_records
from analysis.rundir import TIMELINE

START_S = 1_790_000_000
RUN = "20260921-run-1"
MS = 10**6


@dataclass(frozen=True)
class Load:
    """Knobs. Times in ms; `phi` is the AR(1) coefficient of the (log-normal) TTFT from request to request."""

    seconds: int = 60
    rate: float = 50.0
    loop: str = "open"
    seed: int = 1
    name: str = "llama-8b"
    simulated: bool = False
    scenario: str = "chat"
    ttft_ms: float = 45.0
    ttft_sigma: float = 0.25
    phi: float = 0.0
    ttft_rise_ms: float = 0.0  # added linearly from start to end
    tokens: int = 40
    itl_ms: float = 8.0
    itl_sigma: float = 0.08
    stall_share: float = 0.002  # of gaps, drawn per second: whole seconds stall more than others
    stall_ms: float = 15.0
    burst_share: float = 0.0  # of gaps that last 2 us, since their chunks came together
    failures: dict[str, float] = field(default_factory=dict)  # outcome -> share
    dispatch_lag_ms: float = 0.15
    read_lag_ms: float = 0.05
    coalesced_share: float = 0.001
    clock_jump_ms: float = 0.0
    warmup_s: int = 5
    workers: int = 2
    in_flight_rise: float = 0.0  # streams that stay open after their last token, ever more of them
    meta: dict[str, Any] = field(default_factory=dict)  # see change_meta


Requests = list[tuple[RequestRecord, list[int]]]
"""Records with the gaps (ns) between their chunks."""


def write_run(path: Path, load: Load, requests: Requests | None = None) -> Path:
    """Write a run directory, of drawn requests or of given ones."""
    path.mkdir(parents=True, exist_ok=True)
    if requests is not None:
        _write(path, load, requests, np.random.default_rng(load.seed))
    else:
        for name, content in _drawn(repr(replace(load, name="", meta={})), load).items():
            (path / name).write_bytes(content)
    change_meta(path, {"name": load.name, **load.meta})
    return path


_known: dict[str, dict[str, bytes]] = {}


def _drawn(kind: str, load: Load) -> dict[str, bytes]:
    """Return the files of a run of drawn requests; tests that want the same again need not wait for it."""
    if kind not in _known:
        rng = np.random.default_rng(load.seed)
        with TemporaryDirectory() as folder:
            _write(Path(folder), load, draw_requests(load, rng), rng)
            _known[kind] = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return _known[kind]


def _write(path: Path, load: Load, requests: Requests, rng: np.random.Generator) -> None:
    records = [record for record, _ in requests]
    with (path / "requests.csv").open("w", encoding="utf-8", newline="") as file:
        write_records(
            file, "20260921-run-1", sorted(records, key=lambda r: r.due_unix_ns + r.end_ns), header=True
        )
    _write_logs(path, requests, rng, load)
    _write_timeline(path, records, load)
    (path / "run.json").write_text(json.dumps(_meta(load, records), indent=2))


def change_meta(path: Path, changes: dict[str, Any]) -> None:
    """Change run.json: keys of an object are replaced one by one, anything else as a whole."""
    meta = json.loads((path / "run.json").read_text())
    for key, change in changes.items():
        old = meta.get(key)
        meta[key] = {**old, **change} if isinstance(old, dict) and isinstance(change, dict) else change
    (path / "run.json").write_text(json.dumps(meta, indent=2))


def draw_requests(load: Load, rng: np.random.Generator) -> Requests:
    """Draw the requests of an open loop; each of them follows from the seed."""
    n = rng.poisson(load.rate * load.seconds)
    due = np.sort(rng.uniform(0, load.seconds, n)) * 1e9
    noise = rng.standard_normal(n) * np.sqrt(1 - load.phi**2)
    state = rng.standard_normal()
    stall = rng.gamma(0.5, 2.0, load.seconds + 1) * load.stall_share
    outcomes, shares = [*load.failures, "ok"], np.cumsum(list(load.failures.values()))
    requests = []
    for i in range(n):
        state = load.phi * state + noise[i]
        ttft = load.ttft_ms * np.exp(load.ttft_sigma * state)
        ttft += load.ttft_rise_ms * due[i] / (load.seconds * 1e9)
        itls = load.itl_ms * np.exp(load.itl_sigma * rng.standard_normal(load.tokens - 1))
        itls += load.stall_ms * (rng.random(load.tokens - 1) < stall[int(due[i] / 1e9)])
        itls[rng.random(load.tokens - 1) < load.burst_share] = 0.002
        outcome = outcomes[int(np.searchsorted(shares, rng.random()))]
        record = make_record(START_S * 10**9 + int(due[i]), ttft, itls.tolist(), outcome)
        record = record._replace(
            worker=f"w{i % load.workers}",
            scenario=load.scenario,
            request=i // load.workers,
            coalesced=int(rng.binomial(record.gaps, load.coalesced_share)),
            lag_max_ns=int(rng.exponential(load.read_lag_ms) * MS),
            clock_jump_ns=int(load.clock_jump_ms * MS),
        )
        record = sent_late(record, rng.exponential(load.dispatch_lag_ms))
        open_ns = int(load.in_flight_rise * due[i] / load.seconds / load.rate)  # Little's law
        requests.append((record._replace(end_ns=record.end_ns + open_ns), gaps_of(record, itls.tolist())))
    return requests


def gaps_of(record: RequestRecord, itls_ms: list[float]) -> list[int]:
    """Return the gaps (ns) that a record of this outcome has seen."""
    return [int(gap * MS) for gap in itls_ms][: record.gaps]


def sent_late(record: RequestRecord, lag_ms: float) -> RequestRecord:
    """Shift everything but the due time: the request was sent so much later."""
    times = ("sent_ns", "first_ns", "visible_ns", "last_ns", "end_ns")
    late = {name: value + int(lag_ms * MS) for name in times if (value := getattr(record, name)) is not None}
    return record._replace(**late)


def make_record(due_unix_ns: int, ttft_ms: float, itls_ms: list[float], outcome: str = "ok") -> RequestRecord:
    """Make a record; a stream that failed after its start has half of its gaps."""
    started = outcome in {"ok", "stall_timeout", "truncated", "total_timeout"}
    itls = [int(gap * MS) for gap in itls_ms]
    gaps = itls if outcome == "ok" else itls[: len(itls) // 2] if started else []
    sent = 20_000
    first = int(ttft_ms * MS) if started else None
    last = None if first is None else first + sum(gaps)
    return RequestRecord(
        worker="w0",
        scenario="chat",
        request=0,
        due_unix_ns=due_unix_ns,
        sent_ns=None if outcome == "connect" else sent,
        connect_ns=0,
        first_ns=first,
        visible_ns=first,
        last_ns=last,
        end_ns=(last or sent) + (100_000 if outcome == "ok" else 500 * MS),
        prompt_tokens=200 if outcome == "ok" else None,
        output_tokens=len(gaps) + 1 if outcome == "ok" else None,
        chunks=len(gaps) + 1 if started else 0,
        gaps=len(gaps),
        gap_sum_ns=sum(gaps),
        gap_max_ns=max(gaps, default=0),
        reads=len(gaps) + 1 if started else 0,
        coalesced=0,
        lag_max_ns=50_000,
        body_bytes=250 * (len(gaps) + 1),
        status={"connect": None, "http_5xx": 503, "http_429": 429}.get(outcome, 200),
        connection="reused",
        clock="kernel",
        clock_jump_ns=0,
        outcome=outcome,
        detail="" if outcome == "ok" else f"found {outcome}",
    )


def _write_logs(path: Path, requests: Requests, rng: np.random.Generator, load: Load) -> None:
    values: dict[str, Any] = defaultdict(lambda: defaultdict(Histogram))
    for record, own in requests:
        key = (record.scenario, record.due_unix_ns // 10**9)
        values["itl"][key].record(own)
        values["lag"][key].record([int(lag) for lag in rng.exponential(load.read_lag_ms * MS, len(own))])
        values["e2e"][key].record([record.end_ns])
        if record.first_ns is not None:
            values["ttft"][key].record([record.first_ns])
    for metric in ("ttft", "itl", "e2e", "lag"):
        with (path / f"{metric}.hlog").open("w", encoding="utf-8") as file:
            write_log_header(file, metric, float(START_S))
            for (scenario, second), histogram in sorted(values[metric].items()):
                write_interval(file, Interval(scenario, second, histogram))


def _write_timeline(path: Path, records: list[RequestRecord], load: Load) -> None:
    longest = max((record.end_ns for record in records), default=0)
    rows = np.zeros((load.seconds + 1 + longest // 10**9, len(TIMELINE)))
    rows[:, 0] = START_S + np.arange(len(rows))
    column = {name: i for i, name in enumerate(TIMELINE)}
    for record in records:
        due = (record.due_unix_ns - START_S * 10**9) / 1e9
        end = int(due + record.end_ns / 1e9)
        rows[int(due), column["offered"]] += 1
        rows[int(due), column["started"]] += 1
        rows[end, column["ok" if record.outcome == "ok" else "failed"]] += 1
        rows[end, column["tokens"]] += record.chunks
        rows[int(np.ceil(due)) - 1 : end, column["in_flight"]] += 1  # counted at the end of a second
    rows[:, column["lag_max_ns"]] = load.read_lag_ms * MS * 5
    rows[:, column["cpu_share_max"]] = 0.35
    rows[:, column["workers"]] = load.workers
    with (path / "timeline.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(TIMELINE)
        writer.writerows([*map(int, row[:8]), round(float(row[8]), 3), int(row[9])] for row in rows)


def _meta(load: Load, records: list[RequestRecord]) -> dict[str, Any]:
    start = START_S * 10**9
    ok = [record for record in records if record.outcome == "ok"]
    only_ok = len(ok) == len(records)
    return {
        "schema": 1,
        "run": RUN,
        "name": load.name,
        "simulated": load.simulated,
        "tokenswarm": "0.1.0",
        "started_unix_ns": start,
        "ended_unix_ns": start + (load.seconds + 3) * 10**9,
        "target": {
            "url": "http://127.0.0.1:8000",
            "model": "llama-8b",
            "endpoint": "/v1/chat/completions",
            "server": "vLLM 0.32.0",
        },
        "load": {
            "loop": load.loop,
            "locustfile": "arrivals.py" if load.loop == "open" else "chat.py",
            "users": 1,
            "spawn_rate_per_s": 1,
            "run_time_s": load.seconds,
            "stop_timeout_s": 10,
            "arrivals": "poisson" if load.loop == "open" else None,
            "seed": load.seed,
        },
        "workload": {"prompt_words": 150, "max_tokens": load.tokens},
        "deadlines": {"first_token_s": 10, "stall_s": 5, "total_s": 60},
        "window": {
            "start_unix_ns": start + load.warmup_s * 10**9,
            "end_unix_ns": start + load.seconds * 10**9,
            "warmup_s": load.warmup_s,
        },
        "clock": "kernel",
        "transport": "wire",
        "workers": {"expected": load.workers, "seen": [f"w{i}" for i in range(load.workers)], "lost": []},
        "accounting": {
            "started": len(records),
            "records": len(records),
            "unaccounted": 0,
            "duplicate_reports": 0,
            "missing_reports": 0,
            "foreign_reports": 0,
        },
        "instrument": {
            "lag_p50_ns": int(load.read_lag_ms * 0.7 * MS),
            "lag_p99_ns": int(load.read_lag_ms * 4.6 * MS),
            "lag_max_ns": int(load.read_lag_ms * 9 * MS),
            "coalesced_share": load.coalesced_share,
            "dispatch_lag_p99_ns": int(load.dispatch_lag_ms * 4.6 * MS),
            "cpu_share_max": 0.35,
            "clock_jumps": 0,
        },
        "server_counts": {
            "requests": len(ok),
            "generation_tokens": sum(record.output_tokens or 0 for record in ok),
            "prompt_tokens": sum(record.prompt_tokens or 0 for record in ok),
            "exclusive": only_ok,
        },
        "definitions": {"ttft": "first - due"},
        "versions": {"python": "3.11", "locust": "2.47.0", "tokenswarm": "0.1.0"},
        "interrupted": None,
    }
