"""Validity gates: was the instrument fit to measure this run? One gate that fails makes it INVALID.

Thresholds: a late or lossy generator must not be mistaken for a slow server. Each gate prints what it found
and its limit, whether it holds or not, so that a green run shows why it may be believed.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evidence import Evidence
from .intervals import as_log
from .markers import LOAD
from .rundir import Run, window_intervals, window_timeline
from .samples import rank_quantile
from .sla import POOLED_METRICS, Sla

FROM_DUE = ("ttft", "ttfo", "e2e", "dispatch_lag")
MAX_COALESCED_SHARE = 0.05
MAX_CLOCK_JUMP_NS = 10**6
MAX_CPU_SHARE = 0.9
CPU_SUSTAINED_S = 3
CHANGES_TOLD = 3
MAX_TOKENS_PER_CHUNK = 1.05

IMPORTABLE = ("complete", "window", "records = rows", "gaps = itl.hlog", "clock source", "times in order")
"""Gates that also say something of a run that another tool measured."""

SO_FAR = (
    "workers",
    "dispatch lag p99",
    "read lag p99",
    "coalesced chunks",
    "clock jumps",
    "times in order",
    "clock source",
    f"CPU, sustained {CPU_SUSTAINED_S} s",
    "tokens per chunk",
)
"""Gates that say something of a run that goes on: no account is complete before all requests have ended."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One check of the instrument. Only `severity` "invalid" makes a run INVALID where `ok` is False."""

    name: str
    found: str
    limit: str
    ok: bool
    severity: str  # invalid | warning | note

    def line(self) -> str:
        """Return the gate as one printed line."""
        light = "ok" if self.ok else self.severity
        return f"{light}: {self.name}: found {self.found}, limit {self.limit}"


def check(run: Run, evidence: Evidence, sla: Sla) -> tuple[Gate, ...]:
    """Check every gate of a run, in the order of printing."""
    gates = (
        *_complete(run),
        *_accounting(run),
        *_lateness(run, evidence, sla),
        *_times(run, evidence),
        _one_load(run),
    )
    if run.so_far:
        return tuple(gate for gate in gates if gate.name in SO_FAR)
    if not run.meta.get("imported"):
        return gates
    known = (*IMPORTABLE, *(("tokens per chunk",) if evidence.frame.chunks.any() else ()))
    return tuple(gate if gate.name in known else _not_known(gate) for gate in gates)


def _not_known(gate: Gate) -> Gate:
    """Return what a gate says of an imported run, whose instrument was not ours: neither good nor bad."""
    return _gate(gate.name, "not known: imported", gate.limit, ok=False, severity="note")


def _complete(run: Run) -> list[Gate]:
    workers = run.meta["workers"]
    lost, seen = workers.get("lost") or [], workers.get("seen") or []
    found = f"{len(seen)} of {workers.get('expected', '?')} seen, {len(lost)} lost"
    if lost:
        found += f" ({'; '.join(_lost_worker(entry) for entry in lost)})"
    start, end = run.window_ns
    return [
        _gate("complete", "; ".join(run.damage) or "all of it", "nothing missing", ok=not run.damage),
        _gate("window", f"{(end - start) / 1e9:.1f} s", "> 0 s", ok=end > start),
        _gate("workers", found, "all seen, none lost", ok=not lost and len(seen) == workers.get("expected")),
    ]


