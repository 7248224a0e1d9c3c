"""The live page's data after a day of 200 workers: how large, how quick, and whether it grew.

    python tests/bench/bench_live.py [hours] [workers] [every]

Goal: an answer of at most 200 kB within 50 ms; a day takes no more memory than an hour. Every worker reports
a tick and its gaps, as a histogram, in a second; one second in `every` is played. Times are the
CPU's, so that a busy machine does not count.
"""

import json
import random
import resource
import sys
import time
from math import inf
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from analysis.histogram import Histogram
from locustfiles._live import Live

START_S = 1_790_000_000


def gaps(draw: random.Random) -> Histogram:
    made = Histogram()
    middle_ms = draw.uniform(5, 20)
    made.record([int(middle_ms * 1e6 * draw.lognormvariate(0, 0.3)) for _ in range(500)])
    return made


def answer(live: Live) -> tuple[int, float]:
    """Return an answer's bytes and how long it took, in ms: the whole run, and now from the last minutes."""
    begun = time.process_time()
    live.columns(live.recent, inf)
    text = json.dumps(live.columns(live.run, inf), separators=(",", ":"))
    return len(text), 1000 * (time.process_time() - begun)


def main(hours: float, workers: int, every: int) -> None:
    draw, live = random.Random(4), Live()
    pool = [gaps(draw) for _ in range(50)]
    longest_ms = spent_s = 0.0
    seconds = int(hours * 3600)
    played = range(START_S, START_S + seconds, every)
    for number, second in enumerate(played, 1):
        begun = time.process_time()
        for worker in range(workers):
            live.tick(second, [20, 2000, 300_000, 500, 1])
            live.gaps(second - worker % 3, pool[(second + worker) % len(pool)])
        for _ in live.settle():
            pass
        spent_s += time.process_time() - begun
        if number % max(1, len(played) // 24) == 0:
            size, took_ms = answer(live)
            longest_ms = max(longest_ms, took_ms)
            memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{(second - START_S) / 3600:5.1f} h: {size / 1000:6.1f} kB in {took_ms:5.1f} ms, "
                f"{len(live.run.buckets)} buckets of {live.run.width_s} s, {memory_mb:.0f} MB, "
                f"{1000 * spent_s / number:.1f} ms for a second"
            )
    print(f"{workers} workers, longest answer {longest_ms:.1f} ms (goal 50 ms)")


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    hours, workers, every = given + [24, 200, 10][len(given) :]
    main(hours, int(workers), int(every))
