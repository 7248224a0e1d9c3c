"""The main job against real vLLM: distributed, closed and open loop; both sides must count the same."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis import rundir, sla, verdict
from tests.real.vllm_server import VllmServer

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def load(server: VllmServer, directory: Path, locustfile: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / locustfile), "--headless"]
    command += ["--only-summary", "--host", server.url, "--run-dir", str(directory), "--processes", "2"]
    command += ["--master-bind-host", "127.0.0.1", "--prompt-words", "8-24", "--max-tokens", "8-32", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((directory / "run.json").read_text())  # type: ignore[no-any-return]


def check_and_show(meta: dict[str, Any], directory: Path) -> None:
    with (directory / "requests.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    client = {
        "requests": len(rows),
        "prompt_tokens": sum(int(row["prompt_tokens"]) for row in rows),
        "generation_tokens": sum(int(row["output_tokens"]) for row in rows),
    }
    server = {key: meta["server_counts"][key] for key in client}
    judged = verdict.judge(rundir.load(directory), sla.default())
    (summary,) = judged.scenarios
    assert summary.latencies
    print(f"\n{meta['load']['loop']} loop, workers {meta['workers']['seen']}, clock {meta['clock']}")
    print(f"  client {client}\n  server {server}")
    for metric in ("ttft", "itl", "tpot", "e2e"):
        found = summary.latencies[metric]
        print(f"  {metric} ms (n={found.n}): {dict(found.all)}")
    print(f"  verdict {judged.status}: {judged.reasons}")
    assert {row["outcome"] for row in rows} == {"ok"}
    assert client == server
    assert meta["accounting"]["unaccounted"] == 0
    assert meta["clock"] == "kernel"
    assert not meta["simulated"]


def test_closed_loop(vllm: VllmServer, tmp_path: Path) -> None:
    meta = load(vllm, tmp_path / "run", "chat.py", "-u", "4", "-r", "4", "-t", "15")
    check_and_show(meta, tmp_path / "run")


def test_open_loop(vllm: VllmServer, tmp_path: Path) -> None:
    meta = load(vllm, tmp_path / "run", "arrivals.py", "-u", "3", "-r", "3", "-t", "15")
    check_and_show(meta, tmp_path / "run")


def test_several_choices(vllm: VllmServer, tmp_path: Path) -> None:
    """Check n = 2: vLLM counts every choice as a request, and its prompt once for each."""
    meta = load(vllm, tmp_path / "run", "chat.py", "-u", "2", "-r", "2", "-t", "10", "--choices", "2")
    judged = verdict.judge(rundir.load(tmp_path / "run"), sla.default())
    broken = [gate for gate in judged.gates if "server" in gate.name and not gate.ok]
    assert not broken, broken
    assert meta["server_counts"]["requests"] == 2 * meta["accounting"]["records"]
