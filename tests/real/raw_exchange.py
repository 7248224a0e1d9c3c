"""One HTTP exchange over a plain socket, byte for byte: no library touches headers or chunks."""

import json
import re
import socket
from typing import Any


def exchange(port: int, path: str, body: object = None, *, limit_s: float = 60) -> bytes:
    """Return everything that came back: status line, headers and body as it was framed."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=limit_s) as connection:
        connection.sendall(head.encode() + b"\r\n" + data)
        raw = b""
        while not _complete(raw):
            piece = connection.recv(65536)
            if not piece:
                raise ConnectionError(f"closed after {len(raw)} bytes of an unfinished response")
            raw += piece
    return raw


def _complete(raw: bytes) -> bool:
    head, blank, body = raw.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    if not blank:
        return False
    return len(body) == int(length[1]) if length else body.endswith(b"\r\n0\r\n\r\n")


def status(raw: bytes) -> int:
    """Return the status of a response."""
    return int(raw.split(b" ", 2)[1])


def body_chunks(raw: bytes) -> list[bytes]:
    """Return the HTTP chunks of a chunked response, without their framing."""
    rest, chunks = raw.partition(b"\r\n\r\n")[2], []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return chunks[:-1]  # the last one is the empty one that ends the body


def events(raw: bytes) -> list[dict[str, Any]]:
    """Return the JSON of every SSE event of a finished stream; raises ValueError where [DONE] is missing."""
    *data, done, end = b"".join(body_chunks(raw)).split(b"\n\n")
    if (done, end) != (b"data: [DONE]", b""):
        raise ValueError(f"found {done!r} at the end of the stream, expected [DONE]")
    return [json.loads(event.removeprefix(b"data: ")) for event in data]


def token_choices(stream: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the choices that stand for a token: all but those that only announce a role."""
    choices = [choice for event in stream for choice in event["choices"]]
    return [choice for choice in choices if "role" not in choice.get("delta", ())]
