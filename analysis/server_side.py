"""The client's account joined with the server's: what a run says twice, side by side.

The window is joined between the readings of /metrics that enclose it, so requests that were under way at its
edges count on both sides with what happened of them in between. The whole run is joined from the first
reading, before any request, to the last, after all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .little import Law, client_law, server_law
from .readings import Readings, read
from .rundir import Run
from .server_alone import choices
from .ttft_parts import TtftOrder, TtftParts, order, take_apart

REASONS = ("stop", "length", "error", "repetition")

DEFAULT_BLOCK = 16
"""Tokens that vLLM caches together, where it does not say so."""

VOCABULARY = 100
"""Words that our prompts are made of, at least: where two prompts share their first word by chance."""

LAST_SHARE, LAST_READINGS = 0.1, 3
"""The end of the window, for what stands at its end: its last tenth, and at least so many readings."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Both accounts between two readings. None stands for what is not known, never for zero.

    Times are means over the requests that the server counted meanwhile; `client_*` are of our records.
    """

    from_unix_ns: int
    to_unix_ns: int
    readings: int
    requests: int | None  # that ended, aborted ones left out
    aborted: int | None
    finished: Mapping[str, int]  # by the server's reason
    client_requests: int  # that ended ok, times their choices
    client_failed: int  # that ended otherwise
    prompt_tokens: int | None
    prompt_tokens_cached: int | None
    generation_tokens: int | None
    preemptions: int | None
    prefix_cache_queries: int | None  # in tokens
    prefix_cache_hits: int | None
    ttft_ms: float | None
    itl_ms: float | None
    queue_ms: float | None
    prefill_ms: float | None
    decode_ms: float | None
    e2e_ms: float | None
    running_mean: float | None
    waiting_mean: float | None
    kv_cache_usage_max: float | None
    ttft: TtftParts | None


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """The share of prompt tokens that the server had cached, and what prompts made of random words allow.

    They share the chat template's beginning, which is at most all that is no word of the shortest prompt;
    and by chance as many first words as it takes to tell the requests apart, log(requests) / log(VOCABULARY).
    Whole blocks of that may be hit. `allowed_share` is None where the prompts do not claim to be unique.
    """

    hit_share: float
    allowed_share: float | None


@dataclass(frozen=True, slots=True)
class ServerSide:
    """Everything that the two accounts say about each other. All but `client_law` needs /metrics."""

    client_law: Law | None
    server_law: Law | None
    ttft_order: TtftOrder | None
    prefix_cache: PrefixCache | None
    waiting_at_end: tuple[float, ...]  # at the window's last readings; open loop only
    restarts: int
    window: Joined | None
    whole: Joined | None


def join(run: Run) -> ServerSide:
    """Join a run's two accounts."""
    readings = read(run)
    if readings is None:
        return ServerSide(client_law(run), None, None, None, (), 0, None, None)
    first, last = readings.enclosing(*run.window_ns)
    end = len(readings.at_ns) - 1
    return ServerSide(
        client_law=client_law(run),
        server_law=server_law(run, readings, first, last) if first < last else None,
        ttft_order=order(run, readings),
        prefix_cache=_prefix_cache(run, readings, first, last),
        waiting_at_end=_waiting_at_end(run, readings),
        restarts=readings.restarts,
        window=_joined(run, readings, first, last) if first < last else None,
        whole=_joined(run, readings, 0, end),
    )


def _joined(run: Run, readings: Readings, first: int, last: int) -> Joined:
    from_ns, to_ns = int(readings.at_ns[first]), int(readings.at_ns[last])
    ended = run.requests.due_unix_ns + run.requests.end_ns
    outcome = run.requests.outcome[(from_ns < ended) & (ended <= to_ns)]
    ok = int((outcome == "ok").sum())

    def grown(column: str) -> int | None:
        value = readings.grown(column, first, last)
        return None if value is None else round(value)

    def mean_ms(name: str) -> float | None:
        return readings.mean_ms(name, first, last)

    reasons = {reason: grown(f"finished_{reason}") for reason in REASONS}
    return Joined(
        from_unix_ns=from_ns,
        to_unix_ns=to_ns,
        readings=last - first + 1,
        requests=grown("finished"),
        aborted=grown("aborted"),
        finished={reason: count for reason, count in reasons.items() if count is not None},
        client_requests=ok * choices(run),
        client_failed=len(outcome) - ok,
        prompt_tokens=grown("prompt_tokens"),
        prompt_tokens_cached=grown("prompt_tokens_cached"),
        generation_tokens=grown("generation_tokens"),
        preemptions=grown("preemptions"),
        prefix_cache_queries=grown("prefix_cache_queries"),
        prefix_cache_hits=grown("prefix_cache_hits"),
        ttft_ms=mean_ms("ttft"),
        itl_ms=mean_ms("itl"),
        queue_ms=mean_ms("queue"),
        prefill_ms=mean_ms("prefill"),
        decode_ms=mean_ms("decode"),
        e2e_ms=mean_ms("e2e"),
        running_mean=_mean(readings.gauge("running")[first : last + 1]),
        waiting_mean=_mean(readings.gauge("waiting")[first : last + 1]),
        kv_cache_usage_max=_largest(readings.gauge("kv_cache_usage")[first : last + 1]),
        ttft=take_apart(run, readings, first, last),
    )


def _prefix_cache(run: Run, readings: Readings, first: int, last: int) -> PrefixCache | None:
    queries = readings.grown("prefix_cache_queries", first, last)
    hits = readings.grown("prefix_cache_hits", first, last)
    if not queries or hits is None:
        return None  # switched off, or not told
    return PrefixCache(hits / queries, _allowed_share(run, readings))


def _allowed_share(run: Run, readings: Readings) -> float | None:
    workload, tokens = run.meta["workload"], run.requests.prompt_tokens.dropna()
    words, extra = workload.get("prompt_words"), workload.get("extra_body") or {}
    counts = run.meta.get("server_counts")
    ours = isinstance(counts, dict) and counts.get("exclusive")
    unique = isinstance(words, list) and len(words) == 2 and not extra.keys() & {"messages", "prompt"}
    if not (ours and unique and len(tokens)):
        return None
    size = _largest(readings.gauge("block_size"))
    block = int(size) if size else DEFAULT_BLOCK
    template = max(0, int(tokens.min()) - int(words[0]))
    by_chance = int(np.ceil(np.log(len(run.requests)) / np.log(VOCABULARY)))
    shared = (template + by_chance) // block * block / float(tokens.mean())
    own = 1 / choices(run)  # further choices have the prompt of the first
    return min(1.0, shared * own + 1 - own)


def _waiting_at_end(run: Run, readings: Readings) -> tuple[float, ...]:
    if run.meta["load"].get("loop") != "open":
        return ()  # more users than the server takes at once: some of them always wait
    start, end = run.window_ns
    waiting = readings.gauge("waiting")[(start <= readings.at_ns) & (readings.at_ns < end)]
    waiting = waiting[~np.isnan(waiting)]
    return tuple(waiting[-max(LAST_READINGS, round(LAST_SHARE * len(waiting))) :].tolist())


def _mean(values: np.ndarray) -> float | None:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def _largest(values: np.ndarray) -> float | None:
    values = values[~np.isnan(values)]
    return float(values.max()) if len(values) else None
