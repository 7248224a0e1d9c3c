"""One run as the master (or the one process) sees it: its directory, its workers, its account, its end.

One of the three private files that know Locust: it reads who is missing, and writes Locust's own tables.
"""

import argparse
import contextlib
import csv
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
import locust.stats
from locust.runners import STATE_MISSING

from locustfiles import _live_data, _meta
from locustfiles._crew import Crew
from locustfiles._ledger import Report
from locustfiles._live import Live
from locustfiles._markers import Marker
from locustfiles._merge import Merge
from locustfiles._options import Settings
from locustfiles._rundir import RunDirectory
from locustfiles._target import Target
from locustfiles._timeline import Second

LAST_WORDS_S = 10  # beyond the stop timeout: how long a live worker's last report may take
INTERVALS_KEPT_S = 10  # seconds that late streams may still add to before their line is written

ROWS_AT_ONCE = 250  # a few milliseconds

log = logging.getLogger("tokenswarm")


def _in_pieces(seconds: Iterable[Second]) -> Iterator[Second]:
    """Let tokens be read in between: a day is 86,400 rows."""
    for number, second in enumerate(seconds, 1):
        yield second
        if number % ROWS_AT_ONCE == 0:
            gevent.sleep(0)


class Run:
    """One run, from the first user to the last report."""

    def __init__(
        self,
        environment: Any,
        settings: Settings,
        target: Target,
        loop: str,
        broke_off: Callable[["Run", OSError], None],
    ) -> None:
        self.environment = environment
        self.loop = loop
        self.settings = settings
        self.target = target
        self.options = argparse.Namespace(**vars(environment.parsed_options))  # a form may change them
        self.started_unix_ns = self.asked_unix_ns = time.time_ns()  # asked: when Locust began to count
        self.crew: Crew | None = None  # of a master
        self.spawned_unix_ns = self.stopping_unix_ns = self.ended_unix_ns = 0
        self.finishing = self.abandoned = self.closed = False
        self.live = Live() if environment.web_ui else None
        self.about = _meta.about(self.options, settings, target, loop)  # the options change with the next run
        self.merge = Merge(self.options.run_id, self.live)
        self.markers: list[Marker] = []
        self.heard_of: dict[str, str] = {}  # Locust's client id -> our worker name
        self.missing: dict[str, str] = {}  # client id -> since when
        self.left: dict[str, str] = {}  # in order, but before the end: client id -> when
        self.turned_away: dict[str, str] = {}  # joined, but does not belong to us: worker -> why
        path = Path(self.options.run_dir or f"out/{self.options.run_id}")
        self.directory = RunDirectory(path, self.options.run_id, self.started_unix_ns / 1e9)
        self.expected = self._clients()
        self._locust_csv = locust.stats.StatsCSVFileWriter(
            environment, locust.stats.PERCENTILES_TO_REPORT, str(self.directory.path / "locust"), True
        )
        self.directory.write_meta(self._meta())
        self.directory.write_sla(self.options.sla_text)
        target.open_log(self.directory.path)
        self._broke_off = broke_off
        self._greenlets = [
            gevent.spawn(self._write, work)
            for work in (self._locust_csv.stats_writer, self._watch, target.watch)
        ]
        if self.live:
            self._greenlets.append(gevent.spawn(_live_data.keep_up, self.live, target))
        log.info("Results go to %s", self.directory.path)

    def _clients(self) -> list[str]:
        """Return who takes part: Locust never forgets a worker that fell silent, which may be long gone."""
        clients = getattr(self.environment.runner, "clients", None)  # a master's
        return [client.id for client in clients.all if client.state != STATE_MISSING] if clients else []

    def hear_of(self, client_id: str, worker: str) -> None:
        """Note who reports; one that joined late has the same to account for as the others."""
        self.heard_of[client_id] = worker
        if client_id not in self.expected:
            self.expected.append(client_id)

    def turn_away(self, client_id: str, why: str, reports: int) -> None:
        """Count reports that must not count; a worker that joined this run lacks its share of the load."""
        self.merge.foreign += reports
        if self.crew and client_id in self.environment.runner.clients:
            self.turned_away[self.crew.name(client_id)] = f"joined and was turned away: {why}"

    def take(self, reports: list[Report]) -> None:
        for report in () if self.closed else reports:
            self.directory.append(self.merge.take(report))

    def _write(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._broke_off(self, error)

    def keep_meta(self) -> None:
        """Write run.json as it is now."""
        self._write(lambda: self.directory.write_meta(self._meta()))

    def abandon(self, why: str) -> None:
        """Write no more but the account, if there is room for it, and wait for nobody."""
        self.abandoned = self.closed = True
        self.ended_unix_ns = time.time_ns()
        self.stopping_unix_ns = self.stopping_unix_ns or self.ended_unix_ns
        gevent.killall(self._greenlets, block=False)
        self.directory.give_room()
        with contextlib.suppress(OSError):
            self._write_account(self.ended_unix_ns, None, why)

    def _watch(self) -> None:
        written = 0
        while True:
            gevent.sleep(1.0)
            self._note_missing()
            self.directory.append_intervals(self.merge.intervals(int(time.time()) - INTERVALS_KEPT_S))
            written += 1
            if written % (1 + written // 300) == 0:  # the longer the run, the longer the table takes
                self.directory.write_timeline(_in_pieces(self.merge.seconds()))
            self.directory.flush()

    def _note_missing(self) -> None:
        clients = getattr(self.environment.runner, "clients", {})
        for client_id in self.expected:
            client = clients.get(client_id)
            if client is not None and client.state == STATE_MISSING and client_id not in self.missing:
                self.missing[client_id] = f"{datetime.now(UTC):%H:%M:%S} UTC"
                log.error("Worker %s is missing: the run is INVALID", client_id)
            if client is None and not self.stopping_unix_ns and client_id not in self.left:
                self.left[client_id] = f"{datetime.now(UTC):%H:%M:%S} UTC"
                log.error("Worker %s left before the end: the run is INVALID", client_id)

    def wait_for_last_words(self) -> None:
        """Wait until every worker that still lives has sent its final report, and those before it came."""
        if not self.expected:
            return
        deadline = time.monotonic() + self.environment.stop_timeout + LAST_WORDS_S
        while time.monotonic() < deadline and not self.abandoned:
            waiting = [
                client
                for client in self.expected
                if not self._is_gone(client)
                and not self.merge.workers[self.heard_of.get(client, "")].complete
            ]
            if not waiting:
                return
            gevent.sleep(0.05)

    def _is_gone(self, client_id: str) -> bool:
        """Say whether a worker fell silent and is not back."""
        client = self.environment.runner.clients.get(client_id)
        return client_id in self.missing and (client is None or client.state == STATE_MISSING)

    def finish(self) -> bool:
        """Write everything that is left; returns whether a worker or a part of its account was lost."""
        self.closed = True
        gevent.killall(self._greenlets)
        counted = self.target.finish()
        self.directory.append_intervals(self.merge.intervals(1 << 62))
        self.directory.write_timeline(self.merge.seconds())
        ended_unix_ns = time.time_ns()  # the pages' and the directory's rates are of the same time
        interrupted = _meta.interrupted(
            self.options, self.started_unix_ns, self.spawned_unix_ns, self.stopping_unix_ns
        )
        lost = self._write_account(ended_unix_ns, _meta.server_counts(counted), interrupted)
        self.directory.close()
        self._close_locust_csv()
        self.ended_unix_ns = ended_unix_ns
        log.info("Results are in %s", self.directory.path)
        return lost

    def _write_account(
        self, ended_unix_ns: int, server_counts: dict[str, Any] | None, interrupted: str | None
    ) -> bool:
        """Write run.json for good; returns whether a worker or a part of its account was lost."""
        silent = len(_meta.silent(self.expected, self.heard_of, self.merge))
        lost = _meta.lost(self.expected, self.heard_of, self.missing, self.left, self.merge)
        lost += [
            {"worker": worker, "in_flight": 0, "detail": why} for worker, why in self.turned_away.items()
        ]
        self.directory.write_meta(
            self._meta()
            | _meta.account(self.merge, max(1, len(self.expected)), lost, silent)
            | {
                "ended_unix_ns": ended_unix_ns,
                "worker_clocks": self.crew.offsets() if self.crew else [],
                "server_counts": server_counts,
                "interrupted": interrupted,
            }
        )
        return bool(lost) or any(account.missing for account in self.merge.workers.values())

    def window(self) -> dict[str, Any]:
        """Return what is judged of this run, as far as that is known."""
        start_unix_ns = self.spawned_unix_ns or self.started_unix_ns
        return _meta.window(start_unix_ns, self.stopping_unix_ns, self.options.warmup)

    def _meta(self) -> dict[str, Any]:
        locustfile = Path(self.environment.locustfile or "").name
        meta = _meta.describe(self.options, self.settings, self.target, locustfile, self.loop)
        return meta | {
            "started_unix_ns": self.started_unix_ns,
            "ended_unix_ns": None,
            "window": self.window(),
            "markers": self.markers,
            "workers": {"expected": max(1, len(self.expected)), "seen": [], "lost": []},
        }

    def _close_locust_csv(self) -> None:
        """Write Locust's tables once more with the final numbers: its writer looks only once a second."""
        self._locust_csv.close_files()
        last = locust.stats.StatsCSV(self.environment, locust.stats.PERCENTILES_TO_REPORT)
        for name, write in (
            ("stats", last.requests_csv),
            ("failures", last.failures_csv),
            ("exceptions", last.exceptions_csv),
        ):
            path = self.directory.path / f"locust_{name}.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                write(csv.writer(file))
