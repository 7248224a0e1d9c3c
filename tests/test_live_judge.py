"""The judge beside a run: the process, asked as the coordinator asks it, and its client."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pypdf import PdfReader

from analysis import live, rundir, sla, verdict
from locustfiles._judge import TRIES, Process
from tests.run_directories import START_S, Load, draw_requests, write_run

ROOT = Path(__file__).resolve().parents[1]
SLO = "name: quick\nobjectives:\n  - ttft p50 < 60 ms\n  - itl p95 < 20 ms\n  - error_rate < 5 %\n"
LOAD = Load(seconds=40, rate=50, warmup_s=5)
KNOWN = {
    "window": {"start_unix_ns": (START_S + 5) * 10**9, "end_unix_ns": None, "warmup_s": 5},
    "workers": {"expected": 2, "seen": ["w0", "w1"], "lost": []},
    "clock": "kernel",
}


class Judge:
    """The process, and a question's way to its answer."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "analysis.live"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def check(self, text: str, window_s: float | None = None) -> Any:
        return self.ask(do="check", sla=text, file="SLA", scenarios=["chat"], window_s=window_s)

    def judge(self, run: Path, known: dict[str, Any] | None = None) -> Any:
        return self.ask(do="judge", run=str(run), known=known)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    made = Judge()
    yield made
    assert made.process.stdin
    assert made.process.stdout
    made.process.stdin.close()
    assert made.process.wait(20) == 0
    made.process.stdout.close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = write_run(tmp_path / "run", LOAD)
    (path / "sla.yaml").write_text(SLO)
    return path


def unended(run: Path, *, rows: int | None = None, cut: str = "") -> Path:
    """Make a run one that goes on: its first rows, and what of run.json is written at the start."""
    meta = json.loads((run / "run.json").read_text()) | {"ended_unix_ns": None}
    for section in ("accounting", "instrument", "totals", "clock", "server_counts"):
        meta.pop(section, None)
    meta["window"] = KNOWN["window"] | {"start_unix_ns": START_S * 10**9}
    meta["workers"] = {"expected": 2, "seen": [], "lost": []}
    (run / "run.json").write_text(json.dumps(meta))
    lines = (run / "requests.csv").read_text().splitlines(keepends=True)
    (run / "requests.csv").write_text("".join(lines[: None if rows is None else rows + 1]) + cut)
    return run


def test_what_an_sla_demands(judge: Judge) -> None:
    assert judge.check(SLO) == {
        "name": "quick",
        "objectives": ["ttft p50 < 60 ms", "itl p95 < 20 ms", "error_rate < 5 %"],
        "limits": [["ttft", 60_000_000, True], ["itl", 20_000_000, True]],
    }
    parts = "ttft p99 <= 1.5 s from 10 s\n  - goodput(ttft < 250 ms, tpot < 20 ms, e2e <= 4 s) >= 95 %"
    assert judge.check(f"name: parts\nobjectives:\n  - {parts}")["limits"] == [
        ["ttft", 1_500_000_000, False],
        ["ttft", 250_000_000, True],
        ["tpot", 20_000_000, True],
        ["e2e", 4_000_000_000, False],
    ]


@pytest.mark.parametrize(
    ("objective", "window_s", "words"),
    [
        ("tttf p95 < 100 ms", None, "SLA: objective 1: found 'tttf'"),
        ("ttft p95 < 100 ms in code", None, "found the scenario 'code'"),
        ("ttft p95 < 100 ms from 70 s", 60, "found a time at 70 s, expected one within the 60 s of the run"),
        ("ttft p95 < 100 ms\nquality: [kl <= 0.05]", None, "expected objectives alone"),
    ],
)
def test_an_sla_that_no_run_can_keep_is_one_line(
    judge: Judge, objective: str, window_s: float | None, words: str
) -> None:
    found = judge.check(f"name: a\nobjectives:\n  - {objective}", window_s)
    assert found.keys() == {"error"}
    assert words in found["error"]
    assert "\n" not in found["error"]


