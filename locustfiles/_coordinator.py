"""The master's side (or the one process's): begins runs, hands them what workers report, and ends them.

One of the three private files that know Locust. At the end it waits until every worker has said its last
word.
"""

import functools
import logging
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import gevent
import locust.argument_parser
import locust.runners
from locust.rpc import Message
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from locustfiles import _cost, _web
from locustfiles._crew import Ask, Crew, CrewError
from locustfiles._form import loop_of
from locustfiles._judge import Judging
from locustfiles._ledger import Report
from locustfiles._markers import Markers
from locustfiles._options import Settings
from locustfiles._run import Run
from locustfiles._target import KeyRule, Target, TargetError
from locustfiles._workload import WorkloadError, digest

EXIT_USAGE, EXIT_INVALID, EXIT_NOT_STARTED = 2, 5, 6
FIXED = ("run_dir", "prompts", "insecure", "sla")  # the command line's: a web page must not choose files

locust.runners.WORKER_REPORT_INTERVAL = 1.0  # Locust's 3 s would lose up to 3 s with a worker
# A worker asks for these once for each option of each spawn message: 0.2 s in which nothing is sent.
locust.argument_parser.default_args_dict = functools.cache(locust.argument_parser.default_args_dict)
# Locust looks at the wall clock: one that is set forward is no dead master. _member measures the silence.
locust.runners.MASTER_HEARTBEAT_TIMEOUT = 10**12

SPAWNED_S = 15.0  # how long the last user may take to begin; on a busy machine it is seconds
ALL_THERE = "The load is there"

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
        master = isinstance(environment.runner, MasterRunner)
        self.crew = Crew(environment, self._turned_away, self._is_full) if master else None
        self._foreign = 0  # reports of workers that are none of ours, since the latest run
        self.run: Run | None = None
        self.latest: Run | None = None  # still known when it has ended: the pages show it until the next one
        self.judging = Judging(environment, self)
        self.found_model = ""  # by the latest run, where none was named
        options = environment.parsed_options
        at_start = (environment.host, *(made.host for made in environment.user_classes))
        self.key_rule = KeyRule(url for url in (*at_start, *options.key_hosts.split(",")) if url)
        self._fixed = {name: getattr(options, name) for name in FIXED}
        self._asked_to_begin = self._beginning = False
        self.refused = ""  # why the latest run did not begin, or broke off
        self._locust_quit = environment.runner.quit
        environment.runner.quit = self._quit_in_time
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
        """Where this process's runs stand, in Locust's words.

        ready (none yet) | spawning | running | stopping (streams may run to their end) | stopped.
        """
        now = self.environment.runner.state
        if self._beginning:
            return "spawning"
        if self.run and now in BUSY and not (self.run.finishing or self.run.stopping_unix_ns):
            return "running" if self.run.spawned_unix_ns else "spawning"
        if self.run or now in (*BUSY, locust.runners.STATE_CLEANUP):  # the latter: it did not begin
            return "stopping"
        return "stopped" if self.latest else "ready"

    @property
    def is_on(self) -> bool:
        """Whether a run is on whose load can be changed."""
        return self.run is not None and self.state in {"spawning", "running"} and not self._beginning

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

    def _turned_away(self, client_id: str, why: str, reports: int) -> None:
        """Count what came from a worker that is none of ours; one that joined during a run must go."""
        if self.run is None:
            self._foreign += reports
            return
        self.run.turn_away(client_id, why, reports)
        if client_id in self.environment.runner.clients:
            message: Any = Message  # untyped upstream
            self.environment.runner.server.send_to_client(message("quit", None, client_id))

    def _present(self) -> list[str]:
        return [client.id for client in self.environment.runner.clients.all if client.state != STATE_MISSING]

    def _is_full(self) -> bool:
        """Say whether all workers are there that were expected, and no others are wanted."""
        options = self.environment.parsed_options
        return bool(options.no_more_workers) and len(self._present()) >= int(options.expect_workers)

    def _gather(self, settings: Settings, loop: str, target: Target) -> None:
        """Have all workers ready to begin; raises CrewError, also for a load that is beyond them."""
        runner, clients = self.environment.runner, []
        if self.crew:
            clients = self._present()
            self.crew.meet(clients)
        costs = self.crew.costs(clients) if self.crew else [_cost.measure()]
        if loop == "open" and (why := _cost.too_much(settings, runner.target_user_count, costs)):
            raise CrewError(why)
        if self.crew:
            prompts = settings.workload.prompts
            file = self.environment.parsed_options.prompts if prompts else ""
            url = self.environment.host or target.url
            ask = Ask(url, settings.verify, target.model, file, digest(prompts))
            self.crew.make_ready(clients, ask)

    def _test_start(self, environment: Any, **_: Any) -> None:
        self._asked_to_begin = self._beginning = True
        self.refused = ""
        asked_unix_ns = time.time_ns()
        options = environment.parsed_options
        options.run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
        try:
            settings, loop, target = self.look(options, environment.host or "", environment.user_classes)
            self.found_model = "" if options.model else target.model
            options.model = target.model
            self._gather(settings, loop, target)
            run = Run(environment, settings, target, loop, self._broke_off)
            run.asked_unix_ns, run.crew = asked_unix_ns, self.crew
            run.merge.foreign, self._foreign = self._foreign, 0
            self.run = self.latest = run
            self.judging.follow(self.run)
        except WorkloadError as error:
            self._refuse(EXIT_USAGE, str(error))
        except (CrewError, TargetError) as error:
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
            gevent.spawn(self._all_are_there, self.run)

    def _all_are_there(self, run: Run) -> None:
        """Begin the window when all users have begun: Locust waits for that no longer than a second."""
        runner, end_s = self.environment.runner, time.monotonic() + SPAWNED_S
        while runner.user_count < runner.target_user_count and time.monotonic() < end_s:
            gevent.sleep(0.01)
        if self.run is run and not run.finishing and not run.spawned_unix_ns:
            run.spawned_unix_ns = time.time_ns()
            log.info("%s: %d users", ALL_THERE, runner.user_count)

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

    def _quit_in_time(self) -> None:
        """Quit; --run-time is counted from the load's beginning, not from when the workers were asked."""
        run, options = self.run, self.environment.parsed_options
        if run and options.headless and options.run_time:
            since_asked_s = (time.time_ns() - run.asked_unix_ns) / 1e9
            if abs(since_asked_s - options.run_time) < 0.5:
                gevent.sleep((run.started_unix_ns - run.asked_unix_ns) / 1e9)
        self._quit()

    def _quit(self) -> None:
        """Quit as Locust does, but not before every live worker has handed over its last report."""
        runner = self.environment.runner
        if isinstance(runner, MasterRunner):
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

    def _broke_off(self, run: "Run", error: OSError) -> None:
        """End a run whose results cannot be kept, once. What was written before stays."""
        if self.run is run:
            self._cannot_write(run, error)
            give_up(self.environment, EXIT_INVALID)

    def _cannot_write(self, run: "Run", error: OSError) -> None:
        where = error.filename or run.directory.path
        self.refused = f"{where}: cannot be written ({error.strerror}): the run is INVALID"
        log.error("%s", self.refused)
        self.environment.process_exit_code = EXIT_INVALID
        self.run = None if self.run is run else self.run
        run.abandon(f"results could not be written ({error.strerror})")

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
