"""What the live page draws: the run so far, in a few hundred buckets, however long it lasts.

No Locust, no clock. Two series are kept: the whole run, whose buckets become twice as wide whenever there
are too many of them, and the last five minutes, second by second. A stream that ends late is counted at the
second it was due, if its series still has it. What is costly is done in pieces by `settle`: in a run of one
process tokens are waiting meanwhile.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

from analysis.histogram import Histogram
from analysis.record import RequestRecord
from locustfiles._live_table import Table
from locustfiles._spread import Spread, low_of_row

SECOND_NS = 1_000_000_000
RUN_BUCKETS = 360
RECENT_S = 300
SETTLED_S = 10  # a bucket that began so long before the newest second is drawn though it is not full
LEAST_MS = 0.008  # where a heat map begins if it holds zeros: its axis is logarithmic
LEVELS = (
    "0123456789abcdefghijklmnopqrstuvwxyz"  # of a heat map's cell, by the root of its share of the bucket
)

COLUMNS = (
    "ttft_p50_ms",
    "ttft_p95_ms",
    "ttft_p99_ms",
    "itl_p50_ms",
    "itl_p99_ms",
    "in_flight",
    "offered_per_s",
    "started_per_s",
    "ok_per_s",
    "tokens_per_s",
    "lag_max_ms",
    "coalesced_percent",
    "cpu_percent",
    "workers",
    "server_waiting",
    "server_running",
    "kv_cache_percent",
    "prefix_hit_percent",
    "preemptions_per_s",
)
"""A bucket's numbers, in this order; None where nothing is known."""

GAUGES = ("waiting", "running", "kv_cache_usage")
COUNTERS = ("preemptions", "prefix_cache_queries", "prefix_cache_hits")

Row = tuple[float | None, ...]


