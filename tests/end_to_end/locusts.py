"""Run Locust as a user does, and read what it left."""

import csv
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

from analysis.histogram import Histogram, read_log
from analysis.record import RequestRecord, read_records
from locustfiles._scrape import read_metrics
from tests.sim_server import Sim, call, running_sim

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
ALL_THERE = "The load is there"  # logged when the window begins; Locust says its own word after 1 s at most
KEYS = ("TOKENSWARM_API_KEY", "OPENAI_API_KEY", "VLLM_API_KEY")


@contextmanager
def simulator(script: str, *arguments: str) -> Iterator[tuple[str, Sim]]:
    with running_sim("--script", script, *arguments) as sim:
        yield f"http://127.0.0.1:{sim.port}", sim


def command(locustfile: str, url: str, *arguments: str) -> list[str]:
    """Return a command line; no name for the locustfile is their whole folder."""
    file = ROOT / "locustfiles" / (f"{locustfile}.py" if locustfile else "")
    head = [sys.executable, "-m", "locust", "-f", str(file)]
    return [*head, "--headless", "--only-summary", "--host", url, *arguments]


def environment(**variables: str) -> dict[str, str]:
    """Return the environment without anything that would reach Locust or us by accident."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LOCUST", "TOKENSWARM")) and name not in KEYS
    }
    return kept | variables


@dataclass
class Locust:
    """A running Locust process; its output goes to a file."""

    process: subprocess.Popen[bytes]
    output: Path

    def wait(self, timeout_s: float = 60) -> int:
        return self.process.wait(timeout_s)

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_until_it_says(self, words: str, timeout_s: float = 60, times: int = 1) -> None:
        end = time.monotonic() + timeout_s
        while self.said.count(words) < times:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    def errors(self) -> list[str]:
        """Return the lines that were logged as errors."""
        return re.findall(r"^\[.*/ERROR/[\w.]+: (.*)$", self.said, re.MULTILINE)


@contextmanager
def started(arguments: list[str], output: Path, **variables: str) -> Iterator[Locust]:
    """Start Locust in the folder of `output`; it ends with the block, and so do its workers."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            arguments,
            cwd=output.parent,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(**variables),
            start_new_session=True,
        )
    try:
        yield Locust(process, output)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()


def finished(arguments: list[str], output: Path, **variables: str) -> tuple[int, Locust]:
    """Run Locust to its end."""
    with started(arguments, output, **variables) as locust:
        return locust.wait(), locust


@contextmanager
def distributed(
    tmp_path: Path, locustfile: str, url: str, *arguments: str, workers: int = 2
) -> Iterator[tuple[Locust, list[Locust]]]:
    """Start a master and its workers as programs of their own."""
    port = str(free_port())
    with ExitStack() as stack:
        head = command(locustfile, url, "--master", "--expect-workers", str(workers), *arguments)
        head += ["--master-bind-host", "127.0.0.1", "--master-bind-port", port]
        master = stack.enter_context(started(head, tmp_path / "master.log"))
        crew = []
        for number in range(workers):
            order = [
                part for part in command(locustfile, url) if not part.startswith(("--headless", "--only"))
            ]
            order += ["--worker", "--master-host", "127.0.0.1", "--master-port", port]
            crew.append(stack.enter_context(started(order, tmp_path / f"worker-{number}.log")))
        yield master, crew


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Result:
    """A run directory, read without the help of the code that wrote it where possible."""

    path: Path
    meta: dict[str, Any]
    records: list[RequestRecord]

    def log(self, metric: str) -> Histogram:
        total = Histogram()
        path = self.path / f"{metric}.hlog"
        if path.exists():
            with path.open() as file:
                for interval in read_log(file):
                    total.merge(interval.histogram)
        return total

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.path / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def outcomes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for record in self.records:
            found[record.outcome] = found.get(record.outcome, 0) + 1
        return found


def result(path: Path) -> Result:
    with (path / "requests.csv").open(encoding="utf-8", newline="") as file:
        records = list(read_records(file))
    return Result(path, json.loads((path / "run.json").read_text()), records)


