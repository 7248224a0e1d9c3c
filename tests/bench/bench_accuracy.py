"""Error of the instrument against the truth server, through Locust, at loads A and B.

    python tests/bench/bench_accuracy.py [rounds] [seconds]

Goals on a quiet machine: at load A TTFT p50 within 0.2 ms of the truth, p99 within 0.5 ms, gap p99 within
0.2 ms; at load B at most 1 % coalesced. TTFT here is first - sent: the truth server knows no due time.
"""

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import HERE, LOAD_A, LOAD_B, ROOT, Load, Measured, build, locust_worker, truth

sys.path.insert(0, str(ROOT))
from analysis.histogram import Histogram, read_log


def measure(truthd: str, load: Load, seconds: int, directory: Path) -> tuple[Measured, dict[str, Any]]:
    options = [str(HERE / "staggered.py"), "--endpoint", "completions"]
    options += ["--prompt-words", "40", "--max-tokens", str(load.tokens)]
    with truth(truthd, load) as (port, account):
        run = locust_worker(port, directory, seconds, load.streams, options)
    return run, account


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[int(percent / 100 * len(values))]


def show(load: Load, run: Measured, true: dict[str, Any]) -> None:
    with (run.directory / "requests.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["outcome"] == "ok"]
    ttft_ms = [(int(row["first_ns"]) - int(row["sent_ns"])) / 1e6 for row in rows]
    gaps = Histogram()
    with (run.directory / "itl.hlog").open() as file:
        for interval in read_log(file):
            gaps.merge(interval.histogram)
    found = {
        "TTFT p50": (percentile(ttft_ms, 50), true["ttft_ms"]["p50"]),
        "TTFT p99": (percentile(ttft_ms, 99), true["ttft_ms"]["p99"]),
        "gap p50": (gaps.quantile(0.5) / 1e6, true["itl_ms"]["p50"]),
        "gap p99": (gaps.quantile(0.99) / 1e6, true["itl_ms"]["p99"]),
    }
    print(f"load {load.name}: {len(rows)} requests, {gaps.count} gaps")
    for name, (measured, truly) in found.items():
        print(f"  {name}: measured {measured:.3f} ms, truth {truly:.3f} ms, error {measured - truly:+.3f} ms")
    instrument = run.meta["instrument"]
    print(
        f"  coalesced {instrument['coalesced_share']:.2%}, read lag p50 {instrument['lag_p50_ns'] / 1e6:.3f} "
        f"p99 {instrument['lag_p99_ns'] / 1e6:.3f} ms; "
        f"{true['late_over_1ms']} tokens left the server over 1 ms late",
        flush=True,
    )


def main(rounds: int = 1, seconds: int = 15) -> None:
    with tempfile.TemporaryDirectory() as name:
        truthd, _ = build(Path(name))
        for number in range(rounds):
            for load in (LOAD_A, LOAD_B):
                show(load, *measure(truthd, load, seconds, Path(name) / f"{load.name[0]}{number}"))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
