"""Compare a quantized checkpoint with the model that it was made from, weight by weight.

    python weight_error.py MODEL CHECKPOINT       # {"mean": 0.1, "worst": 0.12, "layers": {...}}

The error of a weight is |W' - W| / |W| (Frobenius norms): about 0.1 for 4 bits, 0.01 for 8. Runs in a
quantizer's environment on the two folders as they lie there, so it sees what a server will see.

A quantized weight is not the original, rounded. Methods like AWQ multiply each input of a layer by a scale s,
and take it back where that input comes from, which changes nothing as long as numbers are exact:

    q, k, v * s      input_layernorm / s              s = old norm / new norm
    gate, up * s     post_attention_layernorm / s     s = old norm / new norm
    o * s            the rows of v / s                where o has as many inputs as v has outputs
    down * s         the rows of up / s               s = what fits each new row best to the old one

W' is the dequantized weight with all this undone. What remains is rounding and clipping; and, much larger,
any scale that was multiplied in and never taken back. (A factor common to a row of `up` shows in `down`.)
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
AWQ_COLUMNS = [0, 4, 1, 5, 2, 6, 3, 7]
"""Where each of eight columns lies in AutoAWQ's integers."""


class Weights:
    """The tensors of a folder's safetensors files, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Open the files."""
        files = [safe_open(str(path), "pt") for path in sorted(folder.glob("*.safetensors"))]
        self.files = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - it is no dict

    def __contains__(self, name: str) -> bool:
        """Say whether there is such a tensor."""
        return name in self.files

    def get(self, name: str) -> torch.Tensor:
        """Return a tensor as it is stored; raises KeyError."""
        return self.files[name].get_tensor(name)

    def blocks(self) -> list[str]:
        """Return the prefixes of the decoder blocks, in their order."""
        found = {re.match(r"model\.layers\.\d+\.", name) for name in self.files}
        return sorted({one[0] for one in found if one}, key=lambda prefix: int(prefix.split(".")[2]))


def dequantize(weights: Weights, layer: str) -> torch.Tensor:
    """Return a layer's weight [outputs, inputs], however it is stored; raises ValueError."""

    def part(name: str) -> torch.Tensor:
        return weights.get(f"{layer}.{name}")

    if f"{layer}.qweight" in weights:  # AutoAWQ: [inputs, outputs], 4 bits with a zero point
        return scaled(
            _awq_columns(part("qweight")).T, part("scales").T.float(), _awq_columns(part("qzeros")).T
        )
    if (
        f"{layer}.weight_zero_point" in weights
    ):  # compressed-tensors: 4 bits, zero points packed along outputs
        outputs, inputs = part("weight_shape").tolist()
        zeros = nibbles(part("weight_zero_point").T).T[:outputs]
        return scaled(nibbles(part("weight_packed"))[:, :inputs], part("weight_scale").float(), zeros)
    if f"{layer}.weight_global_scale" in weights:  # NVFP4: a sign, two bits of exponent, one of fraction
        pairs = part("weight_packed").int()
        numbers = FP4[torch.stack((pairs & 15, pairs >> 4), dim=2).flatten(1)]
        return scaled(numbers, part("weight_scale").float() / part("weight_global_scale"))
    if f"{layer}.weight_scale" in weights:  # 8 bits, a scale for each output
        return part("weight").float() * part("weight_scale").float()
    raise ValueError(f"{layer}: found no quantized weight")


def nibbles(packed: torch.Tensor) -> torch.Tensor:
    """Unpack integers of 32 bits [n, m] into numbers of 4 bits [n, 8 m], lowest bits first."""
    return ((packed[:, :, None] >> torch.arange(0, 32, 4)) & 15).flatten(1)


def _awq_columns(packed: torch.Tensor) -> torch.Tensor:
    return nibbles(packed).unflatten(1, (-1, 8))[:, :, AWQ_COLUMNS].flatten(1)


def scaled(numbers: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None) -> torch.Tensor:
    """Return numbers [outputs, inputs] less their group's zero [outputs, groups], times its scale."""
    groups = numbers.unflatten(1, (scales.shape[1], -1)).float()
    if zeros is not None:
        groups = groups - zeros[:, :, None].float()
    return (groups * scales[:, :, None]).flatten(1)


def row_scale(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Return for each row by what it was divided: the least squares fit of the new row to the old."""
    size = new.square().sum(1)
    return torch.where(size == 0, 1.0, (old * new).sum(1) / size)


def norm_scale(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Return for each channel by what a norm was divided."""
    return torch.where(old == 0, 1.0, old.float() / new.float())


def unscaled(block: str, old: Weights, new: Weights) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Yield the name of each of a block's seven weights, how it was, and how it is with its scales undone."""

    def pair(layer: str, inputs: torch.Tensor) -> tuple[str, torch.Tensor, torch.Tensor]:
        name = f"{block}{layer}_proj"
        return name, old.get(f"{name}.weight").float(), dequantize(new, name) / inputs

    def norm(name: str) -> torch.Tensor:
        return norm_scale(old.get(f"{block}{name}.weight"), new.get(f"{block}{name}.weight"))

    inputs = norm("input_layernorm")
    yield pair("self_attn.q", inputs)
    yield pair("self_attn.k", inputs)
    name, before, after = pair("self_attn.v", inputs)
    rows = torch.ones(len(before))
    if old.get(f"{block}self_attn.o_proj.weight").shape[1] == len(before):
        rows = row_scale(before, after)
        yield pair("self_attn.o", rows)
    else:
        yield pair("self_attn.o", torch.ones(()))
    yield name, before, after * rows[:, None]

    inputs = norm("post_attention_layernorm")
    yield pair("mlp.gate", inputs)
    name, before, after = pair("mlp.up", inputs)
    rows = row_scale(before, after)
    yield name, before, after * rows[:, None]
    yield pair("mlp.down", rows)


def errors(model: Path, checkpoint: Path) -> dict[str, float]:
    """Return the relative error of every weight of every block; raises KeyError or ValueError."""
    old, new = Weights(model), Weights(checkpoint)
    return {
        name: ((after - before).norm() / before.norm()).item()
        for block in old.blocks()
        for name, before, after in unscaled(block, old, new)
    }


def main() -> int:
    """Print the errors as JSON; one line says what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("checkpoint", type=Path)
    given = parser.parse_args()
    try:
        found = errors(given.model, given.checkpoint)
    except (KeyError, ValueError, RuntimeError) as error:
        print(f"error: {given.checkpoint}: {' '.join(str(error).split())}")
        return 1
    mean = sum(found.values()) / len(found)
    print(json.dumps({"mean": mean, "worst": max(found.values()), "layers": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
