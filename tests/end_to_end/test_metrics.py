"""/llm/metrics against the run directories, over two runs; and the dashboard against /llm/metrics."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlencode

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from analysis.record import OUTCOMES, RequestRecord
from tests.absent import absent
from tests.end_to_end.locusts import (
    ALL_THERE,
    ROOT,
    Result,
    check_accounts,
    command,
    finished,
    free_port,
    simulator,
    started,
)
from tests.end_to_end.weblocust import Served, serving, until
from tests.marks import more
from tests.sim_server import call

TURNS = (
    '[{"ttft_ms": 30, "itl_ms": 5, "tokens": 20}, {"ttft_ms": 60, "itl_ms": 8, "tokens": 9}, {"status": 500}]'
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found["tokenswarm_" + name, frozenset(labels.items())]


@dataclass
class Watched:
    """Two runs of one process: what Prometheus was told, and the run directories."""

    model: str
    scrapes: list[Samples]  # in order, one after each run among them
    texts: list[str]
    during: str
    after: list[Samples]
    runs: list[Result]
    openmetrics: str


def watch(served: Served, *, workers: int) -> Watched:
    scrapes: list[Samples] = []
    texts: list[str] = []

    def scrape() -> Samples:
        answer = served.get("/llm/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        texts.append(answer.body.decode())
        scrapes.append(samples(texts[-1]))
        return scrapes[-1]

    def shows(name: str, at_least: float) -> bool:
        return value(scrape(), name) >= at_least

    scrape()
    after, runs, during = [], [], ""
    for options in ({}, {"scenario": "second"}):
        begun = value(scrapes[-1], "chunks_total")
        served.start(users=20, **options)
        until(lambda begun=begun: shows("chunks_total", begun + 300))  # type: ignore[misc]
        until(lambda: shows("workers_reporting", max(1, workers)))
        during = texts[-1]
        runs.append(served.stop())
        after.append(scrape())
    more = served.get("/llm/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert more.headers["content-type"].startswith("application/openmetrics-text")
    return Watched(runs[0].meta["target"]["model"], scrapes, texts, during, after, runs, more.body.decode())


@pytest.fixture(scope="module", params=[more(0, id="one process"), pytest.param(2, id="master and workers")])
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    path = tmp_path_factory.mktemp("metrics")
    with serving(path, script=TURNS, workers=request.param) as served:
        yield watch(served, workers=request.param)


def of_runs(runs: list[Result], scenario: str) -> list[RequestRecord]:
    return [record for run in runs for record in run.records if record.scenario == scenario]


def test_what_is_told_is_what_the_run_directories_hold(watched: Watched) -> None:
    for run in watched.runs:
        check_accounts(run)
    for number, told in enumerate(watched.after):
        runs = watched.runs[: number + 1]
        for scenario in ("chat", "second")[: number + 1]:
            pair = {"scenario": scenario, "model": watched.model}
            records = of_runs(runs, scenario)
            assert {record.outcome for record in records} >= {"ok", "http_5xx"}
            for outcome in OUTCOMES:
                counted = sum(record.outcome == outcome for record in records)
                assert value(told, "requests_total", outcome=outcome, **pair) == counted, outcome
            for tokens in ("prompt_tokens", "output_tokens"):
                counted = sum(getattr(record, tokens) or 0 for record in records)
                assert value(told, f"{tokens}_total", **pair) == counted > 0
            check_histograms(told, pair, records)
        records = [record for run in runs for record in run.records]
        assert value(told, "requests_started_total") == len(records)
        assert value(told, "chunks_total") == sum(record.chunks for record in records)
        assert value(told, "coalesced_chunks_total") == sum(record.coalesced for record in records)
        assert value(told, "gaps_total") == sum(record.gaps for record in records)
        assert value(told, "foreign_reports_total") == value(told, "duplicate_reports_total") == 0


def check_histograms(told: Samples, pair: dict[str, str], records: list[RequestRecord]) -> None:
    for name, values in {
        "time_to_first_token": [record.first_ns for record in records if record.first_ns is not None],
        "e2e_request_latency": [record.end_ns for record in records if record.outcome == "ok"],
        "dispatch_lag": [record.sent_ns for record in records if record.sent_ns is not None],
    }.items():
        buckets = buckets_of(told, f"{name}_seconds", pair)
        assert len(buckets) > 30
        for le, count in buckets.items():
            assert count == sum(value <= Decimal(le) * 10**9 for value in values), (name, le)
        assert value(told, f"{name}_seconds_count", **pair) == len(values)
        assert value(told, f"{name}_seconds_sum", **pair) == pytest.approx(sum(values) / 1e9, rel=1e-12)
    gaps = buckets_of(told, "inter_token_latency_seconds", pair)
    assert gaps["+Inf"] == sum(record.gaps for record in records)
    assert value(told, "inter_token_latency_seconds_sum", **pair) == pytest.approx(
        sum(record.gap_sum_ns for record in records) / 1e9, rel=1e-12
    )


def buckets_of(told: Samples, name: str, pair: dict[str, str]) -> dict[str, float]:
    found = {}
    for (sample, labels), count in told.items():
        own = dict(labels)
        if sample == f"tokenswarm_{name}_bucket" and own | pair == own:
            found[own["le"]] = count
    return found


def test_counters_never_go_back_over_two_runs(watched: Watched) -> None:
    assert len(watched.scrapes) > 6
    growing = re.compile(r"_(total|bucket|count|sum)$")
    for before, after in zip(watched.scrapes, watched.scrapes[1:], strict=False):
        for key, number in before.items():
            if growing.search(key[0]):
                assert after[key] >= number, key


def test_gauges_speak_of_the_run_that_is_on(watched: Watched) -> None:
    expected = len(watched.runs[0].meta["workers"]["seen"])
    during = samples(watched.during)
    assert value(during, "workers_expected") == value(during, "workers_reporting") == expected
    assert value(during, "missing_reports") == 0
    (info,) = [dict(labels) for name, labels in during if name == "tokenswarm_run_info"]
    assert info == {
        "run": watched.runs[1].meta["run"],
        "scenario": "second",
        "model": watched.model,
        "loop": "open",
        "simulated": "true",
    }
    assert max(value(told, "requests_in_flight") for told in watched.scrapes) > 0
    assert max(value(told, "worker_cpu_utilization_ratio") for told in watched.scrapes) > 0
    for told in (watched.scrapes[0], *watched.after):
        for name in ("requests_in_flight", "workers_expected", "workers_reporting", "read_lag_max_seconds"):
            assert value(told, name) == 0
        assert not any(name == "tokenswarm_run_info" for name, _ in told)


def test_both_formats_are_what_their_parsers_expect(watched: Watched) -> None:
    families = list(openmetrics(watched.openmetrics))
    assert {family.name for family in families} >= {"tokenswarm_time_to_first_token_seconds"}
    assert all(family.name.startswith("tokenswarm_") for family in families)
    assert all(family.documentation.endswith(".") for family in families)
    assert len(watched.texts[-1]) < 200_000


def require_prometheus(program: str) -> None:
    if not shutil.which(program):
        absent(f"no `{program}` (Debian: apt-get install prometheus)")


def test_promtool_finds_nothing_to_improve(watched: Watched) -> None:
    require_prometheus("promtool")
    for text in (watched.texts[0], watched.during, watched.texts[-1]):
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


BOARD = ROOT / "locustfiles" / "grafana.json"


def expressions() -> list[str]:
    """Return every query of the dashboard: panels, variables, annotations."""
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    found += [variable["definition"] for variable in board["templating"]["list"] if "definition" in variable]
    return found + [note["expr"] for note in board["annotations"]["list"]]


def test_dashboard_asks_only_for_what_there_is(watched: Watched) -> None:
    labels: dict[str, set[str]] = {}
    for name, found in samples(watched.during):
        labels.setdefault(name, {"instance", "job"}).update(key for key, _ in found)
    asked: set[str] = set()
    for expression in expressions():
        names = re.findall(r"\b(tokenswarm_\w+)(?:\{([^}]*)\})?", expression)
        assert names, expression
        for name, selector in names:
            assert name in labels, expression
            assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector)) <= labels[name], expression
            by = re.findall(r"by \(([^)]*)\)", expression)
            assert {label.strip() for part in by for label in part.split(",")} <= labels[name], expression
            asked.add(name)
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}
    known = {re.sub(r"_(bucket|count|sum)$", "", name) for name in labels}
    assert known - shown <= {"tokenswarm_reports_total"}, "told, and on no panel"


def test_dashboard_takes_any_data_source() -> None:
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    sources = [item for item in board["templating"]["list"] if item["type"] == "datasource"]
    assert [item["query"] for item in sources] == ["prometheus"]
    used = re.findall(r'"uid": "([^"]+)"', BOARD.read_text(encoding="utf-8"))
    assert set(used) == {"${datasource}", board["uid"]}
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24
    assert {"heatmap", "stat", "timeseries"} == {panel["type"] for panel in panels}


def test_prometheus_itself_has_an_answer_for_every_panel(tmp_path: Path) -> None:
    require_prometheus("prometheus")
    with serving(tmp_path, script=TURNS) as served:
        served.start(users=20)
        port = free_port()
        settings = {
            "job_name": "load",
            "scrape_interval": "1s",
            "metrics_path": "/llm/metrics",
            "static_configs": [{"targets": [f"127.0.0.1:{served.port}"]}],
        }
        file = tmp_path / "prometheus.yml"  # JSON is YAML, too
        file.write_text(json.dumps({"scrape_configs": [settings]}))
        order = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
        order.append(f"--web.listen-address=127.0.0.1:{port}")
        with (tmp_path / "prometheus.log").open("w") as said:
            prometheus = subprocess.Popen(order, stdout=said, stderr=said)

        def answers(expression: str) -> list[object]:
            path = "/api/v1/query?" + urlencode({"query": expression})
            return list(call(port, path).json["data"]["result"])

        try:
            until(lambda: "ready to receive web requests" in (tmp_path / "prometheus.log").read_text())
            until(lambda: bool(answers('rate(tokenswarm_requests_total{outcome="http_5xx"}[10s]) > 0')))
            for expression in expressions():
                if not expression.startswith(("label_values", "changes")):
                    asked = expression.replace("$__rate_interval", "10s")
                    assert answers(re.sub(r'"\$\w+"', '".*"', asked)), expression
        finally:
            prometheus.terminate()
            prometheus.wait(20)


def test_headless_run_is_answered_on_a_port_of_its_own(tmp_path: Path) -> None:
    with simulator('{"itl_ms": 5}') as (url, _):
        port = free_port()
        order = command("chat", url, "-u", "2", "-t", "4", "--metrics-port", str(port))
        with started(order, tmp_path / "locust.log") as locust:
            locust.wait_until_it_says("Prometheus is answered at")
            locust.wait_until_it_says(ALL_THERE)
            until(lambda: value(samples(call(port, "/metrics").body.decode()), "chunks_total") > 0)
            assert locust.wait() == 0


def test_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with simulator('{"itl_ms": 5}') as (url, sim):
        order = command("chat", url, "-u", "1", "-t", "2", "--metrics-port", str(sim.port))
        code, locust = finished(order, tmp_path / "locust.log")
    assert code == 2
    (error,) = locust.errors()
    assert error == f"--metrics-port: cannot listen on 127.0.0.1:{sim.port} (Address already in use)"
    assert "Traceback" not in locust.said
