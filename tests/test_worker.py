"""One process's load: which way it goes, and that every request is accounted for however it ends."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent.socket
import pytest

from analysis.record import RequestRecord
from locustfiles import _wire
from locustfiles._ledger import Ledger
from locustfiles._merge import Merge
from locustfiles._options import Settings
from locustfiles._portable import PortableTransport
from locustfiles._wire import WireTransport, wall_offset_ns
from locustfiles._worker import Load, choose_transport
from locustfiles._workload import WorkloadError
from tests.responses import CHUNKED, STREAM, chunked, delta, event, head
from tests.sim_server import running_sim
from tests.test_options import options

SECOND_NS = 10**9


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def settings(*arguments: str) -> Settings:
    return Settings.read(options("--model", "sim", *arguments))


@contextmanager
def load(target: str, *arguments: str) -> Iterator[tuple[Load, list[RequestRecord]]]:
    heard: list[RequestRecord] = []
    made = Load(settings(*arguments), target, Ledger("run", "w"), 0, heard.append)
    yield made, heard
    made.close()


@pytest.mark.parametrize(
    ("target", "asked", "chosen"),
    [
        ("http://host", "auto", "wire"),
        ("http://host:8000/v1", "auto", "wire"),
        ("http://[::1]:8000", "auto", "wire"),
        ("https://host", "auto", "portable"),
        ("http://host", "portable", "portable"),
        ("http://host", "wire", "wire"),
    ],
)
def test_transport(target: str, asked: str, chosen: str) -> None:
    assert choose_transport(target, settings("--transport", asked)) == chosen
    with load(target, "--transport", asked) as (made, _):
        assert isinstance(made.transport, WireTransport if chosen == "wire" else PortableTransport)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_proxy_is_not_gone_around(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://proxy:3128")
    assert choose_transport("http://host", settings()) == "portable"
    assert choose_transport("http://host", settings("--transport", "wire")) == "wire"


@pytest.mark.parametrize(
    "target", ["", "host", "ftp://host", "http://", "http://host:x", "http://host:99999"]
)
def test_target_that_is_no_url(target: str) -> None:
    with pytest.raises(WorkloadError, match="--host: found"):
        choose_transport(target, settings())


def test_wire_cannot_go_to_https() -> None:
    with pytest.raises(WorkloadError, match="--transport: found wire for an https host"):
        choose_transport("https://host", settings("--transport", "wire"))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://host", "/v1/chat/completions"),
        ("http://host/", "/v1/chat/completions"),
        ("http://host/v1", "/v1/chat/completions"),
        ("http://host/v1/", "/v1/chat/completions"),
        ("http://host/team/llm/v1", "/team/llm/v1/chat/completions"),
        ("http://user:secret@host:81/team", "/team/v1/chat/completions"),
    ],
)
def test_path_and_address(monkeypatch: pytest.MonkeyPatch, target: str, path: str) -> None:
    asked: list[Any] = []
    with load(target) as (made, _):
        monkeypatch.setattr(WireTransport, "exchange", lambda _self, call: asked.append(call.request) or "ok")
        made.request(0)
        assert asked[0].path == path
        rendered = made.transport._render(asked[0])
        assert b"secret" not in rendered
        assert rendered.startswith(f"POST {path} HTTP/1.1\r\nhost: host".encode())


@pytest.mark.parametrize("transport", ["wire", "portable"])
def test_request_is_accounted_for(transport: str) -> None:
    with running_sim("--script", '{"tokens": 4, "itl_ms": 5}') as sim:
        target = f"http://127.0.0.1:{sim.port}"
        with load(target, "--transport", transport, "--scenario", "named") as (made, heard):
            assert made.request(time.perf_counter_ns()) == "ok"
            report = made.ledger.report(final=True)
    (record,) = heard
    assert report["records"] == [list(record)]
    assert (record.scenario, record.chunks, record.gaps, record.request) == ("named", 4, 3, 0)
    assert 0 < record.connect_ns <= (record.sent_ns or 0)
    assert report["totals"] == [1, 1, 3, record.gap_sum_ns]
    json.dumps(report)


@pytest.mark.parametrize("step_s", [-30, -0.03, 0.03, 30])
def test_clock_that_is_set_in_mid_request_is_told_and_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """The kernel's stamps are of the clock that was set; the offset was taken before."""
    true_ns, readings = wall_offset_ns, []

    def stale_once() -> int:
        readings.append(true_ns() - (0 if readings else int(step_s * SECOND_NS)))
        return readings[-1]

    monkeypatch.setattr(_wire, "wall_offset_ns", stale_once)
    with (
        running_sim("--script", '{"tokens": 4, "itl_ms": 5}') as sim,
        load(f"http://127.0.0.1:{sim.port}", "--transport", "wire") as (made, heard),
    ):
        assert made.request(time.perf_counter_ns()) == "ok"
        report = made.ledger.report(final=True)
    (record,) = heard
    assert abs(record.clock_jump_ns - step_s * SECOND_NS) < 0.01 * SECOND_NS
    times = (
        record.sent_ns,
        record.first_ns,
        record.last_ns,
        record.gap_sum_ns,
        record.lag_max_ns,
        record.end_ns,
    )
    assert all(value is not None and value >= 0 for value in times)
    assert record.chunks == 4
    merge = Merge("run")
    assert merge.take(report) == [record]
    assert merge.clock_jumps == 1


