"""Runs that something breaks: what was measured is there, what is missing is known, nothing looks green.

The runs wait more than they work, so three go on at a time; each test waits for its own.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from analysis import rundir, sla, verdict
from tests.end_to_end.locusts import (
    ALL_THERE,
    Result,
    check_accounts,
    command,
    distributed,
    metrics,
    result,
    side_by_side,
    simulator,
    started,
)
from tests.end_to_end.odd_servers import Recorder
from tests.marks import more

SECOND_NS = 10**9
QUIT_S = 30  # as locustfiles/_member.py has it, which patches whoever imports it
TWO_SECONDS = '{"ttft_ms": 50, "itl_ms": 100, "tokens": 20}'
ONE_SECOND = '{"ttft_ms": 50, "itl_ms": 100, "tokens": 10}'
QUICK = '{"ttft_ms": 20, "itl_ms": 5, "tokens": 12}'


class Broken(NamedTuple):
    """What came of a run. `from_ns` and `to_ns` (unix): when something in it stood still."""

    code: int
    said: str
    run: Result
    from_ns: int = 0
    to_ns: int = 0
    codes: tuple[int, ...] = ()  # of the workers that ended by themselves

    @property
    def verdict(self) -> verdict.Verdict:
        return verdict.judge(rundir.load(self.run.path), sla.default())


# Three that take an open loop's pulse

FROZEN_S = 1.5  # more than one arrival of each user
STEADY = ["--arrivals", "constant", "-u", "20", "-r", "20", "-t", "5", "--run-dir", "run"]


def freeze(pid: int, seconds: float) -> tuple[int, int]:
    """Stop a process for a while; returns when it was stopped and when it went on (unix ns)."""
    os.kill(pid, signal.SIGSTOP)
    begun = time.time_ns()
    time.sleep(seconds)
    ended = time.time_ns()
    os.kill(pid, signal.SIGCONT)
    return begun, ended


def steady(path: Path, frozen: str) -> Broken:
    with (
        simulator(QUICK) as (url, sim),
        started(command("arrivals", url, *STEADY), path / "locust.log") as locust,
    ):
        locust.wait_until_it_says(ALL_THERE)
        time.sleep(2)
        pid = {"server": sim.process.pid, "generator": locust.process.pid}.get(frozen)
        times = freeze(pid, FROZEN_S) if pid else (0, 0)
        code = locust.wait()
    return Broken(code, locust.said, result(path / "run"), *times)


def frozen_server(path: Path) -> Broken:
    return steady(path, "server")


def frozen_generator(path: Path) -> Broken:
    return steady(path, "generator")


def nothing_frozen(path: Path) -> Broken:
    return steady(path, "")


# Four that end otherwise than planned


def killed_worker(path: Path) -> Broken:
    arguments = ["-u", "12", "-r", "12", "-t", "7", "--run-dir", "run"]
    with simulator(ONE_SECOND) as (url, _), distributed(path, "arrivals", url, *arguments) as (master, crew):
        master.wait_until_it_says(ALL_THERE)
        time.sleep(3.5)  # a stream's second, one until it is handed over, one until it is reported
        os.kill(crew[0].process.pid, signal.SIGKILL)
        code = master.wait()
    return Broken(code, master.said, result(path / "run"))


def killed_crew(path: Path) -> Broken:
    arguments = ["-u", "20", "-r", "20", "-t", "9", "--run-dir", "run"]
    with simulator(QUICK) as (url, _), distributed(path, "arrivals", url, *arguments) as (master, crew):
        master.wait_until_it_says(ALL_THERE)
        time.sleep(2.5)
        for worker in crew:
            os.kill(worker.process.pid, signal.SIGKILL)
        code = master.wait()
    return Broken(code, master.said, result(path / "run"))


def leaving_worker(path: Path) -> Broken:
    arguments = ["-u", "8", "-r", "8", "-t", "5", "--run-dir", "run"]
    with simulator(ONE_SECOND) as (url, _), distributed(path, "arrivals", url, *arguments) as (master, crew):
        master.wait_until_it_says(ALL_THERE)
        time.sleep(1)
        crew[0].process.send_signal(signal.SIGTERM)
        code = master.wait()
        codes = tuple(worker.wait() for worker in crew)
    return Broken(code, master.said + crew[0].said, result(path / "run"), codes=codes)


def interrupted_process(path: Path) -> Broken:
    arguments = ["-u", "8", "-r", "8", "-t", "60", "--run-dir", "run"]
    with (
        simulator(TWO_SECONDS) as (url, _),
        started(command("chat", url, *arguments), path / "locust.log") as locust,
    ):
        locust.wait_until_it_says(ALL_THERE)
        time.sleep(2.5)
        locust.process.send_signal(signal.SIGINT)
        code = locust.wait(30)
    return Broken(code, locust.said, result(path / "run"))


def late_worker(path: Path) -> Broken:
    arguments = ["-u", "14", "-r", "1", "-t", "17", "--run-dir", "run", "--enable-rebalancing"]
    with simulator(QUICK) as (url, _), distributed(path, "arrivals", url, *arguments) as (master, crew):
        master.wait_until_it_says("Sending spawn jobs")
        with started(list(crew[0].process.args), path / "late.log") as late:
            code = master.wait()
            codes = (late.wait(),)
    return Broken(code, master.said + late.said, result(path / "run"), codes=codes)


def terminated_master(path: Path) -> Broken:
    arguments = ["-u", "8", "-r", "8", "-t", "60", "--run-dir", "run"]
    with simulator(TWO_SECONDS) as (url, _), distributed(path, "arrivals", url, *arguments) as (master, crew):
        master.wait_until_it_says(ALL_THERE)
        time.sleep(2.5)
        master.process.send_signal(signal.SIGTERM)
        code = master.wait(30)
        codes = tuple(worker.wait(10) for worker in crew)
    return Broken(code, master.said, result(path / "run"), codes=codes)


DRAINING = ["-u", "6", "-r", "6", "-t", "2", "--run-dir", "run"]


def terminated_while_draining(path: Path) -> Broken:
    with (
        simulator(TWO_SECONDS) as (url, _),
        started(command("arrivals", url, *DRAINING), path / "locust.log") as locust,
    ):
        locust.wait_until_it_says("time limit reached")
        time.sleep(0.5)
        locust.process.send_signal(signal.SIGTERM)
        return Broken(locust.wait(30), locust.said, result(path / "run"))


def master_terminated_while_draining(path: Path) -> Broken:
    with simulator(TWO_SECONDS) as (url, _), distributed(path, "arrivals", url, *DRAINING) as (master, crew):
        master.wait_until_it_says("time limit reached")
        time.sleep(0.5)
        master.process.send_signal(signal.SIGTERM)
        code = master.wait(30)
        codes = tuple(worker.wait(10) for worker in crew)
        return Broken(code, master.said, result(path / "run"), codes=codes)


def dead_server(path: Path) -> Broken:
    arguments = ["-u", "10", "-r", "10", "-t", "5", "--run-dir", "run"]
    with (
        simulator(ONE_SECOND) as (url, sim),
        started(command("chat", url, *arguments), path / "locust.log") as locust,
    ):
        locust.wait_until_it_says(ALL_THERE)
        time.sleep(2.5)
        died_ns = time.time_ns()
        sim.process.kill()
        code = locust.wait()
    return Broken(code, locust.said, result(path / "run"), died_ns)


SCENARIOS = (
    frozen_server,
    frozen_generator,
    nothing_frozen,
    killed_worker,
    killed_crew,
    leaving_worker,
    late_worker,
    interrupted_process,
    terminated_master,
    terminated_while_draining,
    master_terminated_while_draining,
    dead_server,
)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Broken]]:
    plays = {play.__name__: play for play in SCENARIOS}
    with side_by_side(plays, tmp_path_factory, {"master_terminated_while_draining"}) as played:
        yield played


def test_server_that_stalls_shows_in_every_request_that_was_due(broken: Callable[[str], Broken]) -> None:
    code, said, run, from_ns, to_ns, _ = broken("frozen_server")
    assert code == 0, said
    check_accounts(run)
    due = [record for record in run.records if from_ns < record.due_unix_ns < to_ns]
    assert 28 <= len(due) <= 32  # 20 a second: nobody waited for the server
    for record in due:
        assert record.first_ns is not None
        until_it_went_on = to_ns - record.due_unix_ns
        assert until_it_went_on < record.first_ns < until_it_went_on + 0.3 * SECOND_NS
        assert record.sent_ns is not None
        assert record.sent_ns < 0.1 * SECOND_NS
    ttft_s = sorted((record.first_ns or 0) / SECOND_NS for record in due)
    assert ttft_s[0] < 0.35
    assert ttft_s[-1] > FROZEN_S - 0.1
    rest = sorted(
        record.first_ns or 0 for record in run.records if record.due_unix_ns > to_ns + SECOND_NS / 2
    )
    assert rest[len(rest) // 2] < 0.1 * SECOND_NS


def test_generator_that_was_held_up_shows_in_its_lateness(broken: Callable[[str], Broken]) -> None:
    code, said, run, from_ns, to_ns, _ = broken("frozen_generator")
    assert code == 0, said
    check_accounts(run)
    due = [record for record in run.records if from_ns < record.due_unix_ns < to_ns]
    assert 28 <= len(due) <= 32
    for record in due:
        assert record.sent_ns is not None
        assert record.first_ns is not None
        until_it_went_on = to_ns - record.due_unix_ns
        assert until_it_went_on < record.sent_ns < until_it_went_on + 0.3 * SECOND_NS
        assert record.first_ns > record.sent_ns  # TTFT has the lateness in it; what other tools print has not
        assert record.first_ns - record.sent_ns < 0.3 * SECOND_NS
    assert run.meta["instrument"]["dispatch_lag_p99_ns"] > 0.8 * SECOND_NS
    found = broken("frozen_generator").verdict
    assert found.status == "INVALID"
    assert any("dispatch lag" in reason for reason in found.reasons), found.reasons


def test_control_a_generator_that_was_not_held_up_is_on_time(broken: Callable[[str], Broken]) -> None:
    code, said, run, *_ = broken("nothing_frozen")
    assert code == 0, said
    check_accounts(run)
    assert 90 <= len(run.records) <= 110
    assert run.meta["instrument"]["dispatch_lag_p99_ns"] < 0.1 * SECOND_NS
    assert sum((record.first_ns or 0) > 0.3 * SECOND_NS for record in run.records) <= 1


def test_killed_worker_makes_the_run_invalid(broken: Callable[[str], Broken]) -> None:
    code, said, run, *_ = broken("killed_worker")
    assert code == 5, said
    assert "Traceback" not in said
    (lost,) = run.meta["workers"]["lost"]
    assert lost["in_flight"] > 0
    assert "silent since" in lost["detail"]
    accounting = run.meta["accounting"]
    assert accounting["unaccounted"] > 0
    assert accounting["started"] - accounting["records"] == accounting["unaccounted"]
    assert len(run.records) == accounting["records"]
    assert len({record.worker for record in run.records}) == 2  # what the dead one had reported is kept
    assert run.log("itl").count == sum(record.gaps for record in run.records)
    found = broken("killed_worker").verdict
    assert found.status == "INVALID"
    assert any("workers" in reason for reason in found.reasons)


def test_of_workers_that_are_all_killed_at_once_nobody_knows_what_is_missing(
    broken: Callable[[str], Broken],
) -> None:
    code, said, run, *_ = broken("killed_crew")
    assert code == 5, said
    assert len(run.meta["workers"]["lost"]) == 2
    accounting = run.meta["accounting"]
    assert accounting["records"] == len(run.records) > 0
    assert run.meta["server_counts"]["requests"] > accounting["started"]  # 20/s, a report a second
    assert (accounting["unaccounted"], accounting["silent_workers"]) == (
        accounting["started"] - len(run.records),
        2,
    )
    (gate,) = [gate for gate in broken("killed_crew").verdict.gates if gate.name == "unaccounted"]
    assert not gate.ok
    assert "nobody knows what 2 workers did after the last report" in gate.found


def test_worker_that_joins_late_is_waited_for_as_the_others_are(broken: Callable[[str], Broken]) -> None:
    code, said, run, *_, codes = broken("late_worker")
    assert code == 0, said
    assert codes == (0,)
    check_accounts(run)
    assert run.meta["workers"]["expected"] == 3
    assert run.meta["workers"]["lost"] == []
    assert len({record.worker for record in run.records}) == 3


def test_disk_that_is_full_ends_the_run_with_one_line_and_keeps_what_it_holds(tmp_path: Path) -> None:
    run = ["-u", "30", "-r", "30", "-t", "60", "--run-dir", "run"]
    with (
        simulator(QUICK) as (url, _),
        started(["prlimit", "--fsize=20000", *command("chat", url, *run)], tmp_path / "log") as locust,
    ):
        code = locust.wait(30)
    assert code == 5, locust.said
    assert locust.said.count("cannot be written (File too large): the run is INVALID") == 1
    assert "Traceback" not in locust.said
    found = rundir.load(tmp_path / "run")
    assert len(found.requests) > 50
    assert verdict.judge(found, sla.default()).status == "INVALID"


def test_worker_that_leaves_in_order_loses_nothing_but_the_verdict(broken: Callable[[str], Broken]) -> None:
    code, said, run, *_, codes = broken("leaving_worker")
    assert code == 5, said  # for a while its share of the load was missing
    assert codes == (0, 0)
    assert "Traceback" not in said
    assert set(run.outcomes()) == {"ok"}
    check_accounts(run)
    (lost,) = run.meta["workers"]["lost"]
    assert lost["in_flight"] == 0
    assert "left at" in lost["detail"]
    assert broken("leaving_worker").verdict.status == "INVALID"


@pytest.mark.parametrize("scenario", ["interrupted_process", "terminated_master"])
def test_interrupted_run_keeps_what_it_measured(broken: Callable[[str], Broken], scenario: str) -> None:
    code, said, run, *_, codes = broken(scenario)
    assert code == 0, said
    assert set(codes) <= {0}
    assert "Traceback" not in said
    assert set(run.outcomes()) == {"ok"}  # the streams that were running were let finish
    assert len(run.records) > 8
    check_accounts(run)
    assert run.meta["interrupted"].startswith("stopped after")
    found = broken(scenario).verdict
    assert found.status == "INVALID"
    assert any("interrupted" in reason for reason in found.reasons)


@pytest.mark.parametrize("scenario", ["terminated_while_draining", more("master_terminated_while_draining")])
def test_signal_while_streams_drain_cuts_and_loses_none(
    broken: Callable[[str], Broken], scenario: str
) -> None:
    code, said, run, *_ = broken(scenario)
    assert code == 0, said
    # Locust itself exits twice then, and the second SystemExit may be printed as the program ends.
    assert "Traceback" not in said or said.rstrip().endswith("SystemExit"), said
    check_accounts(run)
    assert run.outcomes().keys() == {"ok"}
    assert run.meta["ended_unix_ns"]


def test_server_that_dies_is_not_hammered(broken: Callable[[str], Broken]) -> None:
    code, said, run, died_ns, *_ = broken("dead_server")
    assert code == 1, said
    assert "Traceback" not in said
    check_accounts(run)
    outcomes = run.outcomes()
    assert set(outcomes) == {"ok", "truncated", "connect"}
    assert outcomes["truncated"] <= 10  # what was running
    after = [record for record in run.records if record.due_unix_ns > died_ns]
    assert {record.outcome for record in after} <= {"connect", "truncated"}
    assert 10 <= len(after) <= 10 * 4  # ten users, a try a second each
    assert broken("dead_server").verdict.status == "INVALID"  # the server's counts ended with it


# The API key


def test_key_is_sent_and_written_nowhere(tmp_path: Path) -> None:
    key = "sk-0123456789-not-to-be-seen"
    with Recorder() as server:
        url = f"http://127.0.0.1:{server.port}"
        order = command("chat", url, "-u", "2", "-r", "2", "-t", "2", "--run-dir", "run")
        with started(order, tmp_path / "locust.log", OPENAI_API_KEY=key) as locust:
            locust.wait_until_it_says(ALL_THERE)
            process = psutil.Process(locust.process.pid)
            lines = [" ".join(p.cmdline()) for p in (process, *process.children(recursive=True))]
            assert locust.wait() == 0, locust.said
        heads = list(server.heads)
    posts = [head for head in heads if head.startswith(b"POST")]
    assert len(posts) == len(result(tmp_path / "run").records) > 2
    wanted = b"authorization: bearer " + key.encode()
    assert all(wanted in head.lower() for head in posts)
    assert all(wanted in head.lower() for head in heads if b"/v1/models" in head)
    assert not any(key in line for line in lines)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.timeout(240)  # half a minute of silence
def test_workers_of_a_master_that_stays_silent_stop_their_load_and_then_end(tmp_path: Path) -> None:
    """The master is there and its connections stand, but it says nothing: as where its host hangs."""
    arguments = ["-u", "8", "-r", "8", "-t", "600", "--run-dir", "run", "--stop-timeout", "2"]
    with (
        simulator('{"ttft_ms": 20, "itl_ms": 200}') as (url, sim),
        distributed(tmp_path, "arrivals", url, *arguments) as (master, crew),
    ):
        master.wait_until_it_says(ALL_THERE)
        os.kill(master.process.pid, signal.SIGSTOP)
        stopped_s = time.monotonic()
        try:
            for worker in crew:
                worker.wait_until_it_says("No word from the master for 4 s: the load is stopped")
            while metrics(sim)["running"]:
                assert time.monotonic() - stopped_s < QUIT_S, "streams go on that nobody will count"
                time.sleep(0.1)
            time.sleep(max(0.0, stopped_s + QUIT_S - 5 - time.monotonic()))
            assert [worker.process.poll() for worker in crew] == [None, None], "it may be the link alone"
            codes = [worker.wait(60) for worker in crew]
        finally:
            os.kill(master.process.pid, signal.SIGCONT)
        assert time.monotonic() - stopped_s > QUIT_S - 1
        for worker in crew:
            assert worker.errors()[-1] == "No word from the master for 30 s: this worker ends"
        assert codes == [0, 0]
        master.process.send_signal(signal.SIGTERM)
        assert master.wait(60) != 0
    run = result(tmp_path / "run")
    check_accounts(run)  # what they had measured lay in the master's sockets meanwhile
    assert "of 600 s" in run.meta["interrupted"]
    assert verdict.judge(rundir.load(run.path), sla.default()).status == "INVALID"
