"""The SSE decoder against the standard, whatever the network does to the stream."""

import tracemalloc
from itertools import pairwise

import pytest
import sseclient
from hypothesis import example, given
from hypothesis import strategies as st

from locustfiles import _sse
from locustfiles._errors import StreamError
from locustfiles._sse import EVENT_BYTES_MAX, SSEDecoder

BOM = "\ufeff".encode()


def reference(stream: bytes) -> list[bytes]:
    """Decode a whole stream as https://html.spec.whatwg.org/multipage/server-sent-events.html words it.

    Line by line over the finished text; what the end of the stream cuts off is discarded.
    """
    stream = stream.removeprefix(BOM)
    lines, line, position = [], bytearray(), 0
    while position < len(stream):
        mark = stream[position : position + 1]
        position += 1
        if mark == b"\r" and stream[position : position + 1] == b"\n":
            position += 1
        if mark in {b"\r", b"\n"}:
            lines.append(bytes(line))
            line.clear()
        else:
            line += mark
    events, buffer = [], b""
    for whole in lines:
        if whole == b"":
            if buffer:
                events.append(buffer[:-1])
            buffer = b""
        elif whole.startswith(b":"):
            continue
        else:
            field, colon, value = whole.partition(b":")
            if colon and value.startswith(b" "):
                value = value[1:]
            if field == b"data":
                buffer += value + b"\n"
    return events


def decoded(pieces: list[bytes]) -> list[bytes]:
    decoder = SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[low:high] for low, high in pairwise(marks)]


LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
TEXT = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=12).map(str.encode)
FIELD = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data",
        b"data:  ",
        b": ",
        b":",
        b"event: ",
        b"id: ",
        b"retry: ",
        b" data: ",
        b"dat",
    ]
)
LINE = st.one_of(
    st.just(b""), st.just(b"data: {}"), st.builds(bytes.__add__, FIELD, TEXT), TEXT, st.just(BOM)
)
STREAM = st.builds(
    lambda bom, lines: (BOM if bom else b"") + b"".join(line + end for line, end in lines),
    st.booleans(),
    st.lists(st.tuples(LINE, LINE_ENDS), max_size=14),
)
PLAIN = st.lists(TEXT.map(lambda text: b"data: " + text + b"\n\n"), max_size=8).map(b"".join)
BYTES = st.lists(st.sampled_from([b"\n", b"\r", b"data", b":", b" ", b"x", BOM]), max_size=30).map(b"".join)
ANY = st.one_of(STREAM, PLAIN, BYTES, st.binary(max_size=60))


@given(ANY, st.lists(st.integers(0, 400), max_size=12))
@example(b"data: 1\n\ndata: a\ndata: b\n\n", [9, 18])  # a read that ends one byte after a first LF
@example(b"data: 1\n\ndata: a\nid: 5\n\n", [9, 18])
@example(b"data: 1\r\n\r\ndata: 2\r\n\r\n", [10, 11])
@example(BOM + b"data: 1\n\n", [1, 2])
@example(b"data\n\ndata\ndata\n\ndata:", [])  # the standard's own examples
@example(b"data:test\n\ndata: test\n\n", [])
@example(b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event", [])
def test_every_split_gives_the_events_of_the_standard(stream: bytes, places: list[int]) -> None:
    expected = reference(stream)
    assert decoded([stream]) == expected
    assert decoded(cut(stream, places)) == expected
    assert decoded([stream[i : i + 1] for i in range(len(stream))]) == expected


@given(ANY, ANY, st.lists(st.integers(0, 400), max_size=6))
def test_fast_path_is_the_general_path(before: bytes, after: bytes, places: list[int]) -> None:
    fast, general = SSEDecoder(), SSEDecoder()
    for piece in [*cut(before, places), *cut(after, places)]:
        assert fast.feed(piece) == general._feed(piece)


def test_fast_path_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = SSEDecoder()
    decoder.feed(b"data: 0\n\n")
    monkeypatch.setattr(SSEDecoder, "_feed", lambda *_: pytest.fail("the general path"))
    assert decoder.feed(b'data: {"a":1}\n\n') == [b'{"a":1}']


@pytest.mark.parametrize(
    "stream",
    [b"data: cut", b"data: cut\n", b"data: cut\r", b"data: cut\r\n", b"data: a\ndata: b\n", b"data"],
)
def test_event_that_the_end_cuts_off_was_never_sent(stream: bytes) -> None:
    assert decoded([b"data: whole\n\n" + stream]) == [b"whole"]


def test_lone_cr_ends_its_line_without_waiting_for_the_next_byte() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\r") == [b"a"]
    assert decoder.feed(b"\ndata: b\r\n\r") == [b"b"]
    assert decoder.feed(b"\n") == []


def feed_until_refused(decoder: SSEDecoder, line: bytes, most: int) -> tuple[int, str]:
    """Feed a line again and again; returns the bytes fed when the decoder refused more, and how it did."""
    for fed in range(0, most, len(line)):
        try:
            decoder.feed(line)
        except StreamError as error:
            return fed, f"{error.outcome}: {error.detail}"
    return most, "swallowed"


@pytest.mark.parametrize(
    "line", [b"data: " + b"x" * 65530, b"x" * 65536, b"data: x\n" * 8192, b"data:\n" * 8192]
)
def test_endless_event_is_refused_and_memory_bounded(monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    limit = 1 << 20  # counting every allocation of four is slow
    monkeypatch.setattr(_sse, "EVENT_BYTES_MAX", limit)
    tracemalloc.start()
    fed, how = feed_until_refused(SSEDecoder(), line, 4 * limit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert how == "protocol: an event of more than 1 MiB without an end"
    assert fed < 1.5 * limit
    assert peak < 20 * limit  # short lines cost a list entry each


def test_endless_comments_are_no_event() -> None:
    decoder = SSEDecoder()
    for _ in range(200):
        assert decoder.feed(b": ping\n" * 8192) == []
    assert decoder.feed(b"data: still here\n\n") == [b"still here"]


def test_long_event_within_the_limit_is_kept() -> None:
    text = b"x" * (EVENT_BYTES_MAX - 100)
    pieces = cut(b"data: " + text + b"\n\n", list(range(0, EVENT_BYTES_MAX, 65536)))
    assert decoded(pieces) == [text]


# Where sseclient-py follows the standard: no BOM, one kind of line end within a stream and no CR alone,
# fields at most "data" and comments, lines that are more than blanks, no other line separators of Unicode
# (it splits bytes, so only those that bytes.splitlines knows), a stream that ends with an event.
SIMPLE_LINE = st.text(st.characters(min_codepoint=0x20, codec="utf-8"), min_size=1, max_size=12).map(
    str.encode
)
SIMPLE_EVENT = st.lists(SIMPLE_LINE.map(lambda text: b"data: " + text), min_size=1, max_size=4)


@given(st.lists(SIMPLE_EVENT, max_size=6), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_agrees_with_sseclient(events: list[list[bytes]], end: bytes, comments: bool) -> None:
    parts = [(b": ping" + end if comments else b"") + end.join(lines) + end * 2 for lines in events]
    stream = b"".join(parts)
    theirs = [event.data.encode() for event in sseclient.SSEClient(iter([stream])).events()]
    assert decoded([stream]) == theirs
