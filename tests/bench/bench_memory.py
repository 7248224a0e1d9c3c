"""Memory of a worker between its first and its tenth million tokens.

    python tests/bench/bench_memory.py [millions]

Goal: at most 5 MB growth. Load B, about 35,000 tokens/s: ten millions take five minutes.
"""

import csv
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import LOAD_B, ROOT, build, locust_worker, truth

TOKENS_PER_S = 30_000


def main(millions: int) -> None:
    options = [str(ROOT / "locustfiles" / "chat.py"), "--endpoint", "completions"]
    options += ["--prompt-words", "40", "--max-tokens", str(LOAD_B.tokens)]
    with tempfile.TemporaryDirectory() as name:
        truthd, _ = build(Path(name))
        directory = Path(name) / "run"
        seen: list[tuple[int, int]] = []
        watcher = threading.Thread(target=watch, args=(directory, seen), daemon=True)
        watcher.start()
        with truth(truthd, LOAD_B) as (port, _):
            locust_worker(port, directory, millions * 1_000_000 // TOKENS_PER_S, LOAD_B.streams, options)
    for million in range(1, millions + 1):
        at = next(((tokens, rss) for tokens, rss in seen if tokens >= million * 1_000_000), None)
        if at:
            print(f"{at[0]:>11,} tokens: worker's resident memory {at[1] / 1e6:.1f} MB")
    first = next(rss for tokens, rss in seen if tokens >= 1_000_000)
    print(
        f"growth after the first million: {(seen[-1][1] - first) / 1e6:+.1f} MB over {seen[-1][0]:,} tokens"
    )


def watch(directory: Path, seen: list[tuple[int, int]]) -> None:
    worker = None
    while True:
        time.sleep(2)
        try:
            with (directory / "timeline.csv").open(newline="") as file:
                tokens = sum(int(row["tokens"]) for row in csv.DictReader(file))
            worker = worker or next(
                child for child in psutil.Process().children() if "--worker" in child.cmdline()
            )
            rss = worker.memory_info().rss
            if rss:  # nothing is left of a process that has just ended
                seen.append((tokens, rss))
        except (OSError, StopIteration, psutil.Error):
            continue


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
