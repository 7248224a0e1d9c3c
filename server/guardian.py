"""Stand between us and an engine, so that none of its processes outlives us: a program of its own.

    python server/guardian.py GRACE_S COMMAND [ARGUMENT ...]

It ends the engine when it is asked to (SIGTERM), and when its standard input closes, which is what happens
when whoever started it is gone, however that went. The engine's first process gets SIGTERM and GRACE_S to
finish what is running; then everything that descends from it is killed. Descendants cannot slip away: on
Linux orphans become children of this process (a "subreaper"). Its exit code is the engine's; 128 + n for
signal n. If this process itself is killed, the kernel sends the engine SIGTERM.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LINUX = sys.platform == "linux"


def guard(grace_s: float, command: list[str]) -> int:
    """Run the command until it ends or is to end; returns its exit code when nothing of it is left."""
    wakeups, wakeup = os.pipe()
    for end in (wakeups, wakeup):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: asked.append(got))
    signal.signal(signal.SIGCHLD, lambda _got, _frame: None)  # only wakes us
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    engine = subprocess.Popen(  # noqa: S603 - arguments as a list
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_guardian,  # noqa: PLW1509 - one system call, and no threads here
    )
    deadline = None
    watched = [sys.stdin.fileno(), wakeups]
    while engine.poll() is None:
        if deadline is None and asked:
            engine.terminate()
            deadline = time.monotonic() + grace_s
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            break
        ready = select.select(watched, [], [], left)[0]
        if wakeups in ready:
            os.read(wakeups, 4096)
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
            watched.remove(sys.stdin.fileno())
            asked.append(0)
    _sweep(engine.pid)
    code = engine.wait()
    return 128 - code if code < 0 else code


def _die_with_guardian() -> None:  # runs in the engine, before its program
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _sweep(group: int) -> None:
    """Kill what is left: every descendant, or, where orphans cannot be found, the process group."""
    if not LINUX:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        return
    while True:
        left = descendants(os.getpid())
        if not left:
            return
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def descendants(ancestor: int) -> set[int]:
    """Return the ids of all living processes below one; those that only wait to be reaped are dead."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):  # it ended meanwhile
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = {ancestor}
    while True:
        more = {process for process, parent in parents.items() if parent in found} - found
        if not more:
            return found - {ancestor}
        found |= more


if __name__ == "__main__":
    sys.exit(guard(float(sys.argv[1]), sys.argv[2:]))
