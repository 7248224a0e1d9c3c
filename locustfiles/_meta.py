"""run.json: everything about a run that is not a measurement, and the account of what was measured.

What is known goes in, plain data comes out. The fields are listed in README.md, "A run directory".
"""

import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from analysis.histogram import Histogram
from analysis.record import SCHEMA
from locustfiles._merge import Merge
from locustfiles._options import Settings
from locustfiles._scrape import ServerCounts
from locustfiles._target import Target
from locustfiles._worker import choose_transport

DEFINITIONS = {
    "ttft": "first token-bearing chunk - due",
    "ttft_sent": "first token-bearing chunk - sent (what other tools print)",
    "ttfo": "first chunk with visible answer text - due",
    "itl": "gap between consecutive token-bearing chunks of one choice, pooled over all gaps",
    "itl_token": "the same gaps spread over the tokens of the later chunk",
    "tpot": "(last - first) / (output tokens - 1), one value per request",
    "e2e": "end - due",
    "dispatch_lag": "sent - due",
    "lag": "kernel's receive time to our read, one value per read",
    "error_rate": "failed / all; a failed request counts as +infinity in percentiles",
}
PACKAGES = ("locust", "gevent", "geventhttpclient", "msgspec", "requests", "sseclient-py")


def describe(options: Any, settings: Settings, target: Target, locustfile: str, loop: str) -> dict[str, Any]:
    """Return what is known before the first request."""
    workload = settings.workload
    return {
        "schema": SCHEMA,
        "run": options.run_id,
        "name": options.run_name or settings.scenario,
        "simulated": target.simulated,
        "tokenswarm": version(),
        "target": {
            "url": target.url,
            "model": target.model,
            "endpoint": workload.path,
            "server": target.server or None,
        },
        "transport": choose_transport(target.url, settings),
        "load": {
            "loop": loop,
            "locustfile": locustfile,
            "users": options.num_users,
            "spawn_rate_per_s": options.spawn_rate,
            "run_time_s": options.run_time or None,
            "stop_timeout_s": options.stop_timeout,
            "arrivals": settings.arrivals if loop == "open" else None,
            "rate_per_user": settings.rate_per_user if loop == "open" else None,
            "think_time_s": settings.think_s if loop == "closed" else None,
            "seed": workload.seed,
        },
        "workload": {
            "prompt_words": list(workload.prompt_words) if not workload.prompts else None,
            "prompts": (options.prompts or None) if workload.prompts else None,
            "max_tokens": list(workload.max_tokens),
            "choices": workload.choices,
            "ignore_eos": workload.ignore_eos,
            "per_chunk_usage": workload.per_chunk_usage,
            "extra_body": workload.extra,
        },
        "deadlines": {
            name.replace("_ns", "_s"): ns / 1e9 for name, ns in settings.deadlines._asdict().items()
        },
        "definitions": DEFINITIONS,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}
        | {
            "python": platform.python_version(),
            "system": f"{sys.platform} {platform.release()}",
            "cpu": cpu(),
        },
    }


def about(options: Any, settings: Settings, target: Target, loop: str) -> dict[str, Any]:
    """Return what a page says of a run while it goes on."""
    return {
        "id": options.run_id,
        "name": options.run_name or settings.scenario,
        "simulated": target.simulated,
        "target": target.url,
        "model": target.model,
        "loop": loop,
    }


def window(start_unix_ns: int, stopping_unix_ns: int, warmup_s: float) -> dict[str, Any]:
    """Return what is judged: from the warm-up's end on, to the moment when the run began to stop."""
    return {
        "start_unix_ns": start_unix_ns + int(warmup_s * 1e9),
        "end_unix_ns": stopping_unix_ns or None,
        "warmup_s": warmup_s,
    }


def interrupted(
    options: Any, started_unix_ns: int, spawned_unix_ns: int, stopping_unix_ns: int
) -> str | None:
    """Say how a run ended before its time; None if it did not."""
    if not spawned_unix_ns:
        return "ended while users were still being spawned"
    ran_s = ((stopping_unix_ns or time.time_ns()) - started_unix_ns) / 1e9
    if options.run_time and options.headless and ran_s < options.run_time - 1.5:
        return f"stopped after {ran_s:.0f} s of {options.run_time:g} s"
    return None


