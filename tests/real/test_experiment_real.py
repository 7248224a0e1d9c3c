"""The mission, for real and in small: SmolLM2 at full precision, AWQ and INT8, loaded and compared.

What quantization costs in quality is asked in test_quality.py.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server import environments, quantize
from tests.real.vllm_server import Real

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "{enforce-eager: true, max-model-len: 2048}"
QUANTIZED = f"""
servers:
  - {{name: bf16, profile: baseline, options: {ENGINE}}}
  - {{name: awq, profile: awq, options: {ENGINE}}}
  - {{name: int8, profile: int8, options: {ENGINE}}}
load: {{loop: closed, users: 1, duration_s: 10, warmup_s: 2, workers: 1}}
workload: {{prompt_words: 40, max_tokens: 16, options: [--ignore-eos]}}
sla: {{name: in small, objectives: [error_rate < 50 %]}}
"""
TINY = f"""
servers:
  - {{name: vllm, profile: baseline, model: tiny, options: {ENGINE}}}
  - {{name: awq, profile: awq, model: tiny, options: {ENGINE}}}
  - {{name: awq-ct, profile: awq-ct, model: tiny, options: {ENGINE}}}
  - {{name: transformers, profile: transformers, model: tiny}}
load: {{loop: closed, users: [1, 2], duration_s: 8, warmup_s: 1, workers: 1}}
workload: {{prompt_words: 40, max_tokens: 8}}
sla: {{name: in small, objectives: [error_rate < 50 %]}}
"""


def experiment(folder: Path, text: str, **variables: str) -> dict[str, Any]:
    (folder / "experiment.yaml").write_text(text)
    words = (
        "-m",
        "tokenswarm",
        "run",
        str(folder / "experiment.yaml"),
        "--out",
        str(folder / "out"),
        "--json",
    )
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode in {0, 4, 5}, done.stderr[-3000:]  # 5: engine and generator share few cores
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def meta(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / "out" / name / "run.json").read_text())  # type: ignore[no-any-return]


def answered(folder: Path, name: str) -> int:
    """Return how many requests of a run were answered, which depends on the machine; none may have failed."""
    with (folder / "out" / name / "requests.csv").open(newline="") as file:
        outcomes = [row["outcome"] for row in csv.DictReader(file)]
    assert set(outcomes) == {"ok"}
    return len(outcomes)


def test_quantized_models_are_loaded_and_compared(real: Real, tmp_path: Path) -> None:
    assert real.python.exists()
    for recipe, environment in (("awq", "autoawq"), ("int8", "llm-compressor")):
        environments.install(environment, print)
        quantize.quantize("smollm2", recipe, say=print)
    found = experiment(tmp_path, QUANTIZED)
    assert not found["comparison"]["simulated"]
    print("\n".join(found["said"]))
    for name in ("bf16", "awq", "int8"):
        run = meta(tmp_path, name)
        assert run["server"]["kernel_ok"], run["server"]["kernels"]
        assert run["server"]["ready_s"] > 1
        assert run["server"]["memory_mb"] > 300
        assert run["experiment"] == {"server": name, "baseline": "bf16", "level": 1, "block": 1}
        assert answered(tmp_path, name) >= 1
        print(name, run["server"]["kernels"], run["server"]["ready_s"], run["server"]["memory_mb"])
    assert any("awq" in sentence and "bf16" in sentence for sentence in found["said"])
    assert (tmp_path / "out" / "report.pdf").stat().st_size > 10_000


def test_a_tiny_model_by_four_profiles_at_two_levels(real: Real, tmp_path: Path) -> None:
    assert real.python.exists()
    for environment in ("transformers", "autoawq", "llm-compressor"):
        environments.install(environment, print)
    for recipe in ("awq", "awq-ct"):
        quantize.quantize("tiny", recipe, samples=4, sequence=64, say=print)
    key = "sk-of-the-engine"  # vLLM inherits it and asks for it
    found = experiment(tmp_path, TINY, VLLM_API_KEY=key)
    texts = [file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert not any(key.encode() in text for text in texts)
    names = ["vllm", "awq", "awq-ct", "transformers"]
    runs = [[f"{name}-{level}users" for level in (1, 2)] for name in names]
    assert [run["name"] for run in found["runs"]] == [name for pair in runs for name in pair]
    for pair in runs:
        facts = [meta(tmp_path, name)["server"] for name in pair]
        assert facts[0]["kernel_ok"], facts[0]["kernels"]
        assert min(answered(tmp_path, name) for name in pair) >= 1
        starts = {(one["argv"][-1], one["ready_s"]) for one in facts}
        # transformers has no /reset_prefix_cache, and is started anew instead
        assert len(starts) == (2 if pair[0].startswith("transformers") else 1), "up for both levels"
    assert meta(tmp_path, "awq-1users")["server"]["kernels"] == ["CPUWNA16LinearKernel"]
    assert sorted(found["comparison"]["levels"]) == [1, 2]
    assert [sentence.partition(" ")[0] for sentence in found["said"]] == [*names[1:], "SLA"]
