"""One master and 500 workers that report to it: what does it cost the master, and does it keep up?

    python tests/bench/bench_workers.py [workers] [seconds] [requests a second of each]

The master is the real one. The workers are one process that speaks Locust's protocol (ZeroMQ, msgpack) with
500 sockets, and whose reports are made by the real account (`Load`, `Ledger`) of answers of 100 tokens that
no server gave. The master's lag is how long it takes to answer a heartbeat: whatever waits in its queue is
in that. It shares two cores with those who make its work, so all of it is an upper bound.
"""

import importlib.metadata
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgpack
import psutil
import zmq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import LOAD_A, ROOT, build, free_port, truth

from locustfiles._chunks import Choice, Chunk, Delta, Usage
from locustfiles._cost import SAMPLE
from locustfiles._ledger import Ledger
from locustfiles._member import said
from locustfiles._reply import Call, Ending, judge_end
from locustfiles._worker import Load

TOKENS, TTFT_NS, GAP_NS = 100, 50_000_000, 10_000_000
LAST = TTFT_NS + (TOKENS - 1) * GAP_NS


class Imagined:
    """A transport whose answers came as they should, a token every 10 ms."""

    def exchange(self, call: Call) -> str:
        timer, token = call.timer, Chunk(choices=[Choice(delta=Delta(content=" word"))])
        due_ns = timer.sent_at_ns = timer.due_at_ns
        for number in range(TOKENS):
            timer.observe(token, due_ns + TTFT_NS + number * (GAP_NS + number % 7 * 10_000))
        timer.observe(Chunk(choices=[], usage=Usage(prompt_tokens=100, completion_tokens=TOKENS)), due_ns)
        timer.done = True
        outcome, detail = judge_end(timer, 1, None)
        lags = [30_000 + number % 9 * 10_000 for number in range(TOKENS)]
        ending = Ending(outcome, detail, timer.last_at_ns, 200, 20_000, TOKENS, lags, "reused", "kernel", 0)
        call.ended(ending)
        return outcome


class Worker:
    """One worker as the master sees it."""

    def __init__(self, context: "zmq.Context[Any]", port: int, number: int) -> None:
        self.id = f"sim{number:04}_{number:032x}"
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.IDENTITY, self.id.encode())
        self.socket.setsockopt(zmq.LINGER, 2000)
        self.socket.connect(f"tcp://127.0.0.1:{port}")
        self.load: Load | None = None
        self.number, self.state, self.beat_ns, self.quits = number, "ready", 0, False
        self.reports: list[Any] = []
        self.users: dict[str, int] = {}

    def send(self, kind: str, data: Any = None) -> None:
        self.socket.send(msgpack.packb((kind, data, self.id)))

    def hear(self, here: dict[str, Any], lags_ns: list[int]) -> None:
        """Answer all that has come."""
        while self.socket.poll(0):
            kind, data, _ = msgpack.unpackb(self.socket.recv(), strict_map_key=False)
            if kind == "ack":
                self.send("tokenswarm_here", here)
            elif kind == "heartbeat":
                lags_ns.append(time.perf_counter_ns() - self.beat_ns)
            elif kind == "tokenswarm_clock":
                now_ns = time.time_ns()
                self.send(kind, {"sent_ns": data["sent_ns"], "heard_ns": now_ns, "answered_ns": now_ns})
            elif kind == "tokenswarm_reach":
                self.send("tokenswarm_reached", {"number": data["number"], "error": ""})
            elif kind == "spawn":
                self.spawn(data)
            elif kind == "quit":
                self.report(final=True)
                self.send("quit")
                self.quits = True

    def spawn(self, job: dict[str, Any]) -> None:
        if self.load is None:
            run = job["parsed_options"]["run_id"]
            ledger = Ledger(run, f"sim{self.number:04}-{self.number}")
            self.load = Load(SAMPLE, "http://127.0.0.1", ledger, self.number, lambda _: None)
            self.load.close()
            self.load.transport = Imagined()  # type: ignore[assignment]
        self.users, self.state = job["user_classes_count"], "running"
        self.send("spawning")
        self.send(
            "spawning_complete", {"user_classes_count": self.users, "user_count": sum(self.users.values())}
        )

    def second(self, requests: int) -> None:
        """Do what a worker does in a second: answers that ended, a tick, a report, a heartbeat."""
        if self.load and not self.quits:
            for _ in range(requests):
                self.load.request(time.perf_counter_ns() - LAST - 100_000_000)
            self.load.ledger.tick(int(time.time()) - 1, 300)
            self.report(final=False)
        self.beat_ns = time.perf_counter_ns()
        beat = {"state": self.state, "current_cpu_usage": 30, "current_memory_usage": 70_000_000}
        self.send("heartbeat", beat)

    def report(self, *, final: bool) -> None:
        if self.load is None:
            return
        made = self.load.ledger.report(final=final)
        users = {"user_classes_count": self.users, "user_count": sum(self.users.values())}
        self.send("stats", {"tokenswarm": [made], "stats": [], "stats_total": TOTAL, "errors": {}} | users)


