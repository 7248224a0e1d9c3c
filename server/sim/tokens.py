"""A tokenizer that costs nothing: four characters of a prompt are one token, rounded up, at least one.

A chat is counted as the text that `render_chat` makes of it. Token ids are taken from the characters, so
/tokenize, `usage.prompt_tokens` and a prompt sent as ids all agree. Answers are cut from a fixed word list.
"""

import json
import math
import random
from typing import Any
from zlib import crc32

CHARACTERS_PER_TOKEN = 4
VOCABULARY = 32_000

# One in fifty is empty: real tokenizers split a rare character over several tokens, and vLLM then sends a
# chunk without text for the token that does not complete it. The word after it brings the character.
_PROSE = """the answer to that depends on what you measure and when you start the clock : a token is late if
the user sees it late . so count from the moment it was due , not from the one at which you got round to it"""
WORDS = (*(f" {word}" for word in _PROSE.split()), " caf", "", "é")


def count_text(text: str) -> int:
    """Tokens in a prompt."""
    return max(1, -(-len(text) // CHARACTERS_PER_TOKEN))


def text_ids(text: str) -> list[int]:
    """As many ids as `count_text` says."""
    pieces = range(0, max(1, len(text)), CHARACTERS_PER_TOKEN)
    return [token_id(text[start : start + CHARACTERS_PER_TOKEN]) for start in pieces]


def token_id(text: str) -> int:
    """Return the id of one token's text."""
    return crc32(text.encode(errors="replace")) % VOCABULARY


def render_chat(messages: list[Any]) -> str:
    """Return a chat as the one text whose tokens are counted."""
    return (
        "".join(f"<|{message['role']}|>{_content(message.get('content'))}\n" for message in messages) + "<|>"
    )


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):  # parts; what is no text counts by its length
        return "".join(
            part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else json.dumps(part)
            for part in content
        )
    return ""


def natural_length(seed: str) -> int:
    """Tokens after which an answer would end by itself, its end token included. The median is 160.

    Drawn from the seed alone, so that two servers asked the same thing answer at the same length.
    """
    return max(2, round(random.Random(seed).lognormvariate(math.log(160), 0.6)))
