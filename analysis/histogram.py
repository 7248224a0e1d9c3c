"""A histogram that merges without loss: counts in bins whose width is at most 1/1024 of their value.

The bins are those of HdrHistogram with 3 significant digits and a unit of 1 ns: a value keeps its
eleven highest bits. A bin is named by its lowest value, so `low == value >> s << s` with
`s = max(0, value.bit_length() - 11)`, and it holds the values `low .. low + 2**s - 1`.
Merging adds counts; it is associative, commutative and equal to one histogram of all values.
`encode` and `decode` speak HdrHistogram's V2 format; the interval logs (`*.hlog`) are readable by every
HdrHistogram implementation, with the scenario as the tag and one line a second of *due* time.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from hdrh.histogram import HdrHistogram

_LAST_S = 2**63 // 10**9  # whose nanoseconds still fit into 64 bits

HIGHEST_NS = 24 * 3600 * 10**9
"""Largest value that the interval logs can hold: a day. `Histogram` itself has no upper limit."""

Plain = list[Any]
"""[count, sum, min, max, [bin, count, bin, count, ...]]: what travels from worker to master."""


def bin_low(value: int) -> int:
    """Return the lowest value of the bin that holds `value` (ns)."""
    shift = value.bit_length() - 11
    return value >> shift << shift if shift > 0 else value


def bin_high(low: int) -> int:
    """Return the highest value of the bin that begins at `low` (ns)."""
    shift = low.bit_length() - 11
    return low + (1 << shift) - 1 if shift > 0 else low


class Histogram:
    """Counts of non-negative integers (ns), with their exact count, sum, minimum and maximum."""

    __slots__ = ("bins", "count", "max", "min", "sum")

    def __init__(self) -> None:
        """Begin empty; `min` and `max` are 0 until a value came."""
        self.bins: dict[int, int] = {}
        self.count = self.sum = self.min = self.max = 0

    def record(self, values: Iterable[int]) -> None:
        """Add values (ns, >= 0). Hot: a tenth of a microsecond each."""
        values = values if isinstance(values, list | tuple) else list(values)
        if not values:
            return
        self._extend(len(values), sum(values), min(values), max(values))
        bins = self.bins
        get = bins.get
        for value in values:
            shift = value.bit_length() - 11
            low = value >> shift << shift if shift > 0 else value
            bins[low] = get(low, 0) + 1

    def merge(self, other: "Histogram") -> None:
        """Add another histogram's counts to this one."""
        if not other.count:
            return
        self._extend(other.count, other.sum, other.min, other.max)
        for low, count in other.bins.items():
            self.bins[low] = self.bins.get(low, 0) + count

    def _extend(self, count: int, total: int, low: int, high: int) -> None:
        if low < 0:
            raise ValueError(f"found the duration {low} ns, expected none below 0")
        self.min = min(self.min, low) if self.count else low
        self.max = max(self.max, high)
        self.count += count
        self.sum += total

    def quantile(self, q: float) -> int:
        """Return the highest value (ns) of the bin that holds rank ceil(q * count), as HdrHistogram does.

        Raises ValueError for an empty histogram: no data is not a number.
        """
        if not self.count:
            raise ValueError("an empty histogram has no quantiles")
        rank = max(1, math.ceil(round(q * self.count, 6)))
        seen = 0
        for low in sorted(self.bins):
            seen += self.bins[low]
            if seen >= rank:
                return min(bin_high(low), self.max)
        raise AssertionError("bins and count disagree")

    def count_at_or_above(self, limit: int) -> tuple[int, int]:
        """Return (n, undecided): values certainly >= limit (ns), and those whose bin straddles it."""
        first = bin_low(limit)
        certain = sum(count for low, count in self.bins.items() if low >= limit)
        undecided = self.bins.get(first, 0) if first < limit else 0
        return certain, undecided

    def to_plain(self) -> Plain:
        """Return ints and lists only, fit for msgpack and JSON."""
        flat = [number for item in sorted(self.bins.items()) for number in item]
        return [self.count, self.sum, self.min, self.max, flat]

    @classmethod
    def from_plain(cls, plain: Plain) -> "Histogram":
        """Rebuild what to_plain gave; raises ValueError if its count and its bins disagree."""
        made = cls()
        made.count, made.sum, made.min, made.max, flat = plain
        made.bins = dict(zip(flat[::2], flat[1::2], strict=True))
        if sum(made.bins.values()) != made.count:
            raise ValueError(f"found {sum(made.bins.values())} values in the bins, expected {made.count}")
        return made

    def __eq__(self, other: object) -> bool:
        """Equal in every count, sum and bin."""
        return isinstance(other, Histogram) and self.to_plain() == other.to_plain()

    __hash__ = None  # type: ignore[assignment]  # mutable

    def encode(self) -> str:
        """Return HdrHistogram's V2 compressed form, base64. Sum, min and max survive to bin width."""
        dense = HdrHistogram(1, HIGHEST_NS, 3)
        counts, highest = dense.counts, min(max(self.bins, default=0), HIGHEST_NS)
        for low, count in self.bins.items():  # dense.record_value would take ten times as long
            held = min(low, highest)  # the last bin holds all that is longer
            shift = held.bit_length() - 11
            counts[(shift << 10) + (held >> shift) if shift > 0 else held] += count
        if self.bins:
            dense.record_value(highest, 0)  # says how far the counts go
            dense.total_count = self.count
        return str(dense.encode().decode("ascii"))

    @classmethod
    def decode(cls, text: str) -> "Histogram":
        """Read HdrHistogram's V2 compressed form (unit ns); the sum is that of the bins' lowest values."""
        dense = HdrHistogram.decode(text)
        raw = bytes(dense.counts)  # of 40 000 counts a few hundred, close together, are not zero
        width = len(raw) // len(dense.counts)
        start, end = (len(raw) - len(raw.lstrip(b"\0"))) // width, -(-len(raw.rstrip(b"\0")) // width)
        made = cls()
        for index, count in enumerate(dense.counts[start:end], start):
            if count:
                low = bin_low(dense.get_value_from_index(index))
                made.bins[low] = made.bins.get(low, 0) + count
        if made.bins:
            made.min, made.max = min(made.bins), max(made.bins)
            made.count = sum(made.bins.values())
            made.sum = sum(low * count for low, count in made.bins.items())
        return made


