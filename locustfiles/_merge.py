"""The master's account: reports of all workers, merged without loss, and what is known to be missing.

No Locust, no files: what comes out is records, intervals and numbers. A report counts once, whatever the
network does to it; one of another run never counts; a gap in the numbering is a number in the account.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from analysis.histogram import Histogram, Interval
from analysis.record import RequestRecord
from locustfiles._ledger import Report

SECOND_NS = 1_000_000_000
HOLES_MAX_S = 3600


class Second(NamedTuple):
    """One row of timeline.csv."""

    unix_s: int
    offered: int  # requests due
    started: int  # requests sent
    ok: int
    failed: int
    in_flight: int
    tokens: int  # token-bearing chunks that arrived
    lag_max_ns: int
    cpu_share_max: float  # of the busiest worker
    workers: int  # that reported


@dataclass
class WorkerAccount:
    """What one worker said so far."""

    sequences: set[int] = field(default_factory=set)
    started: int = 0
    ended: int = 0
    received: int = 0
    gaps: int = 0
    gap_sum_ns: int = 0
    final: bool = False
    last_s: int = 0
    latest: list[int] = field(default_factory=list)  # in flight, chunks, lag (ns), CPU (permille)
    lost: str = ""  # why it is considered lost

    @property
    def missing_reports(self) -> int:
        """Numbers that never came although a higher one did."""
        return max(self.sequences, default=-1) + 1 - len(self.sequences)

    @property
    def unaccounted(self) -> int:
        """Requests that were started and whose records never came."""
        return self.started - self.received


class Merge:
    """All workers' reports of one run."""

    def __init__(self, run: str) -> None:
        """Begin with no worker."""
        self.run = run
        self.workers: dict[str, WorkerAccount] = defaultdict(WorkerAccount)
        self.totals: dict[tuple[str, str], Histogram] = defaultdict(Histogram)  # (metric, scenario)
        self.duplicates = 0
        self.foreign = 0
        self.outcomes: Counter[tuple[str, str]] = Counter()  # (scenario, outcome)
        self.prompt_tokens: Counter[str] = Counter()  # by scenario, as the server's usage says
        self.output_tokens: Counter[str] = Counter()
        self.arrived = 0  # chunks so far, those of streams that still run included
        self.chunks = 0
        self.coalesced = 0
        self.clock_jumps = 0
        self.clocks: set[str] = set()
        self._intervals: dict[tuple[str, str, int], Histogram] = defaultdict(Histogram)
        self._events: defaultdict[int, list[int]] = defaultdict(
            lambda: [0, 0, 0, 0]
        )  # offered started ok failed
        self._ticks: dict[int, dict[str, list[int]]] = defaultdict(dict)

    def take(self, report: Report) -> list[RequestRecord]:
        """Merge one report; returns its records, or none if it does not count."""
        if report["run"] != self.run:
            self.foreign += 1
            return []
        account = self.workers[report["worker"]]
        if report["sequence"] in account.sequences:
            self.duplicates += 1
            return []
        account.sequences.add(report["sequence"])
        started, ended, gaps, gap_sum_ns = report["totals"]
        account.started = max(account.started, started)
        account.ended = max(account.ended, ended)
        account.gaps = max(account.gaps, gaps)
        account.gap_sum_ns = max(account.gap_sum_ns, gap_sum_ns)
        account.final = account.final or report["final"]
        records = [RequestRecord(*cells) for cells in report["records"]]
        account.received += len(records)
        for record in records:
            self._count(record)
        for metric, scenario, second, plain in report["histograms"]:
            self._add(metric, scenario, second, Histogram.from_plain(plain))
        for unix_s, *tick in report["ticks"]:
            self._ticks[unix_s][report["worker"]] = tick
            self.arrived += tick[1]
            if unix_s >= account.last_s:
                account.last_s, account.latest = unix_s, tick
        return records

    def _add(self, metric: str, scenario: str, second: int, histogram: Histogram) -> None:
        self._intervals[metric, scenario, second].merge(histogram)
        self.totals[metric, scenario].merge(histogram)

    def _count(self, record: RequestRecord) -> None:
        due_s = record.due_unix_ns // SECOND_NS
        self._events[due_s][0] += 1
        if record.sent_ns is not None:
            self._events[(record.due_unix_ns + record.sent_ns) // SECOND_NS][1] += 1
            self.totals["dispatch_lag", record.scenario].record((record.sent_ns,))
        column = 2 if record.outcome == "ok" else 3
        self._events[(record.due_unix_ns + record.end_ns) // SECOND_NS][column] += 1
        if record.first_ns is not None:
            self._one("ttft", record.scenario, due_s, record.first_ns)
        if record.outcome == "ok":
            self._one("e2e", record.scenario, due_s, record.end_ns)
        self.outcomes[record.scenario, record.outcome] += 1
        self.prompt_tokens[record.scenario] += record.prompt_tokens or 0
        self.output_tokens[record.scenario] += record.output_tokens or 0
        self.chunks += record.chunks
        self.coalesced += record.coalesced
        self.clock_jumps += abs(record.clock_jump_ns) > 1_000_000
        if record.reads:
            self.clocks.add(record.clock)

    def _one(self, metric: str, scenario: str, second: int, value: int) -> None:
        self._intervals[metric, scenario, second].record((value,))
        self.totals[metric, scenario].record((value,))

    def intervals(self, until_s: int) -> list[tuple[str, Interval]]:
        """Hand over (metric, interval) of the seconds before `until_s`, each once."""
        ripe = sorted(key for key in self._intervals if key[2] < until_s)
        return [
            (metric, Interval(scenario, second, self._intervals.pop((metric, scenario, second))))
            for metric, scenario, second in ripe
        ]

    def seconds(self) -> list[Second]:
        """Return the timeline so far: a row a second, from the first to the last."""
        known = self._events.keys() | self._ticks.keys()
        if not known:
            return []
        rows = []
        span = range(min(known), max(known) + 1)
        # A clock that was set by days would ask for millions of empty rows, every second again.
        for unix_s in span if len(span) <= len(known) + HOLES_MAX_S else sorted(known):
            ticks = list(self._ticks.get(unix_s, {}).values())
            offered, started, ok, failed = self._events.get(unix_s, (0, 0, 0, 0))
            rows.append(
                Second(
                    unix_s,
                    offered,
                    started,
                    ok,
                    failed,
                    in_flight=sum(tick[0] for tick in ticks),
                    tokens=sum(tick[1] for tick in ticks),
                    lag_max_ns=max((tick[2] for tick in ticks), default=0),
                    cpu_share_max=max((tick[3] for tick in ticks), default=0) / 1000,
                    workers=len(ticks),
                )
            )
        return rows

    def metric(self, name: str) -> Histogram:
        """Return one metric's histogram over all scenarios."""
        merged = Histogram()
        for (metric, _), histogram in self.totals.items():
            if metric == name:
                merged.merge(histogram)
        return merged
