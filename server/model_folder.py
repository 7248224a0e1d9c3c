"""A model's folder in the Hugging Face format: whether it is whole, and how its weights are kept."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.errors import UsageError

PARTIAL = ".partial"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
INDEX = "model.safetensors.index.json"
QUANTIZED = ("quantization_config", "compression_config")
MODELOPT = "hf_quant_config.json"  # of NVIDIA's ModelOpt, whose older versions write nothing into config.json


def look(folder: Path) -> dict[str, Any]:
    """Return the folder's config.json; raises UsageError with the first thing that is missing or cut off."""
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder, expected a model")
    if folder.name.endswith(PARTIAL):
        raise UsageError(f"{folder}: a folder that was cut off while it was made, expected a finished one")
    config = configuration(folder)
    _check_weights(folder)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise UsageError(f"{folder}: found no tokenizer, expected one of {', '.join(TOKENIZERS)}")
    return config


def configuration(folder: Path) -> dict[str, Any]:
    """Return the folder's config.json; raises UsageError if it is missing or no model's."""
    config = _json(folder / "config.json", "a model's configuration")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise UsageError(f"{folder}/config.json: found no `architectures`, expected a model class")
    if not quantization(config) and (folder / MODELOPT).is_file():
        return config | {QUANTIZED[0]: {"quant_method": "modelopt"}}
    return config


def quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config.json says of its weights' quantization, {} for full precision.

    It stands where vLLM looks for it, too: at the top, or in the part on the text model.
    """
    parts = [config, config.get("text_config")]
    named = [part.get(name) for part in parts if isinstance(part, Mapping) for name in QUANTIZED]
    return next((dict(one) for one in named if isinstance(one, dict) and one.get("quant_method")), {})


def _json(file: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{file.parent}: found no {file.name}, expected {what}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read ({error}), expected {what} in JSON") from None
    if not isinstance(found, dict):
        raise UsageError(f"{file}: found a {type(found).__name__}, expected {what}")
    return found


def _check_weights(folder: Path) -> None:
    files = set(folder.glob("*.safetensors"))
    if (folder / INDEX).is_file():
        index = _json(folder / INDEX, "the list of the weights' files")
        files |= {folder / str(name) for name in index.get("weight_map", {}).values()}
    if not files:
        raise UsageError(f"{folder}: found no *.safetensors, expected the weights in that format")
    for file in sorted(files):
        _check_whole(file)


def _check_whole(file: Path) -> None:
    """Compare a file's size with what its header says; it begins with the header's length."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length if length < size else 0))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except FileNotFoundError:
        raise UsageError(f"{file.parent}: found no {file.name}, expected it: {INDEX} lists it") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{file}: cannot be read, expected weights as safetensors") from None
    if size != expected:
        raise UsageError(f"{file}: found {size} bytes, expected {expected}: it was cut off")
