"""Interval logs as arrays: hours of seconds in little memory, and summed without a loop in Python.

A log reads as a sequence of Interval, one for each line. What is asked of many lines at once (their sum, how
many values lie beyond a limit) is answered from the arrays.

A bin is numbered as HdrHistogram numbers it: with s as in `histogram.bin_low`, number = 1024 s + (low >> s).
The lines are decoded here, many at a time (HdrHistogram V2: zigzag LEB128 words, a negative one is a run of
zeros), because the codec makes room for 39,000 counts for each. Another resolution than ours goes through it.
"""

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from .histogram import Histogram, Interval, bin_low, not_an_interval, split_line, tag_of

IntArray = NDArray[np.int64]

NUMBERS = 1 << 16
"""More bins than any value of 64 bits needs."""

_HEADER = struct.Struct(">IIIIQQd")  # cookie, length, offset, digits, lowest, highest, ratio
_COOKIE, _COMPRESSED = 0x1C849303, 0x1C849304  # of V2; the bits of 0xF0 tell the width of a word
_BATCH_LINES = 32  # what is made of them fits the processor's cache
_MAX_WORD_BYTES = 8


def bin_number(low: int) -> int:
    """Return the number of the bin that begins at `low` (ns)."""
    shift = max(0, low.bit_length() - 11)
    return (shift << 10) + (low >> shift)


def _all_lows() -> IntArray:
    number = np.arange(NUMBERS, dtype=np.int64)
    shift = np.maximum((number >> 10) - 1, 0)
    lows: IntArray = (number - (shift << 10)) << shift
    return lows


LOWS = _all_lows()
"""Where each bin begins (ns); those beyond 64 bits do not matter, for no value lies there."""


@dataclass(frozen=True, slots=True, eq=False)
class IntervalLog(Sequence[Interval]):
    """Intervals in the order of their lines; interval i has the bins `starts[i]` to `starts[i + 1]`.

    `numbers` are those of the bins, rising within an interval, `counts` what they hold. Sum, least and
    greatest value (ns) of each interval are as exact as those of its histogram.
    """

    tags: tuple[str, ...]
    seconds: IntArray
    starts: IntArray
    numbers: NDArray[np.uint16]
    counts: NDArray[np.uint32]
    sums: IntArray
    least: IntArray
    greatest: IntArray

    def __len__(self) -> int:
        """Return how many intervals there are."""
        return len(self.seconds)

    @overload
    def __getitem__(self, at: int) -> Interval: ...
    @overload
    def __getitem__(self, at: slice) -> "IntervalLog": ...
    def __getitem__(self, at: int | slice) -> "Interval | IntervalLog":
        """Return an interval with a histogram of its own, or a stretch of the log."""
        if isinstance(at, slice):
            return self.select(np.arange(len(self))[at])
        i = range(len(self))[at]
        own = slice(self.starts[i], self.starts[i + 1])
        made = _histogram(self.numbers[own], self.counts[own])
        made.sum, made.min, made.max = int(self.sums[i]), int(self.least[i]), int(self.greatest[i])
        return Interval(self.tags[i], int(self.seconds[i]), made)

    def select(self, chosen: NDArray[Any]) -> "IntervalLog":
        """Return the chosen intervals: a mask, or their places in order."""
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        if len(places) == len(self) and np.array_equal(places, np.arange(len(self))):
            return self
        size = np.diff(self.starts)
        if len(places) and (np.diff(places) < 0).any():
            raise ValueError("found intervals out of their order")
        bins: slice | NDArray[np.bool_]
        if len(places) and np.array_equal(places, np.arange(places[0], places[-1] + 1)):
            bins = slice(self.starts[places[0]], self.starts[places[-1] + 1])  # a stretch is not copied
        else:
            mask = np.zeros(len(self), dtype=bool)
            mask[places] = True
            bins = np.repeat(mask, size)
        return IntervalLog(
            tags=tuple(self.tags[i] for i in places),
            seconds=self.seconds[places],
            starts=_starts(size[places]),
            numbers=self.numbers[bins],
            counts=self.counts[bins],
            sums=self.sums[places],
            least=self.least[places],
            greatest=self.greatest[places],
        )

    def of(self, scenario: str) -> "IntervalLog":
        """Return the intervals of one scenario."""
        tag = tag_of(scenario)
        return self.select(np.array([tag_of(one) == tag for one in self.tags], dtype=bool))

    def totals(self) -> IntArray:
        """Return how many values each interval holds."""
        return self._summed(self.counts)

    def count_at_or_above(self, limit: int) -> tuple[IntArray, IntArray]:
        """Return (n, undecided) for each interval: see `Histogram.count_at_or_above`."""
        low = bin_low(limit)
        first = bin_number(low)
        above = self.numbers >= first if low == limit else self.numbers > first
        certain = self._summed(np.where(above, self.counts, 0))
        if low == limit:
            return certain, np.zeros(len(self), dtype=np.int64)
        return certain, self._summed(np.where(self.numbers == first, self.counts, 0))

    def pooled(self) -> Histogram:
        """Return the sum of all intervals."""
        filled = np.diff(self.starts) > 0
        if not filled.any():
            return Histogram()
        totals = np.zeros(NUMBERS, dtype=np.int64)
        for at in range(0, len(self.counts), 1 << 20):  # as floats, exact below 2**53, and a piece at a time
            own = slice(at, at + (1 << 20))
            totals += np.bincount(self.numbers[own], self.counts[own], NUMBERS).astype(np.int64)
        numbers = np.flatnonzero(totals)
        made = _histogram(numbers, totals[numbers])
        made.sum = sum(self.sums.tolist())
        made.min, made.max = int(self.least[filled].min()), int(self.greatest[filled].max())
        return made

    def _summed(self, of_bins: NDArray[Any]) -> IntArray:
        found = np.zeros(len(self), dtype=np.int64)
        filled = np.diff(self.starts) > 0
        if filled.any():
            found[filled] = np.add.reduceat(of_bins, self.starts[:-1][filled], dtype=np.int64)
        return found


