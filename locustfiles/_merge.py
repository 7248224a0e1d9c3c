"""The master's account: reports of all workers, merged without loss, and what is known to be missing.

No Locust, no files: what comes out is records, intervals and numbers. A report counts once, whatever the
network does to it; one of another run never counts; a gap in the numbering is a number in the account.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from analysis.histogram import Histogram, Interval
from analysis.record import RequestRecord
from locustfiles._ledger import Report
from locustfiles._live import Live
from locustfiles._timeline import FAILED, OFFERED, OK, STARTED, Second, Tick, Timeline

SECOND_NS = 1_000_000_000
TICKS_KEPT_S = 60  # one tick of a worker replaces another of the same second, if it comes that soon


@dataclass
class WorkerAccount:
    """What one worker said so far."""

    next: int = 0  # one more than the highest number that has come
    missing: set[int] = field(default_factory=set)  # lower numbers that have not
    started: int = 0
    ended: int = 0
    received: int = 0
    gaps: int = 0
    gap_sum_ns: int = 0
    final: bool = False
    last_s: int = 0
    latest: list[int] = field(default_factory=list)  # in flight, chunks, lag (ns), CPU (permille)
    lost: str = ""  # why it is considered lost

    def is_new(self, sequence: int) -> bool:
        """Take note of a report's number; returns whether it comes for the first time."""
        if sequence < self.next:
            late = sequence in self.missing
            self.missing.discard(sequence)
            return late
        self.missing.update(range(self.next, sequence))
        self.next = sequence + 1
        return True

    @property
    def missing_reports(self) -> int:
        """Numbers that never came although a higher one did."""
        return len(self.missing)

    @property
    def complete(self) -> bool:
        """Whether everything it will ever say has come: the last report may overtake others."""
        return self.final and not self.missing

    @property
    def unaccounted(self) -> int:
        """Requests that were started and whose records never came."""
        return self.started - self.received


class Merge:
    """All workers' reports of one run."""

    def __init__(self, run: str, live: Live | None = None) -> None:
        """Begin with no worker; `live` is told of everything that counts."""
        self.run = run
        self._live = live
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
        self._timeline = Timeline()
        self._ticks: dict[int, dict[str, Tick]] = defaultdict(dict)  # by worker; not in the timeline yet

    def take(self, report: Report) -> list[RequestRecord]:
        """Merge one report; returns its records, or none if it does not count."""
        if report["run"] != self.run:
            self.foreign += 1
            return []
        account = self.workers[report["worker"]]
        if not account.is_new(report["sequence"]):
            self.duplicates += 1
            return []
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
            if self._live:
                self._live.count(record)
        for metric, scenario, second, plain in report["histograms"]:
            self._add(metric, scenario, second, Histogram.from_plain(plain))
        for unix_s, *tick in report["ticks"]:
            self._timeline.know(unix_s)
            self._ticks[unix_s][report["worker"]] = tick
            if self._live:
                self._live.tick(unix_s, tick)
            self.arrived += tick[1]
            if unix_s >= account.last_s:
                account.last_s, account.latest = unix_s, tick
        self._fold_ticks()
        return records

    def _add(self, metric: str, scenario: str, second: int, histogram: Histogram) -> None:
        self._intervals[metric, scenario, second].merge(histogram)
        self.totals[metric, scenario].merge(histogram)
        if self._live and metric == "itl":
            self._live.gaps(second, histogram)

    def _count(self, record: RequestRecord) -> None:
        due_s = record.due_unix_ns // SECOND_NS
        self._timeline.count(due_s, OFFERED)
        if record.sent_ns is not None:
            self._timeline.count((record.due_unix_ns + record.sent_ns) // SECOND_NS, STARTED)
            self.totals["dispatch_lag", record.scenario].record((record.sent_ns,))
        end_s = (record.due_unix_ns + record.end_ns) // SECOND_NS
        self._timeline.count(end_s, OK if record.outcome == "ok" else FAILED)
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

    def _fold_ticks(self) -> None:
        """Keep a second's state once for all workers: in a day 200 of them tick 17 million times."""
        if len(self._ticks) < 2 * TICKS_KEPT_S:
            return
        newest = max(self._ticks)
        for unix_s in [unix_s for unix_s in self._ticks if unix_s <= newest - TICKS_KEPT_S]:
            self._timeline.add(unix_s, self._ticks.pop(unix_s).values())

    def seconds(self) -> Iterator[Second]:
        """Yield the timeline so far: a row a second, from the first to the last; it may go on meanwhile."""
        for unix_s in self._timeline.seconds():
            yield self._timeline.row(unix_s, self._ticks.get(unix_s, {}).values())

    def metric(self, name: str) -> Histogram:
        """Return one metric's histogram over all scenarios."""
        merged = Histogram()
        for (metric, _), histogram in self.totals.items():
            if metric == name:
                merged.merge(histogram)
        return merged