def _lost_worker(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    return f"{entry.get('worker')} with {entry.get('in_flight', '?')} in flight: {entry.get('detail', '')}"


def _accounting(run: Run) -> list[Gate]:
    accounts, rows = run.meta["accounting"], len(run.requests)
    records = accounts.get("records")
    gaps = int(run.requests.gaps.sum())
    pooled = int(as_log(run.logs.get("itl", ())).totals().sum())
    duplicates, foreign = accounts.get("duplicate_reports", 0), accounts.get("foreign_reports", 0)
    return [
        _unaccounted(accounts.get("unaccounted"), accounts.get("silent_workers", 0)),
        _gate(
            "reports missing",
            _number(accounts.get("missing_reports")),
            "0",
            ok=not accounts.get("missing_reports"),
        ),
        _equation("records = rows", records, rows, "reported", "in requests.csv"),
        _equation("gaps = itl.hlog", gaps, pooled, "in requests.csv", "in itl.hlog"),
        _gate(
            "extra reports",
            f"{duplicates} repeated, {foreign} foreign" if duplicates or foreign else "0",
            "none",
            ok=not duplicates and not foreign,
            severity="note",
        ),
    ]


def _unaccounted(known: Any, silent: int) -> Gate:
    """Say how many requests have no row; of a worker that fell silent only the least is known."""
    found = _number(known)
    if silent:
        whose = "1 worker" if silent == 1 else f"{silent} workers"
        found = f"at least {found}" if known else "unknown"
        found += f": nobody knows what {whose} did after the last report"
    return _gate("unaccounted", found, "0", ok=not known and not silent)


def _lateness(run: Run, evidence: Evidence, sla: Sla) -> list[Gate]:
    gates = []
    limits = sla.limits()
    if run.meta["load"].get("loop") == "open":
        # Only what counts from `due` is bent by a late start; connecting is the server's and the network's.
        tightest = min((limit.limit_ns for limit in limits if limit.metric in FROM_DUE), default=math.inf)
        limit_ns = max(1e6, min(5e6, tightest / 10))
        lag = (evidence.frame.sent_ns - evidence.frame.connect_ns).dropna().to_numpy(dtype=np.float64)
        p99 = rank_quantile(lag, 0.99) if len(lag) else math.nan
        gates.append(_gate("dispatch lag p99", _ms(p99), _ms(limit_ns), ok=not p99 > limit_ns))
    coalesced, chunks = int(evidence.frame.coalesced.sum()), int(evidence.frame.chunks.sum())
    share = coalesced / chunks if chunks else 0.0
    crowded = share > MAX_COALESCED_SHARE
    tightest = min(
        (limit.limit_ns for limit in limits if limit.metric in {*POOLED_METRICS, "max_gap", "tpot"}),
        default=0,
    )
    limit_ns = max(2e6, tightest / 10)
    lag_p50, lag_p99 = _read_lag_ns(run)
    # A kernel timestamp is not bent by a late read, unless reads were so late that chunks shared one.
    bends = crowded or run.meta.get("clock") != "kernel"
    gates.append(
        _gate(
            "read lag p99",
            f"{_ms(lag_p99)}, p50 {lag_p50 / 1e6:.2g}",
            _ms(limit_ns),
            ok=lag_p99 <= limit_ns,
            severity="invalid" if bends else "warning",
        )
    )
    # Read in time and still together: the server (or what is between) sent them in one burst.
    late = not lag_p99 <= limit_ns
    found = f"{share:.2%}" + (f", sent within {_ms(lag_p99)} of each other" if crowded and not late else "")
    gates.append(
        _gate(
            "coalesced chunks",
            found,
            f"{MAX_COALESCED_SHARE:.0%}",
            ok=not crowded,
            severity="invalid" if late else "note",
        )
    )
    return gates


def _read_lag_ns(run: Run) -> tuple[float, float]:
    """Return p50 and p99 of the delay from the kernel's receive time to our read, over the window."""
    pooled = window_intervals(run, "lag").pooled()
    if pooled.count:
        return pooled.quantile(0.5), pooled.quantile(0.99)
    instrument = run.meta["instrument"]
    return float(instrument.get("lag_p50_ns") or 0), float(instrument.get("lag_p99_ns") or 0)


def _times(run: Run, evidence: Evidence) -> list[Gate]:
    jumps = evidence.frame.clock_jump_ns.abs().to_numpy()
    worst = int(jumps.max(initial=0))
    jumped = int((jumps > MAX_CLOCK_JUMP_NS).sum())
    busiest = window_timeline(run).cpu_share_max.dropna().to_numpy()
    windows = (
        np.lib.stride_tricks.sliding_window_view(busiest, CPU_SUSTAINED_S)
        if len(busiest) >= CPU_SUSTAINED_S
        else np.zeros((0, 1))
    )
    sustained = float(np.nanmax(windows.min(axis=1), initial=0.0))
    known = (evidence.frame.outcome == "ok") & evidence.frame.output_tokens.notna()
    ok = evidence.frame[["output_tokens", "chunks"]][known]
    per_chunk = float(ok.output_tokens.sum() / max(1, ok.chunks.sum()))
    clock = str(run.meta.get("clock"))
    return [
        _gate(
            "clock jumps", f"{jumped:,}, worst {worst / 1e6:.3g} ms", _ms(MAX_CLOCK_JUMP_NS), ok=not jumped
        ),
        _in_order(evidence),
        _gate("clock source", clock, "kernel", ok=clock == "kernel", severity="note"),
        _gate(
            f"CPU, sustained {CPU_SUSTAINED_S} s",
            f"{sustained:.0%}",
            f"{MAX_CPU_SHARE:.0%}",
            ok=sustained <= MAX_CPU_SHARE,
            severity="warning",
        ),
        _gate(
            "tokens per chunk",
            f"{per_chunk:.2f}",
            f"{MAX_TOKENS_PER_CHUNK}",
            ok=per_chunk <= MAX_TOKENS_PER_CHUNK,
            severity="note",
        ),
    ]


def _in_order(evidence: Evidence) -> Gate:
    """Say how many requests have a time that lies before an earlier one: no clock tells that.

    That the first token came after the request was sent is not asked: sending is stamped when Python gets
    round to it, a token when the kernel has it.
    """
    frame = evidence.frame
    sent, first, last, end = (
        frame[name].to_numpy(dtype=np.float64) for name in ("sent_ns", "first_ns", "last_ns", "end_ns")
    )
    wrong = np.zeros(len(frame), dtype=bool)
    for earlier, later in ((0.0, sent), (0.0, first), (first, last), (last, end), (sent, end), (0.0, end)):
        wrong |= later < earlier - MAX_CLOCK_JUMP_NS  # False where a time never came
    count = int(wrong.sum())
    return _gate(
        "times in order", f"{count:,} of {len(frame):,} not" if count else "all", "all", ok=not count
    )


def _one_load(run: Run) -> Gate:
    """Say whether the load was changed while it was measured: a percentile over both is of neither."""
    changes = [marker for marker in run.markers if marker.kind == LOAD and marker.meets(*run.window_ns)]
    into_s = [(marker.unix_ns - run.window_ns[0]) / 1e9 for marker in changes]
    told = [
        f"{marker.text} at {marker.clock}, {abs(at_s):.0f} s {'before' if at_s < 0 else 'into'} the window"
        for marker, at_s in zip(changes[:CHANGES_TOLD], into_s, strict=False)
    ]
    more = f"; and {len(changes) - CHANGES_TOLD} more" if len(changes) > CHANGES_TOLD else ""
    found = "; ".join(told) + more
    return _gate(
        "load changes", found or "none", "one load in the window", ok=not changes, severity="warning"
    )


def _equation(name: str, left: Any, right: int, left_is: str, right_is: str) -> Gate:
    if left == right:
        return _gate(name, f"{left:,} both", "equal", ok=True)
    return _gate(name, f"{_number(left)} {left_is}, {right:,} {right_is}", "equal", ok=False)


def _gate(name: str, found: str, limit: str, *, ok: bool, severity: str = "invalid") -> Gate:
    return Gate(name, found, limit, bool(ok), severity)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "unknown"


def _ms(value_ns: float) -> str:
    return "none" if math.isnan(value_ns) else f"{value_ns / 1e6:.3g} ms"
