"""What two servers wrote by themselves: how long they agree, and whether an answer is empty or endless."""

from collections.abc import Sequence

from .answers import Answer

LOOP_COPIES = 3
LOOP_TOKENS = 20


def prefix_share(base: Sequence[int], other: Sequence[int]) -> float:
    """Return the share of the base's tokens that the other begins with, too; 1 if the base wrote nothing."""
    same = 0
    for mine, its in zip(base, other, strict=False):
        if mine != its:
            break
        same += 1
    return same / len(base) if base else 1.0


def is_empty(answer: Answer) -> bool:
    """Say whether there is nothing to read."""
    return not answer.text.strip()


def is_loop(answer: Answer) -> bool:
    """Say whether an answer was cut off while it repeated itself.

    Its end is at least three copies of one phrase (Holtzman et al. 2020, "The curious case of neural text
    degeneration"; the first copy may be cut), and these are at least 20 tokens: "ha ha ha" is no loop. An
    answer that ended by itself is none either, whatever it repeats.
    """
    return answer.finish == "length" and ends_in_copies(answer.token_ids)


def ends_in_copies(tokens: Sequence[int]) -> bool:
    """Say whether a sequence ends in copies of a phrase, as `is_loop` wants them."""
    n = len(tokens)
    for period in range(1, n // LOOP_COPIES + 1):
        same = 0
        while same + period < n and tokens[n - 1 - same] == tokens[n - 1 - same - period]:
            same += 1
        if same + period >= max(LOOP_COPIES * period, LOOP_TOKENS):
            return True
    return False
