"""The port that workers come to: nobody, an experiment, a master, told apart over real sockets."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.end_to_end.locusts import free_port
from tokenswarm import TokenswarmError, experiment, judging, worker
from tokenswarm.cli import cli
from tokenswarm.door import GREETING, Address, Door, address, look
from tokenswarm.running import Order


@contextmanager
def master() -> Iterator[Address]:
    """Greet whoever connects as ZeroMQ does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(GREETING)

        threading.Thread(target=greet, daemon=True).start()
        yield Address("127.0.0.1", listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def test_nobody_and_a_master_are_seen_at_once() -> None:
    assert look(Address("127.0.0.1", free_port())) == "nobody"
    assert look(Address("no-such-host.invalid", 1)) == "nobody"
    with master() as at:
        assert look(at) == "master"


def test_who_waits_at_the_door_hears_when_the_port_changes_hands() -> None:
    at = Address("127.0.0.1", free_port())
    heard: list[str] = []
    with Door(at, 9) as door:
        waiting = [threading.Thread(target=lambda: heard.append(look(at))) for _ in range(20)]
        for one in waiting:
            one.start()
        time.sleep(0.3)
        assert heard == []
        with door.lent():
            for one in waiting:
                one.join(5)
            assert heard == ["door"] * 20
            with socket.create_server(at):  # as Locust does meanwhile
                pass
    assert look(at) == "nobody"


def test_everywhere_is_everywhere_at_the_door_too() -> None:
    """As at Locust's master, which hears both: else workers find nobody between two runs, and end."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this host has no IPv6")
    at = Address("::", free_port())
    with Door(at, 9):
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, at.port), 5).close()
    with Door(Address("::1", at.port), 9), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", at.port), 5)


def test_a_port_that_is_taken_is_one_line() -> None:
    with master() as at, pytest.raises(TokenswarmError, match=f"cannot listen at {at}") as found, Door(at, 9):
        pass
    assert found.value.exit_code == 6


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:5557", "127.0.0.1", 5557),
        ("[::1]:1", "::1", 1),
        ("loadtest-master:65535", "loadtest-master", 65535),
    ],
)
def test_address(text: str, host: str, port: int) -> None:
    assert address(text, "x") == (host, port)
    assert str(address(text, "x")) == text


@pytest.mark.parametrize(
    "text", ["", "5557", ":5557", "host:", "host:0", "host:65536", "::1:5557", "a b:1", "h:1x"]
)
def test_address_that_is_none(text: str) -> None:
    with pytest.raises(TokenswarmError, match=r"--listen: found .* expected HOST:PORT") as found:
        address(text, "--listen")
    assert found.value.exit_code == 2


@pytest.mark.parametrize("text", ["::", "::1:5557", "fd00::2:5557"])
def test_an_ipv6_address_without_brackets_is_told_of_them(text: str) -> None:
    with pytest.raises(
        TokenswarmError, match=r"expected HOST:PORT, an IPv6 address in brackets: \[::\]:5557$"
    ):
        address(text, "--listen")


def test_workers_that_did_not_come(tmp_path: Path) -> None:
    door = Door(Address("127.0.0.1", 5557), 9)
    log = tmp_path / "locust.log"
    log.write_text(
        "Waiting for workers to be ready, 1 of 3 connected\nGave up waiting for workers to connect\n"
    )
    assert door.missed(log) == "found 1 of 3 workers at 127.0.0.1:5557 within 9 s"
    everywhere = Door(Address("0.0.0.0", 5557), 9)  # noqa: S104 - it stays closed
    told = "found 1 of 3 workers at 0.0.0.0:5557 within 9 s (0.0.0.0 hears nobody who has IPv6 only: "
    assert everywhere.missed(log) == told + "--listen [::]:5557)"
    log.write_text("Waiting for workers to be ready, 1 of 3 connected\nsomething else\n")
    assert door.missed(log) == ""


def test_an_experiment_goes_on_with_workers_from_where_they_came_before(tmp_path: Path) -> None:
    """Without --listen it would go on with processes of this host, and nobody would be told."""
    path = tmp_path / "e.yaml"
    path.write_text("servers: [{url: 'http://10.0.0.9:8000'}]")
    door = Door(Address("127.0.0.1", 5557), 9)
    order = Order(experiment.read(path), path, judging.sla(None), tmp_path / "out", door)
    assert order.goes_on_with().endswith(" --listen 127.0.0.1:5557")


def test_a_master_that_stays_is_another_one_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a worker that missed the moment between two masters, and the second, would wait for each other."""
    served: list[Address] = []

    def serve(at: Address) -> int:
        served.append(at)
        if len(served) == 2:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(worker, "_serve_one", serve)
    monkeypatch.setattr(worker, "SAME_S", 0.5)
    with master() as at, pytest.raises(KeyboardInterrupt):
        worker.work(at, 9, 9, lambda _: None)


def test_waiting_for_workers_that_nobody_lets_in_is_one_line() -> None:
    asked = CliRunner().invoke(cli, ["run", "none.yaml", "--workers-wait", "60"])
    assert isinstance(asked.exception, TokenswarmError)
    assert asked.exception.exit_code == 2
    assert str(asked.exception).startswith("found --workers-wait without --listen, expected both")
