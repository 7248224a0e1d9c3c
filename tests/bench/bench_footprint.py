"""What an installation costs: disk, packages, the time to say --help, the CPU before the first request.

    python tests/bench/bench_footprint.py

Goals: at most 450 MB and 75 packages without engines, --help within 0.3 s, 3 CPU-seconds (front door,
simulator, master and workers together) before a run's first request. Installs into a folder of its own.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


def install(folder: Path) -> Path:
    """Install as README's command does (uv, locked); uv itself lives beside it and is not counted."""
    subprocess.run([sys.executable, "-m", "venv", folder / "uv"], check=True)
    subprocess.run([folder / "uv" / "bin" / "pip", "install", "-q", "uv"], check=True)
    uv = folder / "uv" / "bin" / "uv"
    environment = os.environ | {"UV_PROJECT_ENVIRONMENT": str(folder / "venv")}
    subprocess.run([uv, "sync", "-q", "--locked", "--no-dev"], check=True, cwd=ROOT, env=environment)
    return folder / "venv" / "bin" / "python"


def disk(python: Path) -> tuple[float, int]:
    """Return (MB, packages) of the environment."""
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    size = sum(file.lstat().st_size for file in site.rglob("*") if file.is_file())
    return size / 1e6, len(list(site.glob("*.dist-info")))


def help_s(python: Path) -> float:
    """Return the median seconds of --help, the first (which writes bytecode) not counted."""
    took = []
    for _ in range(6):
        began = time.perf_counter()
        subprocess.run([python.parent / "tokenswarm", "--help"], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])


def cpu_before_first_request_s(python: Path, folder: Path) -> float:
    """Run the demo until its first server has answered a request; return the CPU of all its processes."""
    demo = subprocess.Popen(
        [python.parent / "tokenswarm", "demo", "--out", folder / "demo"], stdout=subprocess.DEVNULL
    )
    parent = psutil.Process(demo.pid)
    used: dict[int, float] = {}
    log = folder / "demo" / "baseline" / "locust.log"
    while not (log.exists() and "Results go to" in log.read_text()) and demo.poll() is None:
        for process in [parent, *parent.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            used[process.pid] = times.user + times.system
        time.sleep(0.02)
    demo.terminate()
    demo.wait()
    return sum(used.values())


def main() -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as name:
        python = install(Path(name))
        print(f"tokenswarm --help: {help_s(python):.2f} s (goal 0.3)")
        for what in ("the first run ever, which compiles bytecode", "every later run (goal 3)"):
            cpu_s = cpu_before_first_request_s(python, Path(name) / what[:9].replace(" ", "-"))
            print(f"CPU before the first request, {what}: {cpu_s:.2f} s")
        megabytes, packages = disk(python)  # now, with the bytecode of everything that was used
        print(f"installed: {megabytes:.0f} MB (goal 450), {packages} packages (goal 75)")


if __name__ == "__main__":
    main()
