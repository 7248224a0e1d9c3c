"""SIGTERM where no experiment was begun yet, or where Python dropped what the signal raised."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.run_directories import Load, write_run
from tokenswarm import cli, cli_running, evicted, judging, processes, sealing
from tokenswarm.evicted import Evicted

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what this process did at SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(evicted, "_came", False)
    yield
    signal.signal(signal.SIGTERM, before)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tokenswarm", "run", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(str(end.value.code))


def told_to_end(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("signals")
def test_before_the_experiment_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_running, "_order", told_to_end)
    assert run(monkeypatch, "x.yaml", "--out", str(tmp_path / "out"), "--seal") == 5
    assert capsys.readouterr().err == f"tokenswarm: {cli_running.NOTHING}\n"
    found = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert (found["status"], found["exit_code"], found["runs"]) == ("INVALID", 5, [])
    assert sealing.damage(tmp_path / "out") == []


@pytest.mark.usefixtures("signals")
def test_before_the_experiment_was_read_where_another_has_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "verdict.json").write_text("theirs")
    monkeypatch.setattr(cli_running, "_order", told_to_end)
    assert run(monkeypatch, "x.yaml", "--out", str(tmp_path), "--seal") == 5
    assert [file.name for file in tmp_path.iterdir()] == ["verdict.json"]
    assert (tmp_path / "verdict.json").read_text() == "theirs"


@pytest.mark.usefixtures("signals")
def test_a_second_signal_changes_nothing() -> None:
    evicted.listen()
    with pytest.raises(Evicted):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


class Deaf:
    """An object in whose end a signal is lost: Python prints what is raised there, and goes on."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_was_lost_on_the_way_is_found_at_the_end() -> None:
    evicted.listen()
    Deaf()
    with pytest.raises(Evicted):
        evicted.too_late()


@pytest.mark.usefixtures("signals")
def test_a_result_that_stands_is_not_taken_back() -> None:
    evicted.listen()
    evicted.too_late()
    os.kill(os.getpid(), signal.SIGTERM)
    with subprocess.Popen(["sleep", "30"]) as child:  # what is started then can still be told to end
        child.terminate()
        assert child.wait(10) == -signal.SIGTERM


@pytest.mark.usefixtures("no_pages")
def test_an_eviction_is_forgotten_where_the_run_is_judged_after_all(tmp_path: Path) -> None:
    """One run alone has its verdict beside it: that of its experiment would stand beside it for ever."""
    run = write_run(tmp_path / "one", Load(seconds=14, warmup_s=2, rate=25.0, tokens=8))
    evicted_verdict = tmp_path / "verdict.json"
    evicted_verdict.write_text("INVALID")
    judging.conclude([run], judging.sla(None), tmp_path)
    assert not evicted_verdict.exists()
    judging.conclude([run], judging.sla(None), run)
    assert (run / "verdict.json").exists()


@pytest.mark.usefixtures("signals")
def test_while_a_process_is_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised in a handler around a fork is lost: it is raised as soon as the process can be ended."""
    started: list[subprocess.Popen[str]] = []
    fork = subprocess.Popen

    def told_meanwhile(*words: Any, **more: Any) -> subprocess.Popen[str]:
        told_to_end()
        started.append(fork(*words, **more))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", told_meanwhile)
    evicted.listen()
    with pytest.raises(Evicted), processes.child(["sleep", "60"], tmp_path / "log"):
        pytest.fail("it went on")
    assert started[0].returncode is not None
    evicted.recall()  # once
