"""Open loop at 500 arrivals a second on one worker: are they sent when they are due?

    python tests/bench/bench_open_loop.py [rounds]

Goals: lateness (sent - due) p99 <= 5 ms, coefficient of variation of the times between arrivals
1.00 +- 0.05 (Poisson: 1), none dropped. Short answers (4 tokens), so that arrivals are the work. The first
two seconds, while users are spawned and connections opened, are not counted.
"""

import csv
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import itertools

from common import LOAD_A, ROOT, build, locust_worker, truth

RATE, SECONDS, WARMUP_S = 500, 17, 2


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        truthd, _ = build(Path(name))
        for number in range(rounds):
            options = [str(ROOT / "locustfiles" / "arrivals.py"), "--endpoint", "completions"]
            options += ["--prompt-words", "40", "--max-tokens", "4"]
            with truth(truthd, LOAD_A) as (port, account):
                run = locust_worker(port, Path(name) / str(number), SECONDS, RATE, options)
            show(run.directory, run.meta, account["requests"])


def show(directory: Path, meta: dict, served: int) -> None:  # type: ignore[type-arg]
    start_ns = meta["window"]["start_unix_ns"] + WARMUP_S * 10**9
    end_ns = meta["window"]["end_unix_ns"]
    with (directory / "requests.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if start_ns <= int(row["due_unix_ns"]) < end_ns]
    due_ns = sorted(int(row["due_unix_ns"]) for row in rows)
    gaps_ns = [after - before for before, after in itertools.pairwise(due_ns)]
    sent_ns = sorted(int(row["due_unix_ns"]) + int(row["sent_ns"]) for row in rows)
    sent_gaps_ns = [after - before for before, after in itertools.pairwise(sent_ns)]
    late_ms = sorted(int(row["sent_ns"]) / 1e6 for row in rows)
    seconds = (due_ns[-1] - due_ns[0]) / 1e9
    print(
        f"{len(rows)} arrivals in {seconds:.1f} s: {len(rows) / seconds:.1f}/s; lateness p50 "
        f"{late_ms[len(late_ms) // 2]:.3f} p99 {late_ms[int(0.99 * len(late_ms))]:.3f} "
        f"max {late_ms[-1]:.3f} ms; "
        f"CV of the times between: due {variation(gaps_ns):.3f}, sent {variation(sent_gaps_ns):.3f}; "
        f"all ok: {all(row['outcome'] == 'ok' for row in rows)}; started {meta['accounting']['started']}, "
        f"recorded {meta['accounting']['records']}, served {served}",
        flush=True,
    )


def variation(values: list[int]) -> float:
    return statistics.stdev(values) / statistics.fmean(values)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
