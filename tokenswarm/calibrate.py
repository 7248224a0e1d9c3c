"""What the instrument is worth on this machine: measured against a server that knows the truth.

The simulator in script mode sends every token on a schedule and logs when it really did. The same Locust
worker that measures a real server measures it, and the two accounts are laid side by side, request by
request. Kernel stamps and send log are on the same machine and the same clock.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis import rundir
from analysis.intervals import as_log
from tokenswarm import EXIT_NOT_STARTED, TokenswarmError
from tokenswarm.experiment import Experiment, Load, Run, Server, Workload
from tokenswarm.measuring import Up, locust_command
from tokenswarm.processes import child, last_line, simulator

TTFT_MS, ITL_MS, TOKENS = 50, 10, 200
RATE = 25  # arrivals a second of 2 s each: 50 streams, 5,000 tokens/s; Poisson, so that none march in step
SECONDS = 15
SHARE_OF_CPU = 0.5
"""A worker is trusted up to half of its CPU: beyond, queueing in the reader grows (a single-server queue)."""


def calibrate() -> dict[str, Any]:
    """Run the calibration; returns its figures (ms, microseconds, shares). Raises TokenswarmError."""
    script = json.dumps({"ttft_ms": TTFT_MS, "itl_ms": ITL_MS, "tokens": TOKENS})
    with tempfile.TemporaryDirectory(prefix="tokenswarm-") as folder:
        sends, log, directory = (Path(folder) / name for name in ("sends.jsonl", "locust.log", "run"))
        with simulator(["--script", script, "--send-log", str(sends)], Path(folder) / "server.log") as url:
            plan = Experiment(
                servers=[Server(name="calibrate", url=url)],
                load=Load(loop="open", rate=RATE, duration_s=SECONDS, warmup_s=1, workers=1),
                workload=Workload(prompt_words=8, max_tokens=TOKENS),
            )
            run = Run(plan.servers[0], RATE, 1, "calibrate", duration_s=SECONDS)
            up = Up("calibrate", url, "", None)
            with child(locust_command(plan, run, up, directory), log) as process:
                process.wait()
        if not sends.exists() or not (directory / "run.json").exists():
            raise TokenswarmError(f"calibration: {last_line(log)}", EXIT_NOT_STARTED)
        truth = {entry["request_id"]: entry for entry in map(json.loads, sends.read_text().splitlines())}
        return _figures(rundir.load(directory), truth)


def _figures(run: rundir.Run, truth: dict[str, dict[str, Any]]) -> dict[str, Any]:
    seen = run.requests[run.requests.outcome == "ok"]
    ttft_ms: list[float] = []
    true_ttft_ms: list[float] = []
    errors_ms: list[float] = []
    rows: Any = seen[seen.first_ns.notna()].itertuples()  # pandas types a row's cells as everything at once
    for row in rows:
        sent = truth[f"{run.meta['run']}-{row.worker.rpartition('-')[2]}-{row.request}"]
        true_ms = (sent["sends"][0] - sent["received_ns"]) / 1e6
        found_ms = (int(row.first_ns) - int(row.sent_ns)) / 1e6
        true_ttft_ms.append(true_ms)
        ttft_ms.append(found_ms)
        errors_ms.append(found_ms - true_ms)
    gaps_ms = sorted(
        (after - before) / 1e6
        for entry in truth.values()
        for before, after in zip(entry["sends"], entry["sends"][1:], strict=False)
    )
    itl = as_log(run.logs["itl"]).pooled()
    busy = run.timeline[run.timeline.tokens > 0.9 * run.timeline.tokens.median()]
    cost_us = float((busy.cpu_share_max * 1e6 / busy.tokens).median())
    return {
        "requests": len(ttft_ms),
        "tokens": int(seen.chunks.sum()),
        "ttft_p50_ms": _quantile(ttft_ms, 50),
        "ttft_p50_true_ms": _quantile(true_ttft_ms, 50),
        "ttft_p99_ms": _quantile(ttft_ms, 99),
        "ttft_p99_true_ms": _quantile(true_ttft_ms, 99),
        "ttft_error_p50_ms": _quantile(errors_ms, 50),
        "ttft_error_p99_ms": _quantile([abs(error) for error in errors_ms], 99),
        "itl_p50_ms": itl.quantile(0.5) / 1e6,
        "itl_p50_true_ms": _quantile(gaps_ms, 50),
        "itl_p99_ms": itl.quantile(0.99) / 1e6,
        "itl_p99_true_ms": _quantile(gaps_ms, 99),
        "coalesced_share": run.meta["instrument"]["coalesced_share"],
        "lag_p99_ms": (run.meta["instrument"]["lag_p99_ns"] or 0) / 1e6,
        "clock": run.meta["clock"],
        "cpu_us_per_token": cost_us,
        "tokens_per_s_per_worker": SHARE_OF_CPU / cost_us * 1e6,
    }


def _quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures for people."""
    table = Table(title=f"The instrument on this machine (clock: {figures['clock']})", title_justify="left")
    for column in ("", "measured", "true", "error"):
        table.add_column(column, justify="left" if not column else "right")
    for metric in ("ttft", "itl"):
        for level in ("p50", "p99"):
            found, true = figures[f"{metric}_{level}_ms"], figures[f"{metric}_{level}_true_ms"]
            table.add_row(
                f"{metric.upper()} {level}", f"{found:.3f} ms", f"{true:.3f} ms", f"{found - true:+.3f} ms"
            )
    console.print(table)
    console.print(
        f"{figures['requests']:,} requests, {figures['tokens']:,} tokens; "
        f"of a single request's TTFT the error is at most {figures['ttft_error_p99_ms']:.3f} ms in 99 of 100"
    )
    console.print(
        f"read lag p99 {figures['lag_p99_ms']:.3f} ms, coalesced {figures['coalesced_share']:.2%}, "
        f"{figures['cpu_us_per_token']:.1f} µs of CPU per token: a worker is good for "
        f"{figures['tokens_per_s_per_worker']:,.0f} tokens/s at half of one core"
    )
