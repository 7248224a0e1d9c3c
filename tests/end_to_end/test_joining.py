"""Workers that come to an experiment from elsewhere: real processes, on this host."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.locusts import check_accounts, environment, free_port, metrics, result, simulator
from tests.end_to_end.orders import MARK, ROOT, Running, left, running
from tests.marks import more
from tokenswarm import sealing

BLOCKS = """
servers: [{name: one, sim: baseline}]
blocks: 2
load: {rate: 10, duration_s: 4, warmup_s: 1, workers: 2}
workload: {prompt_words: 10-20, max_tokens: 8-16}
sla: {name: small, objectives: ["ttft p50 < 500 ms"]}
"""
SEARCH = """
servers: [{name: one, sim: baseline}]
load: {loop: closed, warmup_s: 0, workers: 1}
workload: {prompt_words: 10-20, max_tokens: 8-16}
sla: {name: small, objectives: ["ttft p50 < 500 ms"]}
search: {from: 2, to: 2, within: 50 %, confirm: 1, probe_s: 4, longest_s: 4}
"""
LONG = """
servers: [{{name: one, url: "{url}"}}]
load: {{rate: 10, duration_s: 60, warmup_s: 0, workers: 2}}
workload: {{prompt_words: 10-20, max_tokens: 100}}
"""
KEY = "sk-joining-3f1c"
GONE_S = 5


class Worker:
    """A worker, and what it said so far."""

    def __init__(self, process: subprocess.Popen[bytes], file: Path) -> None:
        self.process = process
        self._file = file

    @property
    def said(self) -> str:
        return self._file.read_text()

    def wait(self) -> int:
        return self.process.wait(120)


@contextmanager
def worker(folder: Path, port: int, number: int = 0, *options: str) -> Iterator[Worker]:
    file = folder / f"worker-{number}"
    command = [sys.executable, "-m", "tokenswarm", "worker", f"127.0.0.1:{port}", *options]
    variables = {"PYTHONPATH": str(ROOT), MARK: str(folder), "TOKENSWARM_API_KEY": KEY}
    with file.open("wb") as said:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(**variables),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            yield Worker(process, file)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)


@contextmanager
def listening(folder: Path, text: str, port: int, *options: str) -> Iterator[Running]:
    with running(folder, text, "--listen", f"127.0.0.1:{port}", *options, TOKENSWARM_API_KEY=KEY) as found:
        yield found


def command_lines(mark: Path) -> list[str]:
    """Return those of all processes that a test started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)  # half a minute where nobody else is
def test_workers_come_to_every_run_of_an_experiment(tmp_path: Path) -> None:
    """One is there before the master and one comes late; the key is in nobody's arguments and in no file."""
    port = free_port()
    with (
        worker(tmp_path, port, 0, "--linger", "4") as first,
        listening(tmp_path, BLOCKS, port) as experiment,
    ):
        log = experiment.out / "one-1" / "locust.log"
        experiment.wait_until(log.exists)
        with worker(tmp_path, port, 1, "--linger", "4") as second:
            experiment.wait_for_requests("one-1")
            lines = command_lines(tmp_path)
            experiment.process.wait(180)
            ends = first.wait(), second.wait()
    assert ends == (0, 0), first.said + second.said
    assert sum("locust" in line for line in lines) == 3, lines
    assert not [line for line in lines if KEY in line]
    assert not [
        file for file in experiment.out.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()
    ]
    for name in ("one-1", "one-2"):
        run = result(experiment.out / name)
        check_accounts(run)
        assert (run.meta["workers"]["expected"], len(run.meta["workers"]["seen"])) == (2, 2)
        assert {record.worker for record in run.records} == set(run.meta["workers"]["seen"])
    assert "after 2 runs: done" in first.said
    assert sealing.damage(experiment.out) == []
    assert left(experiment.out) == []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_workers_come_to_every_run_of_a_search(tmp_path: Path) -> None:
    """Closed, too: whether a worker sends with one locustfile or the other is the master's to say."""
    port = free_port()
    with worker(tmp_path, port, 0, "--linger", "4") as only, listening(tmp_path, SEARCH, port) as experiment:
        code = experiment.process.wait(120)
        assert only.wait() == 0, only.said
    found = json.loads((experiment.out / "search.json").read_text())
    assert found["exit_code"] == code, experiment.said
    runs = [trial["run"] for trial in found["servers"][0]["trials"]]
    assert runs
    for name in runs:
        run = result(experiment.out / name)
        check_accounts(run)
        assert run.meta["load"]["loop"] == "closed"
    assert f"after {len(runs)} run" in only.said


def test_too_few_workers_is_one_line(tmp_path: Path) -> None:
    port = free_port()
    options = ("--workers-wait", "6")
    with (
        worker(tmp_path, port, 0, "--linger", "1"),
        listening(tmp_path, BLOCKS, port, *options) as experiment,
    ):
        code = experiment.process.wait(60)
    assert code == 6
    (line,) = [line for line in experiment.said.splitlines() if line.startswith("tokenswarm: ")]
    assert line == f"tokenswarm: one-1: found 1 of 2 workers at 127.0.0.1:{port} within 6 s"
    assert (experiment.out / "DONE").read_text() == "6\n"


@pytest.mark.parametrize(
    ("there", "words"),
    [
        more(None, "--prompts: cannot read p.txt"),
        ("other words", "--prompts: found another p.txt than the master's"),
    ],
)
def test_a_worker_that_has_not_the_same_prompts_is_named(
    tmp_path: Path, there: str | None, words: str
) -> None:
    """Each reads the file on its own host: what they sent would be two workloads, and nobody would know."""
    port = free_port()
    (tmp_path / "p.txt").write_text("these words\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if there:
        (elsewhere / "p.txt").write_text(there)
    text = BLOCKS.replace("workload: {", "workload: {options: [--prompts, p.txt], ")
    with (
        worker(tmp_path, port, 0, "--linger", "1"),
        worker(elsewhere, port, 1, "--linger", "1"),
        listening(tmp_path, text, port) as experiment,
    ):
        code = experiment.process.wait(90)
    assert code == 6, experiment.said
    (line,) = [line for line in experiment.said.splitlines() if line.startswith("tokenswarm: ")]
    assert line.startswith("tokenswarm: one-1: worker ")
    assert words in line
    assert ";" not in line  # the other worker has it


def test_no_master_is_one_line(tmp_path: Path) -> None:
    port = free_port()
    with worker(tmp_path, port, 0, "--wait", "1") as alone:
        assert alone.wait() == 6
    assert alone.said.splitlines()[-1] == f"tokenswarm: no master came to 127.0.0.1:{port} within 1 s"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_workers_whose_master_is_gone_stop_at_once(tmp_path: Path) -> None:
    """Master and front door are killed while streams of 20 s go on: soon nothing runs at the server."""
    port = free_port()
    with (
        simulator('{"ttft_ms": 20, "itl_ms": 200}') as (url, sim),
        worker(tmp_path, port, 0, "--linger", "1") as first,
        worker(tmp_path, port, 1, "--linger", "1") as second,
        listening(tmp_path, LONG.format(url=url), port) as experiment,
    ):
        experiment.wait_until(lambda: metrics(sim).get("running", 0) > 20)
        own = ("cat", f"/proc/{experiment.process.pid}/task/{experiment.process.pid}/children")
        children = subprocess.run(own, capture_output=True, text=True, check=True).stdout.split()
        for pid in (experiment.process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        killed_s = time.monotonic()
        while metrics(sim)["running"]:
            assert time.monotonic() - killed_s < 30
            time.sleep(0.1)
        assert time.monotonic() - killed_s < GONE_S + 1  # the server counts once a while
        assert (first.wait(), second.wait()) == (0, 0), first.said + second.said


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_workers_beyond_those_expected_are_sent_away(tmp_path: Path) -> None:
    """One comes in time, one while the load is on: both end with a line, and the run goes on without them."""
    port = free_port()
    text = BLOCKS.replace("blocks: 2\n", "").replace("duration_s: 4", "duration_s: 20")
    with (
        worker(tmp_path, port, 0, "--linger", "4") as first,
        worker(tmp_path, port, 1, "--linger", "4") as second,
        worker(tmp_path, port, 2, "--linger", "4") as third,
        listening(tmp_path, text, port) as experiment,
    ):
        experiment.wait_for_requests("one")
        with worker(tmp_path, port, 3) as late:
            assert late.wait() == 6, late.said
        assert experiment.process.poll() is None, "the run goes on meanwhile"
        experiment.process.wait(180)
        ends = sorted(one.wait() for one in (first, second, third))
    assert ends == [0, 0, 6], first.said + second.said + third.said
    expected = (
        f"tokenswarm: the master at 127.0.0.1:{port} has all its workers: found one more than load.workers"
    )
    assert late.said.splitlines()[-1].startswith(expected)
    run = result(experiment.out / "one")
    check_accounts(run)
    assert (run.meta["workers"]["expected"], len(run.meta["workers"]["seen"])) == (2, 2)
    assert run.meta["workers"]["lost"] == []
    assert {record.worker for record in run.records} == set(run.meta["workers"]["seen"])
