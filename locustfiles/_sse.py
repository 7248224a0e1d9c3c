"""Server-sent events, sans-IO: bytes in, the `data` of each finished event out.

The rules are those of https://html.spec.whatwg.org/multipage/server-sent-events.html: lines end in LF,
CR or CRLF, a blank line ends an event, several `data` lines join with LF, a leading byte-order mark and
comments do not count, and an event that the end of the stream cuts off was never sent.
Two things are ours: event names are ignored (every known server puts its errors into the data), and a
lone CR ends its line at once, so that no time stamp waits for an LF that may never come.
"""

from locustfiles._errors import StreamError

EVENT_BYTES_MAX = 4 << 20
"""Longest event that is kept. A chunk with 20 logprobs needs 4 KiB; nobody streams megabytes per token."""

LF, CR = b"\n\r"  # as numbers: asking whether bytes hold a number costs a seventh of asking for bytes
_BOM = b"\xef\xbb\xbf"


class SSEDecoder:
    """Cut a byte stream into events, however it was split on its way."""

    __slots__ = ("_after_cr", "_data", "_data_bytes", "_plain", "_started", "_tail")

    def __init__(self) -> None:
        """Begin at the start of a stream."""
        self._tail = bytearray()  # the line that is not complete yet
        self._data: list[bytes] = []  # data lines of the event that is not complete yet
        self._data_bytes = 0  # their length, field names included: a million empty ones are an event, too
        self._after_cr = False  # the last line ended in CR: an LF that follows belongs to it
        self._started = False  # the byte-order mark, if any, is behind us
        self._plain = False  # nothing is pending: the next bytes begin an event

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that `data` completes; raises StreamError on an endless one."""
        # What every server sends, in one piece: "data: {...}\n\n". Costs a quarter of the general path.
        if self._plain and data[:6] == b"data: " and data.endswith(b"\n\n"):
            event = data[6:-2]
            if LF not in event and CR not in event:
                return [event]
        return self._feed(data)

    def _feed(self, data: bytes) -> list[bytes]:
        if self._after_cr and data:
            self._after_cr = False
            if data[:1] == b"\n":
                data = data[1:]
        self._tail += data
        if not self._started and not self._begin():
            return []
        if b"\r" in data:
            self._after_cr = self._tail[-1:] == b"\r"
            self._tail = self._tail.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[bytes] = []
        if b"\n" in data or b"\r" in data:
            *lines, rest = bytes(self._tail).split(b"\n")
            self._tail = bytearray(rest)
            for line in lines:
                self._line(line, events)
        if len(self._tail) + self._data_bytes > EVENT_BYTES_MAX:
            raise StreamError("protocol", f"an event of more than {EVENT_BYTES_MAX >> 20} MiB without an end")
        self._plain = not self._tail and not self._data and not self._after_cr
        return events

    def _begin(self) -> bool:
        if len(self._tail) < len(_BOM) and _BOM.startswith(self._tail):
            return False
        self._started = True
        if self._tail.startswith(_BOM):
            del self._tail[: len(_BOM)]
        return True

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
                self._data_bytes = 0
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value[1:] if value[:1] == b" " else value)
            self._data_bytes += len(line)
