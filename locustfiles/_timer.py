"""The stream timer, sans-IO: (chunk, arrival time) in, one RequestRecord's times out.

Theory of operation
-------------------
1. Every time is an integer of nanoseconds on one monotonic clock; the timer itself has no clock.
2. Latency starts when the request was due. `sent` is kept beside it, so that the two can be compared.
3. A chunk is token-bearing if it has text, reasoning or a tool call. An *empty* delta is token-bearing too
   (the token's character is not complete yet, or the token is the end mark), unless it carries the role
   before the first token: that one only says "assistant".
4. A gap is the time between two consecutive token-bearing chunks of one choice. All gaps are kept until the
   request ends, then they go to the histogram and are gone.
5. Chunks with the same arrival time came in one read; the kernel knows only the last one's time. All but
   the first of them are counted as `coalesced`.
6. Some servers close a choice with an empty chunk that is no token. If the server's own count of tokens is
   one per choice lower than ours and the last chunk of each choice was empty, those chunks are taken back.
7. Where the wall clock is set back in mid-stream, kernel stamps run backwards: such a gap counts as 0, and
   the record's `clock_jump_ns` says what happened.
"""

from locustfiles._chunks import Choice, Chunk


class _ChoiceState:
    """Arrival of the first and the latest token-bearing chunk of one choice, and how it ended."""

    __slots__ = ("before_end_at_ns", "ended_empty", "finished", "first_at_ns", "last_at_ns")

    def __init__(self) -> None:
        self.first_at_ns = self.last_at_ns = -1
        self.finished = False
        self.ended_empty = False  # its last chunk had nothing in it; the one before came at …
        self.before_end_at_ns = -1


class StreamTimer:
    """Times of one request. Absolute, on the caller's monotonic clock; -1 stands for "never"."""

    __slots__ = (
        "_choices",
        "chunks",
        "coalesced",
        "connect_ns",
        "done",
        "due_at_ns",
        "first_at_ns",
        "gaps_ns",
        "last_at_ns",
        "output_tokens",
        "prompt_tokens",
        "sent_at_ns",
        "token_counts",
        "visible_at_ns",
    )

    def __init__(self, due_at_ns: int) -> None:
        """Begin with the moment the request was due."""
        self.due_at_ns = due_at_ns
        self.sent_at_ns = self.first_at_ns = self.visible_at_ns = self.last_at_ns = -1
        self.gaps_ns: list[int] = []
        self.token_counts: list[int] = []  # the server's running count at each chunk, where it tells
        self.chunks = self.coalesced = 0
        self.connect_ns = 0  # spent opening connections
        self.prompt_tokens: int | None = None
        self.output_tokens: int | None = None
        self.done = False  # the stream said [DONE]
        self._choices: dict[int, _ChoiceState] = {}

    def observe(self, chunk: Chunk, at_ns: int) -> None:
        """Take one chunk with the time its bytes arrived. Hot: half a microsecond."""
        chunks_before = self.chunks
        for choice in chunk.choices or ():
            delta = choice.delta
            state = self._choices.get(choice.index)
            if state is None:
                state = self._choices[choice.index] = _ChoiceState()
            last = state.last_at_ns
            text = choice.text if delta is None else delta.content
            if text:
                if self.visible_at_ns < 0:
                    self.visible_at_ns = at_ns
            elif delta is not None and last < 0 and delta.role is not None and not _hidden(delta):
                state.finished = choice.finish_reason is not None
                continue  # the role, before the first token
            if last >= 0:
                self.gaps_ns.append(at_ns - last)
                if at_ns == last:
                    self.coalesced += 1
            else:
                state.first_at_ns = at_ns
                if self.first_at_ns < 0:
                    self.first_at_ns = at_ns
            state.last_at_ns = self.last_at_ns = at_ns
            self.chunks += 1
            if choice.finish_reason is not None:
                self._finish(choice, state, last)
        usage = chunk.usage
        if usage is not None:
            self.prompt_tokens = usage.prompt_tokens
            self.output_tokens = usage.completion_tokens
            if self.chunks > chunks_before:
                self.token_counts.append(usage.completion_tokens)

    def _finish(self, choice: Choice, state: _ChoiceState, before_ns: int) -> None:
        state.finished = True
        delta = choice.delta
        if not (choice.text if delta is None else delta.content or _hidden(delta)):
            state.ended_empty = True
            state.before_end_at_ns = before_ns

    def ended_well(self, choices: int) -> bool:
        """Say whether the stream announced its end: [DONE], or a finish reason for every choice."""
        states = self._choices.values()
        return self.done or (len(states) >= choices and all(state.finished for state in states))

    def close(self) -> None:
        """Take back closing chunks that were no tokens (rules 6 and 7). Call once, after the last chunk."""
        states = list(self._choices.values())
        surplus = self.chunks - (self.output_tokens if self.output_tokens is not None else self.chunks)
        if states and surplus == len(states) and all(state.ended_empty for state in states):
            self._take_back(states)
        if self.gaps_ns and min(self.gaps_ns) < 0:
            self.gaps_ns = [max(0, gap_ns) for gap_ns in self.gaps_ns]

    def _take_back(self, states: list[_ChoiceState]) -> None:
        self.gaps_ns.reverse()  # so that the latest of equal gaps goes
        for state in states:
            self.chunks -= 1
            if state.before_end_at_ns < 0:
                state.first_at_ns = -1
            else:
                self.gaps_ns.remove(state.last_at_ns - state.before_end_at_ns)
                self.coalesced -= state.last_at_ns == state.before_end_at_ns
            state.last_at_ns = state.before_end_at_ns
        self.gaps_ns.reverse()
        del self.token_counts[self.chunks :]
        self.first_at_ns = min((state.first_at_ns for state in states if state.first_at_ns >= 0), default=-1)
        self.last_at_ns = max(state.last_at_ns for state in states)

    def token_gaps_ns(self) -> list[int]:
        """Return the gaps spread over the tokens of their later chunk (`itl_token`).

        Empty unless the server counted the tokens of every chunk and there was one choice.
        """
        counts = self.token_counts
        if len(self._choices) != 1 or len(counts) != len(self.gaps_ns) + 1:
            return []
        spread: list[int] = []
        for gap_ns, before, after in zip(self.gaps_ns, counts, counts[1:], strict=False):
            tokens = max(1, after - before)
            spread += [gap_ns // tokens] * tokens
        return spread


def _hidden(delta: object) -> bool:
    return bool(delta.reasoning or delta.reasoning_content or delta.tool_calls)  # type: ignore[attr-defined]
