"""A day-long run in minutes: what the master keeps and what the page is sent must not grow with it.

    python tests/bench/bench_day.py [hours] [workers]

Every second of a day is played: each worker's report (made by the real `Load` and `Ledger`, then moved to its
second) is merged, the page's data is fed, and what is ripe goes to a run directory, as the master does.
Printed every sixth of it: the process's memory, what a second costs, the page's answer, the files. Rows and
interval logs grow with what was measured; nothing else may, but for 0.3 kB a second of timeline.
"""

import json
import resource
import sys
import tempfile
import time
from math import inf
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_workers import LAST, Imagined

from locustfiles._cost import SAMPLE
from locustfiles._ledger import Ledger
from locustfiles._live import Live
from locustfiles._merge import Merge
from locustfiles._rundir import RunDirectory
from locustfiles._worker import Load

START_S = 1_790_000_000
PARTS = 6
INTERVALS_KEPT_S = 10  # as _run keeps them


def one_report(worker: int) -> dict[str, Any]:
    """Return what a worker hands over in a second: one answer of 100 tokens, a tick."""
    ledger = Ledger("day", f"host-{worker}")
    load = Load(SAMPLE, "http://127.0.0.1", ledger, worker, lambda _: None)
    load.close()
    load.transport = Imagined()  # type: ignore[assignment]
    load.request(time.perf_counter_ns() - LAST)
    ledger.tick(START_S, 300)
    return ledger.report(final=False)


def moved(report: dict[str, Any], number: int, second: int) -> dict[str, Any]:
    """Return a report as it would be that number's, of that second."""
    (record,) = report["records"]
    due = list(record)
    due[2:4] = number, second * 10**9 + 5 * 10**8
    started, ended, gaps, gap_sum_ns = (count * (number + 1) for count in report["totals"])
    return report | {
        "sequence": number,
        "records": [due],
        "histograms": [[metric, name, second, plain] for metric, name, _, plain in report["histograms"]],
        "ticks": [[second, *report["ticks"][0][1:]]],
        "totals": [started, ended, gaps, gap_sum_ns],
    }


def main(hours: float, workers: int) -> None:
    seconds = int(hours * 3600)
    reports = [one_report(worker) for worker in range(workers)]
    live, spent_s = Live(), 0.0
    merge = Merge("day", live)
    with tempfile.TemporaryDirectory() as name:
        directory = RunDirectory(Path(name) / "run", "day", START_S)
        for number in range(seconds):
            second = START_S + number
            begun = time.process_time()
            for report in reports:
                directory.append(merge.take(moved(report, number, second)))
            directory.append_intervals(merge.intervals(second - INTERVALS_KEPT_S))
            for _ in live.settle():
                pass
            spent_s += time.process_time() - begun
            if (number + 1) % (seconds // PARTS) == 0:
                show(number + 1, merge, live, directory, spent_s / (number + 1))


def show(seconds: int, merge: Merge, live: Live, directory: RunDirectory, a_second_s: float) -> None:
    begun = time.process_time()
    page = len(json.dumps(live.columns(live.run, inf), separators=(",", ":")))
    page_ms = 1e3 * (time.process_time() - begun)
    begun = time.process_time()
    directory.write_timeline(merge.seconds())
    timeline_ms = 1e3 * (time.process_time() - begun)
    directory.flush()
    files = {
        file: (directory.path / file).stat().st_size / 1e6
        for file in ("timeline.csv", "itl.hlog", "requests.csv")
    }
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{seconds / 3600:5.1f} h: {memory:.0f} MB at most, {1e3 * a_second_s:.2f} ms of CPU for a second; "
        f"the page {page / 1e3:.0f} kB in {page_ms:.0f} ms; timeline in {timeline_ms:.0f} ms; "
        + ", ".join(f"{file} {size:.1f} MB" for file, size in files.items()),
        flush=True,
    )


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    asked_hours, asked_workers = given + [24, 4][len(given) :]
    main(asked_hours, int(asked_workers))
