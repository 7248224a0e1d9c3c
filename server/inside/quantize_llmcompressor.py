"""Quantize a model with llm-compressor. Runs in its own environment, on a GPU or without one.

    awq-ct   weights in 4 bits with a zero point, by the method AWQ
    int8     weights and activations in 8 bits: a scale for each output, and for each token as it comes
    fp8      the same with floats of 8 bits
    nvfp4    weights and activations as floats of 4 bits, in groups of 16

int8 and fp8 need no calibration. Saves the weights and config.json; what belongs to the tokenizer is copied
by the caller, unchanged.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from llmcompressor import oneshot
from llmcompressor.modifiers import Modifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForCausalLM

SCHEMES = {"int8": "W8A8", "fp8": "FP8_DYNAMIC", "nvfp4": "NVFP4"}
OUTPUT_LAYER = ["lm_head"]
"""Stays as it is: it is most of the quality, and often the same tensor as the input embedding."""


def told(kind: type[Modifier], layers: int) -> type[Modifier]:
    """Return the modifier as one that says how far it is."""
    began = time.monotonic()
    done = 0

    class Told(kind):
        def on_sequential_epoch_end(self, state: Any, event: Any, **named: Any) -> None:
            nonlocal done
            super().on_sequential_epoch_end(state, event, **named)
            done += 1
            if done <= layers:  # after the last layer comes the model's end
                left_s = (time.monotonic() - began) / done * (layers - done)
                print(f"progress: layer {done}/{layers}, {left_s:.0f} s left", flush=True)

    Told.__name__ = kind.__name__  # the recipe is saved beside the weights
    return Told


def recipe(name: str, group_size: int, layers: int) -> list[Modifier]:
    """Return what llm-compressor shall do."""
    if name in SCHEMES:
        kind = told(QuantizationModifier, layers) if name == "nvfp4" else QuantizationModifier
        return [kind(targets="Linear", scheme=SCHEMES[name], ignore=OUTPUT_LAYER)]
    weights = QuantizationArgs(num_bits=4, symmetric=False, strategy="group", group_size=group_size)
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    return [
        told(AWQModifier, layers)(),
        QuantizationModifier(config_groups=groups, ignore=OUTPUT_LAYER),
    ]


def weights_type(stored: torch.dtype | None) -> torch.dtype:
    """Return what to load weights as: CPUs multiply float16 slowly or not at all, so bfloat16 there."""
    return torch.float16 if stored == torch.float16 and torch.cuda.is_available() else torch.bfloat16


def no_pinning_without_accelerator() -> None:
    """Let AWQ run where there is no accelerator.

    Before each search llm-compressor pins the samples' memory, so that they get to an accelerator sooner; on
    a machine without one, torch raises. There is nothing to copy there, and no result depends on it.
    """
    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda *_given: None


def quantize(model: Path, out: Path, name: str, samples: list[list[int]], group_size: int) -> None:
    """Calibrate where there are samples (token ids, all equally many), quantize, save."""
    config = AutoConfig.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=weights_type(config.dtype))
    data = DataLoader([{"input_ids": torch.tensor(sample)} for sample in samples]) if samples else None
    oneshot(model=loaded, recipe=recipe(name, group_size, config.num_hidden_layers), dataset=data)
    print("progress: saving", flush=True)
    loaded.save_pretrained(out, save_compressed=True)


def main() -> int:
    """Quantize; one line says what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("recipe", choices=["awq-ct", *SCHEMES])
    parser.add_argument("--calibration", type=Path, help="JSON: a list of lists of token ids")
    parser.add_argument("--group-size", type=int, default=0)
    given = parser.parse_args()
    samples = json.loads(given.calibration.read_text(encoding="utf-8")) if given.calibration else []
    no_pinning_without_accelerator()
    try:
        quantize(given.model, given.out, given.recipe, samples, given.group_size)
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller reads one line
        print(f"error: llm-compressor: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
