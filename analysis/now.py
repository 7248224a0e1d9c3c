"""How a run that goes on stands at this moment: its last seconds, where the whole is slow to tell.

A server that breaks makes requests of one moment so much alike that an interval of the whole run says
nothing: five minutes of good ones and one of bad ones are two events. So the last seconds are looked at by
themselves, and as nobody knows how alike their requests are, all of them together are worth the fewest events
that are given an interval. That can show a FAIL and never a PASS, and it lasts as long as what it shows.

Requests count by when they ended: of those that were due a moment ago only the quickest have rows yet.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from .evidence import Evidence, Part
from .objective import FAIL, WORTH_UNKNOWN, untimed
from .samples import BoolArray, gap_tally, request_sample
from .sla import POOLED_METRICS, ErrorRate, Goodput, Latency, Limit, Objective

NOW_S = 10


class _Seen(NamedTuple):
    """Bad events of all in the last seconds."""

    bad: int
    n: int
    seconds: float = NOW_S


def failing_now(evidence: Evidence, objective: Objective) -> str:
    """Say why an objective does not hold in the last seconds of a run; empty where nothing shows that."""
    if not isinstance(objective, Latency | ErrorRate | Goodput):
        return ""  # a rate has no bad events
    if isinstance(objective, Latency) and objective.percentile is None:
        return ""  # nor has a mean
    seen = _seen(evidence, objective)
    if seen.n < WORTH_UNKNOWN:
        return ""
    status, reason = untimed(seen.bad, seen.n, objective.allowed_share)
    return f"in the last {seen.seconds:.0f} s: {reason}" if status == FAIL else ""


def _seen(evidence: Evidence, objective: Latency | ErrorRate | Goodput) -> _Seen:
    if isinstance(objective, Latency) and objective.limit.metric in POOLED_METRICS:
        return _gaps(evidence, objective)
    frame, seconds = _latest(evidence, objective)
    failed = ~frame.outcome.isin(("ok", "cancelled")).to_numpy()
    if isinstance(objective, ErrorRate):
        return _Seen(int(failed.sum()), len(frame), seconds)
    if isinstance(objective, Goodput):
        late = [_beyond(frame, limit)[0] for limit in objective.limits]
        return _Seen(int(np.logical_or.reduce([failed, *late]).sum()), len(frame), seconds)
    bad, defined = _beyond(frame, objective.limit)
    return _Seen(int(bad[defined].sum()), int(defined.sum()), seconds)


def _latest(evidence: Evidence, objective: Objective) -> tuple[pd.DataFrame, float]:
    """Return what ended in the last seconds, or the last few requests where those are fewer."""
    scope, frame = objective.scope, evidence.frame
    due_ns = frame.due_unix_ns - evidence.window_ns[0]
    within = due_ns >= scope.start_ns
    if scope.end_ns is not None:
        within &= due_ns < scope.end_ns
    if scope.scenario is not None:
        within &= frame.scenario == scope.scenario
    frame = frame[within]
    ended = (frame.due_unix_ns + frame.end_ns).to_numpy()
    if len(ended) < WORTH_UNKNOWN:
        return frame, NOW_S
    few_ns, now_ns = int(np.partition(ended, -WORTH_UNKNOWN)[-WORTH_UNKNOWN]), int(ended.max())
    from_ns = min(few_ns, now_ns - NOW_S * 10**9)
    return frame[ended >= from_ns], (now_ns - from_ns) / 1e9


def _beyond(frame: pd.DataFrame, limit: Limit) -> tuple[BoolArray, BoolArray]:
    sample = request_sample(frame, limit.metric)
    return sample.beyond(limit)[0], sample.defined


def _gaps(evidence: Evidence, objective: Latency) -> _Seen:
    """Count the gaps of the last seconds that are logged."""
    seconds = evidence.gaps(objective.limit.metric).log.seconds
    if not len(seconds):
        return _Seen(0, 0)
    end_ns = (int(seconds.max()) + 1) * 10**9
    part = evidence.part(Part(end_ns - NOW_S * 10**9, end_ns, objective.scope.scenario))
    tally = gap_tally(part.gaps(objective.limit.metric), objective.limit, objective.allowed_share)
    return _Seen(tally.bad, tally.n)
