"""What a request and a token cost this machine at least, and whether a load could ever be carried.

Measured before the run, in CPU time, with everything that a worker does for them except sockets to elsewhere:
the real cost is higher, so what is refused here is impossible, and what is not may still be too much (the
gates will say so).
"""

import math
import time
from typing import NamedTuple, cast

import gevent

from locustfiles._http import ResponseDecoder
from locustfiles._ledger import Ledger
from locustfiles._options import SECOND_NS, Settings
from locustfiles._reply import Call, Deadlines, Ending, judge_end, take
from locustfiles._wire import WireTransport, reading_ns
from locustfiles._worker import Load
from locustfiles._workload import Workload

TOKENS = 1000
REQUESTS = 100
ROUNDS = 3  # the quickest counts: whatever else the machine does only adds
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n'
)
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
SAMPLE = Settings(
    scenario="chat",
    workload=Workload("chat", "m", (40, 160), (64, 64), 1, 1, ignore_eos=False, per_chunk_usage=False),
    deadlines=Deadlines(*(SECOND_NS,) * 4),
    transport="wire",
    verify=True,
    think_s=0.0,
    arrivals="poisson",
)


class Cost(NamedTuple):
    """CPU time of one process: the least that a request and each of its tokens take."""

    request_ns: float
    token_ns: float


class _Answered:
    """A transport whose every answer is there at once: one token."""

    def exchange(self, call: Call) -> str:
        decoder = ResponseDecoder()
        decoder.decode(HEAD)
        take(decoder.decode(CHUNK), call.timer, call.timer.due_at_ns)
        call.timer.done = True
        outcome, detail = judge_end(call.timer, call.choices, None)
        end_ns = call.timer.due_at_ns
        call.ended(Ending(outcome, detail, end_ns, 200, len(EVENT), 1, [0], "reused", "kernel", 0))
        return outcome

    def close(self) -> None:
        pass


def measure() -> Cost:
    """Measure it here and now; takes some 50 ms."""
    request_ns = min(_request_ns() for _ in range(ROUNDS))
    return Cost(request_ns, min(reading_ns(HEAD, CHUNK, TOKENS) for _ in range(ROUNDS)))


def _request_ns() -> float:
    ledger = Ledger("", "")
    load = Load(SAMPLE, "http://localhost", ledger, 0, lambda _: None)
    load.close()
    load.transport = cast("WireTransport", _Answered())
    begun_ns = time.thread_time_ns()
    for _ in range(REQUESTS):
        gevent.spawn(load.request, time.perf_counter_ns()).join()
    ledger.report(final=True)
    return (time.thread_time_ns() - begun_ns) / REQUESTS


def too_much(settings: Settings, users: int, costs: list[Cost]) -> str:
    """Say why an open loop of so many users cannot be carried by processes of these costs; "" if it may be.

    Only what is certain counts: requests are sent whatever happens, but an answer may be one token long
    unless --ignore-eos makes it as long as was asked.
    """
    workload, total = settings.workload, users * settings.rate_per_user
    tokens = sum(workload.max_tokens) / 2 * workload.choices if workload.ignore_eos else 1.0
    worst = max(costs, key=lambda cost: cost.request_ns + tokens * cost.token_ns)
    share = total / len(costs) * (worst.request_ns + tokens * worst.token_ns) / 1e9
    if share <= 1:
        return ""
    each = f" of {tokens:,.0f} tokens" if workload.ignore_eos else ""
    workers = f"{len(costs)} worker{'s' if len(costs) > 1 else ''}"
    return (
        f"--users: found {total:,.0f} arrivals a second{each} on {workers}: at least {share:.1f} s of CPU "
        f"a second for each (measured there: {worst.request_ns / 1e3:.0f} us a request, "
        f"{worst.token_ns / 1e3:.1f} us a token), expected at most 1; "
        f"fewer than {math.ceil(share * len(costs))} workers cannot carry it"
    )
