"""The simulator's HTTP, and how far its answers have the shape of real ones."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from server.sim import VERSION
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
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with running_sim("--model", "m", "--profile", "awq") as running:
        yield running


# Shapes, held against recordings of vLLM 0.32.0


def golden(name: str) -> tuple[bytes, bytes]:
    head, _, body = (GOLDEN / f"vllm-0.32-{name}.http").read_bytes().partition(b"\r\n\r\n")
    return head, body


def shape(value: object) -> object:
    """Keys and kinds, without what varies."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def kinds(body: bytes) -> list[object]:
    """Return the distinct shapes of a stream's events in order, [DONE] last."""
    events = [shape(json.loads(data)) if data != "[DONE]" else data for data in data_of(body)]
    return [event for at, event in enumerate(events) if event not in events[:at]]


USAGE = {"include_usage": True}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("chat-length", {"max_tokens": 4, "ignore_eos": True, "stream_options": USAGE}),
        ("chat-stop", {"max_tokens": 5000, "stream_options": USAGE}),
        ("chat-no-usage", {"max_tokens": 4}),
        ("chat-n3", {"max_tokens": 4, "n": 3, "stream_options": USAGE}),
        (
            "chat-continuous-usage",
            {"max_tokens": 4, "stream_options": USAGE | {"continuous_usage_stats": True}},
        ),
        ("chat-token-ids", {"max_tokens": 4, "stream_options": USAGE, "return_token_ids": True}),
        ("completions", {"prompt": "Once upon a time", "max_tokens": 4, "stream_options": USAGE}),
    ],
)
def test_a_stream_has_the_shape_that_real_vllm_gave_it(sim: Sim, name: str, body: dict[str, Any]) -> None:
    path = "/v1/completions" if "prompt" in body else CHAT
    asked = body | {"stream": True} if "prompt" in body else chat(**body)
    _, received = exchange(sim.port, post(path, asked, None, "connection: close")).split(b"\r\n\r\n", 1)
    recorded = chunks_of(golden(name)[1])
    answered = chunks_of(received)
    assert kinds(b"".join(answered)) == kinds(b"".join(recorded))
    assert all(chunk.count(b"data: ") == 1 and chunk.endswith(b"\n\n") for chunk in (*answered, *recorded))


def test_the_golden_bytes_but_for_names_and_texts(sim: Sim) -> None:
    """One token chunk, byte for byte, once id, time, model and text are taken out."""

    def bare(chunk: bytes) -> bytes:
        event = json.loads(chunk[6:])
        choice = event["choices"][0]
        text = choice["delta"]["content"] if "delta" in choice else choice["text"]
        for value in (event["id"], event["created"], event["model"], text):
            chunk = chunk.replace(b":" + json.dumps(value, ensure_ascii=False).encode(), b":*", 1)
        return chunk

    for name, path, asked in (
        ("chat-length", CHAT, chat(max_tokens=30, ignore_eos=True)),
        ("completions", "/v1/completions", {"prompt": "a", "stream": True}),
    ):
        _, received = exchange(sim.port, post(path, asked, None, "connection: close")).split(b"\r\n\r\n", 1)
        assert bare(chunks_of(received)[2]) == bare(chunks_of(golden(name)[1])[2])


@pytest.mark.parametrize("name", ["error-404", "error-400"])
def test_an_error_has_the_shape_that_real_vllm_gave_it(sim: Sim, name: str) -> None:
    body = chat(model="unknown") if name == "error-404" else chat(max_tokens=50_000)
    answer = call(sim.port, CHAT, body)
    head, recorded = golden(name)
    assert str(answer.status) == head.split()[1].decode()
    theirs = json.loads(recorded)["error"]
    assert {**answer.json["error"], "message": ""} == {**theirs, "message": ""}


def test_an_answer_that_is_not_streamed(sim: Sim) -> None:
    answer = call(sim.port, CHAT, chat(stream=False, max_tokens=5, n=2, ignore_eos=True)).json
    recorded = json.loads(golden("chat-unstreamed")[1])
    assert set(answer) <= set(recorded)
    assert set(answer["choices"][0]) <= set(recorded["choices"][0])
    assert set(answer["choices"][0]["message"]) <= set(recorded["choices"][0]["message"])
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["usage"]["completion_tokens"] == 10
    plain = call(sim.port, "/v1/completions", {"prompt": "hi", "max_tokens": 5}).json
    assert plain["object"] == "text_completion"
    assert plain["choices"][0]["finish_reason"] == "length"


