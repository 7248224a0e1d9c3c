"""The stream timer's laws: chunks and arrival times in, a request's times out."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locustfiles._chunks import Choice, Chunk, Delta, Usage, parse
from locustfiles._errors import StreamError
from locustfiles._timer import StreamTimer

MS = 1_000_000


def role(index: int = 0) -> Choice:
    return Choice(index=index, delta=Delta(role="assistant", content=""))


def text(content: str | None, index: int = 0, finish: str | None = None) -> Choice:
    return Choice(index=index, delta=Delta(content=content), finish_reason=finish)


def reasoning(content: str) -> Choice:
    return Choice(delta=Delta(reasoning=content))


def timed(*observed: tuple[int, Choice | Chunk | Usage], due: int = 0, sent: int = 1) -> StreamTimer:
    """Play (arrival ms, chunk) pairs."""
    timer = StreamTimer(due * MS)
    timer.sent_at_ns = sent * MS
    for at_ms, item in observed:
        if isinstance(item, Chunk):
            chunk = item
        elif isinstance(item, Usage):
            chunk = Chunk(choices=[], usage=item)
        else:
            chunk = Chunk(choices=[item])
        timer.observe(chunk, at_ms * MS)
    timer.close()
    return timer


def usage(tokens: int) -> Usage:
    return Usage(prompt_tokens=7, completion_tokens=tokens)


# One event: (choice, what it carries, ms since the event before).
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["role", "text", "empty", "reasoning", "tool", "completion"]),
        st.sampled_from([0, 0, 1, 3, 10]),
    ),
    max_size=40,
)
MADE = {
    "role": role,
    "text": lambda i: text("word", i),
    "empty": lambda i: text("", i),
    "reasoning": lambda i: Choice(index=i, delta=Delta(reasoning_content="hm")),
    "tool": lambda i: Choice(index=i, delta=Delta(tool_calls=[msgspec.Raw(b"{}")])),
    "completion": lambda i: Choice(index=i, text="word"),
}


@given(EVENTS)
def test_laws_of_any_stream(events: list[tuple[int, str, int]]) -> None:
    timer, at_ms = StreamTimer(0), 5
    timer.sent_at_ns = 5 * MS
    arrivals: dict[int, list[int]] = {}
    visible = []
    for choice, kind, later_ms in events:
        at_ms += later_ms
        timer.observe(Chunk(choices=[MADE[kind](choice)]), at_ms * MS)
        if kind != "role" or choice in arrivals:  # a role is no token, unless tokens came before it
            arrivals.setdefault(choice, []).append(at_ms * MS)
        if kind in {"text", "completion"}:
            visible.append(at_ms * MS)
    timer.close()

    every = sorted(at for times in arrivals.values() for at in times)
    gaps = [late - early for times in arrivals.values() for early, late in pairwise(times)]
    assert timer.chunks == len(every)
    assert timer.first_at_ns == (every[0] if every else -1)
    assert timer.last_at_ns == (every[-1] if every else -1)
    assert timer.visible_at_ns == (visible[0] if visible else -1)
    assert sorted(timer.gaps_ns) == sorted(gaps)
    assert len(timer.gaps_ns) == timer.chunks - len(arrivals)
    assert sum(timer.gaps_ns) == sum(times[-1] - times[0] for times in arrivals.values())
    assert timer.coalesced == gaps.count(0)
    if every:
        assert timer.due_at_ns <= timer.sent_at_ns <= timer.first_at_ns <= timer.last_at_ns
    if visible:
        assert timer.first_at_ns <= timer.visible_at_ns <= timer.last_at_ns


def test_one_answer() -> None:
    timer = timed(
        (20, role()), (30, text("a")), (41, text("b")), (50, text("c", finish="stop")), due=10, sent=12
    )
    assert (timer.first_at_ns, timer.visible_at_ns, timer.last_at_ns) == (30 * MS, 30 * MS, 50 * MS)
    assert timer.gaps_ns == [11 * MS, 9 * MS]
    assert timer.chunks == 3
    assert timer.ended_well(1)


@pytest.mark.parametrize(
    "opening", ['{"role":"assistant","content":""}', '{"role":"assistant","content":null}']
)
def test_role_is_no_token(opening: str) -> None:
    chunk = parse(b'{"choices":[{"index":0,"delta":%b,"finish_reason":null}]}' % opening.encode())
    timer = timed((20, chunk), (30, text("a")))
    assert (timer.chunks, timer.first_at_ns, timer.gaps_ns) == (1, 30 * MS, [])


def test_role_with_text_is_a_token() -> None:
    timer = timed((20, Choice(delta=Delta(role="assistant", content="Hi"))), (30, text("!")))
    assert (timer.chunks, timer.first_at_ns) == (2, 20 * MS)


def test_role_in_every_chunk_hides_no_token() -> None:
    empty = Choice(delta=Delta(role="assistant", content=""))
    timer = timed((20, empty), (30, Choice(delta=Delta(role="assistant", content="a"))), (40, empty))
    assert timer.gaps_ns == [10 * MS]


def test_empty_deltas_are_tokens_whose_character_is_not_complete() -> None:
    timer = timed(
        (10, role()), (20, text("")), (30, text("")), (40, text("語")), (50, text("")), (50, usage(4))
    )
    assert (timer.chunks, timer.output_tokens) == (4, 4)
    assert timer.first_at_ns == 20 * MS
    assert timer.visible_at_ns == 40 * MS  # TTFO is later than TTFT
    assert timer.gaps_ns == [10 * MS] * 3


@pytest.mark.parametrize(
    "hidden",
    [
        Delta(reasoning="hm"),
        Delta(reasoning_content="hm"),
        Delta(content=None, tool_calls=[msgspec.Raw(b"{}")]),
    ],
)
def test_hidden_tokens_begin_ttft_and_visible_text_ttfo(hidden: Delta) -> None:
    timer = timed((10, role()), (20, Choice(delta=hidden)), (30, Choice(delta=hidden)), (45, text("a")))
    assert (timer.first_at_ns, timer.visible_at_ns) == (20 * MS, 45 * MS)
    assert timer.gaps_ns == [10 * MS, 15 * MS]


def test_answer_without_visible_text_has_no_ttfo() -> None:
    timer = timed((10, role()), (20, reasoning("a")), (30, reasoning("b")))
    assert (timer.first_at_ns, timer.visible_at_ns) == (20 * MS, -1)


def test_choices_are_timed_apart() -> None:
    timer = timed(
        *((10, role(i)) for i in range(2)),
        (20, text("a", 0)),
        (21, text("a", 1)),
        (30, text("b", 0)),
        (50, text("b", 1)),
        (50, text("c", 0)),
    )
    assert sorted(timer.gaps_ns) == [10 * MS, 20 * MS, 29 * MS]
    assert timer.coalesced == 0  # two choices of one moment are one token each


def test_choices_in_one_chunk() -> None:
    timer = timed(*((at, Chunk(choices=[text("x", i) for i in range(3)])) for at in (20, 30)))
    assert (timer.chunks, timer.gaps_ns, timer.coalesced) == (6, [10 * MS] * 3, 0)


def test_tokens_of_one_read_are_counted_as_coalesced() -> None:
    timer = timed((20, text("a")), (30, text("b")), (30, text("c")), (30, text("d")), (40, text("e")))
    assert timer.coalesced == 2
    assert timer.gaps_ns == [10 * MS, 0, 0, 10 * MS]


# Closing chunks that are no tokens


def test_closing_chunk_is_taken_back_where_the_server_did_not_count_it() -> None:
    timer = timed((20, text("a")), (30, text("b")), (35, text("", finish="stop")), (35, usage(2)))
    assert (timer.chunks, timer.gaps_ns, timer.last_at_ns) == (2, [10 * MS], 30 * MS)
    assert timer.ended_well(1)


def test_closing_chunk_stays_where_the_server_counted_it() -> None:
    timer = timed((20, text("a")), (30, text("b")), (35, text("", finish="stop")), (35, usage(3)))
    assert (timer.chunks, timer.gaps_ns, timer.last_at_ns) == (3, [10 * MS, 5 * MS], 35 * MS)


@pytest.mark.parametrize("said", [None, 1, 5])
def test_closing_chunk_stays_where_the_count_says_nothing_about_it(said: int | None) -> None:
    counted = [] if said is None else [(35, usage(said))]
    timer = timed((20, text("a")), (30, text("b")), (35, text("", finish="stop")), *counted)
    assert timer.chunks == 3


def test_closing_chunk_with_text_is_a_token() -> None:
    timer = timed((20, text("a")), (30, text("b", finish="stop")), (35, usage(1)))
    assert (timer.chunks, timer.gaps_ns) == (2, [10 * MS])


def test_closing_chunks_of_all_choices_are_taken_back() -> None:
    timer = timed(
        (20, text("a", 0)),
        (22, text("a", 1)),
        (30, text("", 0, "stop")),
        (32, text("b", 1)),
        (32, text("", 1, "stop")),
        (33, usage(3)),
    )
    assert (timer.chunks, timer.gaps_ns, timer.last_at_ns, timer.coalesced) == (3, [10 * MS], 32 * MS, 0)


def test_closing_chunk_alone_is_no_answer() -> None:
    timer = timed((20, role()), (30, text(None, finish="stop")), (30, usage(0)))
    assert (timer.chunks, timer.first_at_ns, timer.last_at_ns, timer.gaps_ns) == (0, -1, -1, [])


def test_closing_chunk_of_an_empty_choice_does_not_begin_the_request() -> None:
    timer = timed((20, text("", 0, "stop")), (30, text("a", 1)), (40, text("", 1, "stop")), (40, usage(1)))
    assert (timer.chunks, timer.first_at_ns, timer.last_at_ns, timer.gaps_ns) == (1, 30 * MS, 30 * MS, [])


def test_end_mark_alone_is_a_token_where_the_server_counted_it() -> None:
    timer = timed((20, role()), (30, text("", finish="stop")), (30, usage(1)))
    assert (timer.chunks, timer.first_at_ns) == (1, 30 * MS)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(0, 3))
def test_taking_back_leaves_what_the_stream_was_without_it(gaps_ms: list[int], end_ms: int) -> None:
    times = [20]
    for gap_ms in gaps_ms:
        times.append(times[-1] + gap_ms)
    tokens = [(at, text("a")) for at in times]
    with_end = timed(*tokens, (times[-1] + end_ms, text("", finish="stop")), (99, usage(len(times))))
    without = timed(*tokens, (99, usage(len(times))))
    for name in ("gaps_ns", "chunks", "coalesced", "first_at_ns", "last_at_ns", "visible_at_ns"):
        assert getattr(with_end, name) == getattr(without, name), name


# Gaps of tokens


def counted(content: str, tokens: int, finish: str | None = None) -> Chunk:
    return Chunk(choices=[text(content, finish=finish)], usage=usage(tokens))


def test_gaps_are_spread_over_the_tokens_of_the_later_chunk() -> None:
    timer = timed((20, counted("a", 2)), (30, counted("b", 3)), (50, counted("cdef", 7)))
    assert timer.token_gaps_ns() == [10 * MS] + [5 * MS] * 4


def test_role_with_a_count_does_not_shift_the_tokens() -> None:
    opening = Chunk(choices=[role()], usage=usage(0))
    timer = timed((10, opening), (20, counted("a", 1)), (30, counted("b", 3)), (30, usage(3)))
    assert timer.token_gaps_ns() == [5 * MS] * 2


def test_closing_chunk_that_is_taken_back_has_no_token_gap() -> None:
    timer = timed((20, counted("a", 1)), (30, counted("b", 3)), (33, counted("", 3, "stop")), (33, usage(3)))
    assert timer.chunks == 3  # the count of tokens is not one lower than that of chunks, but equal
    timer = timed((20, counted("a", 1)), (30, counted("b", 2)), (33, counted("", 2, "stop")), (33, usage(2)))
    assert timer.token_gaps_ns() == [10 * MS]


@pytest.mark.parametrize(
    "observed",
    [
        [(20, text("a")), (30, text("b"))],
        [(20, counted("a", 1)), (30, text("b"))],
        [(20, text("a")), (30, Chunk(choices=[text("b")], usage=usage(2)))],
        [(20, counted("a", 1)), (20, Chunk(choices=[text("b", 1)], usage=usage(1)))],
    ],
)
def test_no_gaps_of_tokens_without_a_count_for_every_chunk(observed: list[tuple[int, Any]]) -> None:
    assert timed(*observed).token_gaps_ns() == []


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50)), min_size=1, max_size=20))
def test_token_gaps_keep_count_and_sum(chunks: list[tuple[int, int]]) -> None:
    observed, tokens, at_ms = [], 0, 20
    for size, gap_ms in chunks:
        tokens, at_ms = tokens + size, at_ms + gap_ms
        observed.append((at_ms, counted("x", tokens)))
    timer = timed(*observed)
    spread = timer.token_gaps_ns()
    assert len(spread) == tokens - chunks[0][0]
    assert 0 <= sum(timer.gaps_ns) - sum(spread) < max(1, len(spread))  # whole nanoseconds


# How a stream ends


def test_stream_has_ended_well_with_done_or_all_finish_reasons() -> None:
    assert not timed((20, text("a"))).ended_well(1)
    assert timed((20, text("a", finish="length"))).ended_well(1)
    assert not timed((20, text("a", finish="length"))).ended_well(2)
    assert not timed((20, text("a", 0, "stop")), (20, text("a", 1))).ended_well(2)
    assert timed((20, text("a", 0, "stop")), (20, text("a", 1, "stop"))).ended_well(2)
    assert timed((20, Choice(delta=Delta(role="assistant"), finish_reason="stop"))).ended_well(1)
    timer = StreamTimer(0)
    assert not timer.ended_well(1)
    timer.done = True
    assert timer.ended_well(3)


def test_clock_that_is_set_back_in_mid_stream_gives_no_negative_gap() -> None:
    timer = timed((1020, text("a")), (1030, text("b")), (40, text("c")), (50, text("d")))
    assert timer.gaps_ns == [10 * MS, 0, 10 * MS]


# Events


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b'{"error":{"message":"out of memory","code":500}}', "server_error"),
        (b'{"error":"out of memory"}', "server_error"),
        (b'{"error":{"message":"late"},"choices":[{"delta":{},"finish_reason":"error"}]}', "server_error"),
        (b"{", "protocol"),
        (b"[]", "protocol"),
        (b"null", "protocol"),
        (b"<html>", "protocol"),
        (b"{}", "protocol"),
        (b'{"choices":{}}', "protocol"),
        (b'{"choices":[{"delta":{"content":7}}]}', "protocol"),
        (b'{"choices":[{"delta":{"content":"\xff"}}]}', "protocol"),
        (b'{"object":"error","message":"no such model"}', "protocol"),
    ],
)
def test_event_that_is_no_chunk(data: bytes, outcome: str) -> None:
    with pytest.raises(StreamError) as caught:
        parse(data)
    assert caught.value.outcome == outcome
    assert "\n" not in caught.value.detail


def test_error_of_null_is_none() -> None:
    assert parse(b'{"choices":[],"error":null}').error is None


def test_error_is_quoted() -> None:
    with pytest.raises(StreamError, match="out of memory"):
        parse(b'{"error":{"message":"out of memory"}}')
