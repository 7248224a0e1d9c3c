"""A look at the target before the load: what it serves, or one line that says why it cannot be tested."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from locustfiles import _target
from locustfiles._options import KEYS
from locustfiles._target import KeyRule, ModelError, Target, TargetError, served

MODELS = b'{"object":"list","data":[{"id":"first","owned_by":"vllm"},{"id":"second"}]}'


@contextmanager
def serving(
    body: bytes, status: int = 200, metrics: bytes | None = None
) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Serve one body at /v1/models; yields the URL, and what was asked with which key."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["authorization"]))
            found = metrics if self.path == "/metrics" else body
            self.send_response(status if found is not None else 404)
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def look(url: str, model: str = "") -> Target:
    return Target.look(url, verify=True, model=model)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_first_model_is_taken(ending: str) -> None:
    with serving(MODELS) as (url, asked):
        target = look(url + ending)
        assert (target.model, target.url, target.simulated) == ("first", url, False)
        assert asked == [("/v1/models", None)]


def test_named_model_must_be_served() -> None:
    with serving(MODELS) as (url, _):
        assert look(url, "second").model == "second"
        with pytest.raises(TargetError, match="expected the model 'third', found first, second"):
            look(url, "third")


def test_of_many_models_the_nearest_is_named_first_and_few_are() -> None:
    names = [f"org/model-{number}" for number in range(20)] + ["Qwen/Qwen3-8B"]
    body = json.dumps({"data": [{"id": name} for name in names]}).encode()
    with serving(body) as (url, _):
        assert served(url, verify=True) == names
        with pytest.raises(
            ModelError, match="expected the model 'Qwen3-8B', found Qwen/Qwen3-8B, org"
        ) as caught:
            look(url, "Qwen3-8B")
    assert str(caught.value).endswith(" and 13 more")


def test_a_list_of_models_is_needed_to_list_them() -> None:
    with serving(b"no", status=404) as (url, _), pytest.raises(TargetError, match=r"found HTTP 404$"):
        served(url, verify=True)
    with pytest.raises(TargetError, match="--host: found 'ftp://h', expected http"):
        served("ftp://h", verify=True)


def test_simulator_is_known_by_its_owner() -> None:
    with serving(b'{"data":[{"id":"m","owned_by":"tokenswarm-sim"}]}') as (url, _):
        assert look(url).simulated


def test_server_without_a_list_needs_a_model() -> None:
    with serving(b"no", status=404) as (url, _):
        assert look(url, "mine").model == "mine"
        with pytest.raises(
            TargetError, match="found HTTP 404; if the server has none, name one with --model"
        ):
            look(url)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"data":null}',
        b'{"data":["m"]}',
        b'{"data":{"id":"m"}}',
        b'{"data":[7]}',
        b"\xff",
    ],
)
def test_list_that_is_none(body: bytes) -> None:
    with (
        serving(body) as (url, _),
        pytest.raises(TargetError, match="/v1/models: expected a list of models, found") as caught,
    ):
        look(url)
    assert str(caught.value).isprintable()


def test_empty_list() -> None:
    with serving(b'{"data":[]}') as (url, _):
        with pytest.raises(TargetError, match="/v1/models: expected a list of models, found"):
            look(url)
        assert look(url, "mine").model == "mine"


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:80", "ftp://x", "http://", "http://:80", "http://h:port", "http://h:99999"]
)
def test_host_that_is_no_url(url: str) -> None:
    with pytest.raises(TargetError, match=r"--host: found .* expected http://HOST"):
        look(url)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".invalid", "."])
def test_unknown_host(host: str) -> None:
    with pytest.raises(TargetError, match="cannot be reached") as caught:
        look(f"http://{host}")
    assert str(caught.value).isprintable()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TargetError, match=r"cannot be reached .*refused"):
        look(f"http://127.0.0.1:{port}")


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_target, "LOOK_S", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(TargetError, match=r"no answer within 0\.2 s"),
    ):
        look(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_key_is_sent_and_credentials_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENSWARM_API_KEY", "sk-test")
    with serving(MODELS) as (url, asked):
        target = look(url.replace("http://", "http://user:secret@"))
        assert target.url == url
        assert asked == [("/v1/models", "Bearer sk-test")]


@pytest.mark.parametrize("metrics", [None, b"", b"python_info 1\n", b"\xff\xfe{"])
def test_server_without_metrics_leaves_no_log(metrics: bytes | None, tmp_path: object) -> None:
    with serving(MODELS, metrics=metrics) as (url, _):
        target = look(url)
        target.open_log(tmp_path)  # type: ignore[arg-type]
        assert target.finish() is None
        assert not list(tmp_path.iterdir())  # type: ignore[attr-defined]


START = ["http://127.0.0.1:8000/v1", "https://llm.example", "nonsense", "http://[", ""]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "http://user:word@127.0.0.1:8000/",
        "https://LLM.example:443/v1",
        "no server at all",  # what it is instead is said by whoever asks it
    ],
)
def test_key_goes_to_a_server_that_was_named_at_the_start(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENSWARM_API_KEY", "sk-1")
    KeyRule(START).check(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example:8000",
        "http://127.0.0.1:8001",
        "http://127.0.0.1",
        "http://llm.example",  # in plain text
        "https://llm.example@evil.example",
        "https://evil.example\\@llm.example.evil.example",
        "https://llm.example.evil.example",
        "http://[::1]:8000",
    ],
)
def test_key_goes_nowhere_else(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    KeyRule(START).check(url)  # without one anything may be loaded
    monkeypatch.setenv("VLLM_API_KEY", "sk-secret")
    with pytest.raises(TargetError, match="a page must not send it elsewhere") as caught:
        KeyRule(START).check(url)
    assert "sk-secret" not in str(caught.value)
