"""Parts of the benchmarks: the truth (truthd.c), the floor (cfloor.c), one Locust worker under a stop-watch.

Everything is a ratio within one run, or an error against the server's own log. The server and the master are
pinned to core 0, what is measured to core 1; where there is one core only, say so and expect noise.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SERVER_CORE, CLIENT_CORE = 0, min(1, (os.cpu_count() or 1) - 1)


@dataclass(frozen=True)
class Load:
    """One of the two loads that every figure is quoted at."""

    name: str
    streams: int
    ttft_ms: int
    itl_ms: int
    tokens: int


LOAD_A = Load("A: 50 streams x 100 tokens/s", 50, 50, 10, 200)
LOAD_B = Load("B: 200 streams x 200 tokens/s", 200, 50, 5, 400)


def build(folder: Path) -> tuple[str, str]:
    """Compile the two C programs; returns their paths. Exits with one line where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        sys.exit("the benchmarks need a C compiler (cc) for the truth server and the floor client")
    for name in ("truthd", "cfloor"):
        subprocess.run([compiler, "-O2", "-o", folder / name, HERE / f"{name}.c", "-lm"], check=True)
    return str(folder / "truthd"), str(folder / "cfloor")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(core: int, *command: object) -> list[str]:
    return ["taskset", "-c", str(core), *map(str, command)]


@contextlib.contextmanager
def truth(program: str, load: Load) -> Iterator[tuple[int, dict[str, Any]]]:
    """Run the truth server; yields its port and a dict that holds its own account after the block."""
    port = free_port()
    account: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "stats.json"
        process = subprocess.Popen(pinned(SERVER_CORE, program, port, load.ttft_ms, load.itl_ms, 0, stats))
        try:
            _wait_for(port)
            yield port, account
        finally:
            process.terminate()
            process.wait()
            account.update(json.loads(stats.read_text()))


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


def floor_us(program: str, port: int, load: Load, requests: int) -> float:
    """Return the floor client's CPU microseconds per token; its start is a hundredth of it."""
    command = pinned(CLIENT_CORE, program, port, load.streams, load.tokens, requests)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return (usage.ru_utime + usage.ru_stime) / (load.streams * load.tokens * requests) * 1e6


@dataclass(frozen=True)
class Measured:
    """One Locust run: the worker's CPU seconds, and the run directory's own account."""

    cpu_s: float
    meta: dict[str, Any]
    directory: Path


def locust_worker(port: int, directory: Path, run_time_s: int, users: int, options: list[str]) -> Measured:
    """Run a master (core 0) and one worker (core 1); returns what the worker alone has cost.

    All users begin at once, unless `options` say how many a second (-r).
    """
    link = free_port()
    log = (directory.parent / f"{directory.name}.log").open("wb")
    base = [sys.executable, "-m", "locust", "--only-summary", "-f", *options[:1]]
    link_options = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", link]
    load_options = ["--headless", "-t", run_time_s, "-u", users, "-r", users]
    target = ["--host", f"http://127.0.0.1:{port}", "--run-dir", directory]
    master = subprocess.Popen(
        pinned(SERVER_CORE, *base, *target, *load_options, *options[1:], *link_options),
        stdout=log,
        stderr=log,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    worker = subprocess.Popen(
        pinned(CLIENT_CORE, *base, "--worker", "--master-port", link),
        stdout=log,
        stderr=log,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        _, _, usage = os.wait4(worker.pid, 0)
        master.wait(30)
    finally:
        for process in (master, worker):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    meta = json.loads((directory / "run.json").read_text())
    return Measured(usage.ru_utime + usage.ru_stime, meta, directory)
