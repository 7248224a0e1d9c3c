"""`tokenswarm serve` with real engines: what makes it fail, and that nothing of it is ever left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from server import launch
from server.argv import Command
from server.launch import StartError
from tests.real.vllm_server import Real, command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("-o", "enforce-eager", "-o", "max-model-len=512")


@contextmanager
def front_door(*words: str) -> Iterator[tuple[subprocess.Popen[str], dict]]:
    """Run `tokenswarm serve` until it is ready; yields the process and what it said."""
    argv = [sys.executable, "-m", "tokenswarm", "serve", *words, "--json"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process, json.loads(process.stdout.readline() or "{}")
        finally:
            process.kill()


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def left_after(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=seconds)[1]


@pytest.mark.usefixtures("real")
def test_sigterm_lets_a_stream_finish_and_leaves_nothing() -> None:
    with front_door("baseline", *SHORT) as (process, ready):
        assert ready["ready_s"] > 0
        assert ready["memory_mb"] > 300
        engine = below(process)
        assert len(engine) >= 3, "the guardian, the API server and the engine's core"
        body = {"model": ready["model"], "prompt": "Once upon a time", "max_tokens": 300, "ignore_eos": True}
        streamed = requests.post(
            ready["listening"] + "/v1/completions", json=body | {"stream": True}, stream=True, timeout=120
        )
        lines = streamed.iter_lines()
        next(lines)
        threading.Timer(0.1, process.send_signal, [signal.SIGTERM]).start()
        received = [line for line in lines if line.startswith(b"data: ")]
        assert received[-1] == b"data: [DONE]"
        assert len(received) > 250
        assert process.wait(60) == 0
        assert left_after(engine, 5) == []


@pytest.mark.usefixtures("real")
def test_sigkill_of_the_front_door_leaves_nothing() -> None:
    with front_door("baseline", "--model", "tiny", *SHORT) as (process, ready):
        assert ready
        engine = below(process)
        process.kill()
        assert left_after(engine, 60) == []


def test_transformers_serves_what_vllm_replaces(real: Real) -> None:
    assert real.model.is_dir()
    with front_door("transformers") as (process, ready):
        asked = [{"role": "user", "content": "What is the capital of France?"}]
        body = {"model": ready["model"], "messages": asked, "temperature": 0, "max_tokens": 40}
        answer = requests.post(ready["listening"] + "/v1/chat/completions", json=body, timeout=120).json()
        assert "Paris" in answer["choices"][0]["message"]["content"]
        engine = below(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert left_after(engine, 5) == []


def refused(made: Command, log: Path) -> str:
    began = psutil.Process().children(recursive=True)
    with pytest.raises(StartError) as found:
        launch.start(made, log)
    assert psutil.Process().children(recursive=True) == began
    assert "\n" not in str(found.value)
    assert found.value.tail
    return str(found.value)


def test_a_wrong_argument(real: Real, tmp_path: Path) -> None:
    made = command(real, launch.free_port(), ["--no-such-option"])
    assert refused(made, tmp_path / "log").startswith("wrong engine argument: ")


def test_out_of_memory(real: Real, tmp_path: Path) -> None:
    made = command(real, launch.free_port())
    variables = made.variables | {"VLLM_CPU_KVCACHE_SPACE": "4000"}
    reason = refused(Command(made.argv, variables, made.model, made.port), tmp_path / "log")
    assert reason.startswith("out of memory: ValueError: Available memory on node 0")


def test_a_wrong_architecture(real: Real, tmp_path: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(real.model, other, copy_function=os.link)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").unlink()
    (other / "config.json").write_text(json.dumps(config | {"architectures": ["NoSuchForCausalLM"]}))
    reason = refused(command(Real(real.python, other), launch.free_port()), tmp_path / "log")
    assert reason.startswith("wrong architecture: ")
    assert "NoSuchForCausalLM" in reason


def test_a_missing_model(real: Real, tmp_path: Path) -> None:
    made = command(Real(real.python, Path("nobody/nothing")), launch.free_port())
    assert refused(made, tmp_path / "log").startswith("model missing: ")
