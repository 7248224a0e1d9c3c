"""The wire transport: a token's time is the time its bytes reached this machine.

Theory of operation
-------------------
1. Every socket asks the kernel to stamp what it receives (SO_TIMESTAMPNS). One `recvmsg` a wake-up returns
   the bytes and the stamp; however late Python gets round to it, the stamp stays true.
2. Reading happens in the event loop's own callback (see _reader): no greenlet wakes for a token. The
   user's greenlet sleeps until the stream ends or a deadline passes.
3. The stamps are wall-clock time. The offset to the monotonic clock is sampled when a request begins and
   again when it ends; a difference is reported as the record's `clock_jump_ns`.
4. What is not read in time is coalesced by the kernel, which then keeps the *last* stamp. So a late reader
   shows: `lag` is the delay from stamp to read, `coalesced` counts tokens that lost their own time.
5. Where the kernel does not stamp, the time of the read is taken and the record says clock "user".

The only file that touches a socket. Connections are kept and reused, last in, first out.
"""

import socket
import struct
import sys
import time
from collections.abc import Callable

import gevent
import gevent.event
import gevent.socket

from locustfiles._errors import StreamError, accounted
from locustfiles._http import ResponseDecoder, refusal
from locustfiles._reader import ClockReader, EventReader, open_reader
from locustfiles._reply import Call, Deadlines, Ending, Request, deadline, judge_end, take
from locustfiles._timer import StreamTimer

SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)  # Linux; Python names it from 3.12 on
READ_BYTES = 65536
ANCILLARY_BYTES = socket.CMSG_SPACE(16)
JUMP_NS = 1_000_000  # a wall clock that was set by more makes its stamps worthless
RETRY_NS = 20_000_000  # a connection that was dead already says so within a round trip
CLOCK_SAMPLE_NS = 5_000  # two clocks read within this time of each other belong together

_stamp = struct.Struct("qq").unpack_from
_buffer = memoryview(bytearray(READ_BYTES))  # one for all: a read is decoded before the next one begins
_buffers = [_buffer]


def wall_offset_ns() -> int:
    """Return wall minus monotonic clock, sampled without being interrupted in between."""
    for _ in range(5):
        before = time.perf_counter_ns()
        wall = time.time_ns()
        after = time.perf_counter_ns()
        if after - before < CLOCK_SAMPLE_NS:
            break
    return wall - (before + after) // 2


class _Stream:
    """One response in flight: where the loop's callback leaves what it read."""

    __slots__ = (
        "decoder",
        "end_at_ns",
        "ended",
        "error",
        "head_reads",
        "lags_ns",
        "offset_ns",
        "timer",
        "unstamped",
    )

    def __init__(self, timer: StreamTimer, offset_ns: int) -> None:
        self.timer = timer
        self.decoder = ResponseDecoder()
        self.offset_ns = offset_ns
        self.lags_ns: list[int] = []
        self.unstamped = 0  # reads without a stamp from the kernel
        self.head_reads = 0  # reads before the body
        self.end_at_ns = 0  # arrival of the message's last byte; 0: it never came
        self.error: StreamError | None = None
        self.ended = gevent.event.Event()

    @property
    def touched(self) -> bool:
        """Whether a single byte came back."""
        return bool(self.lags_ns or self.unstamped)


