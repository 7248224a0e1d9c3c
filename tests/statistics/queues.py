"""Queues whose truth is known: what the coverage figures are drawn from.

M/M/1 by Lindley's recursion, where everything about the sojourn time is known; and the simulator's own
scheduler without sockets, whose truth is the average over all its runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from server.sim.profiles import BASELINE
from server.sim.scheduler import Scheduler, Sequence

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CHUNK = 2_000_000
"""So many values are drawn at a time."""


def mm1(
    rho: float, requests: int, runs: int, rng: np.random.Generator, *, empty: bool = False
) -> Iterator[FloatArray]:
    """Yield the sojourn times of one run after another, in order of arrival; the mean service takes 1.

    A run starts as a queue that has gone on forever, or empty. Lindley 1952: a request waits
    W[n+1] = max(0, W[n] + service[n] - gap[n]), which is a random walk less its lowest point so far.
    """
    together = max(1, CHUNK // requests)
    for first in range(0, runs, together):
        shape = (min(together, runs - first), requests)
        service = rng.exponential(1.0, shape)
        step = service[:, :-1] - rng.exponential(1 / rho, (shape[0], requests - 1))
        walk = np.concatenate([np.zeros((shape[0], 1)), np.cumsum(step, axis=1)], axis=1)
        busy = rng.random((shape[0], 1)) < rho
        found = 0.0 * busy if empty else busy * rng.exponential(1 / (1 - rho), busy.shape)
        wait = np.maximum(walk + found, walk - np.minimum.accumulate(walk, axis=1))
        yield from wait + service


def mm1_quantile(rho: float, q: float) -> float:
    """Return the true quantile of the sojourn time: it is exponential with mean 1 / (1 - rho)."""
    return float(-np.log(1 - q) / (1 - rho))


@dataclass(frozen=True)
class Batching:
    """A run of the batching server: TTFT (ms) in due order, and the gaps (ns) of each second of due time."""

    ttft_ms: FloatArray
    gaps_ns: list[IntArray]


SMALL = replace(BASELINE, max_num_seqs=24)
"""A server that makes requests wait at moderate loads."""


def batching(rate: float, seconds: int, seed: int, tokens: int = 8) -> Batching:
    """Play an open loop (Poisson) against the scheduler; 5 s of it come before what is returned."""
    rng = np.random.default_rng(seed)
    warmup_s, per_second = 5, 10**9
    scheduler = Scheduler(SMALL, seed)
    due = np.sort(rng.uniform(0, warmup_s + seconds, rng.poisson(rate * (warmup_s + seconds)))) * per_second
    words = rng.integers(40, 161, len(due))
    asked = [
        Sequence(prompt_tokens=int(size), max_tokens=tokens, arrival_ns=int(at))
        for at, size in zip(due, words, strict=True)
    ]
    gaps: list[list[int]] = [[] for _ in range(warmup_s + seconds)]
    now, following = 0, 0
    while following < len(asked) or scheduler.running or scheduler.waiting:
        if not scheduler.running and not scheduler.waiting:
            now = max(now, asked[following].arrival_ns)
        while following < len(asked) and asked[following].arrival_ns <= now:
            scheduler.add(asked[following])
            following += 1
        step = scheduler.plan(now)
        assert step is not None
        for one in scheduler.complete(step):
            if one.gap_ns is not None:
                gaps[one.arrival_ns // per_second].append(one.gap_ns)
        now = step.end_ns
    ttft = np.array([(one.first_ns or 0) - one.arrival_ns for one in asked], dtype=np.float64) / 1e6
    kept = due >= warmup_s * per_second
    return Batching(ttft[kept], [np.array(second, dtype=np.int64) for second in gaps[warmup_s:]])
