"""The response decoder: the same events and the same end, however a response was split on its way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locustfiles._errors import StreamError
from locustfiles._http import BODY_BYTES_SHOWN, ResponseDecoder, refusal
from tests.responses import (
    CHUNKED,
    RESPONSES,
    STREAM,
    answer,
    byte_by_byte,
    chunked,
    cut,
    head,
    sized,
    stream,
    whole,
)

PLACES = st.lists(st.integers(0, 10**6), max_size=10)
NAMES = st.sampled_from(sorted(RESPONSES))


def decoded(reads: list[bytes]) -> tuple[list[bytes], dict[str, object]]:
    """Return the events, also those that came before an error, and what the decoder knows at the end."""
    decoder, events, error = ResponseDecoder(), [], ""
    for data in reads:
        try:
            decoder.decode(data)
        except StreamError as fault:
            error = fault.outcome
        events += decoder.events
        if error:
            break
    known = {
        "error": error,
        "status": decoder.status,
        "complete": decoder.complete,
        "streaming": decoder.streaming,
        "content_type": decoder.content_type,
        "retry_after": decoder.retry_after,
        "reusable": decoder.reusable(),
        "body": bytes(decoder.error_body[:BODY_BYTES_SHOWN]),
        "body_bytes": decoder.body_bytes,
    }
    return events, known


@pytest.mark.parametrize("name", sorted(RESPONSES))
def test_byte_by_byte_is_whole(name: str) -> None:
    response, _ = RESPONSES[name]
    assert decoded(byte_by_byte(response)) == decoded(whole(response))


@given(NAMES, PLACES)
def test_any_split_is_whole(name: str, places: list[int]) -> None:
    response, _ = RESPONSES[name]
    assert decoded(cut(response, places)) == decoded(whole(response))


@pytest.mark.parametrize(
    "response",
    [
        stream(answer()),
        sized(b"".join(answer()), "text/event-stream"),
        head(status="100 Continue") + stream(answer()),
        head("x-empty:", "CONTENT-TYPE: Text/Event-Stream", CHUNKED) + chunked(answer()),
    ],
)
def test_events_are_the_data_of_the_stream(response: bytes) -> None:
    events, known = decoded([response])
    assert [b"data: " + data + b"\n\n" for data in events] == answer()
    assert known["complete"]
    assert known["reusable"]
    assert known["body_bytes"] == len(b"".join(answer()))


@pytest.mark.parametrize(
    "last",
    [
        stream(answer(), "connection: close"),
        head("content-type: text/event-stream", version="1.0") + b"".join(answer()),
        stream(answer()) + b"x",
        stream(answer()[:2], end=b""),
        stream(answer()[:2], end=b"nonsense\r\n"),
    ],
)
def test_connection_that_cannot_carry_another_request(last: bytes) -> None:
    _, known = decoded([last])
    assert not known["reusable"]


def test_status_of_an_announcement_is_not_the_status() -> None:
    decoder = ResponseDecoder()
    decoder.decode(head(status="100 Continue"))
    assert (decoder.status, decoder.complete) == (None, False)


@pytest.mark.parametrize(
    ("reads", "detail"),
    [
        ([b""], "the server closed the connection before it answered"),
        ([head(STREAM, CHUNKED)[:30], b""], "the server closed the connection before it answered"),
        ([head(STREAM, CHUNKED), b""], "the server closed the connection in mid-stream"),
        ([b"220 smtp ready\r\n"], "expected HTTP/1.1, found '220 smtp ready  '"),
        ([stream(answer()), stream(answer())], "a second response followed the first one unasked"),
    ],
)
def test_details_are_one_line(reads: list[bytes], detail: str) -> None:
    decoder = ResponseDecoder()
    for data in reads[:-1]:
        decoder.decode(data)
    with pytest.raises(StreamError) as caught:
        decoder.decode(reads[-1])
    assert caught.value.detail.startswith(detail)
    assert caught.value.detail.isprintable()


def test_error_body_is_kept_to_be_quoted_but_not_all_of_it() -> None:
    decoder = ResponseDecoder()
    decoder.decode(head("content-type: text/plain", CHUNKED, status="500 Oh"))
    for _ in range(2000):
        decoder.decode(chunked([b"x" * 1000], end=b""))
    assert decoder.body_bytes == 2_000_000
    assert BODY_BYTES_SHOWN <= len(decoder.error_body) < 2 * BODY_BYTES_SHOWN


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "protocol"),
        (204, "protocol"),
        (301, "protocol"),
        (400, "http_4xx"),
        (404, "http_4xx"),
        (429, "http_429"),
        (499, "http_4xx"),
        (500, "http_5xx"),
        (503, "http_5xx"),
    ],
)
def test_refusal(status: int, outcome: str) -> None:
    error = refusal(status, "text/html", b"<html>\r\n\x00no\xff</html>" + b"x" * 500, "7\r\n")
    assert error.outcome == outcome
    assert "<html>" in error.detail
    assert error.detail.isprintable()
    assert len(error.detail) < 260
    assert ("retry after 7" in error.detail) == (status >= 400)
