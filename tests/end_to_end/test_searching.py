"""Experiments that are interrupted and gone on with, and a search: real processes, simulated servers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.end_to_end.locusts import check_accounts, environment, result

ROOT = Path(__file__).resolve().parents[2]

SWEEP = """
servers: [{name: one, sim: baseline}]
load: {rate: [5, 7.5], duration_s: 8, warmup_s: 0, workers: 1}
workload: {prompt_words: 10-20, max_tokens: 8-16}
sla: {name: small, objectives: ["ttft p50 < 500 ms"]}
"""

SEARCH = """
servers: [{sim: awq}]
load: {loop: closed, warmup_s: 0, workers: 1}
workload: {prompt_words: 60-140, max_tokens: 1, options: [--ignore-eos]}
sla: {name: small, objectives: ["ttft p50 < 200 ms"]}
search: {from: 8, to: 64, within: 50 %, confirm: 2, probe_s: 25, longest_s: 50}
"""


class Ended(NamedTuple):
    """What came of a command."""

    code: int
    stdout: str
    stderr: str


def tokenswarm(folder: Path, *arguments: str, interrupt_in: str = "") -> Ended:
    """Run the front door; it gets Ctrl-C once a run's requests come in, if its name is given."""
    with (folder / "stdout").open("w") as stdout, (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tokenswarm", "run", *arguments],
            cwd=folder,
            env=environment() | {"PYTHONPATH": str(ROOT)},
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            if interrupt_in:
                wait_for_load(process, folder / "out" / interrupt_in / "requests.csv")
                process.send_signal(signal.SIGINT)
            code = process.wait(200)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return Ended(code, (folder / "stdout").read_text(), (folder / "stderr").read_text())


def wait_for_load(process: subprocess.Popen[Any], requests: Path) -> None:
    until = time.monotonic() + 120
    while not (requests.exists() and requests.read_text().count("\n") > 5):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.slow  # a minute, and the plain tests should take few of them
@pytest.mark.timeout(600)
def test_an_experiment_that_was_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(SWEEP)
    out = tmp_path / "out"
    cut = tokenswarm(tmp_path, "experiment.yaml", "--out", "out", interrupt_in="one-7.5rps")
    assert "Traceback" not in cut.stderr, cut.stderr
    assert cut.stdout.splitlines()[-1] == "Go on with: tokenswarm run experiment.yaml --resume out"
    assert "run 2 of 2" in cut.stdout
    kept = (out / "one-5rps" / "requests.csv").read_bytes()
    half = (out / "one-7.5rps" / "requests.csv").read_bytes()

    (tmp_path / "other.yaml").write_text(SWEEP.replace("7.5", "8"))
    other = tokenswarm(tmp_path, "other.yaml", "--resume", "out")
    assert other.code == 2
    assert "found load.rate.2 = 8" in other.stderr
    assert other.stderr.count("\n") == 1

    found = tokenswarm(tmp_path, "experiment.yaml", "--resume", "out", "--json")
    assert "Traceback" not in found.stderr, found.stderr
    assert "Go on with" not in found.stderr
    assert (out / "one-5rps" / "requests.csv").read_bytes() == kept
    assert (out / "cut-off" / "one-7.5rps" / "requests.csv").read_bytes() == half
    names = ["one-5rps", "one-7.5rps"]
    said = json.loads(found.stdout)
    assert [run["name"] for run in said["runs"]] == read(out / "plan.json")["runs"] == names
    assert said["missing"] == []
    for name in names:
        run = result(out / name)
        check_accounts(run)
        assert run.meta["interrupted"] is None
        assert run.meta["cool_down"]["found"] == "idle"
    load = result(out / "one-7.5rps").meta["load"]
    assert load["users"] * load["rate_per_user"] == 7.5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_is_interrupted_and_finds_its_interval(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(SEARCH)
    out = tmp_path / "out"
    cut = tokenswarm(tmp_path, "experiment.yaml", "--out", "out", interrupt_in="awq-16users-1")
    assert "Traceback" not in cut.stderr, cut.stderr
    assert cut.code == 4
    assert cut.stdout.splitlines()[-1] == "Go on with: tokenswarm run experiment.yaml --resume out"
    assert read(out / "search.json")["servers"][0]["trials"][0]["run"] == "awq-8users-1"
    kept = (out / "awq-8users-1" / "requests.csv").read_bytes()

    found = tokenswarm(tmp_path, "experiment.yaml", "--resume", "out", "--json")
    assert "Traceback" not in found.stderr, found.stderr
    said = json.loads(found.stdout)
    assert said == read(out / "search.json")
    (server,) = said["servers"]
    print(server["reason"], server["low"], server["high"], [trial["run"] for trial in server["trials"]])
    assert (out / "awq-8users-1" / "requests.csv").read_bytes() == kept
    assert (out / "cut-off" / "awq-16users-1" / "requests.csv").exists()
    assert (found.code, server["status"], server["finished"]) == (0, "PASS", True)
    # A prompt of 130 tokens takes the simulated AWQ 17 ms, and waits for the others: 12 users, 200 ms.
    assert 8 <= server["low"] < server["high"] <= 16
    assert server["high"] <= 1.5 * server["low"]
    for trial in server["trials"]:
        assert read(out / trial["run"] / "verdict.json")["status"] == trial["status"]
        assert result(out / trial["run"]).meta["load"]["seed"] == trial["seed"]
