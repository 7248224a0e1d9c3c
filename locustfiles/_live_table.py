"""The table of the LLM tab and of the live page: a row per scenario, from the merged histograms.

No Locust, no clock. Every figure is of the whole run so far, with its warm-up; what is judged is the SLA's
business. The percentiles are those of the run directory's interval logs: 0.1 % wide, printed to 0.01 ms.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from analysis.histogram import Histogram, bin_high
from analysis.record import RequestRecord

COLUMNS = {
    "scenario": "Scenario",
    "n": "Requests",
    "ttft_p50_ms": "TTFT p50 (ms)",
    "ttft_p95_ms": "TTFT p95 (ms)",
    "ttft_p99_ms": "TTFT p99 (ms)",
    "itl_p50_ms": "ITL p50 (ms)",
    "itl_p99_ms": "ITL p99 (ms)",
    "itl_max_ms": "ITL max (ms)",
    "tpot_p50_ms": "TPOT p50 (ms)",
    "tokens_per_s": "Tokens/s",
    "ok_per_s": "Ok/s",
    "goodput_per_s": "Goodput (/s)",
    "error_percent": "Errors (%)",
    "lag_p99_ms": "Lag p99 (ms)",
    "coalesced_percent": "Coalesced (%)",
}
"""Column -> heading. Goodput is what is ok and within all limits that the SLA sets for one request."""

Totals = Mapping[tuple[str, str], Histogram]  # by (metric, scenario)


class Limit(NamedTuple):
    """One latency limit of the SLA: metric < limit_ns, or <= where not strict."""

    metric: str
    limit_ns: int
    strict: bool

    def holds(self, value_ns: int) -> bool:
        """Say whether a value keeps it."""
        return value_ns < self.limit_ns if self.strict else value_ns <= self.limit_ns


@dataclass(slots=True)
class Counts:
    """What is counted of one scenario's requests beside the merged histograms."""

    requests: int = 0
    ok: int = 0
    good: int = 0  # ok, and within the limits
    tokens: int = 0  # as the server counts them; where it does not, chunks
    chunks: int = 0
    coalesced: int = 0
    tpot: Histogram = field(default_factory=Histogram)


class Table:
    """All scenarios of a run."""

    def __init__(self) -> None:
        """Begin without any, and without limits."""
        self.limits: Sequence[Limit] = ()  # what a request must keep to be good
        self._scenarios: dict[str, Counts] = {}

    def count(self, record: RequestRecord) -> None:
        """Count a request that ended."""
        counts = self._scenarios.setdefault(record.scenario, Counts())
        counts.requests += 1
        counts.ok += record.outcome == "ok"
        counts.good += record.outcome == "ok" and self._is_within(record)
        counts.tokens += record.chunks if record.output_tokens is None else record.output_tokens
        counts.chunks += record.chunks
        counts.coalesced += record.coalesced
        if record.outcome == "ok" and (tpot_ns := _tpot_ns(record)) is not None:
            counts.tpot.record((tpot_ns,))

    def _is_within(self, record: RequestRecord) -> bool:
        first_ns, sent_ns = record.first_ns, record.sent_ns
        values_ns = {
            "ttft": first_ns,
            "ttft_sent": None if first_ns is None or sent_ns is None else first_ns - sent_ns,
            "ttfo": record.visible_ns,
            "e2e": record.end_ns,
            "tpot": _tpot_ns(record),
            "max_gap": record.gap_max_ns,
            "dispatch_lag": sent_ns,
        }
        return all(
            limit.holds(values_ns.get(limit.metric) or 0) for limit in self.limits
        )  # a gap is no request

    def rows(self, totals: Totals, elapsed_s: float) -> list[dict[str, Any]]:
        """Return a row per scenario with the keys of COLUMNS; None where nothing is known."""
        return [
            _row(scenario, counts, totals, elapsed_s) | ({} if self.limits else {"goodput_per_s": None})
            for scenario, counts in sorted(self._scenarios.items())
        ]


def _row(scenario: str, counts: Counts, totals: Totals, elapsed_s: float) -> dict[str, Any]:
    def quantiles(metric: str, *shares: float) -> list[float | None]:
        return _quantiles(totals.get((metric, scenario)), *shares)

    cells = (
        scenario,
        counts.requests,
        *quantiles("ttft", 0.5, 0.95, 0.99),
        *quantiles("itl", 0.5, 0.99, 1),
        *_quantiles(counts.tpot, 0.5),
        _ratio(counts.tokens, elapsed_s),
        _ratio(counts.ok, elapsed_s),
        _ratio(counts.good, elapsed_s),
        _ratio(100 * (counts.requests - counts.ok), counts.requests),
        *quantiles("lag", 0.99),
        _ratio(100 * counts.coalesced, counts.chunks),
    )
    return dict(zip(COLUMNS, cells, strict=True))


def _tpot_ns(record: RequestRecord) -> int | None:
    """Return the time per output token behind the first; None where there is none."""
    first_ns, last_ns, tokens = record.first_ns, record.last_ns, record.output_tokens or 0
    if tokens < 2 or first_ns is None or last_ns is None:
        return None
    return round((last_ns - first_ns) / (tokens - 1))


def _quantiles(histogram: Histogram | None, *shares: float) -> list[float | None]:
    """Return quantiles (ms), as Histogram.quantile gives them one by one: its bins are sorted once."""
    if histogram is None or not histogram.count:
        return [None] * len(shares)
    lows = sorted(histogram.bins)
    seen = list(accumulate(histogram.bins[low] for low in lows))
    ranks = [max(1, math.ceil(round(share * histogram.count, 6))) for share in shares]
    highs = [bin_high(lows[bisect_left(seen, rank)]) for rank in ranks]
    return [round(min(high, histogram.max) / 1e6, 2) for high in highs]


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 2) if whole > 0 else None