def _histogram(numbers: NDArray[Any], counts: NDArray[Any]) -> Histogram:
    made = Histogram()
    made.bins = dict(zip(LOWS[numbers].tolist(), counts.tolist(), strict=True))
    made.count = sum(made.bins.values())
    return made


def _starts(size: NDArray[Any]) -> IntArray:
    return np.concatenate(([0], np.cumsum(size, dtype=np.int64)))


def as_log(intervals: Iterable[Interval]) -> IntervalLog:
    """Return intervals as a log; one that is a log already stays as it is."""
    if isinstance(intervals, IntervalLog):
        return intervals
    rows = list(intervals)
    bins = [sorted(row.histogram.bins.items()) for row in rows]
    flat = [pair for own in bins for pair in own]
    return IntervalLog(
        tags=tuple(row.scenario for row in rows),
        seconds=np.array([row.second for row in rows], dtype=np.int64),
        starts=_starts(np.array([len(own) for own in bins], dtype=np.int64)),
        numbers=np.array([bin_number(low) for low, _ in flat], dtype=np.uint16),
        counts=np.array([count for _, count in flat], dtype=np.uint32),
        sums=np.array([row.histogram.sum for row in rows], dtype=np.int64),
        least=np.array([row.histogram.min for row in rows], dtype=np.int64),
        greatest=np.array([row.histogram.max for row in rows], dtype=np.int64),
    )


class _Line(NamedTuple):
    """A line of a log, its histogram still in words."""

    number: int
    tag: str
    second: int
    words: bytes


def read(file: IO[str]) -> tuple[IntervalLog, str | None]:
    """Read an interval log as far as it is one; return it, and what is wrong with the line behind, if any.

    The same intervals as `histogram.read_log` yields, and the words of its error.
    """
    parts: list[IntervalLog] = []
    batch: list[_Line] = []
    wrong: str | None = None
    for found in _lines(file):
        if isinstance(found, str):
            wrong = found
            break
        batch.append(found)
        if len(batch) == _BATCH_LINES:
            log, wrong = _decoded(batch)
            parts.append(log)
            batch = []
            if wrong:
                break
    log, earlier = _decoded(batch)
    return _joined([*parts, log]), earlier or wrong


def _lines(file: IO[str]) -> Iterator[_Line | str]:
    """Yield the lines of a log; the first that is none comes as what is wrong with it, and is the last."""
    for number, line in enumerate(file, 1):
        if line.startswith(("#", '"')) or not line.strip():
            continue
        try:
            tag, second, payload = split_line(line)
            words = _words(payload)
        except Exception as error:  # noqa: BLE001 - the codec raises a dozen kinds
            yield not_an_interval(number, error)
            return
        yield _Line(number, tag, second, words)


