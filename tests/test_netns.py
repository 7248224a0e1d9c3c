"""Hosts of our own: they reach each other by name, links break and mend, and nothing is left behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import netns
from tests.absent import absent
from tests.netns import Host, NoNetemError, network

SERVE = (
    "import socket; s = socket.create_server(('', 9000)); print('up', flush=True)\n"
    "while True:\n"
    "    c, who = s.accept(); c.sendall(f'{who[0]} {socket.gethostname()}'.encode()); c.close()"
)
ASK = (
    "import socket, sys\n"
    "try: print(socket.create_connection((sys.argv[1], 9000), 1).recv(100).decode())\n"
    "except OSError as error: print(type(error).__name__)"
)


@pytest.fixture(autouse=True)
def _hosts_can_be_made() -> None:
    netns.require()


def serve(host: Host) -> "subprocess.Popen[bytes]":
    process = host.start([sys.executable, "-c", SERVE], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    return process


def ask(host: Host, name: str) -> str:
    return host.run([sys.executable, "-c", ASK, name]).stdout.strip()


def test_hosts_reach_each_other_by_name_and_not_by_loopback() -> None:
    with network("one", "two") as hosts:
        serve(hosts["one"])
        assert ask(hosts["two"], "one") == "198.18.0.2 one"
        assert ask(hosts["two"], "127.0.0.1") == "ConnectionRefusedError"


def test_link_that_is_cut_carries_nothing_until_it_is_mended() -> None:
    with network("one", "two", "three") as hosts:
        serve(hosts["one"])
        with hosts["two"].cut():
            assert ask(hosts["two"], "one") == "TimeoutError"
            assert ask(hosts["three"], "one") == "198.18.0.3 one"
        assert ask(hosts["two"], "one") == "198.18.0.2 one"


def test_delay_is_one_or_is_said_to_be_none() -> None:
    with network("one", "two") as hosts:
        serve(hosts["one"])
        try:
            with hosts["two"].delayed(300):
                begun = time.monotonic()
                assert ask(hosts["two"], "one") == "198.18.0.2 one"
                assert time.monotonic() - begun > 0.6  # the handshake's SYN and ACK
        except NoNetemError as error:
            assert "no netem" in str(error)  # noqa: PT017 - either outcome is right, neither is silent


def test_monotonic_clocks_of_hosts_differ_and_the_wall_clock_is_one() -> None:
    if not netns.has_time_namespaces():
        absent("this kernel has no time namespaces: the hosts share their monotonic clock")
    with network("one", "two") as hosts:
        ask_clocks = [sys.executable, "-c", "import time; print(time.monotonic(), time.time())"]
        (up_one, wall_one), (up_two, wall_two) = (
            map(float, host.run(ask_clocks).stdout.split()) for host in hosts.values()
        )
    assert abs(up_two - up_one - 100_000) < 60
    assert abs(wall_two - wall_one) < 60


def left_behind(pid: int) -> list[str]:
    listed = netns.ip("netns", "list").split()
    return [name for name in (*listed, *os.listdir("/etc/netns")) if name.startswith(f"tsw{pid}-")]  # noqa: PTH208


def test_nothing_is_left_after_a_failure() -> None:
    begun = []

    def fail() -> None:
        with network("one") as hosts:
            begun.append(serve(hosts["one"]))
            assert len(left_behind(os.getpid())) == 3  # the host, the bridge, the host's names
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert begun[0].wait(5) == -9
    assert left_behind(os.getpid()) == []


def test_what_a_killed_maker_left_is_swept_by_the_next(tmp_path: Path) -> None:
    script = tmp_path / "maker.py"
    script.write_text(
        "from tests.netns import network\nimport os\nwith network('one'):\n    os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[1]
    maker = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": str(root)})
    assert maker.wait(30) == -9
    assert left_behind(maker.pid)
    with network("one"):
        assert left_behind(maker.pid) == []


def test_missing_prerequisite_skips_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns, "missing", lambda: "no `ip`")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no `ip`"):
        netns.require()
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no `ip`"):
        netns.require()
