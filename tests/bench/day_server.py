"""A server that says what the page's own would of a day of 200 workers, and beside it the page as it is."""

import json
import random
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from locustfiles import _live_table
from locustfiles._live import Live
from tests.test_live import START_S, feed

PAGE = Path(_live_table.__file__).with_name("_page")
FASTER = 40  # every 50 ms instead of every 2 s, where the machine can
OBJECTIVE = {"statistic": "p95", "status": "PASS", "reason": "", "unit": "ms", "n": 10**6, "bad": 0}

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
        self.faster = 1
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


def serving(answers: Answers) -> ThreadingHTTPServer:
    """Return a server on a port of its own that has not begun yet."""
    return ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, answers))
