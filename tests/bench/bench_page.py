"""The live page's memory in a browser that shows a day of 200 workers, poll after poll.

    python tests/bench/bench_page.py [polls]

Goal: thousands of polls later the page holds what it held after some hundred, and less than 150 MB. The
answers are the largest there are (every column, both heat maps, errors, 20 scenarios, an SLA, markers), no
two in a row the same. Nothing debugs the browser: DevTools and every driver built on them keep the answers
that they see, which would be measured as the page's. So Chromium is started with the page as its argument. A
script that this server puts before the page's own makes its clock run as fast as the machine can; so fast
Chromium finds no moment to collect what the page has let go of, so that what grows is looked for then, and
how much the page holds afterwards, at its own pace.

Private memory is the renderer's own (smaps_rollup: Private_Clean + Private_Dirty), the charts' canvases
included; nobody asks it to let go of anything. The script tells the heap (JavaScript's, with what is not
collected yet) and how many elements there are. Needs Debian's chromium.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from locustfiles import _live_table
from locustfiles._live import Live
from tests.test_live import START_S, feed

PAGE = Path(_live_table.__file__).with_name("_page")
FASTER = 40  # every 50 ms instead of every 2 s, where the machine can
OWN_PACE_S, SETTLED_S = 120, 60
WARM = 200
STEPS = 10
PATIENCE_S = 60  # for one poll
OBJECTIVE = {"statistic": "p95", "status": "PASS", "reason": "", "unit": "ms", "n": 10**6, "bad": 0}
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--enable-precise-memory-info",
    "--window-size=1280,1000",
)
SCRIPT = """
let faster = 1;
const wait = setTimeout.bind(window);
window.setTimeout = (call, ms, ...more) => wait(call, ms / faster, ...more);
window.setInterval = (call, ms) => {
  const again = () => { call(); wait(again, ms / faster); };
  wait(again, ms / faster);
};
AbortSignal.timeout = () => new AbortController().signal;
const tell = (path, text) => fetch(path, { method: "POST", body: text });
addEventListener("error", (event) => tell("error", event.message));
addEventListener("unhandledrejection", (event) => tell("error", String(event.reason)));
const told = async () => {
  const size = { heap: performance.memory.usedJSHeapSize, elements: document.querySelectorAll("*").length };
  faster = Number(await (await tell("size", JSON.stringify(size))).text());
};
addEventListener("load", () => { told(); setInterval(told, 10000); });
"""


class Answers:
    """What the server says, a little different each time."""

    def __init__(self) -> None:
        """Play a day of 200 workers, then a few seconds more, each an answer."""
        live, draw = Live(), random.Random(2)
        day = 24 * 3600
        feed(live, range(0, day, 120), 200, draw)
        self.polls = 0
        self.faster = FASTER
        self.heap_mb = 0.0
        self.elements = 0
        self.errors: list[str] = []
        self._texts = []
        for second in range(day, day + 10):
            feed(live, range(second, second + 1), 200, draw)
            self._texts.append(json.dumps(self._data(live, second)).encode())
        self.bytes = max(map(len, self._texts))

    @staticmethod
    def _data(live: Live, second: int) -> dict[str, Any]:
        about = {"id": "bench", "name": "bench", "model": "m", "target": "http://127.0.0.1", "loop": "open"}
        now = {"elapsed_s": second, "requests": second, "failed": 7, "in_flight": 900, "users": 200}
        row = dict.fromkeys(_live_table.COLUMNS, second / 7)
        table = [row | {"scenario": f"scenario-{number}", "n": second} for number in range(20)]
        head = {"state": "running", "run": {**about, **now, "simulated": True}}
        return {**head, **live.columns(live.run, inf), "columns": _live_table.COLUMNS, "table": table}

    def of(self, path: str) -> bytes | None:
        """Return the answer to a path, or None for a file's."""
        name = path.partition("?")[0].rpartition("/")[2]
        if name == "data.json":
            self.polls += 1
            return self._texts[self.polls % len(self._texts)]
        number = self.polls
        says: dict[str, Any] = {
            "sla.json": {"run": "bench", "sla": "bench", "status": "PASS", "so_far": True, "reasons": []}
            | {
                "every_s": 2,
                "as_of_unix_s": START_S + number,
                "objectives": [self._objective(metric) for metric in ("ttft", "itl")],
            },
            "markers.json": {
                "markers": [{"unix_s": START_S + 900 * n, "text": f"marker {n}"} for n in range(90)]
            },
            "runs.json": {"runs": [self._run(n) for n in range(50)]},
            "form.json": {"groups": [{"name": "g", "fields": [self._field(n) for n in ("host", "model")]}]},
            "models.json": {"success": True, "models": [f"model-{n}" for n in range(100)]},
            "state.json": {"state": "running", "load": 5, "unit": "arrivals/s", "left_s": number, "says": ""}
            | {"workers": {"there": 200, "expected": 200}, "can_start": False, "can_change": True},
        }
        return json.dumps(says[name]).encode() if name in says else None

    def _objective(self, metric: str) -> dict[str, Any]:
        seen = {"observed": 1, "observed_words": f"{self.polls} ms", "limit_words": "40 ms", "limit": 40}
        return OBJECTIVE | seen | {"metric": metric, "text": f"{metric} p95 < 40 ms", "as_of_unix_s": None}

    @staticmethod
    def _run(number: int) -> dict[str, Any]:
        return {"id": str(number), "name": "bench", "started_unix_s": START_S, "ended_unix_s": None}

    @staticmethod
    def _field(name: str) -> dict[str, Any]:
        kept = {"kind": "text", "value": "http://127.0.0.1:1", "help": "", "unit": "", "limits": [None, None]}
        return {"name": name, "label": name, "choices": [], **kept}


