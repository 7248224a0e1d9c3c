"""The live page's data and the LLM tab, asked for as a browser does, while Locust runs and afterwards."""

import csv
import hashlib
import io
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import pytest

from analysis.histogram import Histogram, read_log
from tests.end_to_end.driving import ROOT
from tests.end_to_end.locusts import Locust, Result, command, free_port, result, simulator, started
from tests.marks import more

SCRIPT = '{"ttft_ms": 20, "itl_ms": 10, "tokens": 30}'
LEAST_MS = 0.017  # a chart tells nothing below it apart
UPLOT = ROOT / "locustfiles" / "_page" / "uplot"


class Page(NamedTuple):
    """A Locust with its web server."""

    url: str
    target: str
    path: Path
    master: Locust

    def get(self, path: str) -> bytes:
        return urlopen(f"{self.url}{path}", timeout=20).read()  # noqa: S310 - http

    def data(self, span: str = "run") -> dict[str, Any]:
        return json.loads(self.get(f"llm/data.json?span={span}"))

    def press(self, button: str, **form: object) -> None:
        text = "&".join(f"{name}={value}" for name, value in form.items())
        answer = urlopen(f"{self.url}{button}", text.encode(), timeout=20).read()  # noqa: S310 - http
        assert json.loads(answer)["success"]

    def until(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + 60
        while not fits(found := self.data()):
            assert time.monotonic() < end, (found["state"], self.master.said)
            time.sleep(0.3)
        return found


@contextmanager
def page(tmp_path: Path, workers: int, base: str) -> Iterator[Page]:
    with simulator(SCRIPT) as (url, _), ExitStack() as stack:
        port, bind = free_port(), str(free_port())
        head = [part for part in command("chat", url) if part not in {"--headless", "--only-summary"}]
        crew = [*head, "--worker", "--master-host", "127.0.0.1", "--master-port", bind]
        # a worker of Locust is ready again only so long after it has stopped
        head += ["--web-port", str(port), "--web-base-path", base, "--stop-timeout", "3"]
        if workers:
            head += ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", bind]
        master = stack.enter_context(started(head, tmp_path / "master.log"))
        for number in range(workers):
            stack.enter_context(started(crew, tmp_path / f"worker-{number}.log"))
        made = Page(f"http://127.0.0.1:{port}{base}/", url, tmp_path, master)
        end = time.monotonic() + 60
        while True:
            try:
                if json.loads(made.get("worker-count"))["worker_count"] == workers:
                    break
            except OSError:
                pass
            assert time.monotonic() < end, master.said
            time.sleep(0.1)
        yield made


def _most(data: dict[str, Any], column: str) -> float:
    return max((value for value in data["series"][column] if value is not None), default=0)


@pytest.mark.parametrize(("workers", "base"), [more(0, ""), (2, "/deep/down")])
def test_page_follows_a_run_and_the_next(tmp_path: Path, workers: int, base: str) -> None:
    with page(tmp_path, workers, base) as shown:
        before = shown.data()
        assert (before["state"], before["run"]) == ("ready", None)
        assert b"data.json" in shown.get("llm/page/page.js")
        home = shown.get("")
        assert home.count(b'href="./llm/"') == 1  # beside Locust's own program, which draws the rest
        assert b"uPlot.iife.min.js" in shown.get("llm/")

        shown.press("swarm", user_count=4, spawn_rate=4, host=shown.target)
        running = shown.until(lambda data: data["state"] == "running" and len(data["unix_s"]) >= 4)
        shown.until(lambda data: 3 <= (data["run"]["in_flight"] or 0) <= 4)  # closed loop
        assert running["run"]["users"] == 4
        assert running["run"]["simulated"]
        more = running["run"]["requests"] + 10
        later = shown.until(
            lambda data: data["run"]["requests"] > more and _most(data, "server_running") >= 3
        )
        series = later["series"]
        assert max(series["workers"]) == max(1, workers)
        assert later["errors"] == {}
        assert len(later["heat"]["ttft"]["columns"]) == len(later["unix_s"])
        assert all(len(column) == len(later["unix_s"]) for column in series.values())
        _locusts_page_is_extended_and_not_polluted(shown)

        shown.press("stop")
        ended = shown.until(lambda data: data["state"] == "stopped")
        _page_says_what_the_run_directory_says(shown, ended)
        assert ended["run"]["tokens_per_s"] is None  # of now; the table has the whole run's
        first = ended["run"]["id"]
        shown.master.wait_until_it_says("reported as ready", times=2 * workers)  # before, and again

        shown.press("swarm", user_count=2, spawn_rate=2, host=shown.target)
        again = shown.until(lambda data: data["run"]["id"] != first and len(data["unix_s"]) >= 2)
        assert again["run"]["requests"] < ended["run"]["requests"]
        shown.press("stop")
        _page_says_what_the_run_directory_says(shown, shown.until(lambda data: data["state"] == "stopped"))
        assert "Traceback" not in shown.master.said


def _locusts_page_is_extended_and_not_polluted(shown: Page) -> None:
    polled = json.loads(shown.get("stats/requests"))
    (tab,) = (one["data"] for one in polled["extended_stats"] if one["key"] == "llm")
    assert [row["scenario"] for row in tab] == ["chat"]
    assert tab[0]["n"] > 0
    rows = {row["method"] or row["name"]: row for row in polled["stats"]}
    assert set(rows) == {"POST", "TTFT", "ITL", "Aggregated"}
    assert rows["Aggregated"]["num_requests"] == rows["POST"]["num_requests"]
    assert rows["Aggregated"]["avg_response_time"] == pytest.approx(rows["POST"]["avg_response_time"])
    assert rows["ITL"]["num_requests"] > 10 * rows["POST"]["num_requests"]
    assert polled["total_rps"] == pytest.approx(rows["POST"]["total_rps"], rel=0.01)
    # what the Charts tab draws is Aggregated's: a request takes 310 ms, a gap 10 ms
    assert all(value >= 300 for value in polled["current_response_time_percentiles"].values())


def _page_says_what_the_run_directory_says(shown: Page, ended: dict[str, Any]) -> None:
    (path,) = (shown.path / "out").glob(ended["run"]["id"])
    run = result(path)
    assert ended["run"]["requests"] == len(run.records) > 0
    (row,) = ended["table"]
    assert row["n"] == len(run.records)
    elapsed_s = (run.meta["ended_unix_ns"] - run.meta["started_unix_ns"]) / 1e9
    assert ended["run"]["elapsed_s"] == round(elapsed_s, 1)
    assert row["ok_per_s"] == round(run.outcomes()["ok"] / elapsed_s, 2)  # not of a second ago
    firsts = Histogram()
    firsts.record([one.first_ns for one in run.records if one.first_ns is not None])
    for share, name in ((0.5, "ttft_p50_ms"), (0.95, "ttft_p95_ms"), (0.99, "ttft_p99_ms")):
        assert row[name] == round(firsts.quantile(share) / 1e6, 2), name
    for metric, name in (("itl", "itl_p99_ms"), ("lag", "lag_p99_ms")):  # a log keeps no exact maximum
        logged_ms = run.log(metric).quantile(0.99) / 1e6
        assert row[name] == pytest.approx(logged_ms, rel=0.001, abs=0.0051), name
    assert row["itl_max_ms"] == pytest.approx(max(one.gap_max_ns for one in run.records) / 1e6, abs=0.0051)
    _latencies_are_those_of_each_second(run, ended)
    timeline = run.table("timeline.csv")
    span = ended["width_s"]
    assert span == 1
    tokens = dict(zip(ended["unix_s"], ended["series"]["tokens_per_s"], strict=True))
    assert {int(line["unix_s"]): int(line["tokens"]) for line in timeline if int(line["tokens"])} == {
        second: count for second, count in tokens.items() if count
    }
    assert sum(ended["series"]["started_per_s"]) == len(run.records)
    table = list(csv.reader(io.StringIO(shown.get("llm/table.csv").decode())))
    assert [float(cell) if cell else None for cell in table[1][1:]] == list(row.values())[1:]


def _latencies_are_those_of_each_second(run: Result, ended: dict[str, Any]) -> None:
    """Percentiles in charts are at most 0.8 % too high, at the second that requests were due in."""
    firsts, gaps = defaultdict(Histogram), defaultdict(Histogram)
    for record in run.records:
        if record.first_ns is not None:
            firsts[record.due_unix_ns // 10**9].record([record.first_ns])
    with (run.path / "itl.hlog").open() as file:
        for interval in read_log(file):
            gaps[interval.second].merge(interval.histogram)
    for column, share, by_second in (
        ("ttft_p50_ms", 0.5, firsts),
        ("ttft_p95_ms", 0.95, firsts),
        ("ttft_p99_ms", 0.99, firsts),
        ("itl_p50_ms", 0.5, gaps),
        ("itl_p99_ms", 0.99, gaps),
    ):
        drawn = dict(zip(ended["unix_s"], ended["series"][column], strict=True))
        drawn = {second: value for second, value in drawn.items() if value is not None}
        assert drawn.keys() == by_second.keys()
        for second, value in drawn.items():
            exact_ms = by_second[second].quantile(share) / 1e6
            assert 0.998 * exact_ms <= value <= max(1.009 * exact_ms, LEAST_MS), (column, second)


def test_charting_library_is_the_one_that_was_published() -> None:
    note = json.loads((UPLOT / "origin.json").read_text())
    assert set(note["sha256"]) == {path.name for path in UPLOT.iterdir()} - {"origin.json"}
    for name, published in note["sha256"].items():
        assert hashlib.sha256((UPLOT / name).read_bytes()).hexdigest() == published, name
