"""Turn texts into calibration samples of one model: lists of token ids, each exactly as long as asked.

Runs in a quantizer's environment. AutoAWQ skips a text that is longer than its limit without a word, and then
calibrates on what happens to be left; samples of exactly the limit leave it nothing to skip.
"""

import argparse
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer


def samples(tokenizer: Tokenizer, texts: list[str], count: int, sequence: int) -> list[list[int]]:
    """Cut the texts' tokens into samples and take `count` of them, evenly spread; raises ValueError."""
    tokens = [token for text in texts for token in tokenizer.encode(text, add_special_tokens=False).ids]
    found = len(tokens) // sequence
    if found < count:
        raise ValueError(
            f"calibration texts: found {len(tokens)} tokens, {found} samples of {sequence}; "
            f"expected at least {count} samples ({count * sequence} tokens)"
        )
    starts = [(number * found // count) * sequence for number in range(count)]
    return [tokens[start : start + sequence] for start in starts]


def main() -> int:
    """Read texts (a JSON list), write samples (a JSON list of lists)."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="folder with the tokenizer.json")
    parser.add_argument("texts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--sequence", type=int, required=True, help="tokens in a sample")
    given = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(given.model / "tokenizer.json"))
    tokenizer.no_truncation()  # a tokenizer.json may carry a limit of its own
    tokenizer.no_padding()
    texts = json.loads(given.texts.read_text(encoding="utf-8"))
    try:
        cut = samples(tokenizer, texts, given.samples, given.sequence)
    except ValueError as error:
        print(f"error: {error}")
        return 1
    given.out.write_text(json.dumps(cut), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
