"""How true are the times? Measured against the server's own log of when it handed each token to the kernel.

Both processes are on this machine and read the same monotonic clock, so an error is a plain difference.
`pytest -s` prints the figures.
"""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.end_to_end.driving import drive
from tests.sim_server import running_sim

STREAMS = 20
pytestmark = pytest.mark.alone


class Errors(NamedTuple):
    """Measured minus true, in ms, sorted; and the lag of every read."""

    ttft: list[float]
    gaps: list[float]
    lags: list[float]


def errors(tmp_path: Path, transport: str, script: dict[str, Any], **more: Any) -> Errors:
    """Load a simulator with 20 streams; returns what the client measured wrongly."""
    log = tmp_path / f"{transport}.jsonl"
    with running_sim("--send-log", str(log)) as sim:
        job = {
            "name": "run",
            "url": f"http://127.0.0.1:{sim.port}",
            "count": STREAMS,
            "apart_s": 0.003,
            "script": script,
            "arguments": ["--transport", transport],
        }
        rows = drive([job], **more)["records"]["run"]
    sends = {line["request_id"]: line["sends"] for line in map(json.loads, log.read_text().splitlines())}
    ttft, gaps, lags = [], [], []
    for row in rows:
        assert row["outcome"] == "ok", row["detail"]
        true = sends[f"run-0-{row['request']}"]
        assert len(true) == row["chunks"]
        ttft.append((row["first_at_ns"] - true[0]) / 1e6)
        true_gaps = [late - early for early, late in pairwise(true)]
        gaps += [(found - given) / 1e6 for found, given in zip(row["gaps_ns"], true_gaps, strict=True)]
        lags += [lag / 1e6 for lag in row["lags_ns"]]
    return Errors(sorted(ttft), sorted(gaps), sorted(lags))


def rank(values: list[float], q: float) -> float:
    return values[max(0, math.ceil(q * len(values)) - 1)]


def absolute(values: list[float]) -> list[float]:
    return sorted(map(abs, values))


def show(name: str, found: Errors) -> None:
    def line(values: list[float]) -> str:
        if not values:
            return "none"
        return " / ".join(f"{rank(absolute(values), q):.3f}" for q in (0.5, 0.99, 1.0))

    print(
        f"\n{name}: |error| p50 / p99 / max in ms: ttft {line(found.ttft)}; gaps {line(found.gaps)}", end=""
    )
    print(f"; lag {line(found.lags)}")


TEN_MS = {"ttft_ms": 50, "itl_ms": 10, "tokens": 60}


def test_wire_measures_what_was_sent(tmp_path: Path) -> None:
    found = errors(tmp_path, "wire", TEN_MS)
    show("wire", found)
    assert rank(absolute(found.ttft), 0.5) < 0.5
    assert rank(absolute(found.gaps), 0.5) < 0.5
    assert rank(absolute(found.gaps), 0.99) < 5  # between its log and its send a busy sender may be held up
    assert min(found.ttft) > -0.05  # nothing arrives before it was sent


def test_portable_measures_later_than_wire(tmp_path: Path) -> None:
    portable = errors(tmp_path, "portable", TEN_MS)
    show("portable", portable)
    assert rank(absolute(portable.ttft), 0.5) < 20
    assert rank(absolute(portable.gaps), 0.5) < 5
    assert portable.lags == []


FIFTY_MS = {"ttft_ms": 50, "itl_ms": 50, "tokens": 20}
BLOCKED = {"block_ms": [30, 15]}  # the loop does not get round to reading for 30 ms, two thirds of the time


def test_late_reader_shows_in_lag_and_not_in_the_times(tmp_path: Path) -> None:
    wire = errors(tmp_path, "wire", FIFTY_MS, **BLOCKED)
    show("wire, blocked", wire)
    assert rank(wire.lags, 0.5) > 2
    assert rank(wire.lags, 0.9) > 10
    assert rank(absolute(wire.ttft), 0.5) < 0.5
    assert rank(absolute(wire.gaps), 0.5) < 0.5
    assert rank(absolute(wire.gaps), 0.99) < 5


def test_tokens_that_shared_a_read_are_counted_as_coalesced() -> None:
    with running_sim() as sim:
        url, script = f"http://127.0.0.1:{sim.port}", {"ttft_ms": 50, "itl_ms": 5, "tokens": 80}
        job = {"name": "run", "url": url, "count": 5, "script": script, "arguments": ["--transport", "wire"]}
        on_time, late = drive([job])["records"]["run"], drive([job], **BLOCKED)["records"]["run"]
    shares = [
        sum(row["coalesced"] for row in rows) / sum(row["chunks"] for row in rows) for rows in (on_time, late)
    ]
    print(f"\ncoalesced: {shares[0]:.1%} read on time, {shares[1]:.1%} read late")
    assert shares[0] < 0.05
    assert shares[1] > 0.3
    for row in late:  # the last of a read has its own time: sums stay true
        assert row["gap_sum_ns"] == row["last_ns"] - row["first_ns"]
        assert abs(row["gap_sum_ns"] / 1e6 - 79 * 5) < 40


def test_control_a_clock_that_is_read_by_the_program_shows_the_late_reader(tmp_path: Path) -> None:
    portable = errors(tmp_path, "portable", FIFTY_MS, **BLOCKED)
    show("portable, blocked", portable)
    assert rank(absolute(portable.gaps), 0.5) > 2
    assert rank(absolute(portable.gaps), 0.99) > 10