def test_nothing_is_answered_before_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may be held up right after its send, and read the clock when the answer is there."""
    send = gevent.socket.socket.sendall

    def send_and_be_held_up(*arguments: Any) -> None:
        send(*arguments)
        time.sleep(0.05)

    monkeypatch.setattr(gevent.socket.socket, "sendall", send_and_be_held_up)
    with (
        running_sim("--script", '{"tokens": 2, "ttft_ms": 1}') as sim,
        load(f"http://127.0.0.1:{sim.port}", "--transport", "wire") as (made, heard),
    ):
        assert made.request(time.perf_counter_ns()) == "ok"
    (record,) = heard
    assert record.sent_ns is not None
    assert record.first_ns is not None
    assert record.sent_ns <= record.first_ns < 0.04 * SECOND_NS
    assert record.lag_max_ns > 0.01 * SECOND_NS


@contextmanager
def raw_server(*pieces: bytes, pause_s: float = 0.002) -> Iterator[int]:
    """Answer the first request with these bytes, one write each, and then say nothing more."""
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def serve() -> None:
        peer, _ = listener.accept()
        peer.recv(65536)
        for piece in pieces:
            peer.sendall(piece)
            gevent.sleep(pause_s)
        gevent.sleep(60)

    greenlet = gevent.spawn(serve)
    try:
        yield listener.getsockname()[1]
    finally:
        greenlet.kill()
        listener.close()


def test_error_event_ends_a_stream_whose_server_hangs_after_it() -> None:
    events = [*[event(delta("x"))] * 100, event({"error": {"message": "out of blocks"}})]
    pieces = [chunked([made], end=b"") for made in events]
    with (
        raw_server(head(STREAM, CHUNKED), *pieces) as port,
        load(f"http://127.0.0.1:{port}", "--transport", "wire") as (made, heard),
    ):
        began_ns = time.perf_counter_ns()
        assert made.request(began_ns) == "server_error"
    (record,) = heard
    assert record.end_ns < 2 * SECOND_NS
    assert (record.chunks, record.gaps) == (100, 99)
    assert record.reads <= 101 - record.coalesced
    assert record.detail == 'the stream carried an error: {"message":"out of blocks"}'
    assert record.clock == "kernel"
    assert record.gap_sum_ns / record.gaps > 0.0019 * SECOND_NS


def test_a_deadline_counts_from_the_last_token_that_was_read() -> None:
    tokens = [chunked([event(delta("x"))], end=b"")] * 5
    with (
        raw_server(head(STREAM, CHUNKED), *tokens, pause_s=0.1) as port,
        load(f"http://127.0.0.1:{port}", "--transport", "wire", "--stall-timeout", "0.3") as (made, heard),
    ):
        assert made.request(time.perf_counter_ns()) == "stall_timeout"
    (record,) = heard
    assert record.chunks == 5
    assert record.last_ns is not None
    assert 0.3 * SECOND_NS <= record.end_ns - record.last_ns < 0.4 * SECOND_NS
