"""The live page's memory in a browser that shows a day of 200 workers, poll after poll.

    python tests/bench/bench_page.py [polls]

Goal: the page stays below 150 MB, and some hundred polls later it holds what it held after some ten. The
answers are the largest there are (every column, both heat maps, errors, 20 scenarios, an SLA, markers), no
two in a row the same; the page's clock is sped up, its code is as it is served. The JS heap is what Chromium
says after a garbage collection; private memory is the renderer's own, the charts' canvases included, when
it has let go of its caches. Needs Debian's chromium and the package playwright.
"""

import json
import random
import shutil
import sys
import threading
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
FASTER = 40  # every 50 ms instead of every 2 s
WARM = 50
OBJECTIVE = {"statistic": "p95", "status": "PASS", "reason": "", "unit": "ms", "n": 10**6, "bad": 0}
SPED_UP = f"""
for (const name of ["setInterval", "setTimeout"]) {{
  const real = window[name].bind(window);
  window[name] = (call, ms, ...more) => real(call, ms / {FASTER}, ...more);
}}
AbortSignal.timeout = () => new AbortController().signal;
"""


class Answers:
    """What the server says, a little different each time."""

    def __init__(self) -> None:
        """Play a day of 200 workers, then a few seconds more, each an answer."""
        live, draw = Live(), random.Random(2)
        day = 24 * 3600
        feed(live, range(0, day, 120), 200, draw)
        self.polls = 0
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
            | {"workers": {"there": 200, "expected": 200}, "waiting": False},
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
        """Answer."""
        said = self._answers.of(self.path)
        if said is None:
            self.path = "/page.html" if self.path == "/llm/" else self.path.removeprefix("/llm/page")
            return super().do_GET()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
        return None

    def do_POST(self) -> None:
        """Answer."""
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def measured(page: Any, browser: Any) -> dict[str, float]:
    """Return the heap, the renderer's private memory (both MB) and what the document is made of."""
    tab = page.context.new_cdp_session(page)
    for _ in range(2):
        tab.send("HeapProfiler.collectGarbage")
    tab.send(
        "Memory.simulatePressureNotification", {"level": "critical"}
    )  # let go of caches, as when it is short
    tab.send("Performance.enable")
    found = {one["name"]: one["value"] for one in tab.send("Performance.getMetrics")["metrics"]}
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [psutil.Process(one["id"]) for one in processes if one["type"] == "renderer"]
    private = max(process.memory_full_info().uss for process in renderers)
    return {
        "heap": found["JSHeapUsedSize"] / 1e6,
        "private": private / 1e6,
        "nodes": found["Nodes"],
        "listeners": found["JSEventListeners"],
    }


def main(polls: int) -> None:
    """Poll, measure, print."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - its absence is one line

    answers = Answers()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, answers))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"answers of {answers.bytes / 1000:.0f} kB (goal 200 kB)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.add_init_script(SPED_UP)
        page.on("pageerror", lambda error: print(f"error: {error}"))
        page.goto(f"http://127.0.0.1:{server.server_port}/llm/")
        found = []
        for goal in [WARM, *range(WARM + polls // 4, WARM + polls + 1, polls // 4)]:
            while answers.polls < goal:
                page.wait_for_timeout(100)
            found.append(measured(page, browser))
            said = ", ".join(f"{name} {value:,.1f}" for name, value in found[-1].items())
            print(f"{answers.polls:5} polls: {said}")
        browser.close()
    server.shutdown()
    first, last = found[0], found[-1]
    grew = last["heap"] - first["heap"]
    print(
        f"heap {last['heap']:.1f} MB, grew by {grew:.2f} MB; private {last['private']:.0f} MB (goal 150 MB)"
    )
    if last["private"] > 150 or grew > 2 or last["nodes"] > 1.1 * first["nodes"]:
        sys.exit("the page grows, or is too large")


if __name__ == "__main__":
    if shutil.which("chromium") is None:
        sys.exit("Debian's package chromium is not here")
    main(int((sys.argv[1:] or ["200"])[0]))
