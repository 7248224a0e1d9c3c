"""One process of load without Locust: jobs as JSON on stdin, everything measured as JSON on stdout.

Both transports run as they do under Locust (a patched standard library), so this is a program of its own.
"""

# ruff: noqa: E402 - gevent patches the standard library before anybody imports it

from gevent import monkey

monkey.patch_all()

import argparse
import gc
import json
import resource
import sys
import time
from typing import Any

import gevent

from analysis.record import RequestRecord
from locustfiles._ledger import Ledger
from locustfiles._options import Settings, add_arguments
from locustfiles._timer import StreamTimer
from locustfiles._worker import Load


class _Parser(argparse.ArgumentParser):
    def add_argument(self, *names: str, **more: Any) -> Any:
        more.pop("env_var", None)
        more.pop("include_in_web_ui", None)
        return super().add_argument(*names, **more)


class _Ledger(Ledger):
    """A ledger that also keeps what a report only has as histograms."""

    kept: list[dict[str, Any]]

    def end(self, timer: StreamTimer, record: RequestRecord, lags_ns: list[int]) -> None:
        self.kept.append(
            record._asdict()
            | {
                "due_at_ns": timer.due_at_ns,
                "first_at_ns": timer.first_at_ns,
                "gaps_ns": timer.gaps_ns,
                "token_gaps_ns": timer.token_gaps_ns(),
                "lags_ns": lags_ns,
            }
        )
        super().end(timer, record, lags_ns)


def _settings(arguments: list[str]) -> Settings:
    parser = _Parser()
    add_arguments(parser)
    return Settings.read(parser.parse_args(arguments))


def _block_now_and_then(busy_s: float, free_s: float) -> None:
    while True:
        gevent.sleep(free_s)
        begun = time.perf_counter()
        while time.perf_counter() - begun < busy_s:
            pass


def _run(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Send `count` requests: all at once, or one after the other where `pause_s` says so."""
    ledger = _Ledger(job.get("run", job["name"]), "w")
    ledger.kept = []
    load = Load(
        _settings(["--model", "sim", *job.get("arguments", [])]), job["url"], ledger, 0, lambda _: None
    )
    load._headers |= job.get("headers", {})
    if "script" in job:
        load._headers["x-sim-script"] = json.dumps(job["script"])
    senders = []
    for number in range(job.get("count", 1)):
        if "pause_s" in job:
            if number:
                gevent.sleep(job["pause_s"])
            load.request(time.perf_counter_ns())
        else:
            senders.append(gevent.spawn(load.request, time.perf_counter_ns()))
            gevent.sleep(job.get("apart_s", 0.0))
    if "kill_after_s" in job:
        gevent.sleep(job["kill_after_s"])
        gevent.killall(senders)
    gevent.joinall(senders, raise_error=True)
    load.close()
    assert ledger.in_flight == 0
    assert len(ledger.kept) == ledger.started == ledger.ended
    return ledger.kept


def main() -> None:
    order = json.load(sys.stdin)
    jobs = order["jobs"]
    rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if "block_ms" in order:
        busy_ms, free_ms = order["block_ms"]
        gevent.spawn(_block_now_and_then, busy_ms / 1e3, free_ms / 1e3)
    gc.collect()
    gc.freeze()  # as a Locust worker does
    runs = []
    for job in jobs:
        runs.append(gevent.spawn(_run, job))
        gevent.sleep(order.get("apart_s", 0.0))
    gevent.joinall(runs, raise_error=True)
    measured = {
        "records": {job["name"]: run.get() for job, run in zip(jobs, runs, strict=True)},
        "rss_growth_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss_kib,
    }
    json.dump(measured, sys.stdout)


if __name__ == "__main__":
    main()