class Interval(NamedTuple):
    """One line of an interval log: the requests of one scenario that were due in one second."""

    scenario: str
    second: int  # unix time
    histogram: Histogram


def tag_of(scenario: str) -> str:
    """Return a scenario's name as a log's tag, which may hold neither commas nor white space."""
    return re.sub(r"\s", "_", scenario.replace(",", ";"))


def write_log_header(file: IO[str], metric: str, started_unix_s: float) -> None:
    """Begin an interval log in HdrHistogram's format 1.3 (the one that knows tags)."""
    file.write("#[Histogram log format version 1.3]\n")
    file.write(f"#[tokenswarm: {metric}, values in ns, an interval holds the requests due in that second]\n")
    # Whole seconds, as the intervals are: readers skip an interval that begins before the start.
    file.write(f"#[StartTime: {math.floor(started_unix_s)}.000 (seconds since epoch)]\n")
    file.write('"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n')


def write_interval(file: IO[str], interval: Interval) -> None:
    """Append one line. The same second may come again (a stream that ended late): readers add them."""
    highest_ms = interval.histogram.max / 1e6
    file.write(
        f"Tag={tag_of(interval.scenario)},{interval.second}.000,1.000,{highest_ms:.3f},{interval.histogram.encode()}\n"
    )


def split_line(line: str) -> tuple[str, int, str]:
    """Return an interval line's tag, its second, and its encoded histogram; raises ValueError."""
    tag, _, rest = line.partition(",") if line.startswith("Tag=") else ("Tag=", "", line)
    start, _length, _highest, payload = rest.strip().split(",", 3)
    second = int(float(start))
    if not 0 <= second < _LAST_S:
        raise ValueError(f"found the second {second}")
    return tag[4:], second, payload


def not_an_interval(number: int, why: object) -> str:
    """Return the words for a line that is no interval."""
    return f"line {number}: not an HdrHistogram interval ({why})"


def read_log(file: IO[str]) -> Iterator[Interval]:
    """Read an interval log; raises ValueError naming the line that is not one."""
    for number, line in enumerate(file, 1):
        if line.startswith(("#", '"')) or not line.strip():
            continue
        try:
            tag, second, payload = split_line(line)
            histogram = Histogram.decode(payload)
        except Exception as error:  # noqa: BLE001 - the codec raises a dozen kinds
            raise ValueError(not_an_interval(number, error)) from None
        yield Interval(tag, second, histogram)
