"""Script mode: play one request's script on an absolute schedule.

Write number w is due at received + ttft_ms + the sum of the w gaps before it; lateness of one never moves
the next. Only a client that does not read (a full socket) holds a stream up.
"""

from dataclasses import dataclass, field
from functools import partial
from sys import maxsize
from time import perf_counter_ns

from .api import Generation, error_body
from .chunks import Chunks, quoted
from .clock import Alarm
from .connection import Connection, Request
from .metrics import FINISHED_REASONS, Stats
from .script import Script
from .sendlog import SendLog, SendRecord

_PIECE_BYTES = 65536
_PAGE = b"<!doctype html><title>Welcome</title><p>This is a page, not a stream.\n"


@dataclass(slots=True, eq=False)
class Playback:
    """One request. `start` sets it going; from then on the alarm and the connection drive it."""

    script: Script
    generation: Generation
    chunks: Chunks
    connection: Connection
    request: Request
    alarm: Alarm
    stats: Stats
    log: SendLog | None
    record: SendRecord
    sent: int = 0  # tokens of each choice
    writes: int = 0
    over: bool = False
    _total: int = 0
    _choices: int = 1
    _gaps_ns: list[int] = field(default_factory=list)
    _texts: list[bytes] = field(default_factory=list)
    _marks: list[tuple[int, str]] = field(
        default_factory=list
    )  # what happens after so many tokens, last first
    _stall_ns: int = 0
    _roles_due: bool = False
    _first_ns: int | None = None
    _last_ns: int | None = None
    _padding: int = 0  # bytes of a long line that are still to be written
    _in_line: bool = False
    _held: bool = False  # the client does not read; the next write waits for it

    def start(self) -> None:
        """Take the connection over."""
        script = self.script
        self._total = self.generation.max_tokens if script.tokens is None else script.tokens
        if script.endless:
            self._total = maxsize
        self._choices = len(self.generation.prompts) * self.generation.n
        gaps_ms = script.itl_ms if isinstance(script.itl_ms, tuple) else (script.itl_ms,)
        self._gaps_ns = [round(gap_ms * 1e6) for gap_ms in gaps_ms]
        self._texts = [quoted(text) for text in script.token_text]
        for kind in ("stall_at", "invalid_json_at", "error_event_at", "truncate_at", "reset_at"):
            if (at := getattr(script, kind)) is not None:
                self._marks.append((at, kind))
        self._marks.sort(key=lambda mark: -mark[0])
        self._roles_due = self.generation.chat and script.role_chunk
        self.stats.scripted_running += 1
        if self.log and self.generation.stream:
            self.log.begin(self.record)
        self.connection.on_lost = self._lost
        self.connection.on_writable = self._resume
        self.alarm.at(self.request.received_ns + round(script.slow_headers_ms * 1e6), self._open)

    # the head

    def _open(self, due_ns: int) -> None:
        if self.over:
            return
        script = self.script
        self.record.headers_sent_ns = perf_counter_ns()
        if script.status is not None or script.html:
            self._refuse()
            return
        if script.json_not_stream or not self.generation.stream:
            if not script.endless:
                self.alarm.at(self._nominal_end_ns(), self._answer_whole)
            return
        if script.http10:
            self.connection.open_http10_stream()
        else:
            self.connection.open_stream(self._close_header())
        first_ns = self.request.received_ns + round(script.ttft_ms * 1e6)
        if self._roles_due and script.role_chunk_early_ms:
            self.alarm.at(first_ns - round(script.role_chunk_early_ms * 1e6), self._send_roles)
        if script.comments_every_ms:
            self._comment(due_ns)
        self.alarm.at(first_ns, self._tick)

    def _refuse(self) -> None:
        script = self.script
        self._end("refused", None)
        headers = self._close_header()
        if script.status is None:
            self.connection.respond(200, _PAGE, "text/html; charset=utf-8", headers)
            return
        if script.status == 429:
            headers.append(("retry-after", str(script.retry_after_s)))
        self.connection.respond(script.status, error_body(script.status, "as scripted"), headers=headers)

    def _close_header(self) -> list[tuple[str, str]]:
        return [("connection", "close")] if self.script.close_connection else []

    def _nominal_end_ns(self) -> int:
        script = self.script
        tokens_per_write = script.tokens_per_chunk * script.events_per_write
        gaps = max(0, -(-self._total // tokens_per_write) - 1)
        rounds, rest = divmod(gaps, len(self._gaps_ns))
        gaps_ns = rounds * sum(self._gaps_ns) + sum(self._gaps_ns[:rest])
        return self.request.received_ns + round((script.ttft_ms + script.stall_ms) * 1e6) + gaps_ns

    def _answer_whole(self, due_ns: int) -> None:
        if self.over:
            return
        text = b"".join(self._text(index, 1) for index in range(self._total))
        self._count(self._total, due_ns)
        self._end("refused" if self.generation.stream else "done", self.script.finish_reason)
        texts, finishes = [text] * self._choices, [self.script.finish_reason] * self._choices
        body = self.chunks.whole(texts, finishes, self._total * self._choices)
        self.connection.respond(200, body, headers=self._close_header())

    # the stream

    def _tick(self, due_ns: int) -> None:
        if self.over or self._hold():
            return
        if self._marks and not self._pass_marks():
            return
        if self.sent < self._total:
            if self.script.long_line_bytes and not self.sent:
                self._begin_long_line(due_ns)
                return
            data, tokens = self._events()
            self._write(data, stamped=True)
            self._count(tokens, due_ns)
        self._next(due_ns)

    def _next(self, due_ns: int) -> None:
        if self._marks and not self._pass_marks():
            return
        if self.sent >= self._total:
            self._finish()
            return
        gap_ns = self._gaps_ns[(self.writes - 1) % len(self._gaps_ns)] + self._stall_ns
        self._stall_ns = 0
        self.alarm.at(due_ns + gap_ns, self._tick)

    def _events(self) -> tuple[bytes, int]:
        """Render the events of one write; returns also how many tokens of each choice they carry."""
        script, framed, render = self.script, self.connection.framed, self.chunks.token
        parts = [self._roles()] if self._roles_due else []
        stop = min(self._total, self._marks[-1][0]) if self._marks else self._total
        sent = self.sent
        for _ in range(script.events_per_write):
            tokens = min(script.tokens_per_chunk, self._total - sent)
            text = self._text(sent, tokens)
            reasoning = sent < script.reasoning
            sent += tokens
            finish = script.finish_reason if sent == self._total else None
            parts += [
                framed(render(index, text, sent, finish, tokens, reasoning=reasoning))
                for index in range(self._choices)
            ]
            if sent >= stop:
                break
        return b"".join(parts), sent - self.sent

    def _text(self, first: int, tokens: int) -> bytes:
        texts, empty = self._texts, self.script.empty_deltas
        if tokens == 1:
            return b"" if first in empty else texts[first % len(texts)]
        return b"".join(texts[i % len(texts)] for i in range(first, first + tokens) if i not in empty)

    def _pass_marks(self) -> bool:
        """Do what is due after the tokens sent so far; returns False where it ended the stream."""
        while self._marks and self._marks[-1][0] <= self.sent:
            _, kind = self._marks.pop()
            if kind == "stall_at":
                self._stall_ns = round(self.script.stall_ms * 1e6)
            elif kind == "invalid_json_at":
                self._write(self.connection.framed(self.chunks.event(b'{"choices": [{"index": 0, ')))
            elif kind == "error_event_at":
                event = self.chunks.event(error_body(500, "as scripted"))
                self._write(self.connection.framed(event))
                self._end("error_event", "abort")
                self.connection.end_stream()
            else:
                self._end("reset" if kind == "reset_at" else "truncated", "abort")
                self.connection.cut(reset=kind == "reset_at")
            if self.over:
                return False
        return True

    def _finish(self) -> None:
        framed = self.connection.framed
        events = self.chunks.ending(self._total * self._choices)
        if not self.script.end_without_done:
            events.append(self.chunks.done())
        roles = self._roles() if self._roles_due else b""
        if data := roles + b"".join(framed(event) for event in events):
            self._write(data)
        self._end("done", self.script.finish_reason)
        self.connection.end_stream()

    def _send_roles(self, _due_ns: int) -> None:
        if not self.over and self._roles_due:
            self._write(self._roles())

    def _roles(self) -> bytes:
        self._roles_due = False
        return b"".join(self.connection.framed(self.chunks.role(index)) for index in range(self._choices))

    def _comment(self, due_ns: int) -> None:
        if self.over:
            return
        if not self._in_line and not self.connection.paused:  # nothing may stand inside a line
            self._write(self.connection.framed(self.chunks.comment(self.script.comment)))
        self.alarm.at(due_ns + round(self.script.comments_every_ms * 1e6), self._comment)

    # a line that is too long to be held in memory

    def _begin_long_line(self, due_ns: int) -> None:
        finish = self.script.finish_reason if self._total == 1 else None
        before, after = self.chunks.token(0, b"\0", 1, finish).split(b"\0")
        line = len(before) + len(after) - len(self.chunks.end_of_event)
        self._padding = max(1, self.script.long_line_bytes - line)
        roles = self._roles() if self._roles_due else b""
        size = b"%x\r\n" % (len(before) + self._padding + len(after)) if self.connection.chunked else b""
        self._write(roles + size + before)
        self._in_line = True
        self._pad(after, due_ns, perf_counter_ns())

    def _pad(self, after: bytes, due_ns: int, _now_ns: int) -> None:
        if self.over:
            return
        if self._padding and not self.connection.paused:
            piece = min(_PIECE_BYTES, self._padding)
            self._padding -= piece
            self.connection.transport.write(b"x" * piece)
        if self._padding or self.connection.paused:
            # by way of the alarm, so that other streams get their turn; a client that reads slowly is polled
            wait_ns = 1_000_000 if self.connection.paused else 0
            self.alarm.at(perf_counter_ns() + wait_ns, partial(self._pad, after, due_ns))
            return
        self._in_line = False
        self._write(after + (b"\r\n" if self.connection.chunked else b""), stamped=True)
        self._count(1, due_ns)
        self._next(max(due_ns, perf_counter_ns()))

    # underneath

    def _write(self, data: bytes, *, stamped: bool = False) -> None:
        write, size = self.connection.transport.write, self.script.split_bytes
        if size:  # a token is there with the last piece of its event
            whole = (len(data) - 1) // size * size
            for start in range(0, whole, size):
                write(data[start : start + size])
            data = data[whole:]
        if stamped and self.log:
            self.record.sends.append(perf_counter_ns())
        write(data)

    def _count(self, tokens: int, due_ns: int) -> None:
        """Account for a write, with the time at which it was due."""
        stats, choices = self.stats, self._choices
        stats.generation_tokens += tokens * choices
        if self._last_ns is not None:
            stats.itl.observe(due_ns - self._last_ns, choices)
        elif tokens:
            self._first_ns = due_ns
            stats.prompt_tokens += sum(self.generation.prompt_tokens) * self.generation.n
            stats.ttft.observe(due_ns - self.request.received_ns, choices)
        self._last_ns = due_ns
        self.sent += tokens
        self.writes += 1

    def _hold(self) -> bool:
        self._held = self.connection.paused
        return self._held

    def _resume(self) -> None:
        if self._held:
            self._held = False
            self.alarm.at(perf_counter_ns(), self._tick)

    def _lost(self) -> None:
        self._end("aborted", "abort")

    def _end(self, how: str, reason: str | None) -> None:
        """Close the books; `reason` is None where nothing was generated at all."""
        if self.over:
            return
        self.over = True
        self.stats.scripted_running -= 1
        self.record.tokens = self.sent * self._choices
        if self.log and self.generation.stream:
            self.log.end(self.record, how)
        if reason is None:
            return
        for _ in range(self._choices):
            self.stats.end(
                reason if reason in FINISHED_REASONS else "stop",
                arrival_ns=self.request.received_ns,
                scheduled_ns=self.request.received_ns,
                first_ns=self._first_ns,
                last_ns=self._last_ns,
                end_ns=perf_counter_ns(),
            )
