"""Child processes that never outlive us: not after an error, not after Ctrl-C, not after a SIGKILL."""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenswarm import EXIT_NOT_STARTED, ROOT, TokenswarmError, evicted

PR_SET_PDEATHSIG = 1
START_S = 20.0
STOP_S = 15.0


def _die_with_parent() -> None:  # runs in the child, before its program
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def child(
    arguments: list[str], log: Path | None, *, stdout: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a program of the checkout for the length of a `with` block; its messages go to `log`, or to ours.

    Afterwards it is asked to end (SIGTERM), and after 15 s made to, with everything it started.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with log.open("ab") if log else contextlib.nullcontext() as messages, evicted.held():
        process = subprocess.Popen(  # noqa: S603 - our own program, arguments as a list
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=messages if stdout is None else stdout,
            stderr=messages,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C comes to us alone: we end the run in order
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, and we have no threads
        )
    try:
        evicted.recall()
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it may have left behind


@contextlib.contextmanager
def simulator(arguments: list[str], log: Path) -> Iterator[str]:
    """Run the simulator on a free port for the length of a `with` block; yields its URL.

    Raises TokenswarmError if it does not come up.
    """
    command = [sys.executable, "-m", "server.sim", "--port", "0", *arguments]
    with child(command, log, stdout=subprocess.PIPE) as process:
        stream = process.stdout
        ready = bool(stream and select.select([stream], [], [], START_S)[0])
        line = stream.readline() if stream and ready else ""
        if not line:
            raise TokenswarmError(f"the simulator did not start: {last_line(log)}", EXIT_NOT_STARTED)
        yield str(json.loads(line)["listening"])


def last_line(log: Path) -> str:
    """Return the last thing a child had to say, without its time stamp."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    for line in reversed(lines):
        if "/ERROR/" in line:
            return line.partition(": ")[2]
    return lines[-1] if lines else "it said nothing"
