"""Locust with its web page in front of a simulator, in processes of their own, as a user starts it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from tests.end_to_end.locusts import ROOT, Locust, Result, command, free_port, result, simulator, started
from tests.sim_server import Answer, Sim, call

FORM = {"content-type": "application/x-www-form-urlencoded"}
STEADY = '{"ttft_ms": 30, "itl_ms": 5, "tokens": 20}'


@dataclass
class Served:
    """A Locust whose page answers."""

    port: int
    target: str
    sim: Sim
    locust: Locust
    crew: list[Locust]
    path: Path  # runs go to out/ in it
    base: str = ""
    headers: dict[str, str] = field(default_factory=dict)  # sent with everything, such as a cookie
    runs_begun: int = 0

    @property
    def url(self) -> str:
        """Where Locust's page is, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}{self.base}"

    @property
    def said(self) -> str:
        """Everything that all processes have printed."""
        return "".join(process.said for process in (self.locust, *self.crew))

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for a path below the base; a header's underscores are dashes."""
        return call(self.port, self.base + path, headers=self.headers | _dashed(headers))

    def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        """Send a form to a path below the base."""
        body = urlencode(form or {}).encode()
        return call(self.port, self.base + path, body, headers=FORM | self.headers | _dashed(headers))

    def start(self, users: int = 10, **options: str) -> None:
        """Start a run from the form, and wait until its directory is there."""
        until(self._ready)
        form = {"user_count": str(users), "spawn_rate": str(users), "host": self.target} | options
        answer = self.post("/swarm", form)
        assert answer.status == 200, answer.body
        assert answer.json["success"], answer.body
        self.runs_begun += 1
        self.locust.wait_until_it_says("Results go to", times=self.runs_begun)

    def _ready(self) -> bool:
        # After a stop a worker says so once more, when the stop timeout has passed: Locust's own rule.
        return self.locust.said.count("reported as ready") >= len(self.crew) * (1 + self.runs_begun)

    def stop(self) -> Result:
        """Stop the run, wait for its last words, and read its directory."""
        assert self.post("/stop").status == 200
        self.locust.wait_until_it_says("Results are in", times=self.runs_begun)
        return result(self.runs()[-1])

    def runs(self) -> list[Path]:
        """Return the run directories, the latest last."""
        return sorted(
            (file.parent for file in self.path.glob("out/*/run.json")),
            key=lambda run: int(json.loads((run / "run.json").read_text())["started_unix_ns"]),
        )


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def until(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait until something holds; AssertionError if it does not in time."""
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def serving(
    path: Path,
    *arguments: str,
    script: str = STEADY,
    workers: int = 0,
    locustfile: str = "arrivals",
    base: str = "",
    **variables: str,
) -> Iterator[Served]:
    """Start a simulator and Locust (a master with workers where asked); yields when the page answers.

    A locustfile is the name of one of ours, or the path of another.
    """
    variables = {"PYTHONPATH": str(ROOT)} | variables
    with ExitStack() as stack:
        target, sim = stack.enter_context(simulator(script))
        port, master_port = free_port(), str(free_port())  # now that the simulator has its own
        order = _order(locustfile, target)
        head = [*order, "--web-port", str(port), *arguments]
        if base:
            head += ["--web-base-path", base]
        if workers:
            head += ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", master_port]
            head += ["--expect-workers", str(workers), "--stop-timeout", "2"]
        locust = stack.enter_context(started(head, path / "locust.log", **variables))
        crew = [
            stack.enter_context(
                started(
                    [*order, "--worker", "--master-host", "127.0.0.1", "--master-port", master_port],
                    path / f"worker-{number}.log",
                    **variables,
                )
            )
            for number in range(workers)
        ]
        served = Served(port, target, sim, locust, crew, path, base)
        until(lambda: _answers(served))
        until(served._ready)
        yield served


def _order(locustfile: str, target: str) -> list[str]:
    order = [part for part in command(locustfile, target) if part not in {"--headless", "--only-summary"}]
    if locustfile.endswith(".py"):
        order[order.index("-f") + 1] = locustfile
    return order


def _answers(served: Served) -> bool:
    assert served.locust.process.poll() is None, served.said
    try:
        served.get("/login")
    except OSError:
        return False
    return True