class Handler(SimpleHTTPRequestHandler):
    """Answers instead of the server, and the page's files as they are."""

    def __init__(self, answers: Answers, *rest: Any, **more: Any) -> None:
        """Serve the folder of the page."""
        self._answers = answers
        super().__init__(*rest, directory=str(PAGE), **more)

    def do_GET(self) -> None:
        """Answer; before the page's own scripts comes ours."""
        if self.path == "/llm/":
            page = (PAGE / "page.html").read_text(encoding="utf-8")
            first = '<head><script src="faster.js"></script>'
            return self._say(page.replace("<head>", first).encode(), "text/html")
        if self.path == "/llm/faster.js":
            return self._say(SCRIPT.encode(), "text/javascript")
        said = self._answers.of(self.path)
        if said is not None:
            return self._say(said, "application/json")
        self.path = self.path.removeprefix("/llm/page")
        return super().do_GET()

    def do_POST(self) -> None:
        """Take what the script tells, else answer."""
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        if self.path == "/llm/error":
            self._answers.errors.append(body.decode())
        elif self.path == "/llm/size":
            told = json.loads(body)
            self._answers.heap_mb, self._answers.elements = told["heap"] / 1e6, told["elements"]
            return self._say(str(self._answers.faster).encode(), "text/plain")
        else:
            return self.do_GET()
        return self._say(b"", "text/plain")

    def _say(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


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


def settled_mb(answers: Answers, browser: psutil.Process) -> float:
    """Let the page go on at its own pace; returns the most private memory when it has settled (MB)."""
    answers.faster = 1
    seen: list[float] = []
    for _ in range(OWN_PACE_S):
        time.sleep(1)
        seen.append(private_mb(browser))
    return max(seen[-SETTLED_S:])


def main(polls: int) -> None:
    """Poll, measure, print."""
    answers = Answers()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, answers))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"answers of {answers.bytes / 1000:.0f} kB (goal 200 kB)", flush=True)
    with showing(f"http://127.0.0.1:{server.server_port}/llm/") as browser:
        watch(answers, WARM, browser)
        elements = answers.elements
        middles = [watch(answers, WARM + polls * step // STEPS, browser) for step in range(1, STEPS + 1)]
        more = answers.elements / elements
        most = settled_mb(answers, browser)
    server.shutdown()
    grew = statistics.mean(middles[-3:]) - statistics.mean(middles[:3])
    print(f"{polls} polls: private memory grew by {grew:.1f} MB, elements to {more:.2f} times as many")
    print(f"at its own pace, every 2 s: private at most {most:.0f} MB (goal 150 MB)")
    for error in sorted(set(answers.errors)):
        print(f"error: {error}")
    if most > 150 or grew > 10 or more > 1.1 or answers.errors:
        sys.exit("the page grows, is too large, or is wrong")


if __name__ == "__main__":
    if shutil.which("chromium") is None:
        sys.exit("Debian's package chromium is not here")
    main(int((sys.argv[1:] or ["3000"])[0]))
