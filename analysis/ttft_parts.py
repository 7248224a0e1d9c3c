"""TTFT taken apart: how long our request waited where, in the mean, from the client's times and the server's.

Means add up exactly; percentiles do not, so there are none here. The server tells sums and counts, therefore
its parts are exact means over the requests that it counted between two readings: those whose first token
came then (TTFT), those that ended then (queue, prefill). Ours are those whose first token reached us then.
The three sets differ by the few requests that straddle a reading; their sizes stand beside.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from .readings import Readings
from .rundir import Run
from .server_alone import why_not_alone

EDGE_NS = 10**9
"""A first token that the server counted between two readings reached us at most this long before or after."""


@dataclass(frozen=True, slots=True)
class TtftParts:
    """The mean time from due to first token between two readings, in ms, by where it was spent.

    client = dispatch + connect + network + handover + queue + prefill. Only `network` and `handover` are
    differences (client's time from sent - server's TTFT; server's TTFT - queue - prefill); the others were
    measured. A part that is negative says that the two sides do not speak of the same requests.
    """

    client_ms: float  # due to first token
    server_ms: (
        float  # the server's TTFT: from a request that it has read to the first token in its API process
    )
    dispatch_ms: float  # due to sent, without connecting: the load generator's lateness
    connect_ms: float
    network_ms: float  # to the server and back, and its HTTP: everything before and after its own clock
    handover_ms: float  # not explained: tokenising, the way to the engine and back, the step that was running
    queue_ms: float
    prefill_ms: float
    client_requests: int  # whose first token came in between
    server_requests: int  # by the server's count of TTFT
    server_ended: int  # by its count of prefill times


class Part(NamedTuple):
    """One layer of a stacked bar."""

    label: str
    ms: float


def stack(parts: TtftParts) -> tuple[Part, ...]:
    """Return the parts in order of time, as they are stacked; their sum is `client_ms`."""
    return (
        Part("dispatch", parts.dispatch_ms),
        Part("connect", parts.connect_ms),
        Part("network and HTTP", parts.network_ms),
        Part("hand-over to the engine", parts.handover_ms),
        Part("queue", parts.queue_ms),
        Part("prefill", parts.prefill_ms),
    )


def take_apart(run: Run, readings: Readings, first: int, last: int) -> TtftParts | None:
    """Take TTFT apart between two readings.

    None where either side has nothing to say, or the two would not speak of the same thing: the server also
    counts the first token of each further choice, and the requests of others.
    """
    server = {name: readings.mean_ms(name, first, last) for name in ("ttft", "queue", "prefill")}
    ours = _first_tokens(run, int(readings.at_ns[first]), int(readings.at_ns[last]))
    if None in server.values() or not len(ours) or why_not_alone(run, readings):
        return None
    ttft_ms, queue_ms, prefill_ms = (value or 0.0 for value in server.values())
    client_ms, sent_ms = (float(ours[name].mean()) / 1e6 for name in ("first_ns", "sent_ns"))
    connect_ms = float(ours.connect_ns.mean()) / 1e6
    return TtftParts(
        client_ms=client_ms,
        server_ms=ttft_ms,
        dispatch_ms=sent_ms - connect_ms,
        connect_ms=connect_ms,
        network_ms=client_ms - sent_ms - ttft_ms,
        handover_ms=ttft_ms - queue_ms - prefill_ms,
        queue_ms=queue_ms,
        prefill_ms=prefill_ms,
        client_requests=len(ours),
        server_requests=round(readings.grown("ttft_count", first, last) or 0),
        server_ended=round(readings.grown("prefill_count", first, last) or 0),
    )


@dataclass(frozen=True, slots=True)
class TtftOrder:
    """Nobody can see a first token before the server made it: sums of TTFT (s) over the whole run.

    `client_s` is over every request of ours whose first token the server can have counted: where the first
    reading came after the first request, those around it too, so that client_s < server_s is impossible.
    """

    server_s: float
    server_requests: int
    client_s: float
    client_requests: int

    @property
    def ok(self) -> bool:
        """Whether it is possible."""
        return self.server_s <= self.client_s


def order(run: Run, readings: Readings) -> TtftOrder | None:
    """Compare the two sides' TTFT from sent to first token; None where they are not comparable.

    They are not where a request ended without a first token here: the server may have counted one.
    """
    last = len(readings.at_ns) - 1
    server_s, requests = readings.grown("ttft_sum_s", 0, last), readings.grown("ttft_count", 0, last)
    if server_s is None or not requests or why_not_alone(run, readings) or run.requests.first_ns.isna().any():
        return None
    ours = _first_tokens(run, int(readings.at_ns[0]) - EDGE_NS, int(readings.at_ns[last]) + EDGE_NS)
    client_s = float((ours.first_ns - ours.sent_ns).sum()) / 1e9
    return TtftOrder(server_s, round(requests), client_s, len(ours))


def _first_tokens(run: Run, from_ns: int, to_ns: int) -> pd.DataFrame:
    """Return the requests whose first token came in (from, to]."""
    frame = run.requests[run.requests.first_ns.notna()]
    at_ns = frame.due_unix_ns.to_numpy() + frame.first_ns.to_numpy().astype(np.int64)
    return frame[(from_ns < at_ns) & (at_ns <= to_ns)]
