"""Quantize a model to 4 bits with AutoAWQ. Runs in its own environment, on a GPU or without one.

Saves the weights and config.json; what belongs to the tokenizer is copied by the caller, unchanged.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from awq import AutoAWQForCausalLM
from awq.quantize.quantizer import AwqQuantizer

BITS = 4


class Upstream(AwqQuantizer):
    """AutoAWQ's own quantizer, which says how far it is: on the CPU it makes garbage, see Quantizer."""

    began = 0.0
    done = 0

    def quantize(self) -> None:
        """Do all layers, one after the other."""
        self.began = time.monotonic()
        super().quantize()

    def _apply_quant(self, module: torch.nn.Module, named_linears: dict[str, torch.nn.Linear]) -> None:
        """Pack a layer: the last thing that is done to it."""
        super()._apply_quant(module, named_linears)
        self.done += 1
        left_s = (time.monotonic() - self.began) / self.done * (len(self.modules) - self.done)
        print(f"progress: layer {self.done}/{len(self.modules)}, {left_s:.0f} s left", flush=True)


class Quantizer(Upstream):
    """AutoAWQ's quantizer with its search for scales mended, and its search for clips made fast.

    The search tries 20 scales on a layer's weights, and puts the weights back after each from a copy that it
    made with `value.cpu()`. For weights that are on the CPU already that is no copy: the first scales are
    multiplied into it, and stay there, under the scales that are found best and multiplied in later. The norm
    before the layer is divided by the best scales only, so the layer no longer computes what it did. Here the
    state that the search asks for is a copy of its own, on every device.
    """

    def _compute_best_scale(
        self,
        x: torch.Tensor,
        w_mean: torch.Tensor,
        x_mean: torch.Tensor,
        module2inspect: torch.nn.Module,
        *rest: Any,
        **named: Any,
    ) -> torch.Tensor:
        hook = module2inspect.register_state_dict_post_hook(_clone)
        try:
            return super()._compute_best_scale(x, w_mean, x_mean, module2inspect, *rest, **named)
        finally:
            hook.remove()

    def _compute_best_clip(
        self,
        w: torch.Tensor,
        input_feat: torch.Tensor,
        n_grid: int = 20,
        max_shrink: float = 0.5,
        n_sample_token: int = 512,
    ) -> torch.Tensor:
        """Find where to clip each group of weights [outputs, inputs], as upstream does: [outputs, groups, 1].

        Upstream multiplies every token with every weight for each clip that it tries, two thirds of all time
        on a CPU. The mean square of what a change d of a group's weights does to its outputs is d' G d, with
        G the mean of x x' over the tokens x, which is made once.
        """
        size = self.group_size if self.group_size > 0 else w.shape[1]
        tokens = input_feat.reshape(-1, w.shape[1] // size, size)
        tokens = tokens[:: max(1, len(tokens) // n_sample_token)].float()
        squares = torch.einsum("tgi,tgj->gij", tokens, tokens).to(w.device) / len(tokens)
        weights = w.reshape(len(w), -1, size)
        largest = weights.abs().amax(dim=-1, keepdim=True)
        best, least = largest.clone(), torch.full_like(largest, torch.inf, dtype=torch.float)
        for step in range(int(max_shrink * n_grid)):
            limit = largest * (1 - step / n_grid)
            clipped = self.pseudo_quantize_tensor(torch.clamp(weights, -limit, limit))[0]
            change = (clipped - weights).float()
            error = (torch.einsum("ogi,gij->ogj", change, squares) * change).sum(dim=-1, keepdim=True)
            better = error < least
            least[better], best[better] = error[better], limit[better]
        return best


def _clone(_module: torch.nn.Module, state: dict[str, torch.Tensor], _prefix: str, _metadata: Any) -> None:
    for name, value in state.items():
        state[name] = value.clone()


def weights_type(config: dict[str, Any]) -> torch.dtype:
    """Return what to load weights as: CPUs multiply float16 slowly or not at all, so bfloat16 there."""
    stored = config.get("dtype") or config.get("torch_dtype")
    return torch.float16 if stored == "float16" and torch.cuda.is_available() else torch.bfloat16


def positions(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of rotary positions under the names that AutoAWQ's transformers knows.

    transformers 5 writes them as `rope_parameters`; 4.51 does not read that, and silently takes its defaults.
    """
    rope = dict(config.get("rope_parameters") or {})
    found = {"rope_theta": rope.pop("rope_theta")} if "rope_theta" in rope else {}
    scaled = rope.get("rope_type", "default") != "default"
    return found | ({"rope_scaling": rope} if scaled else {})


def quantize(model: Path, out: Path, samples: list[list[int]], group_size: int, kind: type[Upstream]) -> None:
    """Calibrate, search, pack and save. `samples` are token ids, all equally many."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    loaded = AutoAWQForCausalLM.from_pretrained(
        str(model), torch_dtype=weights_type(config), trust_remote_code=False, **positions(config)
    )
    # a tokenizer is for texts, and samples are tokens already
    loaded.quantize(
        None,
        quant_config={"zero_point": True, "q_group_size": group_size, "w_bit": BITS, "version": "GEMM"},
        calib_data=samples,
        max_calib_samples=len(samples),
        max_calib_seq_len=len(samples[0]),
        quantizer_cls=kind,
    )
    print("progress: saving", flush=True)
    loaded.save_quantized(str(out))


def main() -> int:
    """Quantize; one line says what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--calibration", type=Path, required=True, help="JSON: a list of lists of token ids")
    parser.add_argument("--group-size", type=int, required=True)
    parser.add_argument("--keep-bug", action="store_true", help=argparse.SUPPRESS)  # a gate must fail this
    given = parser.parse_args()
    samples = json.loads(given.calibration.read_text(encoding="utf-8"))
    kind = Upstream if given.keep_bug else Quantizer
    try:
        quantize(given.model, given.out, samples, given.group_size, kind)
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller reads one line
        print(f"error: AutoAWQ: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