@dataclass(slots=True)
class Bucket:
    """Everything about a stretch of time. Sums and maxima: two of them are one by `merge`."""

    ttft: Spread = field(default_factory=Spread)  # by due second, as everything that an SLA is about
    itl: Spread = field(default_factory=Spread)
    ended: Counter[str] = field(default_factory=Counter)  # outcome -> requests that ended
    due: int = 0
    begun: int = 0
    tokens: int = 0
    chunks: int = 0
    coalesced: int = 0
    in_flight: int = 0  # added up over seconds and workers
    ticks: int = 0  # seconds times workers
    lag_max_ns: int = 0
    cpu_max_permille: int = 0
    server: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # readings, added up
    drawn: "Drawn | None" = None  # None: something came since

    def merge(self, other: "Bucket") -> None:
        """Add all that another one holds."""
        self.ttft.merge(other.ttft)
        self.itl.merge(other.itl)
        self.ended.update(other.ended)
        self.take(other.server)
        for name in ("due", "begun", "tokens", "chunks", "coalesced", "in_flight", "ticks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.lag_max_ns = max(self.lag_max_ns, other.lag_max_ns)
        self.cpu_max_permille = max(self.cpu_max_permille, other.cpu_max_permille)
        self.drawn = None

    def take(self, readings: dict[str, float]) -> None:
        """Add readings of the server."""
        for name, value in readings.items():
            self.server[name] += value

    def row(self, span_s: int) -> Row:
        """Return the numbers of COLUMNS; `span_s` is how many seconds the bucket has of the run."""
        server = self.server

        def rate(count: float) -> float:
            return round(count / span_s, 2)

        def share(part: float, whole: float) -> float | None:
            return round(100 * part / whole, 2) if whole else None

        def mean(name: str) -> float | None:
            return round(server[name] / server["readings"], 4) if name in server else None

        kv_share = mean("kv_cache_usage")
        return (
            *(_ms(value) for value in self.ttft.quantiles((0.5, 0.95, 0.99))),
            *(_ms(value) for value in self.itl.quantiles((0.5, 0.99))),
            rate(self.in_flight) if self.ticks else None,
            rate(max(self.due, self.begun)),  # what is due is known when its stream has ended
            rate(self.begun),
            rate(self.ended["ok"]),
            rate(self.tokens),
            _ms(self.lag_max_ns) if self.ticks else None,
            share(self.coalesced, self.chunks),
            self.cpu_max_permille / 10 if self.ticks else None,
            rate(self.ticks) if self.ticks else None,
            mean("waiting"),
            mean("running"),
            None if kv_share is None else round(100 * kv_share, 2),
            share(server.get("prefix_cache_hits", 0), server.get("prefix_cache_queries", 0)),
            rate(server["preemptions"]) if "preemptions" in server else None,
        )


@dataclass(slots=True)
class Drawn:
    """A bucket as the page gets it."""

    span_s: int
    row: Row
    heat: tuple[dict[int, str], dict[int, str]]  # of ttft and itl: row -> level


def _ms(value_ns: int | None) -> float | None:
    return None if value_ns is None else round(value_ns / 1e6, 3)


def _levels(spread: Spread) -> dict[int, str]:
    return {
        row: LEVELS[max(1, round(35 * (count / spread.count) ** 0.5))] for row, count in spread.rows().items()
    }


class Series:
    """Buckets in the order of time: the newest ones, or ever wider ones of everything."""

    def __init__(self, most: int, *, everything: bool) -> None:
        """Begin empty; `most` is how many buckets there can be."""
        self.width_s = 1
        self.buckets: dict[int, Bucket] = {}  # by second // width_s
        self.newest = self.oldest = 0  # seconds that a worker has reported on
        self._most = most
        self._everything = everything

    def at(self, second: int) -> Bucket | None:
        """Return the bucket that a second belongs to, which something is added to now; None: long gone."""
        key = second // self.width_s
        bucket = self.buckets.get(key)
        if bucket is None:
            if not self._everything and second <= self.newest - self._most:
                return None
            bucket = self.buckets[key] = Bucket()
            self._shrink()
            return self.at(second) if self._everything else self.buckets.get(key)
        bucket.drawn = None
        return bucket

    def _shrink(self) -> None:
        while len(self.buckets) > self._most:
            if not self._everything:
                del self.buckets[min(self.buckets)]
                continue
            self.width_s *= 2
            halves, self.buckets = self.buckets, {}
            for key, bucket in halves.items():
                if key // 2 in self.buckets:
                    self.buckets[key // 2].merge(bucket)
                else:
                    bucket.drawn = None
                    self.buckets[key // 2] = bucket

    def tick(self, second: int) -> None:
        """Note that a worker has reported on a second."""
        if second > self.newest and not self._everything:
            for key in [key for key in self.buckets if key <= second - self._most]:
                del self.buckets[key]
        self.newest = max(self.newest, second)
        self.oldest = min(self.oldest or second, second)

    def draw(self, key: int) -> Drawn | None:
        """Return a bucket's numbers, worked out anew only if something came since."""
        bucket = self.buckets.get(key)
        if bucket is None:
            return None  # two became one meanwhile
        start, end = key * self.width_s, (key + 1) * self.width_s
        span_s = max(1, min(end, self.newest + 1) - max(start, self.oldest))
        if bucket.drawn is None or bucket.drawn.span_s != span_s:
            bucket.drawn = Drawn(span_s, bucket.row(span_s), (_levels(bucket.ttft), _levels(bucket.itl)))
        return bucket.drawn

    def shown(self, until_s: float) -> list[int]:
        """Return the keys of what can be drawn; workers have reported on all seconds before `until_s`."""
        enough_s = 1 if until_s == inf else min(self.width_s, SETTLED_S)  # inf: the run has ended
        first, last = self.oldest - self.width_s, min(until_s, self.newest + 1) - enough_s
        return sorted(key for key in self.buckets if first < key * self.width_s <= last)


class Live:
    """One run as it is watched."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.run = Series(RUN_BUCKETS, everything=True)
        self.recent = Series(RECENT_S, everything=False)
        self.table = Table()
        self.requests = self.failed = 0
        self._both = (self.run, self.recent)
        self._gaps: dict[int, Histogram] = defaultdict(Histogram)  # by second, not in their buckets yet
        self._counters: dict[str, float] = {}  # of the server, at the last reading

    def count(self, record: RequestRecord) -> None:
        """Count a request that ended."""
        self.table.count(record)
        self.requests += 1
        self.failed += record.outcome != "ok"
        due_s, end_s = (
            record.due_unix_ns // SECOND_NS,
            (record.due_unix_ns + record.end_ns) // SECOND_NS,
        )
        for series in self._both:
            if bucket := series.at(due_s):
                bucket.due += 1
                if record.first_ns is not None:
                    bucket.ttft.record(record.first_ns)
            if bucket := series.at(end_s):
                bucket.ended[record.outcome] += 1
                bucket.chunks += record.chunks
                bucket.coalesced += record.coalesced

    def gaps(self, second: int, histogram: Histogram) -> None:
        """Count gaps between tokens of requests that were due in a second."""
        self._gaps[second].merge(histogram)

    def tick(self, second: int, tick: list[int]) -> None:
        """Take what one worker says of one second (a Ledger's tick, without the second)."""
        in_flight, tokens, lag_max_ns, cpu_permille, begun = tick
        for series in self._both:
            series.tick(second)
            if bucket := series.at(second):
                bucket.ticks += 1
                bucket.in_flight += in_flight
                bucket.tokens += tokens
                bucket.begun += begun
                bucket.lag_max_ns = max(bucket.lag_max_ns, lag_max_ns)
                bucket.cpu_max_permille = max(bucket.cpu_max_permille, cpu_permille)

    def reading(self, second: int, row: dict[str, float]) -> None:
        """Take a reading of the server's own metrics (the columns of server_metrics.csv)."""
        added = {"readings": 1.0} | {name: row[name] for name in GAUGES if name in row}
        for name in COUNTERS:
            before, now = self._counters.get(name), row.get(name)
            if now is not None:  # a server that started anew counts from zero
                added[name] = max(0.0, now - before) if before is not None else 0
                self._counters[name] = now
        for series in self._both:
            if bucket := series.at(second):
                bucket.take(added)

    def settle(self) -> Iterator[None]:
        """Bring every bucket up to date, piece by piece: whoever calls may do something else in between."""
        while self._gaps:
            second, histogram = self._gaps.popitem()
            for series in self._both:
                if bucket := series.at(second):
                    bucket.itl.take(histogram)
            yield
        for series in self._both:
            for key in list(series.buckets):
                bucket = series.buckets.get(key)
                if bucket and bucket.drawn is None:
                    series.draw(key)
                    yield

    def columns(self, series: Series, until_s: float) -> dict[str, Any]:
        """Return what is drawn, a list for every column; rates of failures are by their outcome."""
        for _ in self.settle():
            pass
        keys = series.shown(until_s)
        drawn = [found for key in keys if (found := series.draw(key))]
        rows = [one.row for one in drawn]
        ended = [series.buckets[key].ended for key in keys]
        outcomes = sorted({outcome for one in ended for outcome in one} - {"ok"})
        return {
            "width_s": series.width_s,
            "unix_s": [key * series.width_s for key in keys],
            "series": {name: [row[place] for row in rows] for place, name in enumerate(COLUMNS)},
            "errors": {
                outcome: [
                    round(one[outcome] / found.span_s, 2) if outcome in one else 0
                    for one, found in zip(ended, drawn, strict=True)
                ]
                for outcome in outcomes
            },
            "heat": {
                name: _heat([one.heat[place] for one in drawn]) for place, name in enumerate(("ttft", "itl"))
            },
        }


def _heat(columns: list[dict[int, str]]) -> dict[str, Any]:
    """Return a heat map: where its rows begin and end, and a letter for each row of each bucket, upwards."""
    known = {row for column in columns for row in column}
    if not known:
        return {"edges_ms": [], "columns": []}
    rows = range(min(known), max(known) + 1)
    return {
        "edges_ms": [round(max(LEAST_MS, low_of_row(row) / 1e6), 4) for row in (*rows, rows.stop)],
        "columns": ["".join(column.get(row, "0") for row in rows) for column in columns],
    }
