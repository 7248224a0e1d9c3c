"""Make a tiny model of random weights that is served and quantized like a real one.

    ENV/bin/python make_tiny.py SMOLLM2 FOLDER

A Llama with SmolLM2's tokenizer and config, but for its size; every layer divides into groups of 64. Its
words mean nothing, yet its choices are about as clear as a real model's: the output layer is separate and
strong, so an answer does not repeat itself, and the end of the text is never the likeliest token.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

SEED = 20
SIZE = {
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "head_dim": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "tie_word_embeddings": False,
    "initializer_range": 0.1,  # below, a token hardly depends on those before it, and answers run in circles
}
OUTPUT_SCALE = 0.25  # logits with a standard deviation of about 4
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
STEPS = 64


def make(source: Path, folder: Path) -> None:
    """Write weights (bfloat16), config and tokenizer."""
    config = json.loads((source / "config.json").read_text()) | SIZE
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    model = LlamaForCausalLM(LlamaConfig.from_dict(config))
    with torch.no_grad():
        output = model.lm_head.weight
        output.normal_(std=OUTPUT_SCALE)
        output[config["eos_token_id"]] = 0
    weights = {name: weight.to(torch.bfloat16).contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name in TOKENIZER:
        shutil.copy(source / name, folder / name)


def check(folder: Path) -> str | None:
    """Return what is wrong with the folder, or None."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    asked = tokenizer("Once upon a time", return_tensors="pt")
    told = model.generate(**asked, max_new_tokens=STEPS, do_sample=False)[0, asked["input_ids"].shape[1] :]
    if len(told) != STEPS:
        return f"found an answer of {len(told)} tokens, expected {STEPS}"
    different = len(set(told.tolist()))
    if different < STEPS // 2:
        return f"found {different} different tokens in an answer of {STEPS}, expected {STEPS // 2} or more"
    return None


def main() -> int:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folder = Path(sys.argv[2])
    make(Path(sys.argv[1]), folder)
    wrong = check(folder)
    if wrong is not None:
        print(f"error: {wrong}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