# What a token is


def test_a_natural_end_is_a_counted_token_without_text(sim: Sim) -> None:
    *events, usage = stream(sim.port, chat(max_tokens=5000, stream_options=USAGE))
    last = events[-1]["choices"][0]
    assert last["delta"] == {"content": ""}
    assert last["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] == len(events) - 1  # but for the role chunk


def test_some_tokens_have_no_text_of_their_own(sim: Sim) -> None:
    *events, usage = stream(sim.port, chat(max_tokens=400, ignore_eos=True, stream_options=USAGE))
    texts = [event["choices"][0]["delta"]["content"] for event in events[1:]]
    assert len(texts) == 400 == usage["usage"]["completion_tokens"]
    assert texts[0] != ""
    assert texts.count("") == 8


def test_n_choices_are_interleaved_and_each_ends(sim: Sim) -> None:
    events = stream(sim.port, chat(max_tokens=6, n=3, ignore_eos=True))
    indexes = [event["choices"][0]["index"] for event in events]
    assert indexes == [0, 1, 2] * 7
    reasons = [event["choices"][0]["finish_reason"] for event in events]
    assert reasons == [None] * 18 + ["length"] * 3


def test_min_tokens_keeps_an_answer_from_ending(sim: Sim) -> None:
    natural = len(stream(sim.port, chat(max_tokens=5000)))
    events = stream(sim.port, chat(max_tokens=5000, min_tokens=natural + 9))
    assert len(events) == natural + 10  # one of them is the role chunk
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_the_same_question_gets_the_same_answer_from_both_profiles(sim: Sim) -> None:
    def answer(port: int) -> list[str]:
        return [event["choices"][0]["delta"]["content"] for event in stream(port, chat(max_tokens=5000))]

    with running_sim("--model", "m", "--profile", "baseline") as other:
        assert answer(other.port) == answer(sim.port)


@pytest.mark.parametrize(
    "prompt", ["", "a", "abcd", "abcde", "é" * 9, "x" * 4001, [1, 2, 3], [[1, 2], [3]], ["ab", "abcde"]]
)
def test_tokenize_agrees_with_usage(sim: Sim, prompt: Any) -> None:
    counted = call(sim.port, "/v1/completions", {"prompt": prompt, "max_tokens": 1}).json["usage"][
        "prompt_tokens"
    ]
    if isinstance(prompt, str):
        tokenized = call(sim.port, "/tokenize", {"prompt": prompt}).json
        assert tokenized["count"] == len(tokenized["tokens"]) == counted
        again = call(sim.port, "/v1/completions", {"prompt": tokenized["tokens"], "max_tokens": 1}).json
        assert again["usage"]["prompt_tokens"] == counted
    else:
        assert counted == 3


def test_tokenize_takes_a_chat(sim: Sim) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    count = call(sim.port, "/tokenize", {"messages": messages}).json["count"]
    answer = call(sim.port, CHAT, {"messages": messages, "max_tokens": 1}).json
    assert answer["usage"]["prompt_tokens"] == count


# Refusals


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        (CHAT, {}, 400, "messages"),
        (CHAT, {"messages": []}, 400, "messages"),
        (CHAT, {"messages": ["hi"]}, 400, "messages"),
        ("/v1/completions", {}, 400, "prompt"),
        ("/v1/completions", {"prompt": []}, 400, "prompt"),
        ("/v1/completions", {"prompt": [1, -2]}, 400, "prompt"),
        ("/v1/completions", {"prompt": "a", "model": "other"}, 404, "model"),
        ("/v1/completions", {"prompt": "a" * 40_000}, 400, "prompt"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 8192}, 400, "max_tokens"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 0}, 400, "max_tokens"),
        ("/v1/completions", {"prompt": "a", "max_tokens": "9"}, 400, "max_tokens"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 2, "min_tokens": 3}, 400, "min_tokens"),
        ("/v1/completions", {"prompt": "a", "n": 1000}, 400, "n"),
        ("/v1/completions", {"prompt": "a", "stream": "yes"}, 400, "stream"),
        ("/v1/completions", {"prompt": "a", "stream_options": []}, 400, "stream_options"),
        ("/v1/completions", b"{", 400, None),
        ("/v1/completions", b"[" * 100_000, 400, None),
        ("/v1/completions", b"\xff", 400, None),
        ("/v1/completions", b"[]", 400, None),
        ("/tokenize", {}, 400, "prompt"),
        ("/v1/embeddings", {}, 404, None),
        ("/", None, 404, None),
        ("/health", {}, 405, None),
    ],
)
def test_refusals(sim: Sim, path: str, body: object, status: int, param: str | None) -> None:
    answer = call(sim.port, path, body)
    assert answer.status == status
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == status
    assert error["param"] == param


