"""The live page's memory in a browser that shows a day of 200 workers, poll after poll.

    python tests/bench/bench_page.py [polls]

Goal: thousands of polls later the page holds what it held after some hundred, and less than 150 MB. The
answers are the largest there are (every column, both heat maps, errors, 20 scenarios, an SLA, markers), no
two in a row the same. Nothing debugs the browser: DevTools and every driver built on them keep the answers
that they see, which would be measured as the page's. So Chromium is started with the page as its argument.
How much it holds is measured at its own pace. Then a script that this server puts before the page's own makes
its clock run as fast as the machine can, and what grows is looked for: so fast Chromium finds little time to
collect, holds some 90 MB more and keeps them, so that its level is not the page's then.

Private memory is the renderer's own (smaps_rollup: Private_Clean + Private_Dirty), the charts' canvases
included; nobody asks it to let go of anything. The script tells the heap (JavaScript's, with what is not
collected yet) and how many elements there are. Needs Debian's chromium.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))
from day_server import FASTER, Answers, serving

OWN_PACE_S, SETTLED_S = 120, 60
WARM = 200
STEPS = 10
PATIENCE_S = 60  # for one poll
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--enable-precise-memory-info",
    "--window-size=1280,1000",
)


@contextmanager
def showing(url: str) -> Iterator[psutil.Process]:
    """Show a page in a browser that nobody debugs."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            ["chromium", *FLAGS, f"--user-data-dir={profile}", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": profile},
        )
        process = psutil.Process(browser.pid)
        try:
            yield process
        finally:
            crew = process.children(recursive=True)
            browser.terminate()
            browser.wait()
            psutil.wait_procs(crew, timeout=10)


def private_mb(browser: psutil.Process) -> float:
    """Return the private memory of the browser's largest renderer: the others show nothing."""
    return (
        max(
            (
                _private_kb(process.pid)
                for process in browser.children(recursive=True)
                if "--type=renderer" in process.cmdline()
            ),
            default=0,
        )
        / 1e3
    )


def _private_kb(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    words = [line.split() for line in rollup.splitlines()]
    return sum(int(line[1]) for line in words if line[0] in {"Private_Clean:", "Private_Dirty:"})


def watch(answers: Answers, polls: int, browser: psutil.Process) -> float:
    """Wait until there were so many polls; prints and returns the private memory in the middle (MB)."""
    seen = [private_mb(browser)]
    before, since = answers.polls, time.monotonic()
    while answers.polls < polls:
        time.sleep(0.5)
        seen.append(private_mb(browser))
        if answers.polls > before:
            before, since = answers.polls, time.monotonic()
        if time.monotonic() - since > PATIENCE_S:
            sys.exit(f"the page has stopped polling after {before} polls: {answers.errors}")
    middle = statistics.median(seen)
    print(
        f"{answers.polls:6} polls: private {min(seen):.0f} to {max(seen):.0f} MB, in the middle "
        f"{middle:.1f}; heap {answers.heap_mb:.1f} MB; {answers.elements:,} elements",
        flush=True,
    )
    return middle


def settled_mb(browser: psutil.Process) -> float:
    """Let the page go on at its own pace; returns the most private memory when it has settled (MB)."""
    seen: list[float] = []
    for _ in range(OWN_PACE_S):
        time.sleep(1)
        seen.append(private_mb(browser))
    return max(seen[-SETTLED_S:])


def main(polls: int) -> None:
    """Poll, measure, print."""
    answers = Answers()
    server = serving(answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"answers of {answers.bytes / 1000:.0f} kB (goal 200 kB)", flush=True)
    with showing(f"http://127.0.0.1:{server.server_port}/llm/") as browser:
        most = settled_mb(browser)
        print(f"at its own pace, every 2 s: private at most {most:.0f} MB (goal 150 MB)", flush=True)
        answers.faster = FASTER
        watch(answers, WARM, browser)
        elements = answers.elements
        middles = [watch(answers, WARM + polls * step // STEPS, browser) for step in range(1, STEPS + 1)]
        more = answers.elements / elements
    server.shutdown()
    grew = statistics.mean(middles[-3:]) - statistics.mean(middles[:3])
    print(f"{polls} polls: private memory grew by {grew:.1f} MB, elements to {more:.2f} times as many")
    for error in sorted(set(answers.errors)):
        print(f"error: {error}")
    if most > 150 or grew > 10 or more > 1.1 or answers.errors:
        sys.exit("the page grows, is too large, or is wrong")


if __name__ == "__main__":
    if shutil.which("chromium") is None:
        sys.exit("Debian's package chromium is not here")
    main(int((sys.argv[1:] or ["3000"])[0]))
