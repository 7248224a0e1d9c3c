"""What `tokenswarm quantize` can make. Pure: what does not fit is refused before anything is begun."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server import model_folder
from server.errors import UsageError

GROUP_SIZES = (128, 64, 32)
"""What vLLM's 4-bit kernels take; the larger, the fewer scales to store and to read."""

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Models whose layers have Llama's names, which is what the check of the weights goes by."""

OUTPUTS = 64
"""AutoAWQ clips and packs this many outputs of a layer at a time."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to quantize: none of them needs a GPU to make, some need one to be served."""

    name: str
    environment: str  # the one that makes it
    grouped: bool  # the weights of a group share a scale; its size can be chosen
    calibrated: bool  # needs texts
    error_limit: float  # of the weights, mean over the layers; see inside/weight_error.py
    expected: Mapping[str, object]  # in config.json's quantization_config, by which vLLM knows it


def _compressed(name: str, error_limit: float, form: str, *, calibrated: bool) -> Recipe:
    expected = {"quant_method": "compressed-tensors", "format": form}
    grouped = name == "awq-ct"
    return Recipe(name, "llm-compressor", grouped, calibrated, error_limit, expected)


AWQ = {"quant_method": "awq", "bits": 4, "version": "gemm"}
# The limits are about twice what is right: 0.10 to 0.12 for 4 bits (0.4 is what AutoAWQ's bug gives), 0.03
# for floats of 8 bits, 0.01 for integers of 8.
RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("awq", "autoawq", grouped=True, calibrated=True, error_limit=0.25, expected=AWQ),
        _compressed("awq-ct", 0.25, "pack-quantized", calibrated=True),
        _compressed("int8", 0.03, "int-quantized", calibrated=False),
        _compressed("fp8", 0.06, "float-quantized", calibrated=False),
        _compressed("nvfp4", 0.25, "nvfp4-pack-quantized", calibrated=True),
    )
}


def find(name: str) -> Recipe:
    """Return a recipe; raises UsageError."""
    if name not in RECIPES:
        raise UsageError(f"recipe: found {name!r}, expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def group_size(config: Mapping[str, Any], wanted: int | None = None) -> int:
    """Return how many weights share a scale: `wanted`, or the largest size that divides every layer's inputs.

    `config` is a model's config.json. Raises UsageError where nothing fits.
    """
    inputs = _inputs(config)
    fitting = [size for size in GROUP_SIZES if all(count % size == 0 for count in inputs.values())]
    if wanted is None and fitting:
        return fitting[0]
    if wanted in fitting:
        return wanted
    found = ", ".join(f"{name} {count}" for name, count in inputs.items())
    if not fitting:
        listed = ", ".join(str(size) for size in GROUP_SIZES)
        raise UsageError(f"group size: none of {listed} divides the layers' inputs ({found})")
    fits = " or ".join(str(size) for size in fitting)
    raise UsageError(
        f"group size: found {wanted}, expected {fits}, which divide the layers' inputs ({found})"
    )


def check(config: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuse a model that the recipe is not for; raises UsageError with the reason.

    `config` is the model's config.json.
    """
    architecture = next(iter(config.get("architectures") or ()), None)
    if architecture not in ARCHITECTURES:
        raise UsageError(f"architecture: found {architecture}, expected one of {', '.join(ARCHITECTURES)}")
    if quantized := model_folder.quantization(config):
        method = quantized["quant_method"]
        raise UsageError(f"the model is quantized already ({method}), expected one at full precision")
    if recipe.environment == "autoawq":
        odd = {name: count for name, count in _outputs(config).items() if count % OUTPUTS}
        if odd:
            found = ", ".join(f"{name} {count}" for name, count in odd.items())
            raise UsageError(f"recipe awq: found {found}, expected multiples of {OUTPUTS}")


def _inputs(config: Mapping[str, Any]) -> dict[str, int]:
    """Return how many inputs the layers of a block have, by what decides it."""
    sizes = {name: config.get(name) for name in ("hidden_size", "intermediate_size", "num_attention_heads")}
    missing = [name for name, size in sizes.items() if not isinstance(size, int)]
    if missing:
        raise UsageError(f"config.json: found no {missing[0]}, expected a number")
    hidden, mlp, heads = (config[name] for name in sizes)
    head = config.get("head_dim") or hidden // heads
    return {"hidden_size": hidden, "intermediate_size": mlp, "attention": heads * head}


def _outputs(config: Mapping[str, Any]) -> dict[str, int]:
    inputs = _inputs(config)
    heads = config["num_attention_heads"]
    cached = (config.get("num_key_value_heads") or heads) * (inputs["attention"] // heads)
    return inputs | {"keys and values": cached}