def _words(payload: str) -> bytes:
    """Return the words of an encoded histogram in our resolution; of any other, those it has in ours."""
    packed = base64.b64decode(payload)
    cookie, length = struct.unpack_from(">II", packed)
    if cookie & ~0xF0 == _COMPRESSED and length == len(packed) - 8:
        inner = zlib.decompress(packed[8:])
        cookie, _, offset, digits, lowest, _, _ = _HEADER.unpack_from(inner)
        words = inner[_HEADER.size :]
        ours = cookie & ~0xF0 == _COOKIE and (offset, digits, lowest) == (0, 3, 1)
        if ours and not (words and words[-1] & 0x80):
            return words
    again = Histogram.decode(payload).encode()  # raises what is wrong with it
    return zlib.decompress(base64.b64decode(again)[8:])[_HEADER.size :]


def _decoded(batch: list[_Line]) -> tuple[IntervalLog, str | None]:
    """Decode lines, up to the first whose words make no histogram."""
    data = np.frombuffer(b"".join(line.words for line in batch), dtype=np.uint8)
    last = data < 0x80  # nearly all words are of one byte
    low = data[last]
    value = ((low >> 1) ^ -(low & 1)).view(np.int8).astype(np.int64)
    more = np.flatnonzero(~last)
    long = _long_words(data, more)
    value[long.place] = long.value
    last_byte = np.cumsum([len(line.words) for line in batch], dtype=np.int64)
    behind = last_byte - np.searchsorted(more, last_byte)  # so many words up to each line's end
    after = np.cumsum(np.maximum(1, -value))
    ends = np.concatenate(([0], after))[behind]
    starts = np.concatenate(([0], ends))[:-1]
    odd = ends - starts > NUMBERS
    odd[np.searchsorted(behind, long.place[long.odd], side="right")] = True
    if odd.any():
        bad = int(np.argmax(odd))
        return _decoded(batch[:bad])[0], not_an_interval(batch[bad].number, "counts beyond any histogram's")
    kept = np.flatnonzero(value > 0)
    filled = np.diff(np.searchsorted(kept, behind), prepend=0)
    return _log_of(batch, filled, after[kept] - 1 - np.repeat(starts, filled), value[kept]), None


class _Long(NamedTuple):
    """Words of more than one byte: which words they are, what they say, and whether no count is so high."""

    place: IntArray
    value: IntArray
    odd: NDArray[np.bool_]


def _long_words(data: NDArray[np.uint8], more: IntArray) -> _Long:
    """Read the words that have bytes with others behind them; `more` says where these bytes are."""
    first = np.flatnonzero(np.diff(more, prepend=-2) > 1)
    begins = more[first]
    size = np.diff(first, append=len(more)) + 1
    word = np.zeros(len(begins), dtype=np.int64)
    for at in range(min(_MAX_WORD_BYTES, int(size.max(initial=0)))):
        has = size > at
        word[has] |= (data[begins[has] + at] & 0x7F).astype(np.int64) << 7 * at
    value = (word >> 1) ^ -(word & 1)
    return _Long(begins - first, value, (size > _MAX_WORD_BYTES) | (value >= 1 << 32))


def _log_of(batch: list[_Line], filled: NDArray[Any], numbers: IntArray, counts: IntArray) -> IntervalLog:
    starts = _starts(filled)
    some = filled > 0
    first, last = starts[:-1][some], starts[1:][some] - 1
    sums, least, greatest = (np.zeros(len(batch), dtype=np.int64) for _ in range(3))
    if some.any():
        sums[some] = np.add.reduceat(LOWS[numbers] * counts, first)
        least[some], greatest[some] = LOWS[numbers[first]], LOWS[numbers[last]]
    return IntervalLog(
        tags=tuple(line.tag for line in batch),
        seconds=np.array([line.second for line in batch], dtype=np.int64),
        starts=starts,
        numbers=numbers.astype(np.uint16),
        counts=counts.astype(np.uint32),
        sums=sums,
        least=least,
        greatest=greatest,
    )


def _joined(parts: list[IntervalLog]) -> IntervalLog:
    return IntervalLog(
        tags=tuple(tag for part in parts for tag in part.tags),
        seconds=np.concatenate([part.seconds for part in parts]),
        starts=_starts(np.concatenate([np.diff(part.starts) for part in parts])),
        numbers=np.concatenate([part.numbers for part in parts]),
        counts=np.concatenate([part.counts for part in parts]),
        sums=np.concatenate([part.sums for part in parts]),
        least=np.concatenate([part.least for part in parts]),
        greatest=np.concatenate([part.greatest for part in parts]),
    )
