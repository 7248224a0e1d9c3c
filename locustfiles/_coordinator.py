"""The master's side of a run (or the one process's): the run directory, the workers, the end.

One of the two private files that know Locust. It merges what workers report, watches who is missing, reads
the server's /metrics, and at the end waits until every worker has said its last word.
"""

import argparse
import csv
import logging
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
import locust.runners
import locust.stats
from locust.rpc import Message
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from locustfiles import _live_data, _meta, _web
from locustfiles._form import loop_of
from locustfiles._judge import Judging
from locustfiles._ledger import Report
from locustfiles._live import Live
from locustfiles._markers import Marker, Markers
from locustfiles._merge import Merge
from locustfiles._options import Settings
from locustfiles._rundir import RunDirectory
from locustfiles._target import KeyRule, Target, TargetError
from locustfiles._workload import WorkloadError

EXIT_USAGE, EXIT_INVALID, EXIT_NOT_STARTED = 2, 5, 6
FIXED = ("run_dir", "prompts", "insecure", "sla")  # the command line's: a web page must not choose files
LAST_WORDS_S = 10  # beyond the stop timeout: how long a live worker's last report may take
INTERVALS_KEPT_S = 10  # seconds that late streams may still add to before their line is written

locust.runners.WORKER_REPORT_INTERVAL = 1.0  # Locust's 3 s would lose up to 3 s with a worker

BUSY = (locust.runners.STATE_SPAWNING, locust.runners.STATE_RUNNING)

log = logging.getLogger("tokenswarm")
_coordinators: dict[int, "Coordinator"] = {}  # by id(environment): Locust's Environment has no place for ours


def of(environment: Any) -> "Coordinator | None":
    """Return the coordinator that lives in this process, if any."""
    return _coordinators.get(id(environment))


def give_up(environment: Any, code: int) -> None:
    """End a headless run that cannot begin, with an exit code that says so; a web run just stops."""
    if environment.parsed_options.headless or isinstance(environment.runner, WorkerRunner):
        environment.process_exit_code = code
        gevent.spawn(environment.runner.quit)
    else:
        gevent.spawn(environment.runner.stop)


def init(environment: Any) -> None:
    """Set up this process's coordinator; a worker has none."""
    if not isinstance(environment.runner, WorkerRunner):
        coordinator = _coordinators[id(environment)] = Coordinator(environment)
        _web.open_door(environment, coordinator)


