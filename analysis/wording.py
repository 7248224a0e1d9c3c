"""How figures are written for a person, on paper and on the page: one wording for both."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .curves import BUCKET_REQUESTS
from .objective import ObjectiveResult, percent
from .rundir import Run
from .verdict import Verdict


def load(run: Run, verdict: Verdict) -> str:
    """Say under which load a run was, and how much was judged."""
    load, n = run.meta["load"], sum(scenario.n for scenario in verdict.scenarios)
    seconds = (verdict.window_end_unix_ns - verdict.window_start_unix_ns) / 1e9
    kind = f"closed loop, users: {load.get('users')}"
    if verdict.loop == "open":
        kind = f"open loop, {load.get('arrivals') or 'planned'}"
    rate = f", {n / seconds:.3g} requests/s" if seconds > 0 else ""
    kind = f"IMPORTED from {verdict.imported['tool']}, {kind}" if verdict.imported else kind
    return f"{kind}{rate}, n = {n:,} in {seconds:,.0f} s"


def no_p95(run: Run, requests: int) -> str:
    """Say why a run of so many requests has no p95 of TTFT over time."""
    if "ttft" in run.unknown:
        return "not in the imported file"
    if not run.timed:
        return "the imported file has no times"
    if not requests:
        return "no requests"
    return f"{requests} request{'s' if requests > 1 else ''}: too few for a p95, it takes {BUCKET_REQUESTS}"


def markers(run: Run) -> list[str]:
    """Say what happened, numbered as in the charts, in seconds on their axis."""
    return [
        f"{number} at {marker.unix_ns / 1e9 - run.first_s:,.0f} s: {marker.text}"
        for number, marker in enumerate(run.markers, 1)
    ]


def observed(result: ObjectiveResult) -> str:
    """Write what was observed, in the objective's unit."""
    if result.observed is None:
        return "none"
    if result.unit == "share":
        return percent(result.observed)
    if result.statistic == "rate":
        return f"{result.observed:,.4g} /s"
    return "failed" if result.observed == float("inf") else f"{result.observed:.4g} ms"


def limit(result: ObjectiveResult) -> str:
    """Write an objective's limit, in its unit."""
    if result.unit == "share":
        return percent(result.limit)
    return f"{result.limit:,.4g} /s" if result.statistic == "rate" else f"{result.limit:,.4g} ms"


def bounds(result: ObjectiveResult) -> str:
    """Write the bounds on what is compared with the allowed value, "no interval" where there are none."""
    if result.bound_low is None or result.bound_high is None:
        return "no interval"
    low, high = figure(result, result.bound_low), figure(result, result.bound_high)
    number, unit = low.rsplit(" ", 1)
    if unit == "%" and 0 < result.bound_low < 1e-4:
        number = "<0.01"
    return f"{number} to {high}"


def figure(result: ObjectiveResult, bound: float) -> str:
    """Write a bound or an allowed value: of a mean in ms, of a rate, else a share."""
    if result.statistic == "rate":
        return f"{bound:,.4g} /s"
    return f"{bound:,.4g} ms" if result.statistic == "mean" else percent(bound)


def origin(meta: Mapping[str, Any], verdict: Verdict) -> str:
    """Say where a run's figures come from, in one line."""
    target, load, versions = meta["target"], meta["load"], meta.get("versions") or {}
    start = datetime.fromtimestamp(verdict.window_start_unix_ns / 1e9, UTC)
    end = datetime.fromtimestamp(verdict.window_end_unix_ns / 1e9, UTC)
    parts = {
        "run": verdict.run,
        "model": target.get("model"),
        "target": f"{target.get('url')}{target.get('endpoint') or ''}",
        "server": target.get("server"),
        "window": f"{start:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC",
        "seed": load.get("seed"),
        "workers": meta["workers"].get("expected"),
        "clock": meta.get("clock"),
        "transport": meta.get("transport"),
        "tokenswarm": meta.get("tokenswarm"),
        **{name: versions.get(name) for name in ("locust", "python", "system")},
    }
    return ", ".join(f"{key} {value}" for key, value in parts.items() if value is not None)
