"""`tokenswarm serve` with real engines: what makes it fail, and that nothing of it is ever left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
def test_the_tiny_model_answers_and_a_sigkill_of_the_front_door_leaves_nothing() -> None:
    with front_door("baseline", "--model", "tiny", *SHORT) as (process, ready):
        body = {"model": ready["model"], "prompt": "Once upon a time", "max_tokens": 64, "temperature": 0}
        url = ready["listening"] + "/v1/completions"
        first, again = (requests.post(url, json=body, timeout=120).json() for _ in range(2))
        assert first["usage"]["completion_tokens"] == 64
        assert first["choices"][0]["finish_reason"] == "length", "the end of the text is never likely"
        assert first["choices"][0]["text"] == again["choices"][0]["text"] != ""
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


def refused(make: Callable[[], Command], log: Path) -> str:
    with pytest.raises(StartError) as found:
        launch.start(make(), log)
    assert "\n" not in str(found.value)
    assert found.value.tail
    return str(found.value)


@pytest.fixture(scope="module")
def refusals(real: Real, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Why each of four does not start: two at a time, for most of it is imports, which use one core."""
    folder = tmp_path_factory.mktemp("refused")
    other = folder / "model"
    shutil.copytree(real.model, other, copy_function=os.link)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").unlink()
    (other / "config.json").write_text(json.dumps(config | {"architectures": ["NoSuchForCausalLM"]}))

    def without_room() -> Command:
        made = command(real, launch.free_port())
        return Command(made.argv, made.variables | {"VLLM_CPU_KVCACHE_SPACE": "4000"}, made.model, made.port)

    asked = {
        "memory": without_room,
        "architecture": lambda: command(Real(real.python, other), launch.free_port()),
        "model": lambda: command(Real(real.python, Path("nobody/nothing")), launch.free_port()),
        "argument": lambda: command(real, launch.free_port(), ["--no-such-option"]),
    }
    began = psutil.Process().children(recursive=True)
    with ThreadPoolExecutor(2) as pool:
        runs = {name: pool.submit(refused, one, folder / f"{name}.log") for name, one in asked.items()}
        found = {name: run.result() for name, run in runs.items()}
    assert psutil.Process().children(recursive=True) == began
    return found


def test_a_wrong_argument(refusals: dict[str, str]) -> None:
    assert refusals["argument"].startswith("wrong engine argument: ")


def test_out_of_memory(refusals: dict[str, str]) -> None:
    assert refusals["memory"].startswith("out of memory: ValueError: Available memory on node 0")


def test_a_wrong_architecture(refusals: dict[str, str]) -> None:
    assert refusals["architecture"].startswith("wrong architecture: ")
    assert "NoSuchForCausalLM" in refusals["architecture"]


def test_a_missing_model(refusals: dict[str, str]) -> None:
    assert refusals["model"].startswith("model missing: ")
