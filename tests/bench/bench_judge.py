"""A verdict and a report on a large run: a million requests and 200 million gaps in an hour, on one core.

    python tests/bench/bench_judge.py [requests] [gaps a request] [seconds]

Goals: `tokenswarm verdict` 5 s; `tokenswarm report`, which judges, too, 20 s and 1 GB; the lights of the live
page, judged five times by one process while the run goes on, no more memory than once. What each costs
without data is printed beside it (both on a minute of a few requests), and how fast the machine is just now
(`import pandas`, about 0.5 s on a quiet core).
"""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import lfilter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import CLIENT_CORE, ROOT, pinned

from analysis.histogram import Histogram, Interval, bin_low, write_interval, write_log_header
from analysis.record import RequestRecord
from analysis.rundir import TIMELINE
from tests.run_directories import START_S, Load, change_meta, write_run

LAG_NS, ITL_NS, STALL_NS = 60_000, 8_000_000, 30_000_000
DETAIL = '{"error": {"message": "The engine is overloaded, retry", "code": 503}}'


def main(requests: int, gaps: int, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        small, large = Path(name) / "small", Path(name) / "large"
        write_run(small, Load())
        # In a process of its own: a child's peak memory begins with its parent's.
        writing = multiprocessing.get_context("spawn").Process(
            target=write_large, args=(large, requests, gaps, seconds)
        )
        writing.start()
        writing.join()
        size = sum(file.stat().st_size for file in large.iterdir()) / 1e6
        print(f"{requests:,} requests, {requests * gaps:,} gaps, {seconds:,} s: {size:,.0f} MB of files")
        show("import pandas", *timed("-c", "import pandas"))
        for what in ("verdict", "report"):
            show(f"{what}, a minute", *timed("-m", "tokenswarm", what, small))
        show("verdict", *timed("-m", "tokenswarm", "verdict", large), "5 s")
        show("report, with its own verdict", *timed("-m", "tokenswarm", "report", large), "20 s, 1 GB")
        question = question_of(large)
        for times in (1, 5):
            wall_s, cpu_s, peak_mb = timed("-m", "analysis.live", said=question * times)
            show(
                "the lights, once" if times == 1 else "the lights, each of five",
                wall_s / times,
                cpu_s / times,
                peak_mb,
            )


def show(what: str, wall_s: float, cpu_s: float, peak_mb: float, goal: str = "") -> None:
    least_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # a child's peak begins with ours
    figures = (
        f"{wall_s:6.2f} s  {cpu_s:6.2f} s of CPU  {'<' if peak_mb <= least_mb else ' '}{peak_mb:5.0f} MB"
    )
    print(f"{what:<30} {figures}{f'   (goal {goal})' if goal else ''}", flush=True)


def question_of(run: Path) -> bytes:
    """Make a run one that goes on; returns what its judge is asked."""
    meta = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(meta | {"ended_unix_ns": None}))
    known = {key: meta[key] for key in ("workers", "clock")}
    known["window"] = meta["window"] | {"end_unix_ns": None}
    return json.dumps({"do": "judge", "run": str(run), "known": known}).encode() + b"\n"


