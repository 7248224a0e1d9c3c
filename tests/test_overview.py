"""The first page of an experiment's report: the decision in words, and nothing on top of anything else."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from analysis import capacity
from analysis.charts import Judged
from analysis.compare import compare
from analysis.overview import Overview
from analysis.page_summary import chart_summary, page_summary
from analysis.replications import decided, replications
from analysis.report import write_experiment
from analysis.rundir import Run
from analysis.sla import Sla, parse
from tests.experiments import experiment
from tests.test_report import laid_out

SLA = parse("name: first tokens\nobjectives: [ttft p95 < 100 ms]", "sla")
LONG = {"seconds": 60, "rate": 30.0}


def overview(judged: list[Judged], sla: Sla = SLA, quality: Mapping[str, str] | None = None) -> Overview:
    together = replications(judged, sla)
    return Overview(judged, together, capacity.measure(judged, sla, decided(together)), quality or {}, [])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    """One server keeps the SLA at 4 and 8, not at 16; the other at 4 only."""
    levels: dict[int, dict[str, float]] = {4: {}, 8: {"awq": 3.0}, 16: {"awq": 3.5, "base": 3.0}}
    folder = tmp_path_factory.mktemp("sweep")
    return experiment(folder, {"base": dict(LONG), "awq": dict(LONG)}, levels=levels, blocks=1, sla=SLA)


def test_the_decision_says_up_to_which_load(sweep: list[Judged]) -> None:
    found = overview(sweep)
    assert found.status == "FAIL"
    assert (
        found.decision()
        == "base keeps the SLA up to 8 users, not at 16; awq keeps the SLA up to 4 users, not at 8."
    )
    assert {str(run.meta["experiment"]["server"]) for run, _ in found.at_decision()} == {"base", "awq"}
    assert all(run.meta["experiment"]["level"] == 8 for run, _ in found.at_decision())


def test_quality_and_what_is_missing_count(sweep: list[Judged]) -> None:
    good = [one for one in sweep if one[0].meta["experiment"]["level"] == 4]
    assert overview(good).status == "PASS"
    failed = overview(good, quality={"awq": "FAIL"})
    assert failed.status == "FAIL"
    assert "awq keeps the SLA at 4 users, but FAILs on quality." in failed.decision()
    whole = overview(good)
    missing = Overview(whole.judged, whole.together, whole.capacities, {}, ["awq-8users"])
    assert missing.status == "INCONCLUSIVE"
    assert any("not measured: awq-8users" in text for text in laid_out(page_summary(missing)))


def test_every_text_of_the_page_has_its_place(sweep: list[Judged]) -> None:
    texts = laid_out(page_summary(overview(sweep)))
    assert any("FAIL" in text for text in texts)
    assert "16" in texts
    assert len(laid_out(chart_summary(overview(sweep)))) > 20


def test_many_servers_and_levels_have_their_places(tmp_path: Path) -> None:
    servers: dict[str, dict[str, Any]] = {f"a-server-with-a-long-name-{i}": {} for i in range(6)}
    levels = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128]
    once = experiment(tmp_path, servers, levels=[1], blocks=1, sla=SLA)
    judged = [(at_level(run, level), verdict) for run, verdict in once for level in levels]
    assert len(laid_out(page_summary(overview(judged)))) > 60


def at_level(run: Run, level: int) -> Run:
    return replace(run, meta={**run.meta, "experiment": {**run.meta["experiment"], "level": level}})


def test_the_report_begins_with_the_decision(sweep: list[Judged], tmp_path: Path) -> None:
    found = overview(sweep)
    verdicts = decided(found.together)
    written = write_experiment(found, compare(sweep, decided=verdicts), None, tmp_path)
    pages = [page.extract_text() for page in PdfReader(written).pages]
    assert "base keeps the SLA up to 8 users" in " ".join(pages[0].split())
    assert len(pages) == 2 + 3
    assert (tmp_path / "charts" / "summary.png").exists()
    assert "base keeps the SLA up to 8 users" in (tmp_path / "report.html").read_text()


def test_one_server_alone_has_a_page_for_each_level(sweep: list[Judged], tmp_path: Path) -> None:
    alone = [one for one in sweep if one[0].meta["experiment"]["server"] == "base"]
    written = write_experiment(overview(alone), None, None, tmp_path)
    assert len(PdfReader(written).pages) == 1 + 3


@pytest.fixture(scope="module")
def pair(sweep: list[Judged]) -> list[Judged]:
    return [one for one in sweep if one[0].meta["experiment"]["level"] == 4]


@pytest.fixture(scope="module")
def of_pair(pair: list[Judged], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(overview(pair), compare(pair), None, tmp_path_factory.mktemp("pair"))


def test_two_runs_side_by_side_say_all(of_pair: Path) -> None:
    assert len(PdfReader(of_pair).pages) == 1
    assert (of_pair.parent / "comparison.json").exists()


def test_unless_there_is_quality_to_tell(pair: list[Judged], tmp_path: Path) -> None:
    quality = {"awq": {"status": "PASS", "reasons": []}}
    written = write_experiment(overview(pair), compare(pair), quality, tmp_path)
    assert len(PdfReader(written).pages) == 3
    assert (tmp_path / "comparison.json").exists()


def test_the_same_runs_give_the_same_bytes(pair: list[Judged], of_pair: Path, tmp_path: Path) -> None:
    again = write_experiment(overview(pair), compare(pair), None, tmp_path)
    for file in ("report.pdf", "report.html", "comparison.json", "charts/summary.png"):
        assert (again.parent / file).read_bytes() == (of_pair.parent / file).read_bytes(), file
