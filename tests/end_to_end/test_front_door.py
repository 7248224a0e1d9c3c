"""The front door, as a user meets it: experiments, verdicts, exit codes, mistakes, nothing left running.

Experiments are processes, three at a time; what only reads files is called in this process.
"""

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from analysis.verdict import EXIT_CODES
from tests.end_to_end.locusts import check_accounts, environment, free_port, result, side_by_side
from tests.in_process import Answer, asked
from tests.run_directories import Load, change_meta, write_run

ROOT = Path(__file__).resolve().parents[2]
MARK = "STARTED_BY_TEST"

EXPERIMENT = """
name: small
servers:
  - {name: one, sim: baseline}
  - {name: two, sim: awq}
load: {loop: open, rate: 10, duration_s: 4, warmup_s: 1, workers: 2}
workload: {prompt_words: 10-20, max_tokens: 8-16}
sla: {name: small, objectives: ["ttft p95 < 500 ms", "error_rate < 5 %"]}
"""
LONG = EXPERIMENT.replace("duration_s: 4", "duration_s: 60").replace("workers: 2", "workers: 1")


class Ended(NamedTuple):
    """What came of a command. `left`: command lines of what it had started and still ran 15 s later."""

    code: int
    stdout: str
    stderr: str
    out: Path
    left: list[str]


