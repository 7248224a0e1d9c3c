"""What a process has counted over all its runs: numbers for a dashboard, which only ever grow.

No Locust, no clock. A web page may start one run after another; a counter that began at nothing with each of
them would lose what was counted since it was last read, so the runs that ended are kept and added to.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from analysis.histogram import Histogram, bin_high
from locustfiles._merge import Merge

PAIRS_MAX = 20
NAME_MAX = 100


class Pair(NamedTuple):
    """Whom a number is about."""

    scenario: str
    model: str


OTHER = Pair("other", "other")


class Pairs:
    """The pairs that were named so far; names come from users and servers, so there is an end to them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: set[Pair] = set()

    def place(self, scenario: str, model: str) -> Pair:
        """Return the pair to count under: its own for the first PAIRS_MAX, OTHER beyond."""
        pair = Pair(_plain(scenario), _plain(model))
        if pair not in self._known:
            if len(self._known) >= PAIRS_MAX:
                return OTHER
            self._known.add(pair)
        return pair


def _plain(name: str) -> str:
    """Return a name that can be sent as UTF-8, at most NAME_MAX characters of it."""
    return name[:NAME_MAX].encode("utf-8", "replace").decode("utf-8")


class Totals:
    """Counts and histograms of one run, or of several."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self.histograms: dict[tuple[str, Pair], Histogram] = {}  # (metric, pair)
        self.outcomes: Counter[tuple[Pair, str]] = Counter()
        self.prompt_tokens: Counter[Pair] = Counter()
        self.output_tokens: Counter[Pair] = Counter()
        self.counts: Counter[str] = Counter()  # what belongs to no pair

    @classmethod
    def of(cls, merge: Merge, model: str, pairs: Pairs) -> "Totals":
        """Return a run's totals so far; its histograms are looked at, not copied."""
        made = cls()
        for (metric, scenario), histogram in merge.totals.items():
            key = (metric, pairs.place(scenario, model))
            if key in made.histograms:  # both are OTHER
                other, histogram_both = made.histograms[key], Histogram()
                histogram_both.merge(other)
                histogram_both.merge(histogram)
                made.histograms[key] = histogram_both
            else:
                made.histograms[key] = histogram
        for (scenario, outcome), count in merge.outcomes.items():
            made.outcomes[pairs.place(scenario, model), outcome] += count
        for scenario, tokens in merge.prompt_tokens.items():
            made.prompt_tokens[pairs.place(scenario, model)] += tokens
        for scenario, tokens in merge.output_tokens.items():
            made.output_tokens[pairs.place(scenario, model)] += tokens
        accounts = merge.workers.values()
        made.counts.update(
            started=sum(account.started for account in accounts),
            gaps=sum(account.gaps for account in accounts),
            reports=sum(account.next - len(account.missing) for account in accounts),
            chunks=merge.arrived,
            coalesced=merge.coalesced,
            clock_jumps=merge.clock_jumps,
            duplicates=merge.duplicates,
            foreign=merge.foreign,
        )
        return made

    def absorb(self, other: "Totals") -> None:
        """Add another's numbers to these."""
        for key, histogram in other.histograms.items():
            self.histograms.setdefault(key, Histogram()).merge(histogram)
        self.outcomes.update(other.outcomes)
        self.prompt_tokens.update(other.prompt_tokens)
        self.output_tokens.update(other.output_tokens)
        self.counts.update(other.counts)


def edges_ns(lowest: int, highest: int, per_octave: int) -> list[int]:
    """Return upper edges (ns, inclusive) from 2**lowest to 2**highest, as many to an octave (1, 2, 4, 8 …).

    Each is the highest value of a bin of `Histogram`, so what is counted up to it is exact.
    """
    return [
        (per_octave + step) * 2**octave // per_octave - 1
        for octave in range(lowest, highest)
        for step in range(per_octave)
    ] + [2**highest - 1]


def up_to(edges: list[int], histograms: Iterable[Histogram]) -> list[int]:
    """Return how many values are certainly at or below each edge (ns, ascending).

    A bin that an edge cuts through (it is at most 1/1024 wide) counts as above it: a limit is never met by
    the width of a bin.
    """
    counts = [0] * (len(edges) + 1)
    for histogram in histograms:
        for low, count in histogram.bins.items():
            counts[bisect_left(edges, bin_high(low))] += count
    return list(accumulate(counts[:-1]))