def test_the_answer_at_the_end_is_the_verdict(judge: Judge, run: Path) -> None:
    found = judge.judge(run)
    after = verdict.judge(rundir.load(run), sla.load(run / "sla.yaml")).to_json()
    assert (found["status"], found["reasons"], found["sla"]) == ("PASS", list(after["reasons"]), "quick")
    assert not found["so_far"]
    for light, objective in zip(found["objectives"], after["objectives"], strict=True):
        for key in ("text", "metric", "statistic", "status", "reason", "observed", "limit", "n", "bad"):
            assert light[key] == objective[key]


def test_a_run_that_goes_on_is_judged_by_its_whole_rows(judge: Judge, run: Path) -> None:
    whole = judge.judge(run)
    rows = len((run / "requests.csv").read_text().splitlines()) - 1
    found = judge.judge(unended(run, cut="20260921-run-1,w0,ch"), KNOWN)
    assert found["so_far"]
    assert [light["status"] for light in found["objectives"]] == ["PASS"] * 3
    assert found["status"] == "PASS"
    # The window ends with the last request: the same ones are in it, and of the gaps all but a second's.
    counts = [[light["n"] for light in one["objectives"]] for one in (found, whole)]
    assert (counts[0][0], counts[0][2]) == (counts[1][0], counts[1][2])
    assert 0.9 * counts[1][1] < counts[0][1] < counts[1][1]

    fewer = judge.judge(unended(run, rows=rows // 2), KNOWN)
    assert 0 < fewer["objectives"][0]["n"] < found["objectives"][0]["n"]
    assert fewer["as_of_unix_s"] < found["as_of_unix_s"]
    assert judge.judge(run)["status"] == "INVALID"  # nobody says that it goes on


def test_before_the_warm_up_is_over_nothing_is_known(judge: Judge, run: Path) -> None:
    known = KNOWN | {"window": {"start_unix_ns": (START_S + 90) * 10**9, "end_unix_ns": None}}
    found = judge.judge(unended(run, rows=0), known)
    assert (found["status"], found["as_of_unix_s"]) == ("INCONCLUSIVE", None)
    assert judge.judge(unended(run), known)["reasons"] == [
        f"{objective}: no data" for objective in judge.check(SLO)["objectives"]
    ]


def test_errors_turn_the_light(judge: Judge, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", Load(seconds=20, rate=50, warmup_s=0, failures={"connect": 0.3}))
    (path / "sla.yaml").write_text(SLO)
    found = judge.judge(unended(path), KNOWN)
    assert found["status"] == "FAIL"
    lights = {light["metric"]: light for light in found["objectives"]}
    assert lights["error_rate"]["status"] == "FAIL"
    assert "30" in lights["error_rate"]["observed_words"] or "2" in lights["error_rate"]["observed_words"]
    assert lights["error_rate"]["limit_words"] == "5 %"


@pytest.mark.parametrize(
    ("breaks", "text"),
    [
        ({"outcome": "connect", "first_ns": None, "last_ns": None, "gaps": 0}, "error_rate < 5 %"),
        ({"first_ns": 900_000_000, "last_ns": 1_300_000_000, "end_ns": 1_300_000_000}, "ttft p50 < 60 ms"),
    ],
)
def test_a_server_that_breaks_turns_the_light_at_once(
    judge: Judge, tmp_path: Path, breaks: dict[str, Any], text: str
) -> None:
    """Of the whole run, good minutes and some bad seconds are two events, from which nothing follows."""
    drawn = draw_requests(LOAD, np.random.default_rng(1))
    at_ns = (START_S + 30) * 10**9
    broken = [
        (record._replace(**breaks), [] if breaks.get("gaps") == 0 else gaps)
        if record.due_unix_ns > at_ns
        else (record, gaps)
        for record, gaps in drawn
    ]
    path = write_run(tmp_path / "run", LOAD, broken)
    (path / "sla.yaml").write_text(SLO)
    whole = judge.judge(path)
    assert {light["text"]: light["status"] for light in whole["objectives"]}[text] != "FAIL"

    found = judge.judge(unended(path), KNOWN)
    light = next(light for light in found["objectives"] if light["text"] == text)
    assert (found["status"], light["status"]) == ("FAIL", "FAIL")
    assert light["reason"].startswith("in the last 10 s: at least")
    assert any(f"{text}: in the last 10 s" in reason for reason in found["reasons"])


def test_a_lost_worker_turns_the_light(judge: Judge, run: Path) -> None:
    lost = {"expected": 2, "seen": ["w0", "w1"], "lost": [{"worker": "w1", "detail": "silent since 12:00"}]}
    found = judge.judge(unended(run), KNOWN | {"workers": lost})
    assert found["status"] == "INVALID"
    assert "silent since 12:00" in found["reasons"][0]


def test_a_server_that_falls_silent_is_not_called_good(judge: Judge, run: Path) -> None:
    """Streams that hang have no row: what tells is that tokens stop coming."""
    timeline = (run / "timeline.csv").read_text().splitlines()[:31]
    last = int(timeline[-1].partition(",")[0])
    hung = [f"{last + second},0,0,0,0,12,0,30000,0.1,2" for second in range(1, 6)]
    (run / "timeline.csv").write_text("\n".join([*timeline, *hung]) + "\n")
    found = judge.judge(unended(run), KNOWN)
    assert found["status"] == "INCONCLUSIVE"
    assert found["reasons"][0] == "no token has come for 5 s, and 12 requests wait for one"
    (run / "timeline.csv").write_text("\n".join([*timeline, *hung[:2]]) + "\n")
    assert judge.judge(run, KNOWN)["status"] == "PASS"


def test_a_report_says_whether_the_run_goes_on(judge: Judge, run: Path, tmp_path: Path) -> None:
    def text(known: dict[str, Any] | None) -> str:
        pdf = tmp_path / "report.pdf"
        assert judge.ask(do="report", run=str(run), known=known, pdf=str(pdf)) == {"pdf": str(pdf)}
        return "".join(page.extract_text() for page in PdfReader(pdf).pages)

    assert "so far" not in text(None)
    unended(run)
    so_far = text(KNOWN)
    assert "so far, to" in so_far
    assert "the run goes on" in so_far


def test_what_cannot_be_answered_is_a_line(judge: Judge, tmp_path: Path) -> None:
    assert "expected a run directory" in judge.judge(tmp_path / "none")["error"]
    assert "run.json" in judge.judge(tmp_path / "none", KNOWN)["error"]
    assert judge.ask(do="dance")["error"]
    assert judge.check(SLO)["name"] == "quick"


def test_the_process_gives_way_and_ends_with_its_input() -> None:
    own = Judge()
    assert own.check(SLO)["name"] == "quick"
    assert psutil.Process(own.process.pid).nice() == live.PRIORITY
    assert own.process.stdin
    assert own.process.stdout
    own.process.stdin.close()
    assert own.process.wait(10) == 0
    own.process.stdout.close()


def question() -> dict[str, Any]:
    return {"do": "check", "sla": SLO, "file": "SLA", "scenarios": ["chat"], "window_s": None}


def test_a_judge_that_dies_is_started_once_more() -> None:
    beside = Process()
    assert beside.ask(**question())["name"] == "quick"
    for _ in range(TRIES - 1):
        os.kill(beside._process.pid, signal.SIGKILL)
        assert beside.ask(**question())["name"] == "quick"
    os.kill(beside._process.pid, signal.SIGKILL)
    assert "ended" in beside.ask(**question())["error"]
    beside.begin_again()
    assert beside.ask(**question())["name"] == "quick"
    pid = beside._process.pid
    beside.quit()
    assert not psutil.pid_exists(pid)
    assert "ended" in beside.ask(**question())["error"]


def test_keys_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENSWARM_API_KEY", "secret")
    beside = Process()
    beside.ask(**question())
    assert "TOKENSWARM_API_KEY" not in psutil.Process(beside._process.pid).environ()
    beside.close()
