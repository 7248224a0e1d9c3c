"""A server between two runs: its prefix cache is emptied, or it is started anew."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tokenswarm import measuring
from tokenswarm.measuring import Up


class Engine(ThreadingHTTPServer):
    """Answers as told, and keeps what it was asked."""

    answer: tuple[int, object] = (200, {})

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Engine

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        status, body = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_said: object) -> None:
        """Say nothing."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def up(server: Engine, engine: str) -> Up:
    return Up("a", f"http://127.0.0.1:{server.server_port}", "m", {"profile": {"engine": engine}})


@pytest.mark.parametrize(
    ("answer", "fresh"),
    [
        ((200, {}), True),
        ((200, {"success": True}), True),
        ((200, {"success": False}), False),  # vLLM, while a request still holds blocks
        ((200, []), False),
        ((404, {}), False),
        ((500, {}), False),
    ],
)
def test_a_cache_that_was_not_emptied_is_no_fresh_server(
    engine: Engine, answer: tuple[int, object], *, fresh: bool
) -> None:
    engine.answer = answer
    assert measuring._is_fresh(up(engine, "vllm")) is fresh
    assert engine.asked == ["/reset_prefix_cache"]


def test_what_is_not_ours_is_left_alone(engine: Engine) -> None:
    assert measuring._is_fresh(up(engine, "sim"))
    assert measuring._is_fresh(up(engine, "vllm")._replace(facts=None))
    assert engine.asked == []


def test_one_that_is_gone_is_not_fresh(engine: Engine) -> None:
    gone = up(engine, "vllm")._replace(url="http://127.0.0.1:9")
    assert not measuring._is_fresh(gone)
