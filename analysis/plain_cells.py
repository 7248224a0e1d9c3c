"""The cells of a table that is plain: no quotes, no spaces, whole numbers; many rows at a time.

Eight digits are read as one word of 64 bits and become a number in three multiplications (Lemire,
"Quickly parsing eight digits", 2018), each step done for all cells at once, in the order in which they lie in
memory. A text that is not far longer than 100 kB stays in the processor's cache meanwhile.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Words = NDArray[np.uint64]

_WORD = 8  # bytes that are read at once
_MOST_DIGITS = 19  # more do not fit 64 bits
_BEFORE = 3 * _WORD  # bytes put before a text, so that the longest number can be read at its beginning
_ZEROS, _BEYOND_9, _HIGH_BITS = (np.uint64(0x0101010101010101 * byte) for byte in (0x30, 0x76, 0x80))
_PAIRS = np.uint64(0x000000FF000000FF)


class Cells(NamedTuple):
    """The cells of a text by row and column; each ends before `ends` and has `sizes` bytes.

    `numbers` is right where a cell holds up to 19 digits and nothing else, or nothing; `odd` says which
    columns have a cell that does not.
    """

    data: bytes
    words: Words  # the eight bytes from each place on, the first one lowest
    ends: IntArray
    sizes: IntArray
    numbers: Words
    odd: NDArray[np.bool_]


def find(text: bytes, columns: int) -> Cells | None:
    """Find the cells of whole lines; None where not every line has as many as there are columns."""
    data = b"\0" * _BEFORE + text
    array = np.frombuffer(data, dtype=np.uint8)
    newline, mark = array == ord("\n"), array == ord(",")
    lines = np.count_nonzero(newline)
    mark |= newline
    ends = np.flatnonzero(mark)
    if not lines or len(ends) != lines * columns or not text.endswith(b"\n"):
        return None
    if not newline[ends[columns - 1 :: columns]].all():
        return None
    sizes = np.diff(ends, prepend=_BEFORE - 1) - 1
    words: Words = np.ndarray((len(data) - _WORD + 1,), dtype="<u8", buffer=data, strides=(1,))
    numbers, odd = _numbers(words, ends, sizes)
    shape = lines, columns
    odd_columns: NDArray[np.bool_] = np.any(odd.reshape(shape), axis=0)
    return Cells(data, words, ends.reshape(shape), sizes.reshape(shape), numbers.reshape(shape), odd_columns)


def _numbers(words: Words, ends: IntArray, sizes: IntArray) -> tuple[Words, NDArray[np.bool_]]:
    """Return the number of each cell, and whether it is none."""
    total, odd = _eight_digits(words, ends, sizes)
    odd |= sizes > _MOST_DIGITS
    for group in (1, 2):
        longer = np.flatnonzero(sizes > _WORD * group)
        more, odd_too = _eight_digits(words, ends[longer] - _WORD * group, sizes[longer] - _WORD * group)
        total[longer] += more * np.uint64(10 ** (_WORD * group))
        odd[longer] |= odd_too
    odd |= total > np.uint64(2**63 - 1)
    return total, odd


def _eight_digits(words: Words, ends: IntArray, sizes: IntArray) -> tuple[Words, NDArray[np.bool_]]:
    """Return what each cell's last eight bytes make, or all where it has fewer, and where one is no digit."""
    digits = _cut(words[np.maximum(ends - _WORD, 0)] ^ _ZEROS, sizes)
    odd = (((digits + _BEYOND_9) | digits) & _HIGH_BITS) != 0
    digits = digits * np.uint64(10) + (digits >> np.uint64(8))
    high = (digits & _PAIRS) * np.uint64(100 + (1_000_000 << 32))
    low = ((digits >> np.uint64(16)) & _PAIRS) * np.uint64(1 + (10_000 << 32))
    return (high + low) >> np.uint64(32), odd


def _cut(word: Words, sizes: IntArray) -> Words:
    """Set to zero what lies before the beginning of a cell: all but its last `sizes` bytes."""
    over = np.maximum(64 - 8 * sizes, 0).view(np.uint64)
    return (word >> over) << over


def integers(cells: Cells, column: int) -> tuple[IntArray, NDArray[np.bool_]] | None:
    """Return a column's whole numbers and where it is empty (0 there); None where a cell is neither."""
    size = np.ascontiguousarray(cells.sizes[:, column])
    numbers, missing = cells.numbers[:, column].astype(np.int64), size == 0
    if not cells.odd[column]:
        return numbers, missing
    end = np.ascontiguousarray(cells.ends[:, column])
    minus = np.frombuffer(cells.data, dtype=np.uint8)[end - size] == ord("-")
    found, odd = _numbers(cells.words, end, size - minus)
    if odd.any() or (size == 1)[minus].any():
        return None
    numbers = found.astype(np.int64)
    numbers[minus] *= -1
    return numbers, missing


def words(cells: Cells, column: int) -> tuple[NDArray[Any], list[bytes]]:
    """Return which word each of a column's cells is, and the words by these numbers."""
    end, size = (np.ascontiguousarray(of[:, column]) for of in (cells.ends, cells.sizes))
    codes = np.zeros(len(end), dtype=np.int64)
    for before in range(0, int(size.max()), _WORD):
        word = _cut(cells.words[np.maximum(end - before - _WORD, 0)], np.maximum(size - before, 0))
        if (word != word[0]).any():
            own, _ = pd.factorize(word)
            codes, _ = pd.factorize(codes * (own.max() + 1) + own)
    place = np.empty(codes.max() + 1, dtype=np.int64)
    place[codes] = np.arange(len(codes))  # of each word, wherever it stands
    return codes, [cells.data[end[at] - size[at] : end[at]] for at in place]
