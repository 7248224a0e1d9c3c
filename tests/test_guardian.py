"""No process of an engine outlives us, whatever ends us; with real processes that try."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from server import guardian

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are found by Linux's subreaper")

ENGINE = """
import os, signal, subprocess, sys, time
print(os.getpid(), flush=True)
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
stray = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", stray], start_new_session=True)
print(child.pid, flush=True)
if "crash" in sys.argv:
    sys.exit(7)
if "drain" in sys.argv:
    def finish(*_):
        print("drained", flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, finish)
print("up", flush=True)
time.sleep(60)
"""


class Guarded:
    """A guardian, what it runs, and the two processes of that."""

    def __init__(self, grace_s: float, *how: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__, str(grace_s), sys.executable, "-c", ENGINE, *how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.engine, self.stray = (int(self.process.stdout.readline()) for _ in range(2))

    def up(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "up\n"

    def said(self) -> str:
        assert self.process.stdout
        return self.process.stdout.read()

    def left(self) -> list[int]:
        return [pid for pid in (self.engine, self.stray) if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    made = Guarded(*request.param)
    yield made
    for pid in (made.process.pid, *made.left()):
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    made.process.wait()


@pytest.mark.parametrize("guarded", [(5, "drain")], indirect=True)
def test_asked_to_end_it_lets_the_engine_finish(guarded: Guarded) -> None:
    guarded.up()
    guarded.process.terminate()
    assert guarded.process.wait(10) == 0
    assert guarded.said() == "drained\n"
    assert guarded.left() == []


@pytest.mark.parametrize("guarded", [(5, "drain")], indirect=True)
def test_left_alone_it_ends_the_engine(guarded: Guarded) -> None:
    # what happens when whoever started it is killed: its end of the pipe is closed
    guarded.up()
    assert guarded.process.stdin
    guarded.process.stdin.close()
    assert guarded.process.wait(10) == 0
    assert guarded.left() == []


@pytest.mark.parametrize("guarded", [(0.3, "stubborn")], indirect=True)
def test_an_engine_that_will_not_end_is_killed(guarded: Guarded) -> None:
    guarded.up()
    guarded.process.terminate()
    assert guarded.process.wait(10) == 128 + signal.SIGKILL
    assert guarded.left() == []


@pytest.mark.parametrize("guarded", [(5, "crash")], indirect=True)
def test_a_crash_leaves_nothing_and_keeps_the_code(guarded: Guarded) -> None:
    assert guarded.process.wait(10) == 7
    assert guarded.left() == []


@pytest.mark.parametrize("guarded", [(5,)], indirect=True)
def test_the_engine_s_own_end_by_a_signal(guarded: Guarded) -> None:
    guarded.up()
    os.kill(guarded.engine, signal.SIGKILL)
    assert guarded.process.wait(10) == 128 + signal.SIGKILL
    assert guarded.left() == []


@pytest.mark.parametrize("guarded", [(5, "drain")], indirect=True)
def test_a_killed_guardian_takes_the_engine_with_it(guarded: Guarded) -> None:
    guarded.up()
    guarded.process.kill()
    until = time.monotonic() + 10
    while alive(guarded.engine) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(guarded.engine)


def test_descendants_are_all_generations(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys; print(subprocess.Popen(['sleep', '20']).pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as child:
        assert child.stdout
        grandchild = int(child.stdout.readline())
        found = guardian.descendants(os.getpid())
        os.kill(grandchild, signal.SIGKILL)
        child.communicate()
    assert {child.pid, grandchild} <= found