class _Connection:
    """A socket that the event loop reads, and the stream that its bytes belong to."""

    __slots__ = ("_reader", "_recvmsg", "alive", "sock", "stream")

    def __init__(self, sock: gevent.socket.socket, reader: EventReader | ClockReader) -> None:
        self.sock = sock
        self.stream: _Stream | None = None
        self.alive = True
        # The plain socket's: returns or raises, never waits.
        self._recvmsg: Callable[..., tuple[int, list[tuple[int, int, bytes]], int, object]]
        self._recvmsg = sock._sock.recvmsg_into  # noqa: SLF001
        self._reader = reader
        reader.add(sock.fileno(), self._readable)

    def _readable(self) -> None:
        """Read once, stamp, decode, time. Hot: runs for every token, in the loop, and must not raise."""
        try:
            count, ancillary, _, _ = self._recvmsg(_buffers, ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(StreamError("truncated", f"connection lost: {error.strerror or error}"))
            return
        now_ns = at_ns = time.perf_counter_ns()
        stream = self.stream
        if stream is None:  # idle: the server closed, or sent what nobody asked for
            self.close()
            return
        if ancillary:
            seconds, nanoseconds = _stamp(ancillary[0][2])
            at_ns = seconds * 1_000_000_000 + nanoseconds - stream.offset_ns
            stream.lags_ns.append(now_ns - at_ns)
        elif count:
            stream.unstamped += 1
        decoder = stream.decoder
        try:
            try:
                events = decoder.decode(bytes(_buffer[:count]))
            except StreamError:
                take(decoder.events, stream.timer, at_ns)  # what came before the fault did come
                raise
            if events:
                take(events, stream.timer, at_ns)
            elif not decoder.body_bytes:
                stream.head_reads += 1
        except Exception as error:  # noqa: BLE001 - the loop would only print it and go on
            self.fail(accounted(error))
        else:
            if decoder.complete:
                stream.end_at_ns = at_ns
                stream.ended.set()

    def fail(self, error: StreamError) -> None:
        """Close, and end the stream with this error."""
        stream = self.stream
        self.close()
        if stream is not None:
            stream.error = error
            stream.ended.set()

    def close(self) -> None:
        """Stop reading and close. A connection closes once; closing again does nothing."""
        if self.alive:
            self.alive = False
            self._reader.remove(self.sock.fileno())
            self.sock.close()


class WireTransport:
    """Connections to one server, shared by all users of a process."""

    clock = "kernel"

    def __init__(self, host: str, port: int) -> None:
        """Keep the address; nothing is opened until the first request.

        A socket of our own keeps the kernel's stamping on between connections, since it is switched on
        with a delay.
        """
        self.host = host
        self.port = port
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._idle: list[_Connection] = []
        self._keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._reader = open_reader(stamped=_ask_for_stamps(self._keeper))

    def exchange(self, call: Call) -> str:
        """Send one request and wait for its stream to end; returns the outcome.

        What happened goes to `call.ended`, once. Never raises, unless the greenlet is killed: then the
        connection is closed, `ended` hears "cancelled", and the kill goes on.
        """
        timer, limits = call.timer, call.deadlines
        began_ns = time.perf_counter_ns()
        stream = _Stream(timer, wall_offset_ns())
        how = "reused"
        connection = self._reusable()
        try:
            data = self._render(call.request)
            if connection is None:
                how = "new"
                connection = self._connect(timer, limits)
            self._send(connection, stream, data)
            self._await(stream, began_ns, limits)
            quick = timer.sent_at_ns < 0 or time.perf_counter_ns() - timer.sent_at_ns < RETRY_NS
            if stream.error and how == "reused" and not stream.touched and quick:
                how = "retried"  # the server had closed it; nothing came back, so nothing was answered
                stream = _Stream(timer, stream.offset_ns)
                connection = self._connect(timer, limits)
                self._send(connection, stream, data)
                self._await(stream, began_ns, limits)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the request is accounted for
            stream.error = accounted(error)
        finally:
            ending = self._ending(stream, how, call.choices)
            if connection is not None:
                self._release(connection, stream)
            call.ended(ending)
        return ending.outcome

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()
        self._reader.close()
        self._keeper.close()

    def _render(self, request: Request) -> bytes:
        fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        head = (
            f"POST {request.path} HTTP/1.1\r\nhost: {self._authority}\r\n{fields}"
            f"content-length: {len(request.body)}\r\n\r\n"
        )
        return head.encode("latin-1") + request.body

    def _reusable(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
        return None

    def _connect(self, timer: StreamTimer, limits: Deadlines) -> _Connection:
        where = self._authority
        began_ns = time.perf_counter_ns()
        try:
            sock = gevent.socket.create_connection((self.host, self.port), limits.connect_ns / 1e9)
        except socket.gaierror as error:
            raise StreamError("connect", f"unknown host {self.host!r} ({error.strerror})") from None
        except TimeoutError:
            raise StreamError(
                "connect", f"no connection to {where} within {limits.connect_ns / 1e9:g} s"
            ) from None
        except OSError as error:
            raise StreamError("connect", f"no connection to {where}: {error.strerror or error}") from None
        finally:
            timer.connect_ns += time.perf_counter_ns() - began_ns
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _ask_for_stamps(sock)
        return _Connection(sock, self._reader)

    @staticmethod
    def _send(connection: _Connection, stream: _Stream, data: bytes) -> None:
        connection.stream = stream
        try:
            connection.sock.sendall(data)
        except OSError as error:
            connection.fail(
                StreamError("connect", f"the request could not be sent: {error.strerror or error}")
            )
        else:
            stream.timer.sent_at_ns = time.perf_counter_ns()

    @staticmethod
    def _await(stream: _Stream, began_ns: int, limits: Deadlines) -> None:
        """Sleep until the stream ends; raises StreamError when a deadline passes. No timer per token."""
        ended = stream.ended
        while not ended.is_set():
            now_ns = time.perf_counter_ns()
            when_ns, error = deadline(stream.timer, began_ns, limits)
            if now_ns >= when_ns:
                raise error
            # The first token moves the deadline nearer, by no more than this; later ones move it away.
            ended.wait(min(when_ns - now_ns, limits.stall_ns) / 1e9)

    @staticmethod
    def _ending(stream: _Stream, how: str, choices: int) -> Ending:
        decoder, timer, error = stream.decoder, stream.timer, stream.error
        if error is None and not decoder.complete:
            error = StreamError("cancelled", f"the run ended after {timer.chunks} tokens")
        if error is None and decoder.status is not None and not decoder.streaming:
            error = refusal(
                decoder.status, decoder.content_type, bytes(decoder.error_body), decoder.retry_after
            )
        outcome, detail = judge_end(timer, choices, error)
        jump_ns = wall_offset_ns() - stream.offset_ns
        end_at_ns = time.perf_counter_ns()
        if abs(jump_ns) < JUMP_NS:
            end_at_ns = stream.end_at_ns or end_at_ns
            # Held up between sending and reading the clock, a process would have sent after the answer.
            arrived = [at_ns for at_ns in (timer.first_at_ns, stream.end_at_ns) if at_ns > 0]
            timer.sent_at_ns = min(timer.sent_at_ns, *arrived) if arrived else timer.sent_at_ns
        lags_ns = stream.lags_ns
        if lags_ns and min(lags_ns) < 0:  # the clock was set forward
            lags_ns = [max(0, lag_ns) for lag_ns in lags_ns]
        return Ending(
            outcome=outcome,
            detail=detail,
            end_at_ns=end_at_ns,
            status=decoder.status,
            body_bytes=decoder.body_bytes,
            reads=len(stream.lags_ns) + stream.unstamped - stream.head_reads,
            lags_ns=lags_ns,
            connection=how,
            clock="user" if stream.unstamped or not stream.lags_ns else "kernel",
            clock_jump_ns=jump_ns,
        )

    def _release(self, connection: _Connection, stream: _Stream) -> None:
        connection.stream = None
        if connection.alive and stream.error is None and stream.decoder.reusable():
            self._idle.append(connection)
        else:
            connection.close()


def _ask_for_stamps(sock: socket.socket) -> bool:
    """Return whether the kernel will stamp what this socket receives; else records say clock "user"."""
    if sys.platform != "linux":  # elsewhere the option's number means something else
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def reading_ns(head: bytes, chunk: bytes, chunks: int) -> float:
    """Return the CPU time of reading one chunk of an answer here, from the kernel to the timer."""
    ours, theirs = gevent.socket.socketpair()
    connection = _Connection(ours, EventReader())
    connection.stream = stream = _Stream(StreamTimer(0), wall_offset_ns())
    stream.decoder.decode(head)
    spent_ns = 0
    for _ in range(chunks):
        theirs.send(chunk)
        begun_ns = time.thread_time_ns()
        connection._readable()  # noqa: SLF001 - what the loop calls
        spent_ns += time.thread_time_ns() - begun_ns
    connection.close()
    theirs.close()
    return spent_ns / chunks