TOTAL: dict[str, Any] = {
    "name": "Aggregated",
    "method": "",
    "last_request_timestamp": None,
    "start_time": 0.0,
    "num_requests": 0,
    "num_none_requests": 0,
    "num_failures": 0,
    "total_response_time": 0,
    "max_response_time": 0,
    "min_response_time": None,
    "total_content_length": 0,
    "response_times": {},
    "num_reqs_per_sec": {},
    "num_fail_per_sec": {},
}


def main(count: int, seconds: int, requests: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        truthd, _ = build(folder)
        with truth(truthd, LOAD_A) as (target, _):
            order = [sys.executable, "-m", "locust", "-f", ROOT / "locustfiles" / "arrivals.py", "--headless"]
            order += ["--only-summary", "--host", f"http://127.0.0.1:{target}", "--run-dir", folder / "run"]
            order += ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
            order += ["--expect-workers", count, "-u", count, "-r", count, "-t", seconds]
            with (folder / "log").open("wb") as log:
                master = subprocess.Popen(
                    [str(part) for part in order],
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"PYTHONPATH": str(ROOT)},
                )
            try:
                lags_ns, cpu, memory = drive(psutil.Process(master.pid), port, count, requests)
                code = master.wait(60)
            finally:
                master.kill()
        if code:
            print((folder / "log").read_text()[-2000:])
        show(folder / "run", count, lags_ns, cpu, memory)


def drive(
    master: psutil.Process, port: int, count: int, requests: int
) -> tuple[list[int], list[float], list[int]]:
    """Be the workers until the master has ended; returns lags (ns), and its CPU (%) and memory (bytes)."""
    context: zmq.Context[Any] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 2 * count + 100)
    workers = [Worker(context, port, number) for number in range(count)]
    here, version = said(), importlib.metadata.version("locust")
    for worker in workers:
        worker.send("client_ready", version)
    lags_ns: list[int] = []
    cpu: list[float] = []
    memory: list[int] = []
    turns = itertools.cycle(workers)
    next_ns, each_ns = time.perf_counter_ns(), 10**9 // count
    begun = False
    while not all(worker.quits for worker in workers):
        for worker in workers:
            worker.hear(here, lags_ns if begun else [])
        while time.perf_counter_ns() >= next_ns:
            worker = next(turns)
            worker.second(requests)
            next_ns += each_ns
            if worker is workers[0]:
                begun = all(one.load for one in workers)
                share = master.cpu_percent()
                if begun:
                    cpu.append(share)
                    memory.append(master.memory_info().rss)
        time.sleep(0.001)
    context.destroy(linger=2000)
    return lags_ns, cpu[1:], memory


def show(directory: Path, count: int, lags_ns: list[int], cpu: list[float], memory: list[int]) -> None:
    meta = json.loads((directory / "run.json").read_text())
    counts, lags_ms = meta["accounting"], sorted(lag_ns / 1e6 for lag_ns in lags_ns)
    print(
        f"{count} workers, {counts['records']:,} requests of {TOKENS} tokens in {len(cpu)} s: CPU of the "
        f"master {statistics.fmean(cpu):.0f} % (at most {max(cpu):.0f}), memory {memory[0] / 1e6:.0f} to "
        f"{memory[-1] / 1e6:.0f} MB, lag p50 {lags_ms[len(lags_ms) // 2]:.1f} ms, "
        f"p99 {lags_ms[int(0.99 * len(lags_ms))]:.0f} ms, most {lags_ms[-1]:.0f} ms"
    )
    seen, lost = len(meta["workers"]["seen"]), len(meta["workers"]["lost"])
    print(
        f"seen {seen}, lost {lost}, unaccounted {counts['unaccounted']}, "
        f"reports missing {counts['missing_reports']}"
    )
    if (seen, lost, counts["unaccounted"], counts["missing_reports"]) != (count, 0, 0, 0):
        sys.exit(1)


if __name__ == "__main__":
    asked = [int(word) for word in sys.argv[1:]]
    main(*(asked + [500, 30, 2][len(asked) :]))
