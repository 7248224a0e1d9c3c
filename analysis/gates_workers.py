"""The validity gate of workers on other hosts: what they saw must fit on one line of time.

Latencies are differences of one clock, and no offset between hosts touches them. The window, the timeline
and the server's metrics are in the master's time, and a request belongs to them by its worker's clock.
"""

from typing import Any

from .gates import Gate
from .rundir import Run, RunError

MAX_OFFSET_NS = 100_000_000
"""Beyond a tenth of a row of the timeline, its figures are blurred: a warning."""

LOST_OFFSET_NS = 1_000_000_000
"""Beyond a whole row, requests are judged that were not in the window, and others are not."""


def check_clocks(run: Run) -> tuple[Gate, ...]:
    """Check how far the workers' clocks were from the master's; nothing where that was not measured."""
    clocks = run.meta.get("worker_clocks")
    if not clocks:
        return ()
    try:
        worst = max(clocks, key=lambda clock: abs(clock["worst_ns"]))
        found = _told(worst)
    except (TypeError, KeyError, ValueError):
        expected = "a list of clocks with worker, offset_ns, error_ns, worst_ns and moved_ns"
        where = run.path / "run.json"
        raise RunError(f"{where}: found worker_clocks = {clocks!r}, expected {expected}") from None
    offset_ns = abs(worst["worst_ns"])
    invalid = offset_ns > LOST_OFFSET_NS
    limit_ns = LOST_OFFSET_NS if invalid else MAX_OFFSET_NS
    limit = f"{limit_ns / 1e6:,.0f} ms from the master's"
    severity = "invalid" if invalid else "warning"
    return (Gate("workers' clocks", found, limit, ok=offset_ns <= MAX_OFFSET_NS, severity=severity),)


def _told(clock: dict[str, Any]) -> str:
    known = f"known to {clock['error_ns'] / 1e6:.2g} ms"
    found = f"{clock['worker']} off by {_time(clock['offset_ns'])}, {known}"
    if clock["moved_ns"]:
        worst = _time(clock["worst_ns"])
        return f"{found}; it moved by {_time(clock['moved_ns']).lstrip('+')}, off by {worst} at worst"
    return found


def _time(ns: int) -> str:
    return f"{ns / 1e9:+,.1f} s" if abs(ns) >= LOST_OFFSET_NS else f"{ns / 1e6:+.3g} ms"
