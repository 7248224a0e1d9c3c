"""The master's sum of many workers' histograms: exact, and how long it takes.

    python tests/bench/bench_merge.py [workers]

Goal: 500 workers in 1 s. Each worker reports a histogram of 20,000 gaps in the form that travels, `to_plain`;
what is timed is reading the reports and merging them; it is compared with one histogram of all the values.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from analysis.histogram import Histogram

VALUES = 20_000


def main(workers: int) -> None:
    rng = np.random.default_rng(3)
    reports, whole = [], Histogram()
    for middle_ms in rng.uniform(5, 20, workers):
        values = (middle_ms * 1e6 * np.exp(0.3 * rng.standard_normal(VALUES))).astype(np.int64).tolist()
        own = Histogram()
        own.record(values)
        whole.record(values)
        reports.append(own.to_plain())
    bins = sum(len(report[4]) // 2 for report in reports)

    begun = time.perf_counter()
    merged = Histogram()
    for report in reports:
        merged.merge(Histogram.from_plain(report))
    took_s = time.perf_counter() - begun

    same = "equal" if merged == whole else "NOT equal"
    print(f"{workers} workers, {merged.count:,} values, {bins:,} bins reported, {len(merged.bins):,} merged")
    print(
        f"read and merged in {took_s:.3f} s (goal 1 s): {same} in count, sum, least, greatest and every bin"
    )
    if merged != whole:
        sys.exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
