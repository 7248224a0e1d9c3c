"""A reply from its bytes to its outcome, for made-up responses and for captures of real vLLM."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locustfiles._errors import StreamError
from locustfiles._http import ResponseDecoder, refusal
from locustfiles._reply import Deadlines, deadline, judge_end, take
from locustfiles._timer import StreamTimer
from tests.responses import GOLDEN, RESPONSES, Response, byte_by_byte, cut, whole

SECOND_NS = 10**9
CAPTURES = sorted(GOLDEN.glob("vllm-0.32-*.http"))
PARSED_AWAY = {"vllm-0.32-reasoning", "vllm-0.32-tool-call"}
"""vLLM's reasoning and tool parsers swallow the tokens of their marks, unless token ids are asked for."""


def play(reads: list[bytes], choices: int = 1) -> tuple[StreamTimer, str, str]:
    """Do with reads what a transport does, all of them at one time; returns the timer, outcome, detail."""
    timer, decoder, error = StreamTimer(0), ResponseDecoder(), None
    try:
        for data in reads:
            try:
                decoder.decode(data)
            finally:
                take(decoder.events, timer, 1)
    except StreamError as fault:
        error = fault
    if not error and not decoder.streaming:
        assert decoder.status is not None
        error = refusal(decoder.status, decoder.content_type, bytes(decoder.error_body), decoder.retry_after)
    return timer, *judge_end(timer, choices, error)


def seen(timer: StreamTimer) -> dict[str, Any]:
    return {name: getattr(timer, name) for name in StreamTimer.__slots__ if not name.startswith("_")}


@pytest.mark.parametrize("name", sorted(RESPONSES))
def test_outcome(name: str) -> None:
    response, expected = RESPONSES[name]
    timer, outcome, detail = play(whole(response))
    assert outcome == expected, detail
    assert (detail == "") == (outcome == "ok")
    assert detail.isprintable() or not detail
    again, outcome, _ = play(byte_by_byte(response))
    assert (seen(again), outcome) == (seen(timer), expected)


@given(st.sampled_from(sorted(RESPONSES)), st.lists(st.integers(0, 10**6), max_size=10))
def test_any_split_gives_the_same_reply(name: str, places: list[int]) -> None:
    response, expected = RESPONSES[name]
    timer, outcome, _ = play(cut(response, places))
    assert (seen(timer), outcome) == (seen(play(whole(response))[0]), expected)


@pytest.mark.parametrize("name", ["garbage_after_tokens", "closed_in_chunk", "error_event", "invalid_json"])
def test_tokens_before_a_fault_count(name: str) -> None:
    timer, outcome, _ = play(whole(RESPONSES[name][0]))
    assert outcome != "ok"
    assert timer.chunks == 2


# Golden: what real vLLM sent


def naive(capture: bytes) -> tuple[list[dict[str, Any]], bool]:
    """Take a capture apart by hand: the JSON events of its stream, and whether it ended with [DONE]."""
    _, _, rest = capture.partition(b"\r\n\r\n")
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            break
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    data = [part.removeprefix(b"data: ") for part in body.split(b"\n\n") if part]
    return [json.loads(part) for part in data if part != b"[DONE]"], data[-1] == b"[DONE]"


def test_there_are_captures() -> None:
    assert CAPTURES


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_capture(path: Any) -> None:
    response = Response(path.read_bytes())
    if b"text/event-stream" not in response.data[:400]:
        status = int(response.data.split()[1])
        _, outcome, detail = play(whole(response))
        assert outcome == ("protocol" if status == 200 else "http_4xx")
        assert str(status) in detail or "application/json" in detail
        return
    events, done = naive(response.data)
    assert done
    choices = [choice for event in events for choice in event["choices"]]
    tokens = [choice for choice in choices if "role" not in choice.get("delta", {})]
    said = next(
        (event["usage"]["completion_tokens"] for event in reversed(events) if event.get("usage")), None
    )
    answers = 1 + max(choice["index"] for choice in choices)

    timer, outcome, detail = play(whole(response), answers)
    assert (outcome, detail) == ("ok", "")
    assert timer.output_tokens == said
    assert timer.chunks == len(tokens)
    assert len(timer.gaps_ns) == len(tokens) - answers
    if said is not None and path.stem not in PARSED_AWAY:
        assert timer.chunks == said
    if "usage" in events[1] and events[1]["choices"]:
        assert len(timer.token_gaps_ns()) == len(timer.gaps_ns)

    for reads in (byte_by_byte(response), cut(response, list(range(0, len(response.data), 97)))):
        again, outcome, _ = play(reads, answers)
        assert (seen(again), outcome) == (seen(timer), "ok")


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_capture_that_breaks_off_is_never_ok(path: Any) -> None:
    data = path.read_bytes()
    for length in range(0, len(data), 211):
        _, outcome, _ = play(whole(Response(data[:length], closes=True)))
        assert outcome != "ok", length


# Deadlines

LIMITS = Deadlines(
    connect_ns=SECOND_NS, first_token_ns=10 * SECOND_NS, stall_ns=3 * SECOND_NS, total_ns=60 * SECOND_NS
)


def missed(first_s: int, last_s: int, **changes: int) -> tuple[float, str]:
    timer = StreamTimer(0)
    timer.first_at_ns, timer.last_at_ns = first_s * SECOND_NS, last_s * SECOND_NS
    when_ns, error = deadline(timer, 2 * SECOND_NS, LIMITS._replace(**changes))
    return when_ns / SECOND_NS, error.outcome


def test_deadlines() -> None:
    assert missed(-1, -1) == (12, "first_token_timeout")
    assert missed(5, 5) == (8, "stall_timeout")
    assert missed(5, 40) == (43, "stall_timeout")
    assert missed(5, 60) == (62, "total_timeout")
    assert missed(-1, -1, total_ns=4 * SECOND_NS) == (6, "total_timeout")
    assert missed(5, 5, total_ns=4 * SECOND_NS) == (6, "total_timeout")
