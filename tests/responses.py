"""HTTP responses as servers send them, and ways to cut them up: what decoders are tested with."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

GOLDEN = Path(__file__).parent / "golden"


class Response(NamedTuple):
    """The bytes of one response. `closes`: the server closes the connection after them."""

    data: bytes
    closes: bool = False


def event(chunk: dict[str, Any] | str | bytes, end: bytes = b"\n") -> bytes:
    if isinstance(chunk, dict):
        chunk = json.dumps(chunk)
    data = chunk.encode() if isinstance(chunk, str) else chunk
    return b"data: " + data + end * 2


def delta(content: str | None, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": content, **more}, "finish_reason": finish}]}


def usage(tokens: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}}


def answer(tokens: int = 3, end: bytes = b"\n") -> list[bytes]:
    """Return the events of a whole chat answer."""
    words = [delta(f"word{i} é", "length" if i == tokens - 1 else None) for i in range(tokens)]
    chunks = [delta("", role="assistant"), *words, usage(tokens), "[DONE]"]
    return [event(chunk, end) for chunk in chunks]


def head(*fields: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} {status}", "server: test", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunked(pieces: list[bytes], *, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


STREAM = "content-type: text/event-stream; charset=utf-8"
CHUNKED = "transfer-encoding: chunked"


def stream(events: list[bytes], *fields: str, end: bytes = b"0\r\n\r\n") -> bytes:
    return head(STREAM, CHUNKED, *fields) + chunked(events, end=end)


def sized(body: bytes, content_type: str, status: str = "200 OK", *fields: str) -> bytes:
    return (
        head(f"content-type: {content_type}", f"content-length: {len(body)}", *fields, status=status) + body
    )


_EVENTS = answer()
_JSON = b'{"error":{"message":"no such thing","code":400}}'

RESPONSES: dict[str, tuple[Response, str]] = {
    "chunked": (Response(stream(_EVENTS)), "ok"),
    "chunked_one_chunk": (Response(stream([b"".join(_EVENTS)])), "ok"),
    "chunked_crlf": (Response(stream(answer(end=b"\r\n"))), "ok"),
    "chunked_cr": (Response(stream(answer(end=b"\r"))), "ok"),
    "chunks_across_events": (
        Response(stream([b"".join(_EVENTS)[i : i + 7] for i in range(0, len(b"".join(_EVENTS)), 7)])),
        "ok",
    ),
    "chunk_extensions_and_trailers": (
        Response(
            head(STREAM, CHUNKED)
            + b"".join(b"%X;x=y\r\n%b\r\n" % (len(piece), piece) for piece in _EVENTS)
            + b"0\r\nx-late: 1\r\n\r\n"
        ),
        "ok",
    ),
    "content_length": (Response(sized(b"".join(_EVENTS), "text/event-stream")), "ok"),
    "http10": (
        Response(head("Content-Type: text/event-stream", version="1.0") + b"".join(_EVENTS), True),
        "ok",
    ),
    "until_close": (Response(head(STREAM, "connection: close") + b"".join(_EVENTS), True), "ok"),
    "continue_first": (Response(head(status="100 Continue") + stream(_EVENTS)), "ok"),
    "early_hints_first": (Response(head("link: x", status="103 Early Hints") + stream(_EVENTS)), "ok"),
    "empty_header": (Response(head("x-empty:", STREAM, CHUNKED) + chunked(_EVENTS)), "ok"),
    "comments": (
        Response(stream([b": ping\n\n", *[part for item in _EVENTS for part in (item, b":\n\n")]])),
        "ok",
    ),
    "no_done": (Response(stream(_EVENTS[:-1])), "ok"),
    "no_done_no_finish": (Response(stream([event(delta("a")), event(delta("b"))])), "truncated"),
    "empty": (Response(stream([_EVENTS[0], event(usage(0)), event("[DONE]")])), "empty"),
    "empty_with_closing_chunk": (
        Response(stream([_EVENTS[0], event(delta("", "stop")), event(usage(0)), event("[DONE]")])),
        "empty",
    ),
    "end_mark_alone": (
        Response(stream([_EVENTS[0], event(delta("", "stop")), event(usage(1)), event("[DONE]")])),
        "ok",
    ),
    "nothing": (Response(stream([])), "truncated"),
    "cut_in_mid_event": (Response(stream([*_EVENTS[:2], _EVENTS[2][:20]])), "truncated"),
    "http_400": (Response(sized(_JSON, "application/json", "400 Bad Request")), "http_4xx"),
    "http_404_chunked": (
        Response(
            head("content-type: application/json", CHUNKED, status="404 Not Found")
            + chunked([_JSON, b"x" * 9000])
        ),
        "http_4xx",
    ),
    "http_429": (Response(sized(_JSON, "application/json", "429 Too Many", "Retry-After: 7")), "http_429"),
    "http_500": (Response(sized(_JSON, "application/json", "500 Oh")), "http_5xx"),
    "http_503_no_body": (Response(head("content-length: 0", status="503 Service Unavailable")), "http_5xx"),
    "http_502_until_close": (
        Response(head(status="502 Bad Gateway") + b"<html>bad</html>", True),
        "http_5xx",
    ),
    "http_500_stream": (
        Response(head(STREAM, CHUNKED, status="500 Oh") + chunked([event('{"error":1}')])),
        "http_5xx",
    ),
    "redirect": (Response(head("location: /x", "content-length: 0", status="307 Moved")), "protocol"),
    "no_content": (Response(head(status="204 No Content")), "protocol"),
    "html_200": (Response(sized(b"<html>hello</html>", "text/html")), "protocol"),
    "json_200": (Response(sized(b'{"choices":[]}', "application/json")), "protocol"),
    "no_type_200": (Response(head("content-length: 2") + b"hi"), "protocol"),
    "error_event": (
        Response(stream([*_EVENTS[:3], event('{"error":{"message":"boom"}}'), event("[DONE]")])),
        "server_error",
    ),
    "invalid_json": (Response(stream([*_EVENTS[:3], event("{"), *_EVENTS[3:]])), "protocol"),
    "invalid_utf8": (
        Response(stream([_EVENTS[0], event(b'{"choices":[{"delta":{"content":"\xff"}}]}')])),
        "protocol",
    ),
    "garbage": (Response(b"SSH-2.0-OpenSSH_9.6\r\n"), "protocol"),
    "garbage_after_tokens": (Response(stream(_EVENTS[:3], end=b"zzz\r\n")), "protocol"),
    "second_response": (Response(stream(_EVENTS) + stream(_EVENTS)), "protocol"),
    "closed_at_once": (Response(b"", True), "truncated"),
    "closed_in_head": (Response(head(STREAM, CHUNKED)[:40], True), "truncated"),
    "closed_after_head": (Response(head(STREAM, CHUNKED), True), "truncated"),
    "closed_in_chunk_size": (Response(stream(_EVENTS[:3], end=b"1"), True), "truncated"),
    "closed_in_chunk": (Response(stream(_EVENTS[:3], end=b"40\r\ndata: {"), True), "truncated"),
    "closed_between_chunks": (Response(stream(_EVENTS[:3], end=b""), True), "truncated"),
    "closed_before_last_chunk": (Response(stream(_EVENTS, end=b""), True), "truncated"),
    "closed_in_content": (Response(sized(b"".join(_EVENTS), "text/event-stream")[:-30], True), "truncated"),
    "closed_in_event_http10": (
        Response(head("content-type: text/event-stream", version="1.0") + b"".join(_EVENTS)[:150], True),
        "truncated",
    ),
}
"""Name -> (response, the outcome that a request must have which gets it)."""


def whole(response: Response) -> list[bytes]:
    """Return the reads of a client that gets everything at once."""
    return [response.data] * bool(response.data) + [b""] * response.closes


def byte_by_byte(response: Response) -> list[bytes]:
    return [response.data[i : i + 1] for i in range(len(response.data))] + [b""] * response.closes


def cut(response: Response, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(response.data) + 1) for place in places} | {0, len(response.data)})
    return [response.data[low:high] for low, high in pairwise(marks)] + [b""] * response.closes
