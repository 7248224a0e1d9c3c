"""Model mode: the scheduler put on the clock. Each step ends at a time fixed in advance: nothing drifts."""

from collections import Counter
from dataclasses import dataclass
from time import perf_counter_ns
from zlib import crc32

from .api import Generation, unit
from .chunks import quoted
from .clock import Alarm
from .metrics import Stats
from .prefix import block_keys
from .profiles import Profile
from .replies import StreamedReply, WholeReply
from .scheduler import Scheduler, Sequence, Step
from .tokens import WORDS, natural_length

_QUOTED = [quoted(word) for word in WORDS]
_NO_FIRST_WORDS = 3  # an answer does not begin with the empty word nor next to it


@dataclass(slots=True, eq=False)
class Answer:
    """One request in the engine: as many sequences as choices."""

    generation: Generation
    reply: StreamedReply | WholeReply
    sequences: list[Sequence]
    stops: list[bool]  # for each choice: it ends by itself, not at max_tokens
    open: int


class Engine:
    """Runs one step after the other while there is work."""

    def __init__(self, profile: Profile, seed: int, alarm: Alarm, stats: Stats) -> None:
        """`seed` decides on jitter and on where answers end."""
        self.scheduler = Scheduler(profile, seed)
        self._profile = profile
        self._seed = seed
        self._alarm = alarm
        self._stats = stats
        self._step: Step | None = None

    def submit(self, generation: Generation, reply: StreamedReply | WholeReply, received_ns: int) -> Answer:
        """Queue a request; it starts at once where the engine is idle, else with the next step."""
        answer = Answer(generation, reply, [], [], 0)
        for prompt, prompt_tokens in zip(generation.prompts, generation.prompt_tokens, strict=True):
            prefix = block_keys(prompt, unit(prompt))
            key = crc32(prompt.encode(errors="replace") if isinstance(prompt, str) else repr(prompt).encode())
            for _ in range(generation.n):
                self._add_choice(
                    answer, prompt_tokens, prefix, f"{self._seed}:{generation.seed}:{key}", received_ns
                )
        answer.open = len(answer.sequences)
        reply.start()
        if self._step is None:
            self._begin(received_ns)
        return answer

    def abort(self, answer: Answer) -> None:
        """Drop a request whose client left."""
        now = perf_counter_ns()
        for sequence in answer.sequences:
            if not sequence.done:
                self.scheduler.abort(sequence)
                self._count_end(sequence, "abort", now)
        answer.reply.abort(sum(sequence.generated for sequence in answer.sequences))

    def gauges(self) -> dict[str, float]:
        """Return what /metrics shows of the queues, by name."""
        scheduler = self.scheduler
        return {
            "num_requests_running": len(scheduler.running) + self._stats.scripted_running,
            "num_requests_waiting": len(scheduler.waiting),
            "kv_cache_usage_perc": scheduler.kv_used / self._profile.kv_tokens,
        }

    def counters(self) -> dict[str, int]:
        """Return what /metrics counts of the scheduler, by name."""
        return {
            "num_preemptions": self.scheduler.preemptions,
            "prefix_cache_queries": self.scheduler.prefix_queries,
            "prefix_cache_hits": self.scheduler.prefix_hits,
            "prompt_tokens_cached": self.scheduler.prefix_hits,
        }

    def _add_choice(
        self, answer: Answer, prompt_tokens: int, prefix: tuple[int, ...], seed: str, received_ns: int
    ) -> None:
        generation, index = answer.generation, len(answer.sequences)
        natural = max(generation.min_tokens, natural_length(f"{seed}:{index % generation.n}"))
        stops = not generation.ignore_eos and natural <= generation.max_tokens
        sequence = Sequence(
            prompt_tokens=prompt_tokens,
            max_tokens=natural if stops else generation.max_tokens,
            arrival_ns=received_ns,
            prefix=prefix,
            answer=answer,
            index=index,
            text_offset=natural % (len(WORDS) - _NO_FIRST_WORDS),
        )
        answer.sequences.append(sequence)
        answer.stops.append(stops)
        self.scheduler.add(sequence)

    def _begin(self, start_ns: int) -> None:
        self._step = self.scheduler.plan(start_ns)
        if self._step is not None:
            self._alarm.at(self._step.end_ns, self._end)

    def _end(self, due_ns: int) -> None:
        step, stats = self._step, self._stats
        assert step is not None  # noqa: S101 - the alarm was set for it
        emitted = self.scheduler.complete(step)
        stats.generation_tokens += len(emitted)
        for sequence in emitted:
            generated = sequence.generated
            if generated == 1:
                self._count_first(sequence, due_ns)
            text = _QUOTED[(sequence.text_offset + generated - 1) % len(_QUOTED)]
            if sequence.done:
                self._last(sequence, text, due_ns)
            else:
                sequence.answer.reply.token(sequence.index, text, generated, None)
        gaps = Counter(sequence.gap_ns for sequence in emitted)  # nearly all share one
        for gap_ns, count in gaps.items():
            if gap_ns is not None:
                stats.itl.observe(gap_ns, count)
        self._begin(due_ns)

    def _count_first(self, sequence: Sequence, now_ns: int) -> None:
        self._stats.prompt_tokens += sequence.prompt_tokens
        self._stats.ttft.observe(now_ns - sequence.arrival_ns)

    def _last(self, sequence: Sequence, text: bytes, now_ns: int) -> None:
        answer = sequence.answer
        # an answer that ends by itself ends with a token that has no text
        reason, text = ("stop", b"") if answer.stops[sequence.index] else ("length", text)
        answer.reply.token(sequence.index, text, sequence.generated, reason)
        self._count_end(sequence, reason, now_ns)
        answer.open -= 1
        if not answer.open:
            answer.reply.finish(sum(one.generated for one in answer.sequences))

    def _count_end(self, sequence: Sequence, reason: str, end_ns: int) -> None:
        self._stats.end(
            reason,
            arrival_ns=sequence.arrival_ns,
            scheduled_ns=sequence.scheduled_ns,
            first_ns=sequence.first_ns,
            last_ns=sequence.last_ns,
            end_ns=end_ns,
        )
