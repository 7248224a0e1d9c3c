"""Start a simulator for a test, and talk to it over plain sockets."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 20


@dataclass(frozen=True)
class Sim:
    """A running simulator."""

    process: subprocess.Popen[str]
    port: int
    banner: dict[str, Any]


@contextmanager
def running_sim(*arguments: str) -> Iterator[Sim]:
    """Run `python -m server.sim` on a free port until the block ends."""
    command = [sys.executable, "-m", "server.sim", "--port", "0", "--exit-with-parent", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        banner = json.loads(process.stdout.readline())
        yield Sim(process, int(banner["listening"].rpartition(":")[2]), banner)
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)
        process.stdout.close()


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer, its body without chunk framing."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    port: int,
    path: str,
    body: object = None,
    *,
    method: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Ask once, on a connection of its own; a body makes it a POST."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, data, headers or {})
        response = connection.getresponse()
        headers_read = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers_read, response.read())
    finally:
        connection.close()


def chat(**fields: Any) -> dict[str, Any]:
    """Return the body of a streamed chat request."""
    return {"messages": [{"role": "user", "content": "Say hi."}], "stream": True} | fields


def post(path: str, body: dict[str, Any], script: dict[str, Any] | None = None, *headers: str) -> bytes:
    """Return the bytes of a request."""
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: sim", f"content-length: {len(data)}", *headers]
    if script is not None:
        lines.append("x-sim-script: " + json.dumps(script))
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


def exchange(port: int, request: bytes) -> bytes:
    """Send a request and return all bytes until the server closes; ConnectionResetError where it resets."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        received = bytearray()
        while piece := connection.recv(65536):
            received += piece
        return bytes(received)


def chunks_of(body: bytes) -> list[bytes]:
    """Take HTTP chunks apart; AssertionError where the body is cut off before the last one."""
    chunks = []
    while True:
        size, found, body = body.partition(b"\r\n")
        assert found, "cut off"
        if not int(size, 16):
            assert body == b"\r\n"
            return chunks
        chunks.append(body[: int(size, 16)])
        assert body[int(size, 16) :][:2] == b"\r\n"
        body = body[int(size, 16) + 2 :]


def data_of(body: bytes) -> list[str]:
    """Return the data of each event of an unframed body."""
    return [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]


def stream(port: int, body: dict[str, Any], script: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the JSON events of a streamed answer that ended as it should, without its [DONE]."""
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    headers = {} if script is None else {"x-sim-script": json.dumps(script)}
    answer = call(port, path, body, headers=headers)
    assert answer.status == 200, answer.body
    *events, done = data_of(answer.body)
    assert done == "[DONE]"
    return [json.loads(event) for event in events]