def timed(*words: object, said: bytes = b"") -> tuple[float, float, float]:
    """Run a command on one core; returns wall and CPU seconds and peak resident memory (MB)."""
    command = pinned(CLIENT_CORE, sys.executable, *words)
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as questions, tempfile.TemporaryFile() as answers:
        questions.write(said)
        questions.seek(0)
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdin=questions, stdout=answers, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begun
        answers.seek(0)
        unanswered = b'{"error"' in answers.read()
    if unanswered or os.waitstatus_to_exitcode(status) not in {0, 3, 4}:
        sys.exit(f"{' '.join(map(str, words))} ended with {os.waitstatus_to_exitcode(status)}")
    return wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def write_large(path: Path, n: int, gaps: int, seconds: int) -> None:
    """Write a consistent run directory; a thousandth of the requests fails, with a detail that is quoted."""
    rng = np.random.default_rng(5)
    load = Load(seconds=seconds, rate=n / seconds, tokens=gaps + 1, itl_ms=ITL_NS / 1e6)
    write_run(path, load, [])
    due = np.sort(rng.integers(0, seconds * 10**9, n))
    failed = rng.random(n) < 1e-3
    frame = pd.DataFrame(columns_of(rng, due, failed, gaps), columns=["run", *RequestRecord._fields])
    ended = np.argsort(due + frame.end_ns.to_numpy(), kind="stable")
    frame.iloc[ended].to_csv(path / "requests.csv", index=False, lineterminator="\n")
    of_second = np.bincount(due[~failed] // 10**9, minlength=seconds) * gaps
    write_log(path / "itl.hlog", rng, of_second, (ITL_NS, 0.1, STALL_NS))
    write_log(path / "lag.hlog", rng, of_second, (LAG_NS, 0.6, LAG_NS * 20))
    write_timeline(path / "timeline.csv", due, frame.end_ns.to_numpy(), failed, gaps)
    counts = {"requests": int((~failed).sum()), "generation_tokens": int((~failed).sum()) * (gaps + 1)}
    change_meta(path, {"accounting": {"started": n, "records": n}, "server_counts": counts})


def columns_of(rng: np.random.Generator, due: np.ndarray, failed: np.ndarray, gaps: int) -> dict[str, object]:
    n = len(due)
    ok = ~failed
    state = lfilter([np.sqrt(1 - 0.9**2)], [1, -0.9], rng.standard_normal(n))  # neighbours are alike
    first = (45e6 * np.exp(0.25 * state)).astype(np.int64)
    gap_sum = (gaps * ITL_NS * (1 + 0.02 * rng.standard_normal(n))).astype(np.int64)
    last = first + gap_sum

    def where_ok(values: object) -> pd.Series:
        return pd.Series(values, index=range(n)).astype("Int64").where(ok)

    return {
        "run": "run-1",
        "worker": np.where(np.arange(n) % 2, "w1", "w0"),
        "scenario": "chat",
        "request": np.arange(n) // 2,
        "due_unix_ns": START_S * 10**9 + due,
        "sent_ns": rng.integers(20_000, 400_000, n),
        "connect_ns": 0,
        "first_ns": where_ok(first),
        "visible_ns": where_ok(first),
        "last_ns": where_ok(last),
        "end_ns": np.where(ok, last + 100_000, 500_000_000),
        "prompt_tokens": where_ok(200),
        "output_tokens": where_ok(gaps + 1),
        "chunks": np.where(ok, gaps + 1, 0),
        "gaps": np.where(ok, gaps, 0),
        "gap_sum_ns": np.where(ok, gap_sum, 0),
        "gap_max_ns": np.where(ok, rng.integers(9_000_000, 40_000_000, n), 0),
        "reads": np.where(ok, gaps + 1, 1),
        "coalesced": 0,
        "lag_max_ns": rng.integers(50_000, 900_000, n),
        "body_bytes": np.where(ok, 250 * (gaps + 1), 90),
        "status": np.where(ok, 200, 503),
        "connection": "reused",
        "clock": "kernel",
        "clock_jump_ns": rng.integers(-900, 900, n),
        "outcome": np.where(ok, "ok", "http_5xx"),
        "detail": np.where(ok, "", DETAIL),
    }


def write_log(
    path: Path, rng: np.random.Generator, of_second: np.ndarray, shape: tuple[int, float, int]
) -> None:
    """Write an interval log with so many log-normal values in each second, a thousandth of them stalled."""
    middle, sigma, stall = shape
    drawn = middle * np.exp(sigma * rng.standard_normal(2_000_000))
    drawn[:2000] += stall
    lows, counts = np.unique(
        [bin_low(value) for value in drawn.astype(np.int64).tolist()], return_counts=True
    )
    shares = counts / counts.sum()
    with path.open("w", encoding="utf-8") as file:
        write_log_header(file, path.stem, float(START_S))
        for second, total in enumerate(of_second.tolist()):
            own = rng.multinomial(total, shares)
            filled = np.flatnonzero(own)
            flat = np.column_stack((lows[filled], own[filled])).ravel().tolist()
            least, most = (int(lows[filled[at]]) for at in (0, -1)) if total else (0, 0)
            histogram = Histogram.from_plain([total, 0, least, most, flat])
            write_interval(file, Interval("chat", START_S + second, histogram))


def write_timeline(path: Path, due: np.ndarray, end_ns: np.ndarray, failed: np.ndarray, gaps: int) -> None:
    ended = (due + end_ns) // 10**9
    rows = int(ended.max()) + 1
    offered = np.bincount(due // 10**9, minlength=rows)
    done = np.bincount(ended, minlength=rows)
    lost = np.bincount(ended[failed], minlength=rows)
    figures = {
        "unix_s": START_S + np.arange(rows),
        "offered": offered,
        "started": offered,
        "ok": done - lost,
        "failed": lost,
        "in_flight": np.cumsum(offered) - np.cumsum(done),
        "tokens": (done - lost) * (gaps + 1),
        "lag_max_ns": 900_000,
        "cpu_share_max": 0.35,
        "workers": 2,
    }
    pd.DataFrame(figures, columns=list(TIMELINE)).to_csv(path, index=False)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*given, *(1_000_000, 200, 3600)[len(given) :])
