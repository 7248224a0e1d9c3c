"""Our Locust users, and the worker's side of a run: one of the three private files that know Locust.

Locust's table stays honest: a request is one row entry of type POST with its true end-to-end time; TTFT and
ITL are rows of their own that never enter the Aggregated row.
"""

import functools
import gc
import itertools
import logging
import os
import time
from typing import Any

import gevent
import gevent.event
import gevent.pool
import locust.stats
from locust import User, events, task
from locust.runners import MasterRunner, WorkerRunner
from locust.user.task import LOCUST_STATE_STOPPING

from analysis.histogram import Histogram
from analysis.record import RequestRecord
from locustfiles import _coordinator, _pacing
from locustfiles._alarm import Alarm
from locustfiles._errors import StreamError
from locustfiles._ledger import Ledger, Report
from locustfiles._member import Member
from locustfiles._options import Settings, add_arguments
from locustfiles._otel import Telemetry, open_telemetry
from locustfiles._wire import wall_offset_ns
from locustfiles._worker import Load
from locustfiles._workload import WorkloadError

SIDE_ROWS = frozenset({"TTFT", "ITL"})
MESSAGES_MAX = 50  # distinct error texts kept by Locust; beyond, the outcome alone
BEAT_NS = 10_000_000
NAP_NS = 500_000_000  # how often a waiting arrival looks whether it should stop

log = logging.getLogger("tokenswarm")


class TokenStats(locust.stats.RequestStats):
    """Locust's statistics, with the side rows kept out of Aggregated (and so out of RPS and the charts)."""

    def log_request(self, method: str, name: str, response_time: Any, content_length: int) -> None:
        """Count a request in its row, and in Aggregated if it is one."""
        if method in SIDE_ROWS:
            self.entries[name, method].log(response_time, content_length)
        else:
            super().log_request(method, name, response_time, content_length)


class _Side:
    """This process's side of the current run: its load, its clock tick, its outgoing reports."""

    def __init__(self, environment: Any) -> None:
        options = environment.parsed_options
        runner = environment.runner
        self.environment = environment
        self.index = max(0, runner.worker_index)
        self.ending = False
        self.ended = gevent.event.Event()
        self.numbers = itertools.count()  # of this run's users here
        member = _member if _member and _member.of else None  # one that joins late was told no place
        self.place = member.place if member else self.index
        self.workers = member.of if member else options.expect_workers or 1
        self.clock_offset_ns = member.offset_ns if member else 0  # from the master's clock
        self.outbox: list[Report] = []
        self._messages: set[str] = set()
        host = runner.client_id.rpartition("_")[0]
        self.ledger = Ledger(options.run_id, f"{host}-{self.index}")
        target = environment.host or next((u.host for u in environment.user_classes if u.host), "") or ""
        self.load = Load(Settings.read(options), target, self.ledger, self.index, self.heard)
        self.telemetry = _telemetry
        if self.telemetry:
            self.telemetry.begin(self.load.settings, target)
        self.alarm = Alarm()
        self._ended = gevent.event.Event()
        self._greenlets = [gevent.spawn(self._tick_forever), gevent.spawn(self._book_forever)]
        if self.load.transport.clock == "user":
            self._greenlets.append(gevent.spawn(self._beat_forever))

    def heard(self, record: RequestRecord) -> None:
        """Tell Locust of a request that ended."""
        self._ended.set()
        fire = self.environment.events.request.fire
        exception = None if record.outcome == "ok" else self._exception(record)
        if record.first_ns is not None:
            first_ms = record.first_ns / 1e6
            if self.telemetry:  # Locust's --otel would book it as one more request's duration
                self.environment.stats.log_request("TTFT", record.scenario, first_ms, 0)
            else:
                fire(
                    request_type="TTFT",
                    name=record.scenario,
                    response_time=first_ms,
                    response_length=0,
                    exception=None,
                    context={},
                )
        fire(
            request_type="POST",
            name=record.scenario,
            response_time=record.end_ns / 1e6,
            response_length=record.body_bytes,
            exception=exception,
            context={},
        )
        if self.telemetry:
            self.telemetry.note(record)

    def _beat_forever(self) -> None:
        """Without the kernel's stamps a token is as late as this process is: measure how late it wakes."""
        while True:
            before_ns = time.perf_counter_ns()
            gevent.sleep(BEAT_NS / _pacing.SECOND_NS)
            late_ns = max(0, time.perf_counter_ns() - before_ns - BEAT_NS)
            self.ledger.note_lag(self.load.settings.scenario, int(time.time()), late_ns)

    def _book_forever(self) -> None:
        """Count ended requests while no token is waiting: 200 streams that end together take 50 ms."""
        while True:
            self._ended.wait()
            gevent.idle()
            if not self.ledger.book():
                self._ended.clear()

    def _exception(self, record: RequestRecord) -> StreamError:
        text = f"{record.outcome}: {record.detail}"
        if text not in self._messages and len(self._messages) >= MESSAGES_MAX:
            text = record.outcome
        self._messages.add(text)
        return StreamError(record.outcome, text)

    def _tick_forever(self) -> None:
        cpu_s, wall_s = time.process_time(), time.monotonic()
        while True:
            gevent.sleep(1.0 - time.time() % 1.0)
            cpu_before_s, wall_before_s = cpu_s, wall_s
            cpu_s, wall_s = time.process_time(), time.monotonic()
            share = (cpu_s - cpu_before_s) / max(1e-9, wall_s - wall_before_s)
            self.ledger.tick(int(time.time()) - 1, round(share * 1000))
            self.hand_over(final=False)

    def hand_over(self, *, final: bool) -> None:
        """Move what was measured into a report, and its gaps into Locust's ITL rows."""
        report = self.ledger.report(final=final)
        for metric, scenario, second, plain in report["histograms"]:
            if metric == "itl":
                _fill_row(
                    self.environment.stats.entries[scenario, "ITL"], Histogram.from_plain(plain), second
                )
        self.outbox.append(report)
        coordinator = _coordinator.of(self.environment)
        if coordinator:  # no master elsewhere: this process merges, too
            coordinator.take(self.take_outbox())

    def take_outbox(self) -> list[Report]:
        """Return the reports that have not been sent yet."""
        reports, self.outbox = self.outbox, []
        return reports

    def finish(self) -> None:
        """End the run on this side: the last report, and nothing after it."""
        self.ending = True
        gevent.killall(self._greenlets)
        self.ledger.tick(int(time.time()), 0)
        self.hand_over(final=True)
        self.load.close()
        self.alarm.close()
        self.ended.set()


