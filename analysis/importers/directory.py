"""An imported run as a run directory, by the writers that our own runs use.

What the instrument of a run says of itself (lag, clock, workers) nobody knows here: those cells stay empty,
and run.json says `imported`.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.histogram import Histogram, Interval, write_interval, write_log_header
from analysis.record import SCHEMA, RequestRecord, write_records
from analysis.rundir import TIMELINE

from .source import NS, ImportFileError, Source
from .translation import Imported

DAY_NS = 86_400 * NS
MOST_NS = 31 * DAY_NS
"""A clock that was set in between would give a timeline of decades, a row a second."""


def write(run: Imported, source: Source, path: Path, place: dict[str, Any] | None) -> Path:
    """Write a run directory; the same file gives the same bytes.

    `place` is where the run belongs in an experiment. run.json is written last: a directory without it is
    none. Raises ImportFileError where there is nothing to judge.
    """
    records = [record for record, _ in run.requests]
    if not records:
        raise ImportFileError(f"{source.path}: found no requests, expected at least one")
    window = _window(run, records)
    if run.timed and window[1] - window[0] > MOST_NS:
        days = (window[1] - window[0]) / DAY_NS
        raise ImportFileError(f"{source.path}: found requests over {days:,.0f} days, expected one run's")
    path.mkdir(parents=True, exist_ok=True)
    with (path / "requests.csv").open("w", encoding="utf-8", newline="") as file:
        write_records(file, _id(source), records, header=True)
    _write_logs(run, path, window[0])
    _write_timeline(records if run.timed else [], path)
    meta = _meta(run, source, records, window, place)
    text = json.dumps(meta, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (path / "run.json").write_text(text, encoding="utf-8")
    return path


def _id(source: Source) -> str:
    return f"imported-{source.sha256[:12]}"


def _window(run: Imported, records: Sequence[RequestRecord]) -> tuple[int, int]:
    """Return what is judged: of an open loop while requests arrived, else until the last one ended."""
    start, last = (of(record.due_unix_ns for record in records) for of in (min, max))
    end = max(record.due_unix_ns + record.end_ns for record in records)
    if not run.timed:
        end = start + (run.duration_ns or 0)
    return start, max(last + 1, end if run.loop == "closed" or not run.timed else last + 1)


def _write_logs(run: Imported, path: Path, start_ns: int) -> None:
    made: dict[str, dict[tuple[str, int], Histogram]] = defaultdict(lambda: defaultdict(Histogram))
    for record, gaps in run.requests:
        key = (record.scenario, record.due_unix_ns // NS)
        made["e2e"][key].record([record.end_ns])
        if record.first_ns is not None:
            made["ttft"][key].record([record.first_ns])
        if "itl" not in run.unknown:
            made["itl"][key].record(gaps)
    for metric, intervals in made.items():
        with (path / f"{metric}.hlog").open("w", encoding="utf-8") as file:
            write_log_header(file, metric, start_ns / NS)
            for (scenario, second), histogram in sorted(intervals.items()):
                write_interval(file, Interval(scenario, second, histogram))


def _write_timeline(records: Sequence[RequestRecord], path: Path) -> None:
    """Write what each second saw; lag, CPU and workers are empty, and all of it where there are no times."""
    with (path / "timeline.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(TIMELINE)
        if not records:
            return
        due = np.array([record.due_unix_ns for record in records])
        end = due + np.array([record.end_ns for record in records])
        first = int(due.min()) // NS
        size = int(end.max()) // NS - first + 1
        ok = np.array([record.outcome == "ok" for record in records])
        sent = due + np.array([record.sent_ns or 0 for record in records])
        tokens = np.array([record.output_tokens or record.chunks for record in records])

        def each(at: Any, weights: Any = None) -> Any:
            return np.bincount(at // NS - first, weights=weights, minlength=size).astype(int)

        offered, ended = each(due), each(end)
        columns = (
            first + np.arange(size), offered, each(np.minimum(sent, end)), each(end, ok), each(end, ~ok),
            np.cumsum(offered) - np.cumsum(ended), each(end, tokens),
        )  # fmt: skip
        writer.writerows([*map(int, row), "", "", ""] for row in zip(*columns, strict=True))


def _meta(
    run: Imported,
    source: Source,
    records: Sequence[RequestRecord],
    window: tuple[int, int],
    place: dict[str, Any] | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "run": _id(source),
        "name": run.name,
        "simulated": False,
        "imported": {
            "tool": run.tool,
            "version": run.version,
            "file": source.path.name,
            "sha256": source.sha256,
            "number": run.number,
            "definitions": list(run.definitions),
            "unknown": list(run.unknown),
            "timed": run.timed,
            "warmup_requests_left_out": run.warmup,
            "missing": list(run.missing),
        },
        "clock": "imported",
        "started_unix_ns": window[0],
        "ended_unix_ns": max(record.due_unix_ns + record.end_ns for record in records),
        "target": {"url": "unknown", **run.target},
        "load": {"loop": run.loop, "tool": run.tool, **run.load},
        "workload": run.workload,
        "deadlines": {},
        "window": {"start_unix_ns": window[0], "end_unix_ns": window[1], "warmup_s": 0},
        "workers": {"expected": 0, "seen": [], "lost": []},
        "accounting": {
            "started": len(records),
            "records": len(records),
            "unaccounted": 0,
            "missing_reports": 0,
        },
        "instrument": {},
        "interrupted": None,
    }
    return found | ({"experiment": place} if place else {})
