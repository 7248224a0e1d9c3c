"""How the values of a stretch of time spread, for a chart: a histogram that is coarser, and so never large.

Its bins are 1/128 of their value wide at most, and those of analysis.histogram lie within them: a percentile
of a chart is at most 0.8 % above the exact one. Whatever is measured, a Spread has no more than 4,300 bins.
Nothing is judged by it.
"""

import math
from array import array
from bisect import bisect_left
from collections import defaultdict
from functools import lru_cache
from itertools import accumulate

from analysis.histogram import Histogram

BINS = 128  # in every doubling of the value
LEAST_BITS = 14  # values below 2**14 ns (16 us) share bin 0: no chart of latencies begins lower
ROW = 32  # bins in a row of a heat map: four rows to every doubling


def bin_of(value: int) -> int:
    """Return the number of the bin that holds `value` (ns)."""
    bits = value.bit_length()
    if bits <= LEAST_BITS:
        return 0
    return (bits - LEAST_BITS - 1) * BINS + (value >> (bits - 8)) - BINS + 1


def low_of(number: int) -> int:
    """Return the lowest value (ns) of a bin."""
    if number <= 0:
        return 0
    doubling, place = divmod(number - 1, BINS)
    return (BINS + place) << (LEAST_BITS - 7 + doubling)


def row_of(number: int) -> int:
    """Return the heat map's row that a bin belongs to; row 0 is bin 0."""
    return (number + ROW - 1) // ROW


def low_of_row(row: int) -> int:
    """Return the lowest value (ns) of a heat map's row."""
    return low_of((row - 1) * ROW + 1) if row > 0 else 0


_known_bin = lru_cache(maxsize=1 << 15)(bin_of)  # of a Histogram's bins, which are few and come again


class Spread:
    """Counts in bins, side by side from the first that holds anything to the last."""

    __slots__ = ("_counts", "_first", "count", "max")

    def __init__(self) -> None:
        """Begin empty."""
        self._counts = array("Q")
        self._first = 0
        self.count = 0
        self.max = 0  # exact, ns

    def record(self, value: int) -> None:
        """Add one value (ns)."""
        self._add(bin_of(value), 1)
        self.max = max(self.max, value)

    def take(self, histogram: Histogram) -> None:
        """Add all of a histogram's counts."""
        for low, count in histogram.bins.items():
            self._add(_known_bin(low), count)
        self.max = max(self.max, histogram.max)

    def merge(self, other: "Spread") -> None:
        """Add another's counts."""
        for number, count in enumerate(other._counts, other._first):  # noqa: SLF001 - its own kind
            if count:
                self._add(number, count)
        self.max = max(self.max, other.max)

    def _add(self, number: int, count: int) -> None:
        counts = self._counts
        if not counts:
            self._first = number
        if number < self._first:
            counts[0:0] = array("Q", bytes(8 * (self._first - number)))
            self._first = number
        elif number >= self._first + len(counts):
            counts.frombytes(bytes(8 * (number - self._first - len(counts) + 1)))
        counts[number - self._first] += count
        self.count += count

    def quantiles(self, shares: tuple[float, ...]) -> list[int | None]:
        """Return quantiles (ns), each the highest value of its bin; None where there is no data."""
        if not self.count:
            return [None] * len(shares)
        seen = list(accumulate(self._counts))
        found: list[int | None] = []
        for share in shares:
            rank = max(1, math.ceil(round(share * self.count, 6)))
            number = self._first + bisect_left(seen, rank)
            found.append(min(low_of(number + 1) - 1, self.max))
        return found

    def rows(self) -> dict[int, int]:
        """Return the heat map's rows that hold anything, and how much."""
        found: dict[int, int] = defaultdict(int)
        for number, count in enumerate(self._counts, self._first):
            if count:
                found[row_of(number)] += count
        return dict(found)
