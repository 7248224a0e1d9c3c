"""A server between two runs: it cools down, its prefix cache is emptied, or it is started anew."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tokenswarm import cooling, experiment, measuring
from tokenswarm.measuring import Up
from tokenswarm.pace import Pace


class Engine(ThreadingHTTPServer):
    """Answers as told, and keeps what it was asked."""

    answer: tuple[int, object] = (200, {})
    left: tuple[list[int], int] = ([], 200)  # how many requests are still there, look by look; status

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

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        looks, status = self.server.left
        left = looks.pop(0) if looks else 0
        self.send_response(status)
        self.end_headers()
        page = f"vllm:num_requests_running {min(left, 2)}\nvllm:num_requests_waiting {max(0, left - 2)}\n"
        self.wfile.write(page.encode())

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


def wait(engine: Engine, said: list[str], longest_s: float = 20) -> cooling.Rest:
    return cooling.wait(f"http://127.0.0.1:{engine.server_port}/v1", said.append, longest_s=longest_s)


def test_a_server_cools_down_until_nothing_runs_or_waits(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooling, "LOOK_S", 0.01)
    engine.left = [5, 2, 0], 200
    said: list[str] = []
    rest = wait(engine, said)
    assert (rest.found, rest.running, rest.waiting, rest.warning) == ("idle", 0, 0, "")
    assert engine.asked == ["/metrics"] * 3
    assert said == [
        f"cooling down: {found} waiting at the server" for found in ("2 running, 3", "2 running, 0")
    ]


def test_one_that_does_not_cool_down_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooling, "LOOK_S", 0.01)
    engine.left = [3] * 1000, 200
    rest = wait(engine, [], longest_s=0.2)
    assert rest.found == "busy"
    assert "still had 2 running and 1 waiting" in rest.warning
    assert rest.to_json()["waiting"] == 1


def test_one_that_does_not_say_gets_a_pause(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooling, "PAUSE_S", 0.01)
    engine.left = [], 404
    said: list[str] = []
    assert wait(engine, said).found == "unknown"
    assert said == ["cooling down for 0.01 s (no /metrics say what is left at the server)"]


def ready(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str) -> tuple[Up, Up]:
    """Return which server a second run of the same start meets, and the one before it."""
    monkeypatch.setattr(cooling, "LONGEST_S", 0.0)
    (tmp_path / "experiment.yaml").write_text("servers: [{sim: baseline}]")
    plan = experiment.read(tmp_path / "experiment.yaml")
    begun: list[Up] = []

    @contextmanager
    def serving(*_: object) -> Iterator[Up]:
        facts = up(engine, "sim").facts if server == "ours" else None
        begun.append(Up("baseline", f"http://127.0.0.1:{engine.server_port}", "m", facts, start=1))
        yield begun[-1]

    monkeypatch.setattr(measuring, "_serving", serving)
    run = next(experiment.schedule(plan))
    with measuring.Bench(plan, tmp_path, Pace(lambda _: None)) as bench:
        first, _ = bench._ready(run, tmp_path)
        second, _ = bench._ready(run, tmp_path)
    return first, second


@pytest.mark.parametrize(
    ("server", "left", "again"), [("ours", 0, False), ("ours", 3, True), ("a url", 3, False)]
)
def test_a_server_of_ours_that_stays_busy_is_started_anew(  # noqa: PLR0913 - fixtures and cases
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str, left: int, *, again: bool
) -> None:
    engine.left = [0, left, 0], 200
    first, second = ready(engine, monkeypatch, tmp_path, server)
    assert (first is not second) is again
