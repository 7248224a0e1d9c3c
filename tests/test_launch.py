"""Starting and ending servers: the simulator for those that start, small programs for those that do not."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests

from server import argv, launch, profiles
from server.argv import Command
from server.errors import ServerError
from server.launch import StartError

ROOT = Path(__file__).resolve().parents[1]


def simulator(*options: str) -> Command:
    port = launch.free_port()
    made = argv.command(profiles.find("sim"), argv.Place(sys.executable, "baseline", "sim", port))
    return Command((*made.argv, *options), made.variables, made.model, made.port)


def healthy(url: str) -> bool:
    return requests.get(url + "/health", timeout=5).status_code == 200


def program(text: str, port: int = 0) -> Command:
    return Command((sys.executable, "-c", text), {}, "m", port or launch.free_port())


def test_a_server_is_ready_when_it_has_answered_and_gone_after(tmp_path: Path) -> None:
    with launch.serving(simulator(), tmp_path / "log") as server:
        assert healthy(server.url)
        below = psutil.Process(server.process.pid).children(recursive=True)
        assert len(below) == 1
        assert 0 < server.ready_s < 20
        assert server.memory_mb > 5
        assert server.ended() is None
    assert not psutil.pid_exists(server.process.pid)
    assert not any(process.is_running() for process in below)
    with pytest.raises(requests.ConnectionError):
        healthy(server.url)


def test_it_is_ended_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), launch.serving(simulator(), tmp_path / "log") as server:
        raise RuntimeError("mine")
    assert not psutil.pid_exists(server.process.pid)


FRONT = """
import sys
from pathlib import Path
from server import launch
from tests.test_launch import simulator
server = launch.start(simulator(), Path(sys.argv[1]))
print(server.process.pid, server.url, flush=True)
sys.stdin.read()
"""


def test_a_sigkill_of_the_front_door_leaves_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FRONT, tmp_path / "log"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as front:
        assert front.stdout
        pid = int(front.stdout.readline().split()[0])
        below = psutil.Process(pid).children(recursive=True)
        assert below
        front.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs([psutil.Process(pid), *below], timeout=10)
    assert alive == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ValueError('first')", "ended with code 1: ValueError: first"),
        ("raise MemoryError('Cannot allocate memory')", "out of memory: MemoryError: Cannot allocate memory"),
        ("import os; os.kill(os.getpid(), 9)", "killed (SIGKILL), as the system does when memory is out"),
        ("pass", "ended with code 0: it printed nothing"),
        ("print('last words'); raise SystemExit(3)", "ended with code 3: last words"),
    ],
)
def test_one_that_ends_before_it_is_ready_says_why(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(StartError) as refused:
        launch.start(program(text), tmp_path / "log")
    assert str(refused.value) == words
    assert len(refused.value.tail) <= launch.TAIL


def test_the_end_of_the_log_goes_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(StartError) as refused:
        launch.start(program("for i in range(99): print(i)"), tmp_path / "log")
    assert refused.value.tail == tuple(str(i) for i in range(99 - launch.TAIL, 99))


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No such file or directory: '/nowhere/python'"):
        launch.start(Command(("/nowhere/python",), {}, "m", launch.free_port()), tmp_path / "log")


def test_one_that_never_answers_is_given_up(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(StartError, match=r"did not become ready: GET /health gave .*refused.* in time"):
        launch.start(program("import time; time.sleep(60)"), tmp_path / "log", limit_s=1)
    assert time.monotonic() - began < 10


def test_health_alone_is_not_ready(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"POST /v1/completions gave 400"):
        launch.start(simulator("--script", '{"status": 400}'), tmp_path / "log")


def test_another_program_s_answer_does_not_pass_for_ours(tmp_path: Path) -> None:
    with launch.serving(simulator(), tmp_path / "one") as other:
        port = int(other.url.rpartition(":")[2])
        taken = Command((*simulator().argv[:-1], str(port)), {}, "sim", port)
        with pytest.raises(ServerError, match=r"cannot listen there \(Address already in use"):
            launch.start(taken, tmp_path / "two")


def test_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        assert launch.free_port(port) != port
        with pytest.raises(ServerError, match=f"127.0.0.1:{port}: cannot listen there .*in use"):
            launch.free_port(port, exact=True)
    assert launch.free_port(port, exact=True) == port
