"""Every field of a script, by its effect on the wire."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from server.sim import script
from tests.sim_server import (
    TIMEOUT_S,
    Sim,
    call,
    chat,
    chunks_of,
    data_of,
    exchange,
    post,
    running_sim,
    stream,
)

CHAT = "/v1/chat/completions"
FAST = {"ttft_ms": 0, "itl_ms": 0}


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with running_sim("--model", "m") as running:
        yield running


def play(sim: Sim, *headers: str, **fields: Any) -> tuple[bytes, bytes]:
    """Play a script in a chat of at most 5 tokens; returns head and body as they came."""
    request = post(CHAT, chat(max_tokens=5), FAST | fields, "connection: close", *headers)
    head, _, body = exchange(sim.port, request).partition(b"\r\n\r\n")
    return head, body


def deltas(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["choices"][0]["delta"] for event in events if event["choices"]]


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [delta["content"] for delta in deltas(events) if "role" not in delta and "content" in delta]


def reads(sim: Sim, body: dict[str, Any], **fields: Any) -> list[tuple[float, bytes]]:
    """Return what each recv() brought, and when, in ms from sending; the head is read first and left out."""
    with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
        start = time.perf_counter()
        connection.sendall(post(CHAT, body, fields, "connection: close"))
        arrived, seen = [], b""
        while piece := connection.recv(65536):
            at_ms = (time.perf_counter() - start) * 1e3
            if b"\r\n\r\n" not in seen:
                seen += piece
                piece = seen.partition(b"\r\n\r\n")[2]
            if piece:
                arrived.append((at_ms, piece))
        return arrived


def arrives(sim: Sim, dues_ms: list[float], **fields: Any) -> None:
    """Never early, and on time in one of a few tries: a busy machine delays tests, too."""
    for _ in range(8):
        arrived_ms = [
            at for at, data in reads(sim, chat(max_tokens=len(dues_ms)), **fields) if b"token_ids" in data
        ]
        if len(arrived_ms) < len(dues_ms):  # two of them came together
            continue
        late_ms = [at - due for at, due in zip(arrived_ms, dues_ms, strict=True)]
        assert min(late_ms) >= 0
        if max(late_ms) < 5:
            return
    pytest.fail(f"late every time, last at {arrived_ms} ms")


@pytest.mark.alone
def test_ttft_and_itl(sim: Sim) -> None:
    arrives(sim, [80, 110, 140, 170], ttft_ms=80, itl_ms=30)


@pytest.mark.alone
def test_itl_as_a_list_is_repeated(sim: Sim) -> None:
    arrives(sim, [20, 40, 100, 120, 180], ttft_ms=20, itl_ms=[20, 60])


def test_tokens_overrides_max_tokens_and_counts_in_usage(sim: Sim) -> None:
    events = stream(
        sim.port, chat(max_tokens=5, stream_options={"include_usage": True}), FAST | {"tokens": 9}
    )
    assert len(texts(events)) == 9
    assert events[-1]["usage"]["completion_tokens"] == 9


def test_no_tokens_at_all_is_an_empty_answer(sim: Sim) -> None:
    events = stream(sim.port, chat(stream_options={"include_usage": True}), FAST | {"tokens": 0})
    assert deltas(events) == [{"role": "assistant", "content": ""}]
    assert events[-1]["usage"]["completion_tokens"] == 0


def test_tokens_per_chunk(sim: Sim) -> None:
    events = stream(
        sim.port, chat(max_tokens=5), FAST | {"tokens_per_chunk": 2, "token_text": ["a", "b", "c"]}
    )
    assert texts(events) == ["ab", "ca", "b"]


def test_events_per_write_come_in_one_read_and_stay_chunks_of_their_own(sim: Sim) -> None:
    arrived = reads(sim, chat(max_tokens=6), ttft_ms=20, itl_ms=40, events_per_write=3, role_chunk=False)
    counts = [data.count(b"data: {") for _, data in arrived]
    assert [count for count in counts if count] == [3, 3]
    assert len(chunks_of(b"".join(data for _, data in arrived))) == 7


def test_role_chunk_comes_with_the_first_token_or_earlier_or_not(sim: Sim) -> None:
    together = reads(sim, chat(max_tokens=1), ttft_ms=60)
    assert b'"role"' in together[0][1]
    assert together[0][0] >= 60
    early = reads(sim, chat(max_tokens=1), ttft_ms=300, role_chunk_early_ms=260)
    assert early[0][1].count(b"data: ") == 1
    assert b'"role"' in early[0][1]
    assert 40 <= early[0][0] < 300
    _, body = play(sim, role_chunk=False)
    assert b'"role"' not in body


def test_usage(sim: Sim) -> None:
    asks = chat(max_tokens=3, stream_options={"include_usage": True})
    silent = chat(max_tokens=3)
    assert not any("usage" in event for event in stream(sim.port, asks, FAST | {"usage": "none"}))
    at_end = stream(sim.port, silent, FAST | {"usage": "end"})
    assert ["usage" in event for event in at_end] == [False] * 4 + [True]
    every = stream(sim.port, silent, FAST | {"usage": "every"})
    assert [event["usage"]["completion_tokens"] for event in every] == [0, 1, 2, 3, 3]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning(sim: Sim, name: str) -> None:
    events = stream(sim.port, chat(max_tokens=4), FAST | {"reasoning": 2, "reasoning_field": name})
    assert [next(iter(delta)) for delta in deltas(events)[1:]] == [name, name, "content", "content"]


def test_empty_deltas_are_still_tokens(sim: Sim) -> None:
    fields = FAST | {"empty_deltas": [1, 3], "token_text": ["a"], "usage": "end"}
    events = stream(sim.port, chat(max_tokens=5), fields)
    assert texts(events) == ["a", "", "a", "", "a"]
    assert events[-1]["usage"]["completion_tokens"] == 5


def test_token_text_with_accents_quotes_and_breaks(sim: Sim) -> None:
    words = ["é", '"', "\n", "日本", "\\", "🚀"]
    events = stream(sim.port, chat(max_tokens=6), FAST | {"token_text": words})
    assert texts(events) == words
    whole = call(sim.port, CHAT, chat(max_tokens=6, stream=False), headers=header(token_text=words))
    assert whole.json["choices"][0]["message"]["content"] == "".join(words)


def header(**fields: Any) -> dict[str, str]:
    return {script.HEADER: json.dumps(FAST | fields)}


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_finish_reason(sim: Sim, reason: str) -> None:
    events = stream(sim.port, chat(max_tokens=2), FAST | {"finish_reason": reason})
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, reason]


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_status(sim: Sim, status: int) -> None:
    answer = call(sim.port, CHAT, chat(), headers=header(status=status, retry_after_s=7))
    assert answer.status == status
    assert answer.json["error"]["code"] == status
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)


def test_slow_headers(sim: Sim) -> None:
    with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
        start = time.perf_counter()
        connection.sendall(post(CHAT, chat(max_tokens=1), {"ttft_ms": 0, "slow_headers_ms": 120}))
        assert connection.recv(1)
        assert (time.perf_counter() - start) * 1e3 >= 120


def test_html(sim: Sim) -> None:
    answer = call(sim.port, CHAT, chat(), headers=header(html=True))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.body.startswith(b"<!doctype html>")


def test_json_instead_of_a_stream(sim: Sim) -> None:
    answer = call(sim.port, CHAT, chat(max_tokens=3), headers=header(json_not_stream=True))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["object"] == "chat.completion"
    assert answer.json["usage"]["completion_tokens"] == 3


def test_crlf(sim: Sim) -> None:
    _, body = play(sim, crlf=True, comments_every_ms=1, itl_ms=2)
    events = chunks_of(body)
    assert all(event.endswith(b"\r\n\r\n") and event.count(b"\n") == 2 for event in events)
    _, body = play(sim)
    assert not any(b"\r" in event for event in chunks_of(body))


def test_comments(sim: Sim) -> None:
    _, body = play(sim, ttft_ms=100, comments_every_ms=30, comment="keep-alive")
    events = chunks_of(body)
    assert events[:4] == [b": keep-alive\n\n"] * 4  # at 0, 30, 60 and 90 ms
    assert b"role" in events[4]


@pytest.mark.alone
def test_stall(sim: Sim) -> None:
    arrives(sim, [0, 10, 120, 130, 140], ttft_ms=0, itl_ms=10, stall_at=2, stall_ms=100)


def test_truncate_ends_the_connection_without_a_terminator(sim: Sim) -> None:
    _, body = play(sim, truncate_at=2, role_chunk=False)
    assert body.count(b"data: ") == 2
    assert not body.endswith(b"0\r\n\r\n")
    with pytest.raises(AssertionError, match="cut off"):
        chunks_of(body)
    _, body = play(sim, truncate_at=0)
    assert body == b""
    _, body = play(sim, truncate_at=5, role_chunk=False)  # all tokens, but neither [DONE] nor an end
    assert body.count(b"data: ") == 5
    assert b"DONE" not in body


def test_truncate_in_the_middle_of_a_write_of_several_events(sim: Sim) -> None:
    _, body = play(sim, truncate_at=2, events_per_write=4, role_chunk=False)
    assert body.count(b"data: ") == 2


def test_reset(sim: Sim) -> None:
    with pytest.raises(ConnectionResetError):
        play(sim, reset_at=2, itl_ms=20)


def test_end_without_done(sim: Sim) -> None:
    _, body = play(sim, end_without_done=True)
    events = chunks_of(body)
    assert b"DONE" not in body
    assert b'"finish_reason":"length"' in events[-1]


def test_error_event(sim: Sim) -> None:
    _, body = play(sim, error_event_at=3)
    *tokens, last = [json.loads(data) for data in data_of(b"".join(chunks_of(body)))]
    assert len(tokens) == 4
    assert last["error"]["code"] == 500


def test_invalid_json(sim: Sim) -> None:
    _, body = play(sim, invalid_json_at=2)
    events = data_of(b"".join(chunks_of(body)))
    with pytest.raises(json.JSONDecodeError):
        json.loads(events[3])  # role, two tokens, then this
    assert len(events) == 1 + 5 + 1 + 1
    assert events[-1] == "[DONE]"


def test_endless(sim: Sim) -> None:
    with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(post(CHAT, chat(max_tokens=5), {"ttft_ms": 0, "itl_ms": 1, "endless": True}))
        received = b""
        while received.count(b'"finish_reason":null') < 50:
            received += connection.recv(65536)
    assert b"DONE" not in received
    assert b'"length"' not in received


@pytest.mark.parametrize("size", [1000, 100_000, 20_000_000])
def test_long_line(sim: Sim, size: int) -> None:
    _, body = play(sim, long_line_bytes=size, role_chunk=False)
    chunks = chunks_of(body)
    assert len(chunks) == 6
    assert len(chunks[0].rstrip(b"\n")) == size
    assert set(json.loads(chunks[0][6:])["choices"][0]["delta"]["content"]) == {"x"}


def test_a_long_line_is_never_held_in_memory(sim: Sim) -> None:
    with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(post(CHAT, chat(), FAST | {"long_line_bytes": 4_000_000_000}))
        time.sleep(0.5)  # nobody reads
        status = (f"/proc/{sim.process.pid}/status",)
        with open(*status, encoding="ascii") as file:  # noqa: PTH123
            resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    assert resident < 200_000  # kB


def test_split_bytes(sim: Sim) -> None:
    whole = chunks_of(play(sim)[1])
    pieces = chunks_of(play(sim, split_bytes=7)[1])
    assert len(whole) == len(pieces)
    arrived = reads(sim, chat(max_tokens=1), ttft_ms=20, itl_ms=0, split_bytes=100)
    assert len(arrived) > 1 or len(arrived[0][1]) < 2000  # the kernel may join what it was given in pieces


def test_close_connection(sim: Sim) -> None:
    request = post(
        CHAT, chat(max_tokens=1), FAST | {"close_connection": True}
    )  # the client did not ask for it
    head, _, body = exchange(sim.port, request).partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert len(chunks_of(body)) == 3


def test_http10_body_ends_with_the_connection(sim: Sim) -> None:
    head, body = play(sim, http10=True)
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


def test_choices_are_interleaved(sim: Sim) -> None:
    events = stream(sim.port, chat(max_tokens=2, n=3), FAST | {"usage": "end"})
    assert [event["choices"][0]["index"] for event in events[:-1]] == [0, 1, 2] * 3
    assert events[-1]["usage"]["completion_tokens"] == 6


def test_completions_can_be_scripted_too(sim: Sim) -> None:
    events = stream(
        sim.port, {"prompt": "a", "stream": True, "max_tokens": 3}, FAST | {"token_text": ["x", "y"]}
    )
    assert [event["choices"][0]["text"] for event in events] == ["x", "y", "x"]


def test_a_list_of_scripts_is_gone_through_and_begun_again() -> None:
    scripts = [FAST | {"tokens": 1}, FAST | {"tokens": 2}, {"status": 503}]
    with running_sim("--script", json.dumps(scripts)) as sim:
        counts = []
        for _ in range(6):
            answer = call(sim.port, CHAT, chat(max_tokens=9))
            counts.append(answer.body.count(b'"token_ids":null') if answer.status == 200 else answer.status)
        overridden = stream(sim.port, chat(), FAST | {"tokens": 4})
    assert counts == [1, 2, 503, 1, 2, 503]
    assert len(texts(overridden)) == 4


def test_a_stream_that_is_not_read_is_held_up_and_loses_nothing(sim: Sim) -> None:
    body = chat(max_tokens=8000)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(TIMEOUT_S)
        connection.connect(("127.0.0.1", sim.port))
        connection.sendall(post(CHAT, body, FAST, "connection: close"))
        time.sleep(0.5)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert len(chunks_of(received.partition(b"\r\n\r\n")[2])) == 8002


def test_an_unknown_field_in_the_header_is_a_400_that_names_the_nearest(sim: Sim) -> None:
    answer = call(sim.port, CHAT, chat(), headers={script.HEADER: '{"token": 3}'})
    assert answer.status == 400
    assert "the nearest is 'tokens'" in answer.json["error"]["message"]
    assert call(sim.port, CHAT, chat(), headers={script.HEADER: "{"}).status == 400