def clock(merge: Merge) -> str | None:
    """Return whose clock the times are from: kernel, user or mixed; None before the first read."""
    return next(iter(merge.clocks)) if len(merge.clocks) == 1 else "mixed" if merge.clocks else None


def account(merge: Merge, expected: int, lost: list[dict[str, Any]], silent: int) -> dict[str, Any]:
    """Return what came in, what is missing, and how good the instrument was.

    Of so many `silent` workers it is unknown what they did after their last report: where there are any,
    `unaccounted` is the least that is missing.
    """
    workers = merge.workers.values()
    lag, dispatch = merge.metric("lag"), merge.metric("dispatch_lag")
    return {
        "clock": clock(merge),
        "workers": {"expected": expected, "seen": sorted(merge.workers), "lost": lost},
        "accounting": {
            "started": sum(worker.started for worker in workers),
            "records": sum(worker.received for worker in workers),
            "unaccounted": sum(worker.unaccounted for worker in workers),
            "silent_workers": silent,
            "duplicate_reports": merge.duplicates,
            "missing_reports": sum(worker.missing_reports for worker in workers),
            "foreign_reports": merge.foreign,
        },
        "instrument": {
            "reads": lag.count,
            "lag_p50_ns": quantile(lag, 0.5),
            "lag_p99_ns": quantile(lag, 0.99),
            "lag_max_ns": lag.max if lag.count else None,
            "chunks": merge.chunks,
            "coalesced_share": merge.coalesced / merge.chunks if merge.chunks else None,
            "dispatch_lag_p99_ns": quantile(dispatch, 0.99),
            "cpu_share_max": max((second.cpu_share_max for second in merge.seconds()), default=None),
            "clock_jumps": merge.clock_jumps,
        },
        "totals": [
            {"metric": metric, "scenario": scenario, "count": h.count, "sum_ns": h.sum}
            for (metric, scenario), h in sorted(merge.totals.items())
        ],
    }


def silent(expected: list[str], heard_of: dict[str, str], merge: Merge) -> list[str]:
    """Return the workers (Locust's client ids) that never said their last word."""
    return [client for client in expected if not merge.workers[heard_of.get(client, "")].final]


def lost(
    expected: list[str], heard_of: dict[str, str], missing: dict[str, str], left: dict[str, str], merge: Merge
) -> list[dict[str, Any]]:
    """Return the workers that never said their last word, and what is known to be unaccounted for.

    `heard_of` maps Locust's client ids to our names of workers, `missing` and `left` to since when.
    """
    names = {client: heard_of.get(client, "") for client in expected}
    without_last = silent(expected, heard_of, merge)
    found = [
        {"worker": name, "in_flight": 0, "detail": f"left at {left[client]}, all records received"}
        for client, name in names.items()
        if client in left and client not in without_last
    ]
    found += [
        {"worker": name, "in_flight": 0, "detail": f"silent at {missing[client]}, then back"}
        for client, name in names.items()
        if client in missing and client not in left and client not in without_last
    ]
    for client in without_last:
        name, account = names[client], merge.workers[names[client]]
        since = f"silent since {missing[client]}" if client in missing else "no last report"
        known = f"{account.started} requests started by then, {account.received} records received"
        found.append(
            {
                "worker": name or client,
                "in_flight": account.started - account.ended,
                "detail": f"{since}; {known}; what it did afterwards is unknown",
            }
        )
    merge.workers.pop("", None)
    return found


def server_counts(counted: ServerCounts | None) -> dict[str, Any] | None:
    """Return the server's own account as plain data; it counts each of a request's n choices."""
    return counted._asdict() if counted else None


def quantile(histogram: Histogram, q: float) -> int | None:
    """Return a quantile in ns, or None where there is no data."""
    return histogram.quantile(q) if histogram.count else None


def cpu() -> str:
    """Return how many of which processor this machine has; Linux alone says which."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{os.cpu_count()} x {model or platform.machine()}"


def version() -> str:
    """Return our own version, also where the checkout was never installed."""
    try:
        return importlib.metadata.version("tokenswarm")
    except importlib.metadata.PackageNotFoundError:
        return f"checkout {Path(__file__).parents[1].name}"
