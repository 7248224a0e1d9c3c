"""The quality gate as a person runs it: two servers, one command, its table and its exit code."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.in_process import asked
from tests.sim_server import ROOT, running_sim

AT_ONCE = '{"ttft_ms": 0, "itl_ms": 0}'
SLA = """\
name: strict
quality:
  - ppl_ratio <= 1.5
  - kl <= 0.001
"""


def gate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tokenswarm", "quality", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def test_the_command_says_fail_and_why(tmp_path: Path) -> None:
    (tmp_path / "sla.yaml").write_text(SLA)
    with (
        running_sim("--script", AT_ONCE) as base,
        running_sim("--script", AT_ONCE, "--profile", "awq") as awq,
    ):
        urls = [base.banner["listening"], awq.banner["listening"]]
        out = tmp_path / "out"
        found = gate(*urls, "--sla", str(tmp_path / "sla.yaml"), "--out", str(out))
    assert found.returncode == 3, found.stderr
    assert "SLA strict  (SIMULATED)" in found.stdout
    assert "kl <= 0.001: at least 0.0" in found.stdout
    assert "the baseline against itself, same process, not restarted" in found.stdout
    assert "candidate: 60 of 60 answers written" in found.stderr
    verdict = json.loads((out / "quality.json").read_text())
    assert [one["status"] for one in verdict["limits"]] == ["PASS", "FAIL"]
    assert (out / "quality-base.json.gz").exists()


def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ask = partial(asked, capsys, monkeypatch, "quality")
    (tmp_path / "sla.yaml").write_text("name: x\nquality: [ppl_ration <= 1]\n")
    found = ask("http://127.0.0.1:9", "http://127.0.0.1:10", "--sla", tmp_path / "sla.yaml")
    assert found.code == 2
    assert "quality 1: found 'ppl_ration'" in found.stderr
    assert found.stderr.count("\n") == 1
    nobody = ask("http://127.0.0.1:9", "http://127.0.0.1:10")
    assert (nobody.code, nobody.stderr.count("\n")) == (6, 1)
    twice = ask("http://127.0.0.1:9", "http://127.0.0.1:9/")
    assert (twice.code, twice.stderr.count("\n")) == (2, 1)
    assert "found one server twice" in twice.stderr
    same = ask("http://localhost:9/v1", "http://me:secret@127.0.0.1:9")
    assert (same.code, same.stderr.count("\n")) == (2, 1)
    assert "found one server twice" in same.stderr
    assert "secret" not in same.stderr