def check_accounts(run: Result, foreign: int | None = 0) -> None:
    """Everything that was counted in two places is the same in both. `foreign` None: any number of them."""
    records, meta = run.records, run.meta
    accounting = meta["accounting"]
    assert len(records) == accounting["records"] == accounting["started"]
    assert accounting["unaccounted"] == accounting["missing_reports"] == 0
    assert foreign is None or accounting["foreign_reports"] == foreign
    assert len({(record.worker, record.request) for record in records}) == len(records)
    assert {record.worker for record in records} <= set(meta["workers"]["seen"])

    gaps = sum(record.gaps for record in records)
    assert run.log("itl").count == gaps
    totals = {entry["metric"]: entry for entry in meta["totals"]}
    if gaps:
        assert totals["itl"]["count"] == gaps
        assert totals["itl"]["sum_ns"] == sum(record.gap_sum_ns for record in records)
    for metric, values in {
        "ttft": [record.first_ns for record in records if record.first_ns is not None],
        "e2e": [record.end_ns for record in records if record.outcome == "ok"],
    }.items():
        expected = Histogram()
        expected.record(values)
        assert run.log(metric).bins == expected.bins, metric
        assert not values or totals[metric]["sum_ns"] == sum(values), metric

    timeline = run.table("timeline.csv")
    failed = sum(record.outcome != "ok" for record in records)
    assert sum(int(row["offered"]) for row in timeline) == len(records)
    assert sum(int(row["ok"]) for row in timeline) == len(records) - failed
    assert sum(int(row["failed"]) for row in timeline) == failed
    assert sum(int(row["tokens"]) for row in timeline) == sum(record.chunks for record in records)
    _check_locusts_tables(run, gaps, failed)
    assert not list(run.path.glob("*.part"))


def _check_locusts_tables(run: Result, gaps: int, failed: int) -> None:
    rows = {row["Type"] or row["Name"]: row for row in run.table("locust_stats.csv")}
    posts = len(run.records)
    assert int(rows["Aggregated"]["Request Count"]) == int(rows["POST"]["Request Count"]) == posts
    assert int(rows["Aggregated"]["Failure Count"]) == int(rows["POST"]["Failure Count"]) == failed
    first = sum(record.first_ns is not None for record in run.records)
    assert int(rows["TTFT"]["Request Count"] if "TTFT" in rows else 0) == first
    assert int(rows["ITL"]["Request Count"] if "ITL" in rows else 0) == gaps
    assert sum(int(row["Occurrences"]) for row in run.table("locust_failures.csv")) == failed
    assert run.table("locust_exceptions.csv") == []


def check_server(run: Result, metrics: dict[str, float]) -> None:
    """The server counted what the client did; `metrics` are its counters after the run alone."""
    counts = run.meta["server_counts"]
    assert counts["requests"] == metrics["finished"] == run.outcomes().get("ok", 0)
    assert counts["generation_tokens"] == metrics["generation_tokens"]
    assert counts["generation_tokens"] == sum(record.output_tokens or 0 for record in run.records)


def metrics(sim: Sim) -> dict[str, float]:
    return read_metrics(call(sim.port, "/metrics").body.decode())


@contextmanager
def side_by_side(
    plays: Mapping[str, Callable[[Path], T]],
    paths: pytest.TempPathFactory,
    unasked: Collection[str] = (),
) -> Iterator[Callable[[str], T]]:
    """Begin all, three at a time, each in a folder of its own; yields what waits for one by its name.

    Those that slow tests alone look at are `unasked`: they begin when one does.
    """
    with ThreadPoolExecutor(3) as pool:

        @cache
        def run(name: str) -> Future[T]:
            return pool.submit(plays[name], paths.mktemp(name.replace(" ", "-")))

        for name in plays:
            if name not in unasked:
                run(name)
        try:
            yield lambda name: run(name).result()
        finally:
            pool.shutdown(cancel_futures=True)
