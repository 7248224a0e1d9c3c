"""Locust from the command line: however the load is spread, one run directory holds everything once.

The runs wait more than they work, so three go on at a time; each test waits for its own.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest

from tests.end_to_end.driving import ROOT
from tests.end_to_end.locusts import (
    Locust,
    Result,
    check_accounts,
    check_server,
    command,
    distributed,
    finished,
    free_port,
    metrics,
    result,
    side_by_side,
    simulator,
    started,
)
from tests.marks import more

QUICK = '{"ttft_ms": 20, "itl_ms": 5, "tokens": 12}'
THREE_SECONDS = '{"ttft_ms": 50, "itl_ms": 100, "tokens": 30}'
ENDLESS = '{"endless": true, "itl_ms": 20}'
TAKING_TURNS = '[{"tokens": 3, "itl_ms": 5}, {"status": 500}, {"truncate_at": 2}, {"status": 429}]'


class Ended(NamedTuple):
    """What came of a run, and what the server counted meanwhile."""

    code: int
    locusts: list[Locust]
    path: Path
    counted: dict[str, float]

    @property
    def run(self) -> Result:
        return result(self.path / "run")

    @property
    def errors(self) -> list[str]:
        return [line for locust in self.locusts for line in locust.errors()]

    def check_quiet(self, code: int = 0) -> None:
        said = "".join(locust.said for locust in self.locusts)
        assert self.code == code, said
        assert "Traceback" not in said, said
        assert self.errors == []


def alone(path: Path, script: str, locustfile: str, *arguments: str, **variables: str) -> Ended:
    with simulator(script) as (url, sim):
        order = command(locustfile, url, *arguments)
        code, locust = finished(order, path / "locust.log", **variables)
        return Ended(code, [locust], path, metrics(sim))


def forked(path: Path, script: str, locustfile: str, *arguments: str) -> Ended:
    """Run a master that forks two workers, on ports of its own."""
    port = str(free_port())
    ports = ["--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]
    return alone(path, script, locustfile, "--processes", "2", *ports, *arguments)


def apart(path: Path, script: str, locustfile: str, *arguments: str) -> Ended:
    """Run a master and two workers as programs of their own."""
    with ExitStack() as stack:
        url, sim = stack.enter_context(simulator(script))
        master, crew = stack.enter_context(distributed(path, locustfile, url, *arguments))
        code = master.wait()
        assert [worker.wait() for worker in crew] == [0, 0]
        return Ended(code, [master, *crew], path, metrics(sim))


def shaped(path: Path) -> Ended:
    with simulator(QUICK) as (url, sim):
        order = command("arrivals", url, "--arrivals", "constant", *RUN)
        order[order.index("-f") + 1] = str(Path(__file__).with_name("steps.py"))
        code, locust = finished(order, path / "locust.log", PYTHONPATH=str(ROOT))
        return Ended(code, [locust], path, metrics(sim))


RUN = ("--run-dir", "run")
BAD = ("-u", "2", "-t", "20", *RUN, "--prompt-words", "many")
IMPATIENT = ("-u", "4", "-r", "4", "-t", "2", "-s", "0", *RUN)


def unreachable(path: Path, *more: str) -> Ended:
    order = command("arrivals", f"http://127.0.0.1:{free_port()}", "-u", "2", "-t", "20", *RUN, *more)
    code, locust = finished(order, path / "locust.log")
    return Ended(code, [locust], path, {})


def unreachable_forked(path: Path) -> Ended:
    port = str(free_port())
    return unreachable(path, "--processes", "2", "--master-bind-port", port, "--master-port", port)


def wait_for_port(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return


def web(path: Path) -> Ended:
    """Start and stop two runs from the web page, the second one with another option."""
    with simulator('{"ttft_ms": 20, "itl_ms": 50}') as (url, sim):
        port = free_port()
        order = [part for part in command("chat", url) if part not in {"--headless", "--only-summary"}]
        order += ["--web-host", "127.0.0.1", "--web-port", str(port)]
        with started(order, path / "locust.log") as locust:
            wait_for_port(port)
            for number, tokens in enumerate(("10", "20"), 1):
                form = f"user_count=4&spawn_rate=4&host={url}&max_tokens={tokens}"
                assert b'"success":true' in press(port, "/swarm", form).replace(b" ", b"")
                time.sleep(1.5)
                press(port, "/stop", "")  # while streams are running
                locust.wait_until_it_says("Results are in", times=number)
            locust.process.terminate()
            return Ended(locust.wait(), [locust], path, metrics(sim))


def press(port: int, button: str, form: str) -> bytes:
    return urlopen(f"http://127.0.0.1:{port}{button}", form.encode(), timeout=20).read()


VARIABLES = {
    "TOKENSWARM_RUN_DIR": "run",
    "TOKENSWARM_MAX_TOKENS": "7",
    "TOKENSWARM_ENDPOINT": "completions",
    "TOKENSWARM_SCENARIO": "named",
    "TOKENSWARM_TRANSPORT": "portable",
    "TOKENSWARM_SEED": "5",
}
FORKED_LOAD = ("-u", "20", "-r", "20", "-t", "3", *RUN)
THREE_CHOICES = ("-u", "2", "-r", "2", "-t", "2", *RUN, "--choices", "3", "--per-chunk-usage")

PLAYS: dict[str, Callable[[Path], Ended]] = {
    "alone": lambda path: alone(
        path, QUICK, "chat", "-u", "6", "-r", "6", "-t", "3", *RUN, "--max-tokens", "5-40"
    ),
    "forked": lambda path: forked(path, QUICK, "arrivals", *FORKED_LOAD),
    "a load shape": shaped,
    "drained": lambda path: apart(path, THREE_SECONDS, "arrivals", "-u", "6", "-r", "6", "-t", "2", *RUN),
    "impatient": lambda path: alone(path, ENDLESS, "chat", *IMPATIENT),
    "impatient apart": lambda path: apart(path, ENDLESS, "arrivals", *IMPATIENT),
    "failing": lambda path: alone(path, TAKING_TURNS, "chat", "-u", "3", "-r", "3", "-t", "2", *RUN),
    "three choices": lambda path: alone(path, QUICK, "chat", *THREE_CHOICES),
    "unreachable": unreachable,
    "unreachable forked": unreachable_forked,
    "bad option": lambda path: alone(path, QUICK, "arrivals", *BAD),
    "bad option forked": lambda path: forked(path, QUICK, "arrivals", *BAD),
    "unknown option": lambda path: alone(path, QUICK, "chat", "--max-token", "3x"),
    "variables": lambda path: alone(
        path, '{"itl_ms": 2}', "chat", "-u", "2", "-r", "2", "-t", "1", **VARIABLES
    ),
    "web": web,
    "both loops": lambda path: alone(path, QUICK, "", "-u", "2", "-t", "2", *RUN),
    "no directory": lambda path: alone(path, QUICK, "chat", "-u", "1", "-t", "1"),
}
UNASKED = {"impatient apart", "unreachable forked"}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Ended]]:
    with side_by_side(PLAYS, tmp_path_factory, UNASKED) as played:
        yield played


def test_one_process(ended: Callable[[str], Ended]) -> None:
    found = ended("alone")
    found.check_quiet()
    run = found.run
    assert set(run.outcomes()) == {"ok"}
    assert len(run.records) > 40  # about 70 on cores that nobody else uses
    check_accounts(run)
    check_server(run, found.counted)
    assert run.meta["load"]["loop"] == "closed"
    assert run.meta["simulated"]
    assert run.meta["clock"] == "kernel"
    assert run.meta["interrupted"] is None
    window_s = (run.meta["window"]["end_unix_ns"] - run.meta["window"]["start_unix_ns"]) / 1e9
    assert 2.7 < window_s < 3.3


def test_load_shape_is_a_rate(ended: Callable[[str], Ended]) -> None:
    run = ended("a load shape")
    run.check_quiet()
    check_accounts(run.run)
    begun_ns = run.run.meta["started_unix_ns"]
    dues_s = [(record.due_unix_ns - begun_ns) / 1e9 for record in run.run.records]
    assert 4 <= sum(2 <= due_s < 3 for due_s in dues_s) <= 6  # away from the steps at 0 and 4 s
    assert 38 <= sum(6 <= due_s < 8 for due_s in dues_s) <= 42


def test_two_processes_and_a_master(ended: Callable[[str], Ended]) -> None:
    found = ended("forked")
    found.check_quiet()
    run = found.run
    assert set(run.outcomes()) == {"ok"}
    check_accounts(run)
    check_server(run, found.counted)
    assert run.meta["workers"]["expected"] == len(run.meta["workers"]["seen"]) == 2
    assert run.meta["workers"]["lost"] == []
    assert len({record.worker for record in run.records}) == 2
    assert 30 < len(run.records) < 95  # 20 a second, Poisson


def test_master_and_workers_drain_long_streams(ended: Callable[[str], Ended]) -> None:
    found = ended("drained")
    found.check_quiet()
    run = found.run
    assert set(run.outcomes()) == {"ok"}  # streams that were running at the end were let finish
    assert len(run.records) > 3
    assert {record.chunks for record in run.records} == {30}
    check_accounts(run)
    check_server(run, found.counted)
    end = run.meta["window"]["end_unix_ns"]
    assert any(record.due_unix_ns + record.end_ns > end + 10**9 for record in run.records)


@pytest.mark.parametrize("play", ["impatient", more("impatient apart")])
def test_stop_without_patience_cancels_and_loses_nothing(ended: Callable[[str], Ended], play: str) -> None:
    found = ended(play)
    found.check_quiet(code=1)  # Locust's own code for a run with failures
    run = found.run
    assert set(run.outcomes()) == {"cancelled"}
    assert run.records
    assert all(record.chunks > 10 for record in run.records if record.end_ns > 10**9)
    check_accounts(run)


def test_failures_are_records_and_rows(ended: Callable[[str], Ended]) -> None:
    found = ended("failing")
    found.check_quiet(code=1)
    run = found.run
    outcomes = run.outcomes()
    assert set(outcomes) == {"ok", "http_5xx", "truncated", "http_429"}
    assert max(outcomes.values()) - min(outcomes.values()) <= 3  # the scripts take turns
    check_accounts(run)
    errors = [row["Error"] for row in run.table("locust_failures.csv")]
    for outcome in ("http_5xx", "truncated", "http_429"):
        assert sum(outcome in error for error in errors) == 1, errors


def test_three_choices_agree_with_the_server(ended: Callable[[str], Ended]) -> None:
    found = ended("three choices")
    found.check_quiet()
    run = found.run
    assert {(record.chunks, record.gaps, record.output_tokens) for record in run.records} == {(36, 33, 36)}
    check_accounts(run)
    assert run.meta["server_counts"]["generation_tokens"] == sum(record.chunks for record in run.records)
    assert run.meta["server_counts"]["requests"] == 3 * len(run.records)  # vLLM counts every choice


@pytest.mark.parametrize(
    ("play", "code", "words"),
    [
        ("unreachable", 6, "cannot be reached (Connection refused)"),
        more("unreachable forked", 6, "cannot be reached (Connection refused)"),
        ("bad option", 2, "--prompt-words: found 'many', expected a number or LOW-HIGH"),
        ("bad option forked", 2, "--prompt-words: found 'many', expected a number or LOW-HIGH"),
    ],
)
def test_run_that_cannot_begin_says_so_in_one_line(
    ended: Callable[[str], Ended], play: str, code: int, words: str
) -> None:
    found = ended(play)
    said = found.locusts[0].said
    assert found.code == code, said
    assert "Traceback" not in said
    (error,) = found.errors
    assert words in error
    assert not (found.path / "run").exists()


def test_option_that_does_not_exist(ended: Callable[[str], Ended]) -> None:
    found = ended("unknown option")
    assert found.code == 2
    assert "Traceback" not in found.locusts[0].said


def test_variables_of_the_environment_are_options(ended: Callable[[str], Ended]) -> None:
    found = ended("variables")
    found.check_quiet()
    run = found.run
    assert {(record.scenario, record.chunks, record.clock) for record in run.records} == {
        ("named", 7, "user")
    }
    assert run.meta["target"]["endpoint"] == "/v1/completions"
    assert run.meta["load"]["seed"] == 5
    check_accounts(run)


def test_default_run_directory_is_under_out(ended: Callable[[str], Ended]) -> None:
    found = ended("no directory")
    found.check_quiet()
    (path,) = (found.path / "out").iterdir()
    assert result(path).meta["run"] == path.name


def test_runs_of_the_web_page_are_apart_and_whole(ended: Callable[[str], Ended]) -> None:
    found = ended("web")
    found.check_quiet()
    runs = sorted((result(path) for path in (found.path / "out").iterdir()), key=lambda run: run.meta["run"])
    assert [run.meta["workload"]["max_tokens"] for run in runs] == [[10, 10], [20, 20]]
    for run, tokens in zip(runs, (10, 20), strict=True):
        assert set(run.outcomes()) == {"ok"}  # the streams that were running were let finish
        assert {record.chunks for record in run.records} == {tokens}
        check_accounts(run)
    assert found.counted["finished"] == sum(len(run.records) for run in runs)


def test_folder_of_locustfiles_is_two_loops_and_none(ended: Callable[[str], Ended]) -> None:
    found = ended("both loops")
    assert found.code == 2
    (error,) = found.errors
    assert error.startswith("user classes: found Arrivals and Chat, expected one")
    assert not (found.path / "run").exists()
