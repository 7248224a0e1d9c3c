"""Servers that no framework would write, on plain sockets, each in threads of its own."""

import contextlib
import re
import socket
import struct
import threading
from types import TracebackType
from typing import Self

from tests.responses import answer, sized, stream


class _Listening:
    """A listening socket for the length of a `with` block."""

    backlog = 100

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=self.backlog)
        self.port = self._listener.getsockname()[1]
        self._begin()
        return self

    def _begin(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._served, args=(connection,), daemon=True).start()

    def _served(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def __exit__(
        self, _: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def read_request(connection: socket.socket) -> bytes:
    """Read one whole request; what is left unread would make the kernel reset the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or b"\r\n\r\n"
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    while length and len(body) < int(length[1]):
        body += connection.recv(65536)
    return head


class Deaf(_Listening):
    """Accepts nobody: its queue of connections is full."""

    backlog = 0

    def _begin(self) -> None:
        self._waiting = [socket.socket() for _ in range(3)]
        for waiting in self._waiting:
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self.port))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for waiting in self._waiting:
            waiting.close()
        super().__exit__(kind, error, trace)


class Mute(_Listening):
    """Reads a request and hangs up."""

    def serve(self, connection: socket.socket) -> None:
        read_request(connection)


class Dropper(_Listening):
    """Answers the first request of each connection well.

    "close" and "reset": the second one makes it hang up, as a server does whose patience with an idle
    connection ends at that moment. "idle": it hangs up 0.1 s after the answer.
    """

    def __init__(self, how: str) -> None:
        self._how = how

    def serve(self, connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(stream(answer()))
        if self._how == "idle":
            connection.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                connection.recv(1)
            return
        read_request(connection)
        if self._how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Recorder(_Listening):
    """Serves one model and short answers, and keeps the head of every request."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    def serve(self, connection: socket.socket) -> None:
        while head := read_request(connection):
            self.heads.append(head)
            if head.startswith(b"POST"):
                connection.sendall(stream(answer()))
            elif b"/v1/models" in head:
                connection.sendall(sized(b'{"data": [{"id": "m"}]}', "application/json"))
            else:
                connection.sendall(sized(b"", "text/plain", "404 Not Found"))
