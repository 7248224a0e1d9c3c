"""The SLA's lights and the downloads of Locust's web server, alone and with a worker."""

import io
import json
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import psutil
import pytest
from pypdf import PdfReader

from locustfiles._judge import PAUSE_S
from tests.end_to_end.locusts import (
    Locust,
    command,
    environment,
    finished,
    free_port,
    result,
    simulator,
    started,
)
from tests.marks import more
from tests.sim_server import Sim

QUICK = '{"ttft_ms": 20, "itl_ms": 5, "tokens": 12}'
SLO = "name: quick\nobjectives:\n  - ttft p50 < 500 ms\n  - itl p95 < 100 ms\n  - error_rate < 5 %\n"
ERRORS = "error_rate < 5 %"
PATIENCE_S = 90  # the judge gives way to everything else on the machine
LIGHTS = ("text", "metric", "statistic", "status", "reason", "observed", "limit", "unit", "n", "bad")


class Web:
    """Locust's web server, asked as a browser asks it."""

    def __init__(self, port: int, locust: Locust, sim: Sim, path: Path) -> None:
        self.port, self.locust, self.sim, self.path = port, locust, sim, path

    def get(self, path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return bytes(answer.read())

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def post(self, path: str, **form: Any) -> Any:
        data = urlencode(form).encode()
        with urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=60) as answer:
            return json.loads(answer.read())

    def swarm(self, **form: Any) -> None:
        assert self.post("/swarm", user_count=20, spawn_rate=20, **form)["success"]

    def post_stop(self) -> None:
        assert self.post("/stop")["success"]

    def until(self, holds: Callable[[Any], bool], limit_s: float = PATIENCE_S) -> float:
        """Wait until the lights are as they should be; returns how long it took."""
        begun = time.monotonic()
        while not holds(found := self.json("/llm/sla.json")):
            assert time.monotonic() < begun + limit_s, (found, self.locust.said)
            time.sleep(0.1)
        return time.monotonic() - begun


def light(found: Any, text: str) -> Any:
    return next((one for one in found["objectives"] if one["text"] == text), {"n": None, "status": None})


def wait_for(port: int) -> None:
    for _ in range(400):
        try:
            urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("Locust's web server did not start")


@contextmanager
def web(path: Path, *arguments: str, workers: int = 0) -> Iterator[Web]:
    port, bound = free_port(), str(free_port())
    with ExitStack() as stack:
        url, sim = stack.enter_context(simulator(QUICK))
        plain = [part for part in command("arrivals", url) if part not in {"--headless", "--only-summary"}]
        head = [*plain, "--web-host", "127.0.0.1", "--web-port", str(port), "-s", "2", *arguments]
        if workers:
            head += ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", bound]
        locust = stack.enter_context(started(head, path / "locust.log"))
        for number in range(workers):
            order = [*plain, "--worker", "--master-host", "127.0.0.1", "--master-port", bound]
            stack.enter_context(started(order, path / f"worker-{number}.log"))
        wait_for(port)
        if workers:
            locust.wait_until_it_says("reported as ready", times=workers)
        yield Web(port, locust, sim, path)
        locust.process.terminate()
        locust.wait()


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.testzip() is None
        return {Path(info.filename).name: file.read(info) for info in file.infolist()}


def pdf_text(content: bytes) -> str:
    return "".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)


def tab(page: Web) -> list[dict[str, Any]]:
    tabs = {one["key"]: one["data"] for one in page.json("/stats/requests")["extended_stats"]}
    rows: list[dict[str, Any]] = tabs["sla"]
    return rows


def shows(page: Web, text: str, words: str) -> bool:
    """Say whether the tab has an objective's light; Locust keeps an answer for two seconds."""
    return {row["objective"]: row["light"] for row in tab(page)}.get(text) == words


@pytest.mark.parametrize(
    "workers",
    [pytest.param(0, id="alone"), pytest.param(1, id="with a worker", marks=pytest.mark.slow)],
)
def test_from_the_first_light_to_the_last(tmp_path: Path, workers: int) -> None:
    (tmp_path / "slo.yaml").write_text(SLO)
    with web(tmp_path, "--sla", "slo.yaml", "--run-dir", "run", workers=workers) as page:
        found = page.json("/llm/sla.json")
        assert (found["sla"], found["status"], found["objectives"]) == (None, None, [])
        assert page.json("/llm/runs.json") == {"runs": []}
        page.swarm()
        page.until(lambda found: (light(found, ERRORS)["n"] or 0) > 100)
        assert light(page.json("/llm/sla.json"), ERRORS)["status"] != "FAIL"
        assert page.json("/llm/sla.json")["every_s"] >= PAUSE_S
        (run,) = page.json("/llm/runs.json")["runs"]
        assert run["ended_unix_s"] is None
        check_so_far(page, run["id"])

        page.sim.process.kill()  # the server breaks
        took_s = page.until(lambda found: light(found, ERRORS)["status"] == "FAIL")
        print(f"the light turned {took_s:.1f} s after the server had gone")
        page.until(lambda _: shows(page, ERRORS, "✗ FAIL"))
        whole, *_ = tab(page)
        assert whole["light"] in {"✗ FAIL", "⚠ INVALID"}  # this machine may be too busy to measure anything
        assert re.search(r"so far, as of [\d:]{8} UTC, judged every \d+ s", whole["objective"])

        page.post_stop()
        page.until(lambda found: found["status"] and not found["so_far"])
        check_final(page, run["id"])
        judges = [child.pid for child in psutil.Process(page.locust.process.pid).children()]
    assert judges
    assert not any(psutil.pid_exists(pid) for pid in judges)
    assert "Traceback" not in page.locust.said


