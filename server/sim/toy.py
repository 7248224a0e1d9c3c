"""A toy model's opinion of a prompt, so that `prompt_logprobs` says something: no language, but consistent.

The four tokens before a place, hashed with the server's seed, decide which ids are likely there and how much.
Servers of one seed are the same model; a profile's `quality_noise` is the standard deviation of what
quantization adds to each logit. What is not among the likely ids is equally unlikely.
"""

import math
import random
from collections.abc import Sequence
from zlib import crc32

from .tokens import VOCABULARY

CONTEXT = 4
LIKELY = 24
STEP = 0.5  # from one likely id to the next, in logits
REST = -12.0  # the logit of every other id: together they have about 7 %


def prompt_logprobs(
    ids: Sequence[int], k: int, seed: int, noise: float
) -> list[dict[str, dict[str, object]] | None]:
    """Return, as vLLM does, the k likeliest ids at each place and its own; None at the first."""
    return [None, *(_place(ids, place, k, seed, noise) for place in range(1, len(ids)))]


def _place(ids: Sequence[int], place: int, k: int, seed: int, noise: float) -> dict[str, dict[str, object]]:
    before = ids[max(0, place - CONTEXT) : place]
    context = crc32(repr((seed, *before)).encode())
    drawn, off = random.Random(context), random.Random(context + 1)
    logits = {drawn.randrange(VOCABULARY): -STEP * rank for rank in range(LIKELY)}
    logits = {one: logit + off.gauss(0, noise) for one, logit in logits.items()}
    rest = REST + off.gauss(0, noise)
    others = VOCABULARY - len(logits)
    total = math.log(sum(math.exp(logit) for logit in logits.values()) + others * math.exp(rest))
    ranked = sorted(logits, key=lambda one: -logits[one])
    own = ids[place]
    wanted = ranked[:k] if own in ranked[:k] else [own, *ranked[:k]]
    return {
        str(one): {
            "logprob": logits.get(one, rest) - total,
            "rank": ranked.index(one) + 1 if one in logits else len(ranked) + 1,
            "decoded_token": None,
        }
        for one in wanted
    }
