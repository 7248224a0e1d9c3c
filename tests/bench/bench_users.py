"""20,000 users in one process: real greenlets, real requests, what they cost and how late it was.

    python tests/bench/bench_users.py [users] [think time, s]

Closed loop: each user asks, reads ten tokens in about a second, and thinks for a minute, so some 330 requests
a second are asked and as many are in flight. Users share connections; how many streams can be open at once
is what `ulimit -n` says. On a machine that others use, lateness is theirs as well: the last line says for how
long the worker was ready to run and was not.
"""

import csv
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import ROOT, Load, build, locust_worker, truth

SPAWN_RATE, STEADY_S, TOKENS = 500, 60, 10
SLOW = Load("ten tokens in a second", 0, 100, 100, TOKENS)


def main(users: int, think_s: int) -> None:
    options = [str(ROOT / "locustfiles" / "chat.py"), "--endpoint", "completions", "--prompt-words", "40"]
    options += ["--max-tokens", str(TOKENS), "--think-time", str(think_s), "-r", str(SPAWN_RATE)]
    memory: list[int] = []
    waited_s: list[float] = []
    threading.Thread(target=watch, args=(memory, waited_s), daemon=True).start()
    seconds = users // SPAWN_RATE + STEADY_S
    with tempfile.TemporaryDirectory() as name:
        truthd, _ = build(Path(name))
        with truth(truthd, SLOW) as (port, account):
            run = locust_worker(port, Path(name) / "run", seconds, users, options)
        start_s, end_s = (run.meta["window"][edge] / 1e9 for edge in ("start_unix_ns", "end_unix_ns"))
        with (run.directory / "timeline.csv").open(newline="") as file:
            steady = [row for row in csv.DictReader(file) if start_s < int(row["unix_s"]) < end_s]
        with (run.directory / "requests.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if start_s < int(row["due_unix_ns"]) / 1e9 < end_s]
    for detail, count in Counter(row["detail"] for row in rows if row["detail"]).most_common(3):
        print(f"{count} failed: {detail}")
    show(users, memory, steady, rows)
    counts, instrument = run.meta["accounting"], run.meta["instrument"]
    print(
        f"started {counts['started']:,}, recorded {counts['records']:,}, served {account['requests']:,}; "
        f"read lag p99 {instrument['lag_p99_ns'] / 1e6:.2f} ms, coalesced "
        f"{instrument['coalesced_share']:.2%}; waited {waited_s[-1]:.0f} s of {seconds} for a processor"
    )


def show(users: int, memory: list[int], steady: list[dict[str, str]], rows: list[dict[str, str]]) -> None:
    cpu = [float(row["cpu_share_max"]) for row in steady if int(row["workers"])]
    first_ms = sorted((int(row["first_ns"]) - int(row["sent_ns"])) / 1e6 for row in rows if row["first_ns"])
    p50_ms, p99_ms = (first_ms[int(share * len(first_ms))] for share in (0.5, 0.99))
    print(
        f"{users:,} users: {len(rows) / max(1, len(steady)):.0f} requests/s, CPU {sum(cpu) / len(cpu):.0%} "
        f"(at most {max(cpu):.0%}), resident memory {max(memory) / 1e6:.0f} MB "
        f"({(max(memory) - min(memory)) / users / 1e3:.1f} kB a user); sent to first token p50 "
        f"{p50_ms:.1f} ms, p99 {p99_ms:.1f} ms (truth 100); "
        f"outcomes {dict(Counter(row['outcome'] for row in rows))}"
    )


def watch(memory: list[int], waited_s: list[float]) -> None:
    """Note the worker's resident memory once a second, and how long it has waited for a processor."""
    while True:
        time.sleep(1)
        for child in psutil.Process().children():
            try:
                if "--worker" in child.cmdline() and time.time() - child.create_time() > 3:
                    memory.append(child.memory_info().rss or memory[-1])
                    schedule = Path(f"/proc/{child.pid}/schedstat").read_text()
                    waited_s.append(int(schedule.split()[1]) / 1e9)
            except (psutil.Error, IndexError, OSError):
                continue


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [20_000, 60][len(given) :]))
