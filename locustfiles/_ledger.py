"""A worker's account of a run: records, histograms and ticks, handed over in numbered reports.

No Locust, no clock: time is an argument. What a report holds is gone from the ledger, so a worker's memory
does not grow with the run. Every report repeats the totals since the start, so that whoever merges can tell
what is missing.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

from analysis.histogram import Histogram
from analysis.record import RequestRecord
from locustfiles._timer import StreamTimer

LAG_MASK = ~8191
"""Read lags are kept to 8 microseconds: no judgement needs more, and a report has a tenth of the bins."""

Report = dict[str, Any]
"""Plain ints, strings and lists only: one foreign type would stop a Locust worker's reporter for good."""


class Ledger:
    """Everything one process has measured and not handed over yet."""

    def __init__(self, run: str, worker: str) -> None:
        """Begin with nothing; `run` and `worker` go into every report."""
        self.run = run
        self.worker = worker
        self.started = 0
        self.ended = 0
        self._live: set[StreamTimer] = set()
        self._unbooked: deque[tuple[StreamTimer, RequestRecord, list[int]]] = deque()
        self._records: list[RequestRecord] = []
        self._histograms: dict[tuple[str, str, int], Histogram] = defaultdict(Histogram)
        self._ticks: list[list[int]] = []
        self._sequence = 0
        self._chunks_ended = 0
        self._chunks_ticked = 0
        self._started_ticked = 0
        self._gaps = 0
        self._gap_sum_ns = 0
        self._lag_max_ns = 0

    @property
    def in_flight(self) -> int:
        """Requests that have started and not ended."""
        return len(self._live)

    def begin(self, timer: StreamTimer) -> int:
        """Take note of a request that starts now; returns its number."""
        self._live.add(timer)
        self.started += 1
        return self.started - 1

    def end(self, timer: StreamTimer, record: RequestRecord, lags_ns: list[int]) -> None:
        """Take a request's record, gaps and read lags. Quick: other streams' tokens may be waiting."""
        self._live.discard(timer)
        self.ended += 1
        self._chunks_ended += record.chunks
        self._lag_max_ns = max(self._lag_max_ns, record.lag_max_ns)
        self._unbooked.append((timer, record, lags_ns))

    def book(self) -> bool:
        """Count one ended request into the histograms; returns whether there was one. Not quick."""
        if not self._unbooked:
            return False
        timer, record, lags_ns = self._unbooked.popleft()
        self._gaps += record.gaps
        self._gap_sum_ns += record.gap_sum_ns
        self._records.append(record)
        second = record.due_unix_ns // 1_000_000_000
        self._record("itl", record.scenario, second, timer.gaps_ns)
        self._record("itl_token", record.scenario, second, timer.token_gaps_ns())
        self._record("lag", record.scenario, second, [lag_ns & LAG_MASK for lag_ns in lags_ns])
        return True

    def _record(self, metric: str, scenario: str, second: int, values: Iterable[int]) -> None:
        if values:
            self._histograms[metric, scenario, second].record(values)

    def note_lag(self, scenario: str, unix_s: int, lag_ns: int) -> None:
        """Note how late this process woke: what stands for the read lag where the kernel does not stamp."""
        self._lag_max_ns = max(self._lag_max_ns, lag_ns)
        self._record("lag", scenario, unix_s, [lag_ns & LAG_MASK])

    def tick(self, unix_s: int, cpu_permille: int) -> None:
        """Note this second: streams in flight; since the last tick chunks, worst lag, CPU and starts."""
        chunks = self._chunks_ended + sum(timer.chunks for timer in self._live)
        arrived, started = max(0, chunks - self._chunks_ticked), self.started - self._started_ticked
        self._ticks.append([unix_s, len(self._live), arrived, self._lag_max_ns, cpu_permille, started])
        self._chunks_ticked = max(chunks, self._chunks_ticked)
        self._started_ticked = self.started
        self._lag_max_ns = 0

    def report(self, *, final: bool) -> Report:
        """Hand over everything since the last report; `final` promises that nothing will follow."""
        while self.book():
            pass
        report: Report = {
            "run": self.run,
            "worker": self.worker,
            "sequence": self._sequence,
            "final": final,
            "records": [list(record) for record in self._records],
            "histograms": [[*key, histogram.to_plain()] for key, histogram in self._histograms.items()],
            "ticks": self._ticks,
            "totals": [self.started, self.ended, self._gaps, self._gap_sum_ns],
        }
        self._sequence += 1
        self._records = []
        self._histograms = defaultdict(Histogram)
        self._ticks = []
        return report
