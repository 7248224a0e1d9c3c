"""The run directory, written while the run goes on: what was measured survives whatever happens next.

Rows are appended and flushed every second; run.json exists from the first moment (with `ended_unix_ns`
null) and is replaced, never half-written. analysis.rundir reads it; README.md lists the files.
"""

import csv
import json
from pathlib import Path
from typing import Any

from analysis.histogram import Interval, write_interval, write_log_header
from analysis.record import SLA_FILE, RequestRecord, write_records
from locustfiles._merge import Second

RESERVE = ".reserve"
RESERVE_BYTES = 16384


class RunDirectory:
    """One run's files. Raises OSError where the disk says no; `close` may be called twice.

    On a disk that is full some room was kept for the last word of run.json: what is missing is then a number.
    """

    def __init__(self, path: Path, run: str, started_unix_s: float) -> None:
        """Create the directory; a name that already holds a run gets -2, -3 … so nothing is overwritten."""
        self.run = run
        self.path = path
        number = 1
        while (self.path / "run.json").exists():
            number += 1
            self.path = path.with_name(f"{path.name}-{number}")
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / RESERVE).write_bytes(bytes(RESERVE_BYTES))
        self._started_unix_s = started_unix_s
        self._requests = (self.path / "requests.csv").open("w", encoding="utf-8", newline="")
        write_records(self._requests, run, (), header=True)
        self._logs = {name: self._open_log(name) for name in ("ttft", "itl", "e2e", "lag")}

    def _open_log(self, metric: str) -> Any:
        file = (self.path / f"{metric}.hlog").open("w", encoding="utf-8")
        write_log_header(file, metric, self._started_unix_s)
        return file

    def append(self, records: list[RequestRecord]) -> None:
        """Add finished requests."""
        write_records(self._requests, self.run, records, header=False)

    def append_intervals(self, intervals: list[tuple[str, Interval]]) -> None:
        """Add (metric, interval) pairs to the interval logs."""
        for metric, interval in intervals:
            if metric not in self._logs:
                self._logs[metric] = self._open_log(metric)  # itl_token: only where it was measured
            write_interval(self._logs[metric], interval)

    def flush(self) -> None:
        """Hand everything to the operating system; after the end there is nothing left."""
        for file in (self._requests, *self._logs.values()):
            if not file.closed:
                file.flush()

    def write_sla(self, text: str) -> None:
        """Keep the SLA that the run was made for, if there is one."""
        if text.strip():
            (self.path / SLA_FILE).write_text(text, encoding="utf-8")

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Replace run.json in one step."""
        draft = self.path / "run.json.part"
        draft.write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.replace(self.path / "run.json")

    def write_timeline(self, seconds: list[Second]) -> None:
        """Replace timeline.csv."""
        draft = self.path / "timeline.csv.part"
        with draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Second._fields)
            writer.writerows(seconds)
        draft.replace(self.path / "timeline.csv")

    def give_room(self) -> None:
        """Give back the room that was kept."""
        (self.path / RESERVE).unlink(missing_ok=True)

    def close(self) -> None:
        """Close what is open."""
        self.give_room()
        for file in (self._requests, *self._logs.values()):
            file.close()
