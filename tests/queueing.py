"""An experiment on a server whose law is known: M/M/c, whose waiting times and capacity have closed forms.

A request waits for one of `channels` and then holds it for an exponential time; its first token comes
BASE_MS after the wait. So the share of requests beyond a TTFT limit is Erlang's C times an exponential, and
the load at which it reaches 5 % is the capacity that a plan must enclose.
"""

import heapq
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.experiments import measured
from tests.run_directories import START_S, Requests, gaps_of, make_record

BASE_MS = 45.0
ITL_MS = [8.0, 8.0, 8.0]
SLA_YAML = "name: first token\nobjectives:\n  - ttft p95 < 100 ms\n  - error_rate < 5 %\n"


@dataclass(frozen=True)
class Queue:
    """`channels` servers of a mean holding time (s); the highest stable rate is their ratio."""

    channels: int = 2
    holding_s: float = 0.05

    def late_share(self, rate_per_s: float, limit_ms: float) -> float:
        """Return the share of requests whose first token comes later than a limit (Erlang C)."""
        offered = rate_per_s * self.holding_s
        if offered >= self.channels:
            return 1.0
        terms = [offered**k / math.factorial(k) for k in range(self.channels)]
        last = offered**self.channels / math.factorial(self.channels)
        last *= self.channels / (self.channels - offered)
        waits = last / (sum(terms) + last)
        return waits * math.exp(-(self.channels - offered) / self.holding_s * (limit_ms - BASE_MS) / 1e3)

    def percentile_ms(self, rate_per_s: float, allowed: float) -> float:
        """Return the TTFT (ms) that so many exceed; BASE_MS where fewer wait at all."""
        waits = self.late_share(rate_per_s, BASE_MS)
        leaving_per_s = self.channels / self.holding_s - rate_per_s
        return BASE_MS + max(0.0, math.log(waits / allowed) / leaving_per_s) * 1e3

    def capacity_per_s(self, limit_ms: float, allowed: float) -> float:
        """Return the rate at which as many requests are late as are allowed, by bisection."""
        low, high = 0.0, self.channels / self.holding_s
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (middle, high) if self.late_share(middle, limit_ms) < allowed else (low, middle)
        return low


def requests_of(queue: Queue, rate_per_s: float, seconds: int, seed: int) -> Requests:
    """Simulate a run: Poisson arrivals, first come first served."""
    rng = np.random.default_rng(seed)
    n = rng.poisson(rate_per_s * seconds)
    due = np.sort(rng.uniform(0, seconds, n))
    free = [0.0] * queue.channels
    made: Requests = []
    for i, (at, holding) in enumerate(zip(due, rng.exponential(queue.holding_s, n), strict=True)):
        begin = max(at, heapq.heappop(free))
        heapq.heappush(free, begin + holding)
        record = make_record(START_S * 10**9 + int(at * 1e9), BASE_MS + (begin - at) * 1e3, ITL_MS)
        record = record._replace(worker=f"w{i % 2}", request=i // 2)
        made.append((record, gaps_of(record, ITL_MS)))
    return made


def write_experiment(  # noqa: PLR0913 - knobs of one experiment
    folder: Path,
    levels: Sequence[int],
    *,
    servers: Sequence[tuple[str, Queue]] = (("mine", Queue()),),
    blocks: int = 1,
    seconds: int = 60,
    seed: int = 1,
    **knobs: Any,
) -> Path:
    """Write an experiment's directory as `tokenswarm run` leaves it: plan.json, runs, their SLA."""
    names = []
    for block in range(1, blocks + 1):
        for number, (server, queue) in enumerate(servers):
            for level in levels:
                made = requests_of(queue, level, seconds, seed + 1000 * block + 100 * number + level)
                given = {"loop": "open", "seconds": seconds, **knobs, "requests": made}
                path = measured(folder, server, baseline=servers[0][0], level=level, block=block, **given)
                (path / "sla.yaml").write_text(SLA_YAML)
                names.append(path.name)
    plan = {"servers": [name for name, _ in servers], "runs": names}
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder
