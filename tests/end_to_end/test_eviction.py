"""SIGTERM at every stage of an experiment: INVALID, nothing lost, nothing left running. Real processes."""

import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.end_to_end.locusts import check_accounts, environment, result
from tests.end_to_end.orders import ROOT, Running, left, order, running
from tests.marks import more
from tests.sim_server import chat, post, running_sim
from tokenswarm import sealing

GRACE_S = 120  # k8s/ gives more
TIMES = '{"ttft_ms": 20, "itl_ms": 5}'

EXPERIMENT = """
servers: [{server}]
load: {{rate: [10, 11], duration_s: {duration_s}, warmup_s: 0, workers: 2}}
workload: {{prompt_words: 10-20, max_tokens: 8-16}}
sla: {{name: small, objectives: ["ttft p50 < 500 ms"]}}
"""
SEARCH = """
servers: [{name: one, sim: baseline}]
load: {warmup_s: 0, workers: 1}
workload: {prompt_words: 10-20, max_tokens: 8-16}
sla: {name: small, objectives: ["ttft p50 < 500 ms"]}
search: {from: 5, to: 20, within: 50 %, confirm: 2, probe_s: 30, longest_s: 60}
"""
SIM = "{name: one, sim: baseline}"
FIRST, SECOND = "one-10rps", "one-11rps"


class Ended(NamedTuple):
    """What came of an experiment that was evicted."""

    code: int
    said: str
    out: Path

    @property
    def verdict(self) -> Any:
        return json.loads((self.out / "verdict.json").read_text())


def again(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the same experiment once more; returns its exit code and what it said."""
    ended = subprocess.run(
        order(folder, *arguments),
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return ended.returncode, ended.stderr + ended.stdout


def evict(running: Running) -> Ended:
    """Do as a kubelet does: SIGTERM, and the grace period."""
    running.process.send_signal(signal.SIGTERM)
    return Ended(running.process.wait(GRACE_S), running.said, running.out)


def check(ended: Ended, words: str) -> None:
    assert ended.code == 5, ended.said
    assert ended.verdict["status"] == "INVALID"
    assert ended.verdict["exit_code"] == 5
    assert words in ended.verdict["reasons"][0]
    assert ended.verdict["reasons"][0] in ended.said
    assert "Traceback" not in ended.said
    assert sealing.damage(ended.out) == []
    assert (ended.out / "DONE").read_text() == "5\n"


def test_while_a_run_goes_on(tmp_path: Path) -> None:
    """The second signal of an impatient sender changes nothing; what was measured is accounted for."""
    with running(tmp_path, EXPERIMENT.format(server=SIM, duration_s=60)) as experiment:
        experiment.wait_for_requests(FIRST)
        experiment.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        ended = evict(experiment)
    check(ended, f"with 0 of 2 runs measured, in the middle of {FIRST}")
    assert ended.verdict["missing"] == [SECOND]
    (run,) = ended.verdict["runs"]
    assert run["status"] == "INVALID"
    measured = result(ended.out / FIRST)
    assert measured.meta["interrupted"]
    assert len(measured.records) > 5
    check_accounts(measured)
    assert left(ended.out) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_between_two_runs(tmp_path: Path) -> None:
    """The first run is whole and would pass; the second waits for a stranger's request to end."""
    held = post("/v1/chat/completions", chat(), {"ttft_ms": 600_000})
    with running_sim("--script", TIMES) as sim:
        server = f"{{name: one, url: 'http://127.0.0.1:{sim.port}'}}"
        with running(tmp_path, EXPERIMENT.format(server=server, duration_s=6)) as experiment:
            experiment.wait_for_requests(FIRST)
            with socket.create_connection(("127.0.0.1", sim.port)) as stranger:
                stranger.sendall(held)
                experiment.wait_until(lambda: "cooling down: 1 running" in experiment.said)
                ended = evict(experiment)
        check(ended, "with 1 of 2 runs measured")
        assert ended.verdict["missing"] == [SECOND]
        (run,) = ended.verdict["runs"]
        assert run["name"] == FIRST
        assert not result(ended.out / FIRST).meta["interrupted"]

        code, said = again(tmp_path, "--out", "out")  # as a Job does that makes a new pod
        assert code == 2
        assert "already holds a run" in said
        assert ended.verdict["status"] == "INVALID"

        code, said = again(tmp_path, "--resume", "out")  # as a person does who was asked
        assert code == ended.verdict["exit_code"], (
            said
        )  # a busy machine's is INVALID again, for its own reasons
        assert "evicted" not in (ended.out / "verdict.json").read_text()
        assert [run["name"] for run in ended.verdict["runs"]] == [FIRST, SECOND]
        assert sealing.damage(ended.out) == []


@pytest.mark.parametrize("log", [more("server.log"), "locust.log"])
def test_before_the_first_request(tmp_path: Path, log: str) -> None:
    with running(tmp_path, EXPERIMENT.format(server=SIM, duration_s=60)) as experiment:
        experiment.wait_until((experiment.out / FIRST / log).exists)
        ended = evict(experiment)
    check(ended, "with 0 of 2 runs measured")
    assert ended.verdict["runs"] == []
    assert ended.verdict["missing"] == [FIRST, SECOND]
    assert left(ended.out) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_while_the_runs_are_judged(tmp_path: Path) -> None:
    with running(tmp_path, EXPERIMENT.format(server=SIM, duration_s=4)) as experiment:
        experiment.wait_until((experiment.out / FIRST / "verdict.json").exists)
        ended = evict(experiment)
    check(ended, "with 2 of 2 runs measured, before they were judged")
    assert [run["name"] for run in ended.verdict["runs"]] == [FIRST, SECOND]
    assert ended.verdict["missing"] == []


def test_while_a_search_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, SEARCH) as experiment:
        experiment.wait_for_requests("one-5rps-1")
        ended = evict(experiment)
    check(ended, "with 0 runs measured, in the middle of one-5rps-1")
    assert [run["name"] for run in ended.verdict["runs"]] == ["one-5rps-1"]
