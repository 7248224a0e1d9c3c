"""A quantized checkpoint's folder: what it is called, what it was made from, and what belongs into it.

places.models()/MODEL-RECIPE/
    config.json, *.safetensors    the model's own configuration, its weights quantized
    tokenizer.json, ...           the model's own, byte for byte
    tokenswarm.json               the recipe, what it was made from and with, and the error of the weights
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from server import making, places
from server.errors import ServerError, UsageError
from server.models import Model
from server.recipes import Recipe

RECORD = "tokenswarm.json"
BLOCK, BLOCKS = 4096, 256
MADE_HERE = {"config.json", "model.safetensors.index.json", RECORD, making.MARKER}
OF_THE_MODEL = (".json", ".jinja", ".model", ".txt")


def label(model: Model) -> str:
    """Return what a model is called in the name of a folder."""
    return model.path.name if model.path else model.hub.replace("/", "--")


def place(model: Model, recipe: str) -> Path:
    """Return where a model's checkpoint is, or would be."""
    return places.models() / f"{label(model)}-{recipe}"


def fingerprint(folder: Path) -> str:
    """Return what tells a model from another one: its small files, and its weights by size and samples.

    Weights are read at 256 places, which takes no time; training changes them everywhere.
    """
    parts: list[str | Path] = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            parts += [path.name, _sampled(path)]
        elif path.suffix in OF_THE_MODEL and path.name != RECORD:
            parts += [path.name, path]
    return making.key(*parts)


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(BLOCKS):
            file.seek(number * max(size - BLOCK, 0) // (BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def find(model: Model, recipe: str, spelled: str) -> Path:
    """Return a finished checkpoint of this very model; raises UsageError, with what would make it.

    `spelled` is how the user names the model.
    """
    folder = place(model, recipe)
    commit = f" --revision {model.revision}" if model.revision else ""
    make = f"make it with: tokenswarm quantize {spelled} {recipe}{commit}"
    if not (folder / making.MARKER).is_file() or not (folder / RECORD).is_file():
        raise UsageError(f"no {recipe} checkpoint of {spelled}, {make}")
    source = record(folder)["source"]
    if model.path and source["fingerprint"] != fingerprint(model.path):
        raise UsageError(f"{folder} was made from other weights than {model.path} has now, {make}")
    if not model.path and source["revision"] != model.revision:
        raise UsageError(f"{folder} was made from {source['revision']}, expected {model.revision}, {make}")
    return folder


def record(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's tokenswarm.json; raises ServerError."""
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ServerError(f"{folder / RECORD}: cannot be read ({error})") from None


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something else than a checkpoint of ours; raises UsageError."""
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / RECORD).is_file())
    ):
        raise UsageError(f"{folder}: holds something else, expected an empty folder, or none")


def complete(folder: Path, source: Path, recipe: Recipe) -> None:
    """Make what a library saved into a checkpoint of the model: its own configuration and tokenizer.

    The libraries rewrite both with what their version knows of them; a server must see the same but for the
    weights. Raises ServerError if vLLM would not recognize the quantization.
    """
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    quantization = saved.get("quantization_config", {})
    wrong = {
        name: quantization.get(name)
        for name, value in recipe.expected.items()
        if quantization.get(name) != value
    }
    if wrong:
        raise ServerError(f"{folder}/config.json: found {wrong}, expected {dict(recipe.expected)}")
    stored = saved.get("dtype") or saved.get("torch_dtype")
    config |= {name: stored for name in ("dtype", "torch_dtype") if name in config}
    config["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for path in source.iterdir():
        if path.suffix in OF_THE_MODEL and path.name not in MADE_HERE:
            shutil.copyfile(path, folder / path.name)