def test_a_prompt_may_fill_the_context_but_for_one_token(sim: Sim) -> None:
    ids = list(range(8191))
    assert call(sim.port, "/v1/completions", {"prompt": ids, "max_tokens": 1}).status == 200
    assert call(sim.port, "/v1/completions", {"prompt": [*ids, 1], "max_tokens": 1}).status == 400


# The small paths


def test_models_and_headers_say_that_it_is_simulated(sim: Sim) -> None:
    model = call(sim.port, "/v1/models").json["data"][0]
    assert (model["id"], model["owned_by"], model["max_model_len"]) == ("m", "tokenswarm-sim", 8192)
    for path in ("/v1/models", "/health", "/version", "/metrics", "/sim/summary", "/nowhere"):
        assert call(sim.port, path).headers["server"] == f"tokenswarm-sim/{VERSION}"
    assert sim.banner["simulated"] is True
    assert sim.banner["profile"] == "awq"
    assert call(sim.port, "/version").json["version"].startswith("0.32.")
    assert call(sim.port, "/health").body == b""


# Connections


def test_one_connection_serves_many_requests_streamed_or_not(sim: Sim) -> None:
    connection = HTTPConnection("127.0.0.1", sim.port, timeout=TIMEOUT_S)
    local = []
    for body in (
        chat(max_tokens=2),
        chat(max_tokens=2, stream=False),
        chat(max_tokens=0),
        chat(max_tokens=2),
    ):
        connection.request("POST", CHAT, json.dumps(body))
        local.append(connection.sock.getsockname())
        connection.getresponse().read()
    connection.close()
    assert len(set(local)) == 1


def test_pipelined_requests_are_answered_in_turn(sim: Sim) -> None:
    one, two = (post("/v1/completions", {"prompt": "a", "max_tokens": n, "stream": True}) for n in (3, 5))
    last = b"GET /health HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\r\n"
    received = exchange(sim.port, one + two + last)
    answers = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.count(b'"token_ids"') for answer in answers] == [3, 5, 0]


def test_expect_100_continue(sim: Sim) -> None:
    request = post(
        "/v1/completions", {"prompt": "a", "max_tokens": 1}, None, "expect: 100-continue", "connection: close"
    )
    head, _, body = request.partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_chunked_request_body(sim: Sim) -> None:
    data = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (data[:5], data[5:]))
    head = b"POST /v1/completions HTTP/1.1\r\nhost: sim\r\n"
    head += b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    assert exchange(sim.port, head + chunks + b"0\r\n\r\n").startswith(b"HTTP/1.1 200 OK")


def test_a_request_that_arrives_byte_by_byte(sim: Sim) -> None:
    request = post("/v1/completions", {"prompt": "a", "max_tokens": 1}, None, "connection: close")
    with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(request)):
            connection.send(request[at : at + 1])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_an_http10_client_gets_a_body_without_chunks(sim: Sim) -> None:
    request = post(CHAT, chat(max_tokens=2)).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    head, _, body = exchange(sim.port, request).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /health HTTP/1.1\r\nhost: sim\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n", b"431"),
        (
            b"POST /tokenize HTTP/1.1\r\nhost: sim\r\ncontent-length: 90000000\r\n\r\n" + b" " * 34_000_000,
            b"413",
        ),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", b"400"),
        (b"POST /tokenize HTTP/1.1\r\nhost: sim\r\ncontent-length: x\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),
    ],
    ids=["long head", "long body", "no HTTP", "TLS", "bad length", "no host"],
)
def test_what_is_refused_before_it_is_understood(sim: Sim, request_bytes: bytes, status: bytes) -> None:
    answer = exchange(sim.port, request_bytes)
    assert answer.split()[1] == status
    assert b'"error"' in answer
    assert call(sim.port, "/health").status == 200


def test_a_head_request_gets_no_body(sim: Sim) -> None:
    answer = exchange(sim.port, b"HEAD /nowhere HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.endswith(b"\r\n\r\n")
