"""Start and stop real vLLM on the CPU, bound to 127.0.0.1."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from server import environments, models

MODEL = "SmolLM2-135M-Instruct"
READY_LIMIT_S = 240
STOP_LIMIT_S = 30
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
# the `vllm` command looks for a distribution named vllm, and vllm-cpu is not
MODULE = ("-m", "vllm.entrypoints.openai.api_server")
OPTIONS = ("--dtype", "bfloat16", "--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "32")


class Real(NamedTuple):
    """What the tests need: the interpreter that has vLLM, and the model's folder."""

    python: Path
    model: Path


def prepare() -> Real:
    """Make vLLM's environment and the model unless they stand; raises ServerError."""
    python = environments.install("vllm-cpu", print)
    model = models.resolve("smollm2", say=print).path
    assert model is not None, "a model of our own is a folder"
    return Real(python, model)


class VllmError(RuntimeError):
    """It did not start, or did not stop; with the end of its log."""


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A running vLLM; all its processes are in the group of `process`."""

    process: subprocess.Popen[bytes]
    port: int
    scratch: Path  # its log and its sockets

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def log_tail(self) -> str:
        """Return the last lines that it printed."""
        return "\n".join((self.scratch / "log").read_text(errors="replace").splitlines()[-30:])

    def stop(self) -> None:
        """End every process of the group and wait for it; raises VllmError if one survives SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_LIMIT_S
            if living(self.process.pid):
                os.killpg(self.process.pid, number)
            while living(self.process.pid) and time.monotonic() < deadline:
                time.sleep(0.1)
            self.process.poll()  # reaps it
        left = living(self.process.pid)
        if left:
            raise VllmError(f"found the processes {left} alive after SIGKILL, expected none")
        shutil.rmtree(self.scratch, ignore_errors=True)


def start(real: Real, port: int | None = None, extra: Sequence[str] = ()) -> VllmServer:
    """Start vLLM and wait until it has answered a chat; raises VllmError. `extra` are more vLLM options."""
    port = port or free_port()
    scratch = Path(tempfile.mkdtemp(prefix="vllm-"))
    address = ("--host", "127.0.0.1", "--port", str(port))
    named = ("--model", str(real.model), "--served-model-name", MODEL)
    away = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}  # of the environment that runs us
    env = {name: value for name, value in os.environ.items() if name not in away}
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(
            [real.python, *MODULE, *named, *address, *OPTIONS, *extra],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env | ENVIRONMENT | {"TMPDIR": str(scratch)},  # it leaves sockets there
            cwd=scratch,
            start_new_session=True,
        )
    server = VllmServer(process, port, scratch)
    try:
        _wait_until_ready(server)
    except BaseException:  # Ctrl-C too: nothing may be left
        server.stop()
        raise
    return server


@contextmanager
def running(real: Real, extra: Sequence[str] = ()) -> Iterator[VllmServer]:
    """Start vLLM for a with block, and stop it whatever happens there."""
    server = start(real, extra=extra)
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a port that was free a moment ago: vLLM does not tell which one it took for 0."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def living(group: int) -> list[int]:
    """Return the ids of a process group's members, less those that only wait to be reaped."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, its_group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
        except (OSError, ValueError):  # it ended meanwhile
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def _wait_until_ready(server: VllmServer) -> None:
    """Health comes before the model is listed, and neither proves that the engine can answer."""
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    asked = (("GET", "/health", None), ("GET", "/v1/models", None), ("POST", "/v1/chat/completions", chat))
    deadline = time.monotonic() + READY_LIMIT_S
    for method, path, body in asked:
        while True:
            seen = _ask(server.port, method, path, body)
            code = server.process.poll()  # after asking: another program's answer must not pass for ours
            if code is not None:
                raise VllmError(f"vLLM ended with code {code} before it was ready:\n{server.log_tail()}")
            if seen == "200":
                break
            if time.monotonic() > deadline:
                seen = f"after {READY_LIMIT_S} s {method} {path} gave {seen}, expected 200"
                raise VllmError(f"vLLM is not ready: {seen}\n{server.log_tail()}")
            time.sleep(0.25)


def _ask(port: int, method: str, path: str, body: object) -> str:
    """Return the status, or what went wrong."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()
