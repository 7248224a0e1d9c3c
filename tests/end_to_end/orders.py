"""`tokenswarm run` as a process of its own, watched and sent signals."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.end_to_end.locusts import environment

ROOT = Path(__file__).resolve().parents[2]
MARK = "STARTED_BY_TEST"


class Running(NamedTuple):
    """An experiment that goes on."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def wait_until(self, seen: Callable[[], bool]) -> None:
        until = time.monotonic() + 90
        while not seen():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.02)

    def wait_for_requests(self, run: str) -> None:
        requests = self.out / run / "requests.csv"
        self.wait_until(lambda: requests.exists() and requests.read_text().count("\n") > 5)


def order(folder: Path, *arguments: str) -> list[str]:
    experiment = str(folder / "experiment.yaml")
    return [sys.executable, "-m", "tokenswarm", "run", experiment, "--seal", *arguments]


@contextmanager
def running(folder: Path, text: str, *arguments: str, **variables: str) -> Iterator[Running]:
    (folder / "experiment.yaml").write_text(text)
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            order(folder, "--out", "out", *arguments),
            cwd=folder,
            env=environment(**{"PYTHONPATH": str(ROOT), MARK: str(folder)}, **variables),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            yield Running(process, folder)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def left(out: Path) -> list[str]:
    """Return the command lines of what the experiment started and still works, 15 s after its end."""
    mark, until = f"{MARK}={out.parent}".encode(), time.monotonic() + 15
    while True:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().decode())
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)
