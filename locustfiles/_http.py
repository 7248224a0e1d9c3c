"""HTTP/1.1 responses, sans-IO: bytes in, events of the event stream out.

llhttp (through geventhttpclient, which Locust brings) parses the HTTP; this file decides what the
response is: an event stream, an error with a body worth quoting, or something that is no stream at all.
"""

from geventhttpclient._parser import HTTPParseError, HTTPResponseParser

from locustfiles._errors import StreamError, shown
from locustfiles._sse import SSEDecoder

BODY_BYTES_SHOWN = 2048
"""How much of an error's body is kept to be quoted."""


class ResponseDecoder(HTTPResponseParser):
    """Decode one response. Feed it what was read; ask `complete` whether the response has ended."""

    def __init__(self) -> None:
        """Begin before the status line."""
        super().__init__()
        self.status: int | None = None
        self.complete = False  # the HTTP message has ended as announced
        self.body_bytes = 0
        self.content_type = ""
        self.retry_after = ""
        self.encoding = ""
        self.error_body = bytearray()
        self.events: list[bytes] = []  # what the latest `decode` completed, also if it raised
        self._sse: SSEDecoder | None = None
        self._field = ""
        self._field_ended = False  # its value has begun: both may come in pieces

    def decode(self, data: bytes) -> list[bytes]:
        """Return the data of the events that these bytes complete; b"" says that the peer closed.

        Raises StreamError where the bytes are no HTTP, no event stream, or end too early.
        """
        events: list[bytes] = []
        self.events = events
        try:
            self.feed(data)
        except HTTPParseError as error:
            if data:
                raise StreamError("protocol", f"expected HTTP/1.1, found {shown(data)!r} ({error})") from None
        if not data and not self.complete:
            when = "before it answered" if self.status is None else "in mid-stream"
            raise StreamError("truncated", f"the server closed the connection {when}")
        return events

    @property
    def streaming(self) -> bool:
        """Whether the response is an event stream."""
        return self._sse is not None

    def reusable(self) -> bool:
        """Say whether the connection may carry another request."""
        return self.complete and bool(self.should_keep_alive()) and not self.parser_failed()

    # What llhttp calls, in this order.

    def _on_status(self, _message: str) -> None:
        """Ignore the reason phrase."""

    def _on_message_begin(self) -> None:
        if self.complete:
            raise StreamError("protocol", "a second response followed the first one unasked")

    def _on_header_field(self, text: str) -> None:
        self._field = text.lower() if self._field_ended else self._field + text.lower()
        self._field_ended = False

    def _on_header_value(self, text: str) -> None:
        self._field_ended = True
        if self._field == "content-type":
            self.content_type += text.lower()
        elif self._field == "content-encoding":
            self.encoding += text.lower()
        elif self._field == "retry-after":
            self.retry_after += text

    def _on_headers_complete(self) -> bool:
        status = self.get_code()
        if status >= 200:  # 1xx only announces the real one
            self.status = status
            if self.encoding not in {"", "identity"}:
                raise StreamError("protocol", f"expected no content-encoding, found {shown(self.encoding)}")
            if status == 200 and self.content_type.startswith("text/event-stream"):
                self._sse = SSEDecoder()
        return False

    def _on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if self._sse is not None:
            self.events.extend(self._sse.feed(body))
        elif len(self.error_body) < BODY_BYTES_SHOWN:
            self.error_body += body[:BODY_BYTES_SHOWN]

    def _on_message_complete(self) -> None:
        self.complete = self.status is not None


def refusal(status: int, content_type: str, body: bytes, retry_after: str = "") -> StreamError:
    """Say what a response is that carries no event stream. Shared by both transports."""
    found = shown(body, 160)
    if status == 200:
        kind = content_type or "no content type"
        return StreamError("protocol", f"expected text/event-stream, found {kind}: {found}")
    outcome = "http_429" if status == 429 else "http_5xx" if status >= 500 else "http_4xx"
    if status < 400:
        return StreamError("protocol", f"expected HTTP 200, found {status}: {found}")
    later = f" (retry after {shown(retry_after, 20)})" if retry_after else ""
    return StreamError(outcome, f"HTTP {status}{later}: {found}")
