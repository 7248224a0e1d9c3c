"""Validity gates that need the server's own account: both sides must tell the same story.

An equation that is broken makes the run INVALID, and both its sides are printed: somebody has miscounted, and
no figure of the run can be believed until it is known who. What bends a result without making it wrong is a
warning.
"""

import math

from .gates import Gate
from .little import Law
from .rundir import Run
from .server_alone import choices
from .server_side import Joined, PrefixCache, ServerSide
from .ttft_parts import TtftOrder

FAR = 2.0
"""Off by less, a server may count otherwise than we think; off by this factor, somebody has miscounted."""

FULL = 0.95
"""A KV cache that is read to be this full once a second has been full in between, or will be."""


def check_server(run: Run, side: ServerSide) -> tuple[Gate, ...]:
    """Check what the server says of itself and of us, in the order of printing."""
    return (
        *_lived(run, side.restarts),
        *_equal_counts(run, side.restarts),
        *_laws(side),
        *_ttft(side.ttft_order),
        *_caches(side.prefix_cache, side.window),
        *_queue(side.waiting_at_end),
    )


def _lived(run: Run, restarts: int) -> list[Gate]:
    facts = run.meta.get("server")
    ended = facts.get("ended") if isinstance(facts, dict) else None
    gates = []
    if ended:
        gates.append(Gate("server", f"gone: {ended}", "there to the end", ok=False, severity="warning"))
    if restarts:
        found = f"fell back {restarts:,} times: started anew, or several servers behind one address"
        gates.append(Gate("server's counters", found, "only grow", ok=False, severity="warning"))
    return gates


def _equal_counts(run: Run, restarts: int) -> list[Gate]:
    """Compare counts over the whole run: equal where all went well, at least ours elsewhere."""
    counts = run.meta.get("server_counts")
    if not isinstance(counts, dict):
        return [Gate("requests = server's", "not scraped", "equal", ok=True, severity="note")]
    # A server that was started anew has forgotten what it counted.
    severity = "invalid" if counts.get("exclusive") and not restarts else "note"
    frame = run.requests
    ok = frame.output_tokens[frame.outcome == "ok"]
    failed = len(frame) - len(ok)
    tokens = int(ok.sum())
    gates = []
    pairs = [
        ("requests", len(ok) * choices(run), counts.get("requests")),
        ("tokens", tokens, counts.get("generation_tokens")),
    ]
    for name, client, server in pairs:
        if server is None or (name == "tokens" and ok.isna().any()):
            gates.append(Gate(f"{name} = server's", "unknown", "equal", ok=True, severity="note"))
            continue
        found = f"client {client:,}, server {server:,}" if client != server else f"{client:,} both"
        # A request that failed here may have been served in part, and the server counts that part.
        in_part = failed * choices(run) if name == "requests" else math.inf if failed else 0
        limit = f"equal ({failed:,} failed here)" if failed else "equal"
        equal = bool(client <= server <= client + in_part)
        gates.append(Gate(f"{name} = server's", found, limit, equal, severity))
    return gates


def _laws(side: ServerSide) -> list[Gate]:
    gates = []
    if side.client_law:
        gates.append(_law("Little's law, client", side.client_law, "counted live", "invalid"))
    if side.server_law:
        severity = "invalid" if _far(side.server_law) else "warning"
        gates.append(_law("Little's law, server", side.server_law, "running or waiting", severity))
    return gates


def _law(name: str, law: Law, counted: str, severity: str) -> Gate:
    times = _between(law.seconds_low * 1e3, law.seconds_high * 1e3)
    product = _between(law.rate_per_s * law.seconds_low, law.rate_per_s * law.seconds_high)
    found = f"{_figure(law.in_flight)} {counted}, {_figure(law.rate_per_s)}/s x {times} ms = {product}"
    if law.ok is None:
        return Gate(name, f"{found}; not judged: {law.reason}", "equal", ok=True, severity="note")
    limit = f"{_between(law.low, law.high)} when it was counted, +- {law.tolerance:.2g}"
    if law.seconds_least != law.seconds_low:
        limit += f"; {_between(law.seconds_least * 1e3, law.seconds_most * 1e3)} ms by our records"
    return Gate(name, found, limit, law.ok, severity)


def _far(law: Law) -> bool:
    """Whether the counts or the times are off by FAR."""
    counts = law.low / FAR <= law.in_flight <= law.high * FAR
    times = law.seconds_least / FAR <= law.seconds_high and law.seconds_low <= law.seconds_most * FAR
    return not (counts and times)


def _between(low: float, high: float) -> str:
    ends = _figure(low), _figure(high)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ttft(order: TtftOrder | None) -> list[Gate]:
    if order is None:
        return []
    server_ms, client_ms = (
        1e3 * order.server_s / order.server_requests,
        1e3 * order.client_s / max(1, order.client_requests),
    )
    found = f"server {server_ms:.4g} ms (n = {order.server_requests:,}), "
    found += f"client {client_ms:.4g} ms from sent (n = {order.client_requests:,})"
    return [Gate("server's TTFT", found, "at most the client's", order.ok, "invalid")]


def _caches(prefix: PrefixCache | None, window: Joined | None) -> list[Gate]:
    gates = []
    if prefix:
        allowed = prefix.allowed_share
        found = f"{prefix.hit_share:.1%} of prompt tokens"
        limit = "any: prompts may repeat" if allowed is None else f"{allowed:.1%}: prompts are unique"
        within = allowed is None or prefix.hit_share <= allowed
        gates.append(Gate("prefix cache hits", found, limit, within, "warning"))
    if window and (window.preemptions is not None or window.kv_cache_usage_max is not None):
        usage, preemptions = window.kv_cache_usage_max or 0.0, window.preemptions or 0
        found = f"at most {usage:.0%} used, {preemptions:,} preemptions"
        roomy = usage < FULL and not preemptions
        gates.append(Gate("KV cache", found, f"< {FULL:.0%}, none", roomy, "warning"))
    return gates


def _queue(waiting: tuple[float, ...]) -> list[Gate]:
    if not waiting:
        return []
    found = f"{waiting[-1]:,.0f} waiting, at least {min(waiting):,.0f} in the last {len(waiting)} readings"
    return [Gate("queue at the end", found, "empty once", min(waiting) == 0, "warning")]
