"""The truth that a load generator is held against: when each token was handed to the kernel."""

import json
from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class SendRecord:
    """One streamed request. All but `received_unix_ns` is perf_counter_ns (CLOCK_MONOTONIC)."""

    request_id: str | None  # the client's x-request-id
    received_unix_ns: int
    received_ns: int
    headers_sent_ns: int | None = None
    sends: list[int] = field(default_factory=list)  # taken right before each write that carried a token
    tokens: int = 0


class SendLog:
    """A file with one JSON object a line, and the percentiles over all of them."""

    def __init__(self, path: Path) -> None:
        """Open the file anew. Raises OSError."""
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._open: dict[int, SendRecord] = {}
        self._ttft_ns = array("q")
        self._itl_ns = array("q")

    def begin(self, record: SendRecord) -> None:
        """Note a request whose line is written when it ends."""
        self._open[id(record)] = record

    def end(self, record: SendRecord, end: str) -> None:
        """Write the line; `end` says how it ended: done, aborted, shutdown, or the script's fault."""
        del self._open[id(record)]
        line = {
            "request_id": record.request_id,
            "received_unix_ns": record.received_unix_ns,
            "received_ns": record.received_ns,
            "headers_sent_ns": record.headers_sent_ns,
            "sends": record.sends,
            "tokens": record.tokens,
            "end": end,
        }
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        sends = record.sends
        if sends:
            self._ttft_ns.append(sends[0] - record.received_ns)
            self._itl_ns.extend(later - earlier for earlier, later in pairwise(sends))

    def close(self) -> None:
        """Write what is still open and close the file."""
        for record in list(self._open.values()):
            self.end(record, "shutdown")
        self._file.close()

    def percentiles(self) -> dict[str, Any]:
        """TTFT (first send - received) and ITL (between sends) of the requests that are over, in ms."""
        return {"ttft_ms": _percentiles(self._ttft_ns), "itl_ms": _percentiles(self._itl_ns)}


def _percentiles(values_ns: "array[int]") -> dict[str, float] | None:
    if not values_ns:
        return None
    ranked = sorted(values_ns)
    at = {f"p{p:g}": ranked[min(len(ranked) - 1, int(p / 100 * len(ranked)))] for p in (50, 90, 95, 99, 99.9)}
    figures = {"n": len(ranked), "mean": sum(ranked) / len(ranked) / 1e6}
    return figures | {name: value / 1e6 for name, value in (at | {"max": ranked[-1]}).items()}