def check_so_far(page: Web, run: str) -> None:
    files = unzipped(page.get(f"/llm/runs/{run}.zip"))
    assert json.loads(files["run.json"])["ended_unix_ns"] is None
    assert files["sla.yaml"].decode() == SLO
    for name, content in files.items():
        assert not name.endswith((".csv", ".hlog")) or content.endswith(b"\n"), name
    rows = files["requests.csv"].count(b"\n")
    assert rows > 20
    assert (page.path / "run" / "requests.csv").read_bytes().startswith(files["requests.csv"])
    said = pdf_text(page.get(f"/llm/runs/{run}.pdf"))
    assert "so far" in said
    assert "quick" in said
    for address in ("/llm/runs/other.zip", "/llm/runs/..%2F..%2Fslo.yaml", "/llm/runs/run.zip"):
        with pytest.raises(HTTPError, match="404"):
            page.get(address)


def check_final(page: Web, run: str) -> None:
    """What the page says at the end is what `tokenswarm verdict` says, and what it gives is what there is."""
    files = unzipped(page.get(f"/llm/runs/{run}.zip"))
    directory = page.path / "run"
    assert files == {path.name: path.read_bytes() for path in directory.iterdir()}
    assert unzipped(page.get("/llm/runs/latest.zip")) == files
    assert "so far" not in pdf_text(page.get(f"/llm/runs/{run}.pdf"))
    (told,) = page.json("/llm/runs.json")["runs"]
    assert told["ended_unix_s"] == result(directory).meta["ended_unix_ns"] // 10**9

    found = page.json("/llm/sla.json")
    order = [sys.executable, "-m", "tokenswarm", "verdict", str(directory), "--json"]
    judged = subprocess.run(order, capture_output=True, text=True, check=False, env=environment())
    after = json.loads(judged.stdout)
    assert (found["status"], found["reasons"]) == (after["status"], after["reasons"])
    assert found["run"] == after["run"] == run
    lights = [{key: one[key] for key in LIGHTS} for one in found["objectives"]]
    assert lights == [{key: one[key] for key in LIGHTS} for one in after["objectives"]]


def test_an_sla_from_the_form_and_a_second_run(tmp_path: Path) -> None:
    with web(tmp_path) as page:
        wrong = SLO.replace("ttft p50", "tttf p50")
        refused = page.post("/swarm", user_count=20, spawn_rate=20, sla_text=wrong, max_tokens="5")
        assert (refused["success"], refused["field"]) == (False, "sla_text")
        assert "found 'tttf'" in refused["message"]
        assert page.json("/llm/runs.json") == {"runs": []}

        page.swarm(sla_text=SLO.replace("\n", "\r\n"))
        page.until(lambda found: found["status"])
        page.post_stop()
        page.until(lambda found: found["status"] and not found["so_far"])

        page.swarm(sla_text="")
        page.until(lambda found: found["sla"] is None)
        page.locust.wait_until_it_says("All users spawned", times=2)
        time.sleep(1)
        assert "default" not in page.json("/llm/sla.json")["reasons"][0]
        first, second = page.json("/llm/runs.json")["runs"]
        assert first["ended_unix_s"] is not None
        assert second["ended_unix_s"] is None
        assert page.get("/llm/runs/latest.pdf").startswith(b"%PDF")
        page.post_stop()
        page.locust.wait_until_it_says("Results are in", times=2)
        kept = {path.parent.name for path in tmp_path.glob("out/*/sla.yaml")}
        assert kept == {first["id"]}


def test_a_judge_that_dies_ends_no_run(tmp_path: Path) -> None:
    with web(tmp_path, "--sla-text", SLO) as page:
        page.swarm()
        page.until(lambda found: found["status"] is not None)
        locust = psutil.Process(page.locust.process.pid)

        def killed(_: Any) -> bool:
            for child in locust.children():
                child.kill()
            return "not judged" in page.json("/llm/sla.json")["reasons"][0]

        page.until(killed)
        assert [light["status"] for light in page.json("/llm/sla.json")["objectives"]] == [None] * 3
        page.post_stop()
        page.locust.wait_until_it_says("Results are in")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SLO.replace("itl", "itt"), "found 'itt'"),
        (None, "slo.yaml cannot be read (No such file or directory)"),
        more(SLO + "quality: [kl <= 0.05]\n", "expected objectives alone"),
        more(SLO.replace("< 5 %", "< 5 % from 1 min"), "expected one within the 5 s of the run"),
        more("- a list", "found a list"),
    ],
)
def test_a_headless_run_with_an_sla_that_is_none_does_not_begin(
    tmp_path: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "slo.yaml").write_text(text)
    with simulator(QUICK) as (url, _):
        order = command("chat", url, "-u", "2", "-r", "2", "-t", "5", "--run-dir", "run", "--sla", "slo.yaml")
        code, locust = finished(order, tmp_path / "locust.log")
    assert code == 2
    (line,) = locust.errors()
    assert words in line
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in locust.said


def test_a_headless_run_keeps_its_sla(tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text(SLO)
    with simulator(QUICK) as (url, _):
        order = command("chat", url, "-u", "4", "-r", "4", "-t", "3", "--run-dir", "run")
        code, locust = finished(order, tmp_path / "locust.log", TOKENSWARM_SLA="slo.yaml")
    assert (code, locust.errors()) == (0, [])
    assert (tmp_path / "run" / "sla.yaml").read_text() == SLO
