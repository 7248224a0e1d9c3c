"""Prefix caching: which leading blocks of a prompt the engine has computed before."""

from collections import OrderedDict
from collections.abc import Sequence

BLOCK_TOKENS = 16


def block_keys(prompt: str | Sequence[int], unit: int) -> tuple[int, ...]:
    """One key for each full block; it stands for the block and all that precedes it.

    `unit`: characters (of a text) or ids (of a token list) that make one token.
    """
    size = BLOCK_TOKENS * unit
    keys, key = [], 0
    for start in range(0, len(prompt) - size + 1, size):
        block = prompt[start : start + size]
        key = hash((key, block if isinstance(block, str) else tuple(block)))
        keys.append(key)
    return tuple(keys)


class PrefixCache:
    """The least recently used blocks are forgotten first. They take no room from running requests."""

    def __init__(self, blocks: int) -> None:
        """`blocks`: how many are remembered."""
        self._blocks = blocks
        self._known: OrderedDict[int, None] = OrderedDict()

    def hit_tokens(self, keys: tuple[int, ...], prompt_tokens: int) -> int:
        """Leading tokens that need no prefill: whole blocks, and never the prompt's last token."""
        hits = 0
        for key in keys:
            if key not in self._known:
                break
            self._known.move_to_end(key)
            hits += 1
        return min(hits, (prompt_tokens - 1) // BLOCK_TOKENS) * BLOCK_TOKENS

    def remember(self, keys: tuple[int, ...]) -> None:
        """Keep the blocks of a prompt whose prefill is over."""
        for key in keys:
            self._known[key] = None
            self._known.move_to_end(key)
        while len(self._known) > self._blocks:
            self._known.popitem(last=False)