class Coordinator:
    """One process's runs, one after another (the web page may start several)."""

    def __init__(self, environment: Any) -> None:
        """Listen to Locust."""
        self.environment = environment
        self.run: _Run | None = None
        self.latest: _Run | None = None  # still known when it has ended: the pages show it until the next one
        self.judging = Judging(environment, self)
        self.found_model = ""  # by the latest run, where none was named
        options = environment.parsed_options
        at_start = (environment.host, *(made.host for made in environment.user_classes))
        self.key_rule = KeyRule(url for url in (*at_start, *options.key_hosts.split(",")) if url)
        self._fixed = {name: getattr(options, name) for name in FIXED}
        self._asked_to_begin = self._beginning = False
        self.refused = ""  # why the latest run did not begin, or broke off
        self._locust_quit = environment.runner.quit
        environment.runner.quit = self._quit
        environment.events.test_start.add_listener(self._test_start)
        environment.events.spawning_complete.add_listener(self._spawned)
        environment.events.test_stopping.add_listener(self._stopping)
        environment.events.test_stop.add_listener(self._stopped)
        environment.events.worker_report.add_listener(self._worker_report)
        environment.events.quitting.add_listener(self._quitting)
        self.markers = Markers(self)

    def take(self, reports: list[Report]) -> None:
        """Merge reports of this process's own load."""
        if self.run:
            run = self.run
            try:
                run.take(reports)
            except OSError as error:
                self._broke_off(run, error)

    def _worker_report(self, client_id: str, data: dict[str, Any]) -> None:
        reports = data.get("tokenswarm")
        if self.run and reports and reports[-1]["run"] == self.run.merge.run:
            self.run.hear_of(client_id, reports[-1]["worker"])
        if reports:
            self.take(reports)  # those of another run are counted

    @property
    def state(self) -> str:
        """Where this process's runs stand: ready | beginning | running | ending."""
        now = self.environment.runner.state
        if self._beginning:
            return "beginning"
        if self.run:
            return "running" if now in BUSY and not self.run.finishing else "ending"
        return "ending" if now in (*BUSY, locust.runners.STATE_CLEANUP) else "ready"  # it did not begin

    def look(self, options: Any, host: str, classes: list[Any]) -> tuple[Settings, str, Target]:
        """Check what a run by these options would be made of: settings, kind of loop, server.

        Nothing but `options` is changed. Raises WorkloadError, TargetError, or ValueError.
        """
        vars(options).update(self._fixed)
        if options.model == self.found_model:
            options.model = ""
        settings = Settings.read(options)
        self.judging.demand(options)
        if self.environment.web_ui:
            self.key_rule.check(host)
        return settings, loop_of(classes), Target.look(host, verify=settings.verify, model=options.model)

    def _test_start(self, environment: Any, **_: Any) -> None:
        self._asked_to_begin = self._beginning = True
        self.refused = ""
        options = environment.parsed_options
        options.run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
        try:
            settings, loop, target = self.look(options, environment.host or "", environment.user_classes)
            self.found_model = "" if options.model else target.model
            options.model = target.model
            self.run = self.latest = _Run(environment, settings, target, loop, self._broke_off)
            self.judging.follow(self.run)
        except WorkloadError as error:
            self._refuse(EXIT_USAGE, str(error))
        except TargetError as error:
            self._refuse(EXIT_NOT_STARTED, str(error))
        except OSError as error:
            self._refuse(EXIT_NOT_STARTED, f"--run-dir: cannot write {error.filename}: {error.strerror}")
        except ValueError as error:  # an option that no check foresaw
            self._refuse(EXIT_USAGE, f"found an option that cannot be used ({error})")
        finally:
            self._beginning = False

    def _refuse(self, code: int, text: str) -> None:
        log.error("%s", text)
        self.refused = text
        self.run = None
        self.environment.parsed_options.run_id = ""
        give_up(self.environment, code)

    def _spawned(self, **_: Any) -> None:
        if self.run and not self.run.spawned_unix_ns:
            self.run.spawned_unix_ns = time.time_ns()

    def _stopping(self, **_: Any) -> None:
        if self.run and not self.run.stopping_unix_ns:
            self.run.stopping_unix_ns = time.time_ns()

    def _stopped(self, **_: Any) -> None:
        """End a web run; a headless one ends in _quit, which waits in the foreground."""
        if self.run and not self.environment.parsed_options.headless:
            gevent.spawn(self._finish)

    def _quitting(self, **_: Any) -> None:
        """End the run before Locust works out the exit code (a signal comes this way)."""
        if self.run:
            self._quit()
        elif self.environment.parsed_options.headless and not self._asked_to_begin:
            log.error("the run ended before it began: nothing was measured")
            self.environment.process_exit_code = EXIT_NOT_STARTED

    def _quit(self) -> None:
        """Quit as Locust does, but not before every live worker has handed over its last report."""
        runner = self.environment.runner
        if self.run and isinstance(runner, MasterRunner):
            runner.stop(send_stop_to_client=False)
            message: Any = Message  # untyped upstream
            for client in runner.clients.all:  # "quit" drains as "stop" does, and then reports at once
                runner.server.send_to_client(message("quit", None, client.id))
        else:
            runner.stop()
        try:
            self._finish()
        finally:
            self._locust_quit()

    def _broke_off(self, run: "_Run", error: OSError) -> None:
        """End a run whose results cannot be kept, once. What was written before stays."""
        if self.run is run:
            self._cannot_write(run, error)
            give_up(self.environment, EXIT_INVALID)

    def _cannot_write(self, run: "_Run", error: OSError) -> None:
        where = error.filename or run.directory.path
        self.refused = f"{where}: cannot be written ({error.strerror}): the run is INVALID"
        log.error("%s", self.refused)
        self.environment.process_exit_code = EXIT_INVALID
        self.run = None if self.run is run else self.run
        run.abandon()

    def _finish(self) -> None:
        run = self.run
        if run is None:
            return
        if run.finishing:  # the other of the two ways to get here is at it
            while self.run is run:
                gevent.sleep(0.05)
            return
        run.finishing = True
        run.wait_for_last_words()
        if self.run is not run:
            return  # it broke off meanwhile
        try:
            lost = run.finish()
        except OSError as error:
            self._cannot_write(run, error)
            return
        finally:
            self.run = None if self.run is run else self.run  # a web run may have followed
        if lost and self.environment.process_exit_code is None:
            self.environment.process_exit_code = EXIT_INVALID


