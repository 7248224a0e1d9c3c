"""The table of the LLM tab and of the live page: a row per scenario, from the merged histograms.

No Locust, no clock. Every figure is of the whole run so far, with its warm-up; what is judged is the SLA's
business. The percentiles are those of the run directory's interval logs: 0.1 % wide, printed to 0.01 ms.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

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
    "goodput_per_s": "Goodput (ok/s)",
    "error_percent": "Errors (%)",
    "lag_p99_ms": "Lag p99 (ms)",
    "coalesced_percent": "Coalesced (%)",
}
"""Column -> heading."""

Totals = Mapping[tuple[str, str], Histogram]  # by (metric, scenario)


@dataclass(slots=True)
class Counts:
    """What is counted of one scenario's requests beside the merged histograms."""

    requests: int = 0
    ok: int = 0
    tokens: int = 0  # as the server counts them; where it does not, chunks
    chunks: int = 0
    coalesced: int = 0
    tpot: Histogram = field(default_factory=Histogram)


class Table:
    """All scenarios of a run."""

    def __init__(self) -> None:
        """Begin without any."""
        self._scenarios: dict[str, Counts] = {}

    def count(self, record: RequestRecord) -> None:
        """Count a request that ended."""
        counts = self._scenarios.setdefault(record.scenario, Counts())
        counts.requests += 1
        counts.ok += record.outcome == "ok"
        counts.tokens += record.chunks if record.output_tokens is None else record.output_tokens
        counts.chunks += record.chunks
        counts.coalesced += record.coalesced
        first_ns, last_ns, tokens = record.first_ns, record.last_ns, record.output_tokens or 0
        if record.outcome == "ok" and tokens > 1 and first_ns is not None and last_ns is not None:
            counts.tpot.record((round((last_ns - first_ns) / (tokens - 1)),))

    def rows(self, totals: Totals, elapsed_s: float) -> list[dict[str, Any]]:
        """Return a row per scenario with the keys of COLUMNS; None where nothing is known."""
        return [
            _row(scenario, counts, totals, elapsed_s) for scenario, counts in sorted(self._scenarios.items())
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
        _ratio(100 * (counts.requests - counts.ok), counts.requests),
        *quantiles("lag", 0.99),
        _ratio(100 * counts.coalesced, counts.chunks),
    )
    return dict(zip(COLUMNS, cells, strict=True))


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
