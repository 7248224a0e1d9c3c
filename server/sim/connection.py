"""HTTP/1.1 on one connection: h11 parses requests and writes heads, tokens are written past it.

The bytes of a chunk are a constant prefix and suffix around a token, so they are framed here and handed to
the socket directly; h11 only learns that the body has ended.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter_ns, time_ns

import h11

from . import SERVER
from .api import error_body

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_HEAD_BYTES = 64 * 1024
_LINGER_S = 2.0  # how long the rest of a refused request is read and dropped, so that the answer gets through
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """A whole HTTP request. `received_ns` is perf_counter_ns when its last byte had been read."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    received_ns: int
    received_unix_ns: int


class Connection(asyncio.Protocol):
    """Reads requests one after the other; whoever handles one answers through this object."""

    transport: asyncio.Transport

    def __init__(self, handle: Callable[["Connection", Request], None]) -> None:
        """`handle` is called for each whole request, after the one before it was answered."""
        self._handle = handle
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._advancing = False
        self._refused = False
        self._raw = False  # a body that only the connection's end delimits, written without h11
        self.chunked = False
        self.lost = False
        self.paused = False
        self.on_lost: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream socket has no other
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if self._refused:
            return
        self._h11.receive_data(data)
        if self.on_lost is not None and len(self._h11.trailing_data[0]) > MAX_BODY_BYTES:
            self.transport.abort()  # more requests pipelined behind a running answer than anyone means
            return
        self._advance()

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell whoever is answering."""
        self.lost = True
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        """Note that the client does not keep up."""
        self.paused = True

    def resume_writing(self) -> None:
        """Note that it does again."""
        self.paused = False
        if self.on_writable is not None:
            self.on_writable()

    # what a handler calls

    def respond(
        self, status: int, body: bytes, content_type: str = "application/json", headers: Headers = ()
    ) -> None:
        """Answer with a whole body."""
        self.on_lost = self.on_writable = None
        if self.lost:
            return
        length = ("content-length", str(len(body)))
        head = self._response(status, [("content-type", content_type), length, *headers])
        content = b"" if self._head is not None and self._head.method == b"HEAD" else body
        self.transport.write(head + content)
        self._end_of_message(content)

    def open_stream(self, headers: Headers = ()) -> None:
        """Send the head of an event stream; `send` writes its body, `end_stream` ends it."""
        content_type = ("content-type", "text/event-stream; charset=utf-8")
        chunking = [("transfer-encoding", "chunked")] if self._h11.their_http_version == b"1.1" else []
        self.chunked = bool(chunking)
        self.transport.write(self._response(200, [content_type, *chunking, *headers]))

    def open_http10_stream(self) -> None:
        """Send a head as HTTP/1.0 does: the body ends with the connection."""
        self._raw, self.chunked = True, False
        head = f"HTTP/1.0 200 OK\r\nserver: {SERVER}\r\ncontent-type: text/event-stream\r\n\r\n"
        self.transport.write(head.encode())

    def framed(self, event: bytes) -> bytes:
        """Return the bytes of an event in a chunk of its own."""
        return b"%x\r\n%b\r\n" % (len(event), event) if self.chunked else event

    def end_stream(self) -> None:
        """End the body as HTTP wants it."""
        self.on_lost = self.on_writable = None
        if self.lost:
            return
        if self._raw:
            self.transport.close()
            return
        self.transport.write(self._h11.send(h11.EndOfMessage()) or b"")
        self._next_request()

    def cut(self, *, reset: bool = False) -> None:
        """Close in the middle: what was written is still sent, or, with `reset`, a TCP RST follows it."""
        self.on_lost = self.on_writable = None
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        else:
            self.transport.close()

    # inside

    def _advance(self) -> None:
        self._advancing = True  # the loop below goes on by itself when a handler has answered at once
        try:
            while not self.lost and self._step():
                pass
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))
        finally:
            self._advancing = False

    def _step(self) -> bool:
        event = self._h11.next_event()
        if event is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                self.transport.write(self._h11.send(go_on) or b"")
            return False
        if event is h11.PAUSED:
            return False
        if isinstance(event, h11.Request):
            self._head = event
            self._body.clear()
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > MAX_BODY_BYTES:
                self._refuse(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
                return False
        elif isinstance(event, h11.EndOfMessage):
            self._handle(self, self._request())
        else:  # the client closed
            self.transport.close()
            return False
        return True

    def _request(self) -> Request:
        head = self._head
        assert head is not None  # noqa: S101 - h11 ends no message that it has not begun
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        path = head.target.decode("latin-1").partition("?")[0]
        method = head.method.decode("latin-1")
        return Request(method, path, headers, bytes(self._body), perf_counter_ns(), time_ns())

    def _response(self, status: int, headers: Headers) -> bytes:
        response = h11.Response(
            status_code=status, reason=HTTPStatus(status).phrase, headers=[("server", SERVER), *headers]
        )
        return self._h11.send(response) or b""

    def _end_of_message(self, content: bytes) -> None:
        self._h11.send(h11.Data(data=content))
        self._h11.send(h11.EndOfMessage())
        self._next_request()

    def _next_request(self) -> None:
        if self._h11.our_state is h11.MUST_CLOSE:
            self.transport.close()
        else:
            self._h11.start_next_cycle()
            if not self._advancing:  # by way of the loop: what comes next is no business of whoever answered
                asyncio.get_running_loop().call_soon(self._advance)

    def _refuse(self, status: int, message: str) -> None:
        """Answer what cannot be answered in turn, and close."""
        self._refused = True
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # garbage in the middle of our answer
            return
        body = error_body(status, message)
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        self.transport.write(self._response(status, headers) + body)
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_S, self.transport.abort)