class _Run:
    """One run, from the first user to the last report."""

    def __init__(
        self,
        environment: Any,
        settings: Settings,
        target: Target,
        loop: str,
        broke_off: Callable[["_Run", OSError], None],
    ) -> None:
        self.environment = environment
        self.loop = loop
        self.settings = settings
        self.target = target
        self.options = argparse.Namespace(**vars(environment.parsed_options))  # a form may change them
        self.started_unix_ns = time.time_ns()
        self.spawned_unix_ns = self.stopping_unix_ns = self.ended_unix_ns = 0
        self.finishing = self.abandoned = self.closed = False
        self.live = Live() if environment.web_ui else None
        self.about = _meta.about(self.options, settings, target, loop)  # the options change with the next run
        self.merge = Merge(self.options.run_id, self.live)
        self.markers: list[Marker] = []
        self.heard_of: dict[str, str] = {}  # Locust's client id -> our worker name
        self.missing: dict[str, str] = {}  # client id -> since when
        self.left: dict[str, str] = {}  # in order, but before the end: client id -> when
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

    def abandon(self) -> None:
        """Write no more, and wait for nobody."""
        self.abandoned, self.ended_unix_ns = True, time.time_ns()
        gevent.killall(self._greenlets, block=False)

    def _watch(self) -> None:
        written = 0
        while True:
            gevent.sleep(1.0)
            self._note_missing()
            self.directory.append_intervals(self.merge.intervals(int(time.time()) - INTERVALS_KEPT_S))
            written += 1
            if written % (1 + written // 300) == 0:  # the longer the run, the longer the table takes
                self.directory.write_timeline(self.merge.seconds())
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
        """Wait until every worker that still lives has sent its final report."""
        if not self.expected:
            return
        deadline = time.monotonic() + self.environment.stop_timeout + LAST_WORDS_S
        while time.monotonic() < deadline and not self.abandoned:
            waiting = [
                client
                for client in self.expected
                if client not in self.missing and not self.merge.workers[self.heard_of.get(client, "")].final
            ]
            if not waiting:
                return
            gevent.sleep(0.05)

    def finish(self) -> bool:
        """Write everything that is left; returns whether a worker was lost."""
        self.closed = True
        gevent.killall(self._greenlets)
        counted = self.target.finish()
        self.directory.append_intervals(self.merge.intervals(1 << 62))
        self.directory.write_timeline(self.merge.seconds())
        lost = _meta.lost(self.expected, self.heard_of, self.missing, self.left, self.merge)
        ended_unix_ns = time.time_ns()  # the pages' and the directory's rates are of the same time
        self.directory.write_meta(
            self._meta()
            | _meta.account(self.merge, max(1, len(self.expected)), lost)
            | {
                "ended_unix_ns": ended_unix_ns,
                "server_counts": _meta.server_counts(counted),
                "interrupted": _meta.interrupted(
                    self.options, self.started_unix_ns, self.spawned_unix_ns, self.stopping_unix_ns
                ),
            }
        )
        self.directory.close()
        self._close_locust_csv()
        self.ended_unix_ns = ended_unix_ns
        log.info("Results are in %s", self.directory.path)
        return bool(lost)

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