def _fill_row(entry: Any, gaps: Histogram, second: int) -> None:
    """Add gaps to one of Locust's rows, in its buckets, as if each had been logged: a bin at a time."""
    entry.num_requests += gaps.count
    entry.num_reqs_per_sec[second] += gaps.count
    entry.last_request_timestamp = max(entry.last_request_timestamp or 0, second)
    entry.total_response_time += gaps.sum / 1e6
    low_ms, high_ms = gaps.min / 1e6, gaps.max / 1e6
    entry.min_response_time = (
        low_ms if entry.min_response_time is None else min(entry.min_response_time, low_ms)
    )
    entry.max_response_time = max(entry.max_response_time, high_ms)
    for low, count in gaps.bins.items():
        entry.response_times[_bucket(low)] += count


@functools.lru_cache(maxsize=1 << 16)
def _bucket(low_ns: int) -> float:
    return locust.stats.bucket_response_time(low_ns / 1e6)


_side: _Side | None = None  # a process takes part in one run at a time
_member: Member | None = None  # a worker's
_ended_run = ""  # the latest that ended here: its account is closed
_telemetry: Telemetry | None = None  # of this process, for all its runs: an instrument is made once


def _now() -> Load | None:
    """Return the load of the current run; None (after a pause) if it could not begin."""
    if _side is None:
        gevent.sleep(NAP_NS / 1e9)
        return None
    return _side.load


def _pause_until(at_ns: int) -> None:
    gevent.sleep(max(0.0, (at_ns - time.perf_counter_ns()) / _pacing.SECOND_NS))


class ClosedLoopUser(User):
    """Ask, wait for the whole answer, think, ask again: N users are never more than N requests."""

    abstract = True
    loop = "closed"

    def on_start(self) -> None:
        """Begin some time within a second: Locust spawns in lumps, and users in step would queue in lumps."""
        if _side:
            gevent.sleep(_pacing.phase(next(_side.numbers)))

    def wait_time(self) -> float:
        """Return the pause after an answer, in seconds."""
        return _side.load.settings.think_s if _side else 0.0

    @task
    def ask(self) -> None:
        """Send one request, due now; after a failure the next one is due a second later at the earliest.

        A server that refuses at once would be asked as fast as this machine can, and the error rate would
        be a measure of the machine.
        """
        if load := _now():
            due_ns = time.perf_counter_ns()
            if load.request(due_ns) != "ok":
                _pause_until(due_ns + _pacing.SECOND_NS)


