"""One reply, sans-IO: events with their arrival times in, an outcome out. Shared by both transports."""

from collections.abc import Callable
from typing import NamedTuple

from locustfiles._chunks import DONE, parse
from locustfiles._errors import StreamError
from locustfiles._timer import StreamTimer


class Deadlines(NamedTuple):
    """How long a request may take, in ns, from the moment its dispatch began."""

    connect_ns: int
    first_token_ns: int
    stall_ns: int  # between two chunks
    total_ns: int


class Request(NamedTuple):
    """One HTTP POST. The transport adds the host and the length."""

    path: str
    headers: dict[str, str]
    body: bytes


class Ending(NamedTuple):
    """How an exchange ended, and what the transport saw of it."""

    outcome: str
    detail: str
    end_at_ns: int
    status: int | None
    body_bytes: int
    reads: int
    lags_ns: list[int]  # per read: kernel's receive time to our read; empty where clock is "user"
    connection: str
    clock: str
    clock_jump_ns: int


class Call(NamedTuple):
    """One request to be made, where its times go, and who hears of its end."""

    request: Request
    timer: StreamTimer
    deadlines: Deadlines
    choices: int
    ended: Callable[[Ending], None]


def take(events: list[bytes], timer: StreamTimer, at_ns: int) -> None:
    """Hand events that arrived together to the timer. Hot. Raises StreamError."""
    for data in events:
        if data == DONE:
            timer.done = True
        elif data:
            timer.observe(parse(data), at_ns)


def judge_end(timer: StreamTimer, choices: int, error: StreamError | None) -> tuple[str, str]:
    """Close the timer and return (outcome, detail); no error: the HTTP message ended as announced."""
    timer.close()
    if error:
        return error.outcome, error.detail
    if not timer.ended_well(choices):
        return "truncated", f"the stream ended after {timer.chunks} tokens without [DONE] or a finish reason"
    if not timer.chunks:
        return "empty", "a complete stream without a token"
    return "ok", ""


def deadline(timer: StreamTimer, began_at_ns: int, limits: Deadlines) -> tuple[int, StreamError]:
    """Return (when, error): the next deadline that this request misses if nothing arrives until then."""
    if timer.first_at_ns < 0:
        when_ns = began_at_ns + limits.first_token_ns
        error = StreamError("first_token_timeout", f"no token within {limits.first_token_ns / 1e9:g} s")
    else:
        when_ns = timer.last_at_ns + limits.stall_ns
        pause = f"no token for {limits.stall_ns / 1e9:g} s after {timer.chunks}"
        error = StreamError("stall_timeout", pause)
    if began_at_ns + limits.total_ns <= when_ns:
        when_ns = began_at_ns + limits.total_ns
        late = f"not done within {limits.total_ns / 1e9:g} s, {timer.chunks} tokens so far"
        error = StreamError("total_timeout", late)
    return when_ns, error
