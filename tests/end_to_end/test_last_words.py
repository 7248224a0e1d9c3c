"""What a worker says last arrives, also where its connection is being made again as it ends."""

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.end_to_end.locusts import command, free_port, started

HELD_S = 0.5  # of the 2 s that a worker lingers; without that Python has ended long before
NOBODY = "http://127.0.0.1:1"  # no run begins, so nobody asks for it


class Link:
    """A way for bytes to a port of this host, which can be cut: then nobody listens at its own."""

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self._to = to
        self._open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        """Let connections through."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self._open = [listener]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """End all connections, and refuse others."""
        for one in self._open:
            with suppress(OSError):  # the other side has ended it
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open = []

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:  # nobody is there yet
                near.close()
                continue
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # it was cut


@contextmanager
def linked() -> Iterator[tuple[int, Link]]:
    """Yield the port for a master, and the link that leads there."""
    port = free_port()
    link = Link(port)
    try:
        yield port, link
    finally:
        link.cut()


def wait_until_it_hears_sigterm(pid: int) -> None:
    """Wait until a process has an answer of its own to that signal: Locust's begins to work before it has."""
    end = time.monotonic() + 30
    while True:
        (caught,) = re.findall(r"SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.timeout(120)
def test_a_worker_ends_when_its_master_knows_of_it(tmp_path: Path) -> None:
    """Cut as it is told to end, its link is mended when it has nothing more to do but to let that arrive."""
    with linked() as (port, link):
        head = command("chat", NOBODY, "--master", "--expect-workers", "2", "--master-bind-port", str(port))
        order = [part for part in command("chat", NOBODY) if not part.startswith(("--headless", "--only"))]
        order += ["--worker", "--master-host", "127.0.0.1", "--master-port", str(link.port)]
        with started(head, tmp_path / "master") as master, started(order, tmp_path / "worker") as worker:
            master.wait_until_it_says("reported as ready")
            wait_until_it_hears_sigterm(worker.process.pid)
            link.cut()
            worker.process.terminate()
            worker.wait_until_it_says("Shutting down")
            time.sleep(HELD_S)
            assert worker.process.poll() is None, "it ended, and what it said last with it"
            link.mend()
            master.wait_until_it_says(" quit. ", timeout_s=10)
            assert worker.wait(10) == 0