class OpenLoopUser(User):
    """One user is one arrival a second, whatever the server does; `-u` and `-r` are the rate and its ramp.

    `--rate-per-user` makes it another number of arrivals: how a rate that is no whole number is had.
    """

    abstract = True
    loop = "open"

    def __init__(self, environment: Any) -> None:
        """Begin with nothing in flight."""
        super().__init__(environment)
        self._in_flight = gevent.pool.Group()

    def wait_time(self) -> float:
        """Return no pause: the schedule alone decides."""
        return 0.0

    @task
    def arrive(self) -> None:
        """Start requests when they are due until the user is stopped; none waits for another."""
        load = _now()
        if load is None or _side is None:
            return
        start_ns = begun_ns = time.perf_counter_ns()
        number = next(_side.numbers)  # users of one process arrive independently of each other
        rate = load.settings.rate_per_user
        if load.settings.arrivals == "poisson":
            seed = load.settings.workload.seed
            schedule = _pacing.poisson(f"{seed}/{_side.index}/{number}", rate)
        else:
            beat_ns = start_ns + wall_offset_ns() - _side.clock_offset_ns
            start_ns -= beat_ns % _pacing.period_ns(rate)  # one beat for all users on all hosts
            schedule = _pacing.constant(_side.place + number * _side.workers, rate)
        for offset_ns in schedule:
            due_ns = start_ns + offset_ns
            if due_ns < begun_ns:
                continue  # the beat began before this user did
            while (now_ns := time.perf_counter_ns()) < due_ns and self._state != LOCUST_STATE_STOPPING:
                _side.alarm.wait_until(min(due_ns, now_ns + NAP_NS))
            if self._state == LOCUST_STATE_STOPPING:
                return
            self._in_flight.spawn(load.request, due_ns)

    def on_stop(self) -> None:
        """Let the requests in flight end; those of a user that is killed end as cancelled."""
        try:
            if self._state == LOCUST_STATE_STOPPING:
                self._in_flight.join()
        finally:
            self._in_flight.kill()


def _start(environment: Any, **_: Any) -> None:
    """Begin a run on this side (workers, and the one process of an undistributed run)."""
    global _side  # noqa: PLW0603 - see its definition
    run_id = environment.parsed_options.run_id
    if isinstance(environment.runner, MasterRunner) or not run_id or run_id == _ended_run:
        return  # a master sends nothing itself; without an id the run was refused
    if _member:
        _member.gone = False
    try:
        _side = _Side(environment)
    except WorkloadError as error:
        _side = None
        log.error("%s", error)
        _coordinator.give_up(environment, _coordinator.EXIT_USAGE)
        return
    gc.collect()
    gc.freeze()  # what is loaded stays: a full collection must not stop the clock


def _stop(environment: Any, **_: Any) -> None:
    """End the run on this side, after its users have ended; a worker reports at once."""
    global _side, _ended_run  # noqa: PLW0603 - see their definitions
    if _side is None or isinstance(environment.runner, MasterRunner):
        return
    if _side.ending:  # Locust stops twice where a signal comes while streams drain
        _side.ended.wait()
        return
    _side.finish()
    _ended_run = _side.ledger.run
    if isinstance(environment.runner, WorkerRunner):
        environment.runner._send_stats()  # noqa: SLF001 - Locust's own last word, without waiting for its turn
        # Its streams have ended: Locust would have it wait as long as they might have taken, once more.
        os.environ["LOCUST_WORKER_ADDITIONAL_WAIT_BEFORE_READY_AFTER_STOP"] = str(
            -int(environment.stop_timeout)
        )
    _side = None


def _report(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001 - Locust's signature
    if _side is not None:
        data["tokenswarm"] = _side.take_outbox()


def _init(environment: Any, **_: Any) -> None:
    global _telemetry, _member  # noqa: PLW0603 - see their definitions
    if isinstance(environment.runner, WorkerRunner):
        _member = Member(environment)
    environment.stats.__class__ = TokenStats  # the same object: Locust's listeners keep it
    _telemetry = open_telemetry(environment.parsed_options)
    environment.events.test_stop.add_listener(_stop)  # before the coordinator's: it closes the account
    _coordinator.init(environment)
    environment.events.test_start.add_listener(_start)  # after it: it names the run and finds the model
    environment.events.report_to_master.add_listener(_report)
    if _member and environment.parsed_options.run_id:
        _start(environment)  # it joined a run that was on, and was told so while it still connected
    gevent.get_hub().loop.update_now()  # the imports took a second, by which --run-time would end early


_events: Any = events  # untyped upstream
_events.init_command_line_parser.add_listener(add_arguments)
_events.init.add_listener(_init)
