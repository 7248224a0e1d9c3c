"""Continuous batching, pure: no clock, no socket, no HTTP. Time comes in as an argument.

One engine step: every running sequence gets its next token (or the next part of its prompt), then waiting
sequences are admitted in order of arrival, as far as sequences, KV tokens and the step's token budget allow.
When the KV cache is full, the running sequence that arrived last loses its KV and goes back to the head of
the queue; later its prompt *and* what it had generated are computed again. Nothing already emitted is lost
or emitted twice, so its client sees a stall.

KV is counted in tokens, not in blocks, and a prefix-cache hit counts as held by each sequence that hit it.
"""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .prefix import BLOCK_TOKENS, PrefixCache
from .profiles import Profile


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer being generated. Times in ns of the caller's clock; None until they are known."""

    prompt_tokens: int
    max_tokens: int  # it ends after exactly so many
    arrival_ns: int
    prefix: tuple[int, ...] = ()
    answer: Any = None  # whose it is, which choice, and where its text begins: only carried along
    index: int = 0
    text_offset: int = 0
    kv: int = 0  # tokens whose keys and values it holds, this step's included
    generated: int = 0
    done: bool = False
    scheduled_ns: int | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    gap_ns: int | None = None  # between its last two tokens


@dataclass(frozen=True, slots=True)
class Step:
    """What the engine computes from `start_ns` to `end_ns`."""

    start_ns: int
    end_ns: int
    sequences: list[Sequence]
    prefill_tokens: int


@dataclass(slots=True)
class Scheduler:
    """The engine's queues and its KV accounts."""

    profile: Profile
    seed: int = 0
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)  # in order of arrival
    kv_used: int = 0
    preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    _random: random.Random = field(init=False)
    _cache: PrefixCache = field(init=False)

    def __post_init__(self) -> None:
        """Seed the jitter."""
        self._random = random.Random(self.seed)
        self._cache = PrefixCache(self.profile.kv_tokens // BLOCK_TOKENS)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. ValueError where it could never fit: nothing behind it would ever run."""
        if sequence.prompt_tokens + sequence.max_tokens > self.profile.kv_tokens:
            raise ValueError(
                f"found {sequence.prompt_tokens} + {sequence.max_tokens} tokens of KV, "
                f"expected at most {self.profile.kv_tokens}"
            )
        self.waiting.append(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Forget a sequence that nobody waits for any more."""
        if sequence.done:
            return
        sequence.done = True
        self._free(sequence)
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)

    def plan(self, start_ns: int) -> Step | None:
        """Decide the step that starts now; None where there is nothing to do.

        A sequence that arrives later than `start_ns` is not admitted; where nothing else is to be done, the
        step starts when it arrives.
        """
        if not self.running and self.waiting:
            start_ns = max(start_ns, self.waiting[0].arrival_ns)
        budget = self.profile.max_num_batched_tokens
        work: list[Sequence] = []
        prefill = 0
        preempted = False
        while len(work) < len(self.running) and budget:
            sequence = self.running[len(work)]
            need = min(sequence.prompt_tokens + sequence.generated - sequence.kv, budget)
            if self.kv_used + need > self.profile.kv_tokens:
                self._preempt_last()
                preempted = True
                continue
            sequence.kv += need
            self.kv_used += need
            budget -= need
            if need > 1 or not sequence.generated:
                prefill += need
            work.append(sequence)
        if not preempted:
            prefill += self._admit(start_ns, budget, work)
        if not work:
            return None
        jitter = max(-3.0, min(3.0, self._random.gauss())) * self.profile.jitter
        step_ms = self.profile.step_ms(len(work), self.kv_used, prefill) * (1 + jitter)
        return Step(start_ns, start_ns + round(step_ms * 1e6), work, prefill)

    def complete(self, step: Step) -> list[Sequence]:
        """Account for a step that is over; returns the sequences that got a token, in order of arrival."""
        emitted = []
        for sequence in step.sequences:
            if sequence.done or sequence.kv < sequence.prompt_tokens + sequence.generated:
                continue  # aborted meanwhile, or its prompt is not through yet
            if sequence.first_ns is None:
                sequence.first_ns = step.end_ns
                self._cache.remember(sequence.prefix)
            if sequence.last_ns is not None:
                sequence.gap_ns = step.end_ns - sequence.last_ns
            sequence.generated += 1
            sequence.last_ns = step.end_ns
            emitted.append(sequence)
            if sequence.generated == sequence.max_tokens:
                sequence.done = True
                self._free(sequence)
        self.running = [sequence for sequence in self.running if not sequence.done]
        return emitted

    def _admit(self, start_ns: int, budget: int, work: list[Sequence]) -> int:
        prefill = 0
        while self.waiting and budget and len(self.running) < self.profile.max_num_seqs:
            sequence = self.waiting[0]
            total = sequence.prompt_tokens + sequence.generated
            if sequence.arrival_ns > start_ns:
                break
            if self.kv_used + total > self.profile.kv_tokens:
                break  # the whole prompt must fit, or it would be admitted only to be preempted
            self.waiting.popleft()
            hit = self._cache.hit_tokens(sequence.prefix, sequence.prompt_tokens)
            need = min(total - hit, budget)
            if sequence.scheduled_ns is None:
                sequence.scheduled_ns = start_ns
                self.prefix_queries += sequence.prompt_tokens
                self.prefix_hits += hit
            sequence.kv = hit + need
            self.kv_used += sequence.kv
            budget -= need
            prefill += need
            self.running.append(sequence)
            work.append(sequence)
        return prefill

    def _preempt_last(self) -> None:
        sequence = self.running.pop()
        self._free(sequence)
        self.waiting.appendleft(sequence)
        self.preemptions += 1

    def _free(self, sequence: Sequence) -> None:
        self.kv_used -= sequence.kv
        sequence.kv = 0