def order(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tokenswarm", *map(str, arguments)]


Ask = Callable[..., Answer]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return what runs the command line in this process."""
    return partial(asked, capsys, monkeypatch)


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that inherited a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def experiment(path: Path, text: str, disturb: Callable[[subprocess.Popen[str], Path], None]) -> Ended:
    """Run an experiment, disturb it, wait for its end and look for what it left behind."""
    (path / "experiment.yaml").write_text(text)
    out, mark = path / "out", uuid.uuid4().hex
    with (path / "stdout").open("w") as stdout, (path / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            order("run", path / "experiment.yaml", "--out", out, "--json"),
            cwd=path,
            env=environment() | {"PYTHONPATH": str(ROOT), MARK: mark},
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        try:
            disturb(process, out)
            code = process.wait(90)
            until = time.monotonic() + 15
            while (left := marked(mark)) and time.monotonic() < until:
                time.sleep(0.1)
            lines = [" ".join(survivor.cmdline()) for survivor in left]
        finally:
            for survivor in marked(mark):
                survivor.kill()
            process.wait()
    return Ended(code, (path / "stdout").read_text(), (path / "stderr").read_text(), out, lines)


def wait_for_load(process: subprocess.Popen[str], out: Path) -> None:
    """Wait until requests were answered and reported."""
    requests, until = out / "one" / "requests.csv", time.monotonic() + 30
    while not (requests.exists() and requests.read_text().count("\n") > 5):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)


UNSERVED = "servers: [{}]\nload: {{workers: 1}}"


def unserved(path: Path) -> Ended:
    server = f"{{name: a, url: 'http://127.0.0.1:{free_port()}'}}"
    return experiment(path, UNSERVED.format(server), lambda *_: None)


def whole(path: Path) -> Ended:
    return experiment(path, EXPERIMENT, lambda *_: None)


def interrupted(path: Path) -> Ended:
    def interrupt(process: subprocess.Popen[str], out: Path) -> None:
        wait_for_load(process, out)
        process.send_signal(signal.SIGINT)

    return experiment(path, LONG, interrupt)


def terminated(path: Path) -> Ended:
    def terminate(process: subprocess.Popen[str], out: Path) -> None:
        wait_for_load(process, out)
        process.terminate()

    return experiment(path, LONG, terminate)


def killed(path: Path) -> Ended:
    def kill(process: subprocess.Popen[str], out: Path) -> None:
        wait_for_load(process, out)
        process.kill()

    return experiment(path, LONG, kill)


PLAYS: dict[str, Callable[[Path], Ended]] = {
    "whole": whole,
    "interrupted": interrupted,
    "terminated": terminated,
    "killed": killed,
    "nobody there": unserved,
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Ended]]:
    with side_by_side(PLAYS, tmp_path_factory) as played:
        yield played


# Mistakes: one line and the right code


def check_mistake(found: Answer, code: int, words: str) -> None:
    assert found.code == code, found.stderr
    assert found.stdout == ""
    assert found.stderr.startswith("tokenswarm: ")
    assert found.stderr.count("\n") == 1, found.stderr
    assert words in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("servers: [", "not YAML"),
        ("servers: []", "servers"),
        ("", "experiment.yaml: Expected `object`, got `null`"),
        ("- a", "experiment.yaml"),
        ("servers: [{name: a, sim: baseline}]\nlaod: {}", "laod"),
        ("servers: [{name: a, sim: baseline, port: 1}]", "port"),
        ("servers: [{name: a}]", "expected one of profile, sim and url, found none"),
        (
            "servers: [{name: a, sim: baseline, url: x}]",
            "expected one of profile, sim and url, found sim and url",
        ),
        ("servers: [{sim: baseline}, {sim: baseline}]", "found a name twice"),
        ("servers: [{name: ../a, sim: baseline}]", "name"),
        ("servers: [{sim: baseline}]\nload: {rate: fast}", "rate"),
        ("servers: [{sim: baseline}]\nload: {rate: 0}", "rate"),
        ("servers: [{sim: baseline}]\nload: {loop: open, arrivals: bursty}", "arrivals"),
        ("servers: [{sim: baseline}]\nsla: nowhere.yaml", "nowhere.yaml"),
        ('servers: [{sim: baseline}]\nsla: {name: x, objectives: ["tttf p95 < 1 ms"]}', "tttf"),
        ("servers: [{sim: baseline}]\nsla: {name: x, objectives: []}", "objective"),
        (
            'servers: [{sim: baseline}]\nsla: {name: x, objectives: ["ttft p95 < 1 s in chatt"]}',
            "objective 1: found the scenario 'chatt', expected chat; did you mean 'chat'?",
        ),
    ],
)
def test_experiment_that_is_none(ask: Ask, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "experiment.yaml").write_text(text)
    found = ask("run", tmp_path / "experiment.yaml", "--out", tmp_path / "out", "--json")
    check_mistake(found, 2, words)
    assert not (tmp_path / "out").exists()


def test_experiment_that_is_not_there(ask: Ask, tmp_path: Path) -> None:
    check_mistake(ask("run", tmp_path / "no.yaml"), 2, "no.yaml")


@pytest.mark.parametrize(
    ("server", "code", "words"),
    [
        ("{name: a, sim: no-such-profile}", 2, "no-such-profile"),  # known before anything starts
        ("{name: a, url: 'ftp://x'}", 6, "expected http"),
    ],
)
def test_server_that_cannot_be(ask: Ask, tmp_path: Path, server: str, code: int, words: str) -> None:
    (tmp_path / "experiment.yaml").write_text(UNSERVED.format(server))
    found = ask("run", tmp_path / "experiment.yaml", "--out", tmp_path / "out", "--json")
    check_unserved(found.code, code, found.stdout, found.stderr, words)


def test_server_that_does_not_answer(ended: Callable[[str], Ended]) -> None:
    found = ended("nobody there")
    check_unserved(found.code, 6, found.stdout, found.stderr, "refused")
    assert found.left == []


def check_unserved(code: int, expected: int, stdout: str, stderr: str, words: str) -> None:
    assert code == expected, stderr
    assert stdout == ""
    mistakes = [line for line in stderr.splitlines() if line.startswith("tokenswarm: ")]
    assert len(mistakes) == 1
    assert words in mistakes[0]
    assert "Traceback" not in stderr


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "good", Load(seconds=60, rate=40))


def test_directory_that_holds_no_run(ask: Ask, tmp_path: Path, good: Path) -> None:
    check_mistake(ask("verdict", tmp_path / "nowhere"), 2, "nowhere")
    (tmp_path / "empty").mkdir()
    check_mistake(ask("verdict", tmp_path / "empty"), 2, "empty")
    check_mistake(ask("verdict", tmp_path / "empty", "--json"), 2, "empty")
    check_mistake(ask("report", tmp_path / "empty"), 2, "empty")
    check_mistake(ask("verdict", good / "run.json"), 2, "run.json")


def test_run_of_a_newer_schema(ask: Ask, tmp_path: Path) -> None:
    newer = write_run(tmp_path / "newer", Load(seconds=10))
    change_meta(newer, {"schema": 99})
    check_mistake(ask("verdict", newer), 2, "schema 99")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\nobjectives: [ttft p95 < 100 parsecs]", "parsecs"),
        ("name: x\nobjectivs: []", "objectivs"),
        ("[", "YAML"),
        ("", "sla.yaml"),
    ],
)
def test_sla_that_is_none(ask: Ask, tmp_path: Path, good: Path, text: str, words: str) -> None:
    (tmp_path / "sla.yaml").write_text(text)
    check_mistake(ask("verdict", good, "--sla", tmp_path / "sla.yaml"), 2, words)


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["verdict"], ["run", "a.yaml", "--nope"]])
def test_wrong_usage(ask: Ask, arguments: list[str]) -> None:
    found = ask(*arguments)
    assert found.code == 2
    assert "Traceback" not in found.stderr


# Verdicts and exit codes


def objectives(path: Path, *texts: str) -> Path:
    path.write_text(json.dumps({"name": "test", "objectives": list(texts)}))  # JSON is YAML, too
    return path


@pytest.mark.parametrize(
    ("objective", "status"),
    [("ttft p95 < 500 ms", "PASS"), ("ttft p95 < 20 ms", "FAIL"), ("ttft p99.9 < 500 ms", "INCONCLUSIVE")],
)
def test_exit_code_is_the_verdict(ask: Ask, tmp_path: Path, good: Path, objective: str, status: str) -> None:
    found = ask("verdict", good, "--sla", objectives(tmp_path / "sla.yaml", objective), "--json")
    assert "Traceback" not in found.stderr
    said = json.loads(found.stdout)
    assert said["status"] == status, said["reasons"]
    assert found.code == said["exit_code"] == EXIT_CODES[status]
    assert json.loads((good / "verdict.json").read_text()) == said
    assert (good / "junit.xml").read_text().startswith("<?xml")


def test_invalid_run(ask: Ask, tmp_path: Path) -> None:
    broken = write_run(tmp_path / "broken", Load(seconds=60, rate=40, dispatch_lag_ms=50))
    found = ask("verdict", broken, "--json")
    assert (found.code, json.loads(found.stdout)["status"]) == (5, "INVALID")


def test_people_get_a_table(ask: Ask, good: Path) -> None:
    found = ask("verdict", good)
    assert "ttft p95 < 100 ms" in found.stdout
    assert "Results:" in found.stdout


def test_help_and_version(ask: Ask) -> None:
    for arguments in (["--help"], ["run", "--help"], ["verdict", "--help"], ["--version"]):
        found = ask(*arguments)
        assert (found.code, found.stderr) == (0, "")
    assert "Exit codes" in ask("--help").stdout


# Whole experiments


def load_json(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_experiment(ended: Callable[[str], Ended]) -> None:
    found = ended("whole")
    assert "Traceback" not in found.stderr
    said = load_json(found.stdout)
    assert found.code == said["exit_code"] in set(EXIT_CODES.values())
    assert [run["name"] for run in said["runs"]] == ["one", "two"]
    assert all(run["simulated"] for run in said["runs"])
    for name in ("one", "two"):
        run = result(found.out / name)
        assert len(run.records) > 15
        check_accounts(run)
        assert len(run.meta["workers"]["seen"]) == 2
        assert load_json((found.out / name / "verdict.json").read_text())["name"] == name
        assert (found.out / name / "report.pdf").read_bytes().startswith(b"%PDF")
    assert (found.out / "report.pdf").read_bytes().startswith(b"%PDF")
    assert found.left == []


def test_experiment_is_not_overwritten(ask: Ask, ended: Callable[[str], Ended], tmp_path: Path) -> None:
    out = ended("whole").out
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    before = (out / "one" / "requests.csv").read_bytes()
    check_mistake(ask("run", tmp_path / "experiment.yaml", "--out", out), 2, "already holds a run")
    assert (out / "one" / "requests.csv").read_bytes() == before


@pytest.mark.usefixtures("no_html")
def test_report_of_a_run(ask: Ask, ended: Callable[[str], Ended]) -> None:
    path = ended("whole").out / "two"
    (path / "report.pdf").unlink()
    found = ask("report", path)
    assert found.code == 0, found.stderr
    assert found.stdout.strip() == str(path / "report.pdf")
    assert (path / "report.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("play", ["interrupted", "terminated"])
def test_experiment_that_is_interrupted_judges_what_there_is(
    ended: Callable[[str], Ended], play: str
) -> None:
    found = ended(play)
    assert found.left == []
    assert "Traceback" not in found.stderr, found.stderr
    run = result(found.out / "one")
    check_accounts(run)
    assert run.meta["interrupted"]
    assert not (found.out / "two").exists()
    said = load_json(found.stdout)
    assert (found.code, said["status"]) == (5, "INVALID")


def test_experiment_that_is_killed_leaves_records_and_nothing_running(
    ended: Callable[[str], Ended],
) -> None:
    found = ended("killed")
    assert found.code != 0
    assert found.left == []
    run = result(found.out / "one")
    assert len(run.records) > 5
    check_accounts(run)  # what was started was let end
    assert run.meta["interrupted"]
    assert sorted(path.name for path in found.out.iterdir()) == ["one", "plan.json"]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(120)
def test_calibration_prints_its_own_error_and_cost() -> None:
    found = subprocess.run(
        order("calibrate", "--json"), capture_output=True, text=True, check=True, timeout=100, cwd=ROOT
    )
    figures = load_json(found.stdout)
    print(figures)
    assert figures["clock"] == "kernel"
    assert figures["requests"] > 200
    assert figures["tokens"] > 200 * figures["requests"] * 0.99
    assert figures["ttft_p50_true_ms"] > 50
    assert abs(figures["ttft_p50_ms"] - figures["ttft_p50_true_ms"]) < 2
    assert abs(figures["itl_p50_ms"] - figures["itl_p50_true_ms"]) < 0.5
    assert 1 < figures["cpu_us_per_token"] < 1000
    assert figures["tokens_per_s_per_worker"] == pytest.approx(0.5e6 / figures["cpu_us_per_token"])
