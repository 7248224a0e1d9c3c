"""CPU per token of one Locust worker, everything included, against the C floor of the same minutes.

    python tests/bench/bench_cost.py [rounds]

Goal: at most 2.0 x the floor at load A and 2.2 x at load B. The worker's is a slope between two lengths, so
that its start is not in it; the floor is measured before and after it. Not a goal: absolute times, which say
more about the machine than about the program.
"""

import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import HERE, LOAD_A, LOAD_B, Load, build, floor_us, locust_worker, truth

GOALS = {LOAD_A.name: 2.0, LOAD_B.name: 2.2}


def worker_us(port: int, load: Load, folder: Path) -> tuple[float, float]:
    """Return (CPU microseconds per token, coalesced share) of one worker: the slope from 5 to 20 seconds."""
    options = [str(HERE / "staggered.py"), "--endpoint", "completions"]
    options += ["--prompt-words", "40", "--max-tokens", str(load.tokens)]
    runs = [
        locust_worker(port, folder / f"{port}-{seconds}", seconds, load.streams, options)
        for seconds in (5, 20)
    ]
    short, long = ((run.cpu_s, run.meta["instrument"]["chunks"]) for run in runs)
    share = runs[1].meta["instrument"]["coalesced_share"]
    return (long[0] - short[0]) / (long[1] - short[1]) * 1e6, share


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truthd, cfloor = build(folder)
        for load, requests in ((LOAD_A, 4), (LOAD_B, 3)):
            ratios = []
            for number in range(rounds):
                with truth(truthd, load) as (port, _):
                    before = floor_us(cfloor, port, load, requests)
                    worker, coalesced = worker_us(port, load, folder)
                    floor = (before + floor_us(cfloor, port, load, requests)) / 2
                ratios.append(worker / floor)
                print(
                    f"load {load.name}  round {number + 1}: floor {floor:.1f} us/token, "
                    f"worker {worker:.1f} us/token, ratio {ratios[-1]:.2f}, coalesced {coalesced:.2%}",
                    flush=True,
                )
            print(f"load {load.name}  median ratio {statistics.median(ratios):.2f}, goal {GOALS[load.name]}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
