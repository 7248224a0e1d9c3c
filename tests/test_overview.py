"""The first page of an experiment's report: the decision in words, and nothing on top of anything else."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from pypdf import PdfReader

from analysis import capacity
from analysis.charts import RUNS, STATUS, Judged
from analysis.compare import Comparison, compare
from analysis.gates import Gate
from analysis.overview import Overview
from analysis.overview_words import UNSIZED, believed, holds_up_to, target_words
from analysis.page_summary import cell_words, page_summary
from analysis.pooling import Spread
from analysis.replications import decided, replications
from analysis.report import write_experiment
from analysis.rundir import Run
from analysis.sized import Needed, Sized
from analysis.sla import Sla, parse
from tests.experiments import experiment
from tests.test_report import laid_out

SLA = parse("name: first tokens\nobjectives: [ttft p95 < 100 ms]", "sla")
LONG = {"seconds": 60, "rate": 30.0}
ASKED = Sized(
    "for 90 requests/s (the demand, as given), 70 % utilisation, 1 spare",
    {"base": Needed(6, "EUR", 12.0, 4.5, 3.2), "awq": Needed(None)},
)


def overview(judged: list[Judged], sla: Sla = SLA, quality: Mapping[str, str] | None = None) -> Overview:
    together = replications(judged, sla)
    return Overview(judged, together, capacity.measure(judged, sla, decided(together)), quality or {}, [])


def compared(found: Overview) -> Comparison:
    return compare(found.judged, decided=decided(found.together))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    """One server keeps the SLA at 4 and 8, not at 16; the other at 4 only."""
    levels: dict[int, dict[str, float]] = {4: {}, 8: {"awq": 3.0}, 16: {"awq": 3.5, "base": 3.0}}
    folder = tmp_path_factory.mktemp("sweep")
    return experiment(folder, {"base": dict(LONG), "awq": dict(LONG)}, levels=levels, blocks=1, sla=SLA)


@pytest.fixture(scope="module")
def first_page(sweep: list[Judged]) -> Figure:
    found = overview(sweep)
    return page_summary(found, compared(found))


class Written(NamedTuple):
    """The report of the sweep."""

    pages: list[str]  # their words
    html: str
    folder: Path


@pytest.fixture(scope="module")
def written(sweep: list[Judged], tmp_path_factory: pytest.TempPathFactory) -> Written:
    found = replace(overview(sweep), sized=ASKED)
    folder = tmp_path_factory.mktemp("written")
    pdf = write_experiment(found, compared(found), None, folder)
    pages = [" ".join(page.extract_text().split()) for page in PdfReader(pdf).pages]
    return Written(pages, (folder / "report.html").read_text(), folder)


def charts(page: Figure) -> dict[str, Axes]:
    """Return the page's charts by their titles."""
    return {axes.get_title(loc="left"): axes for axes in page.axes if axes.get_title(loc="left")}


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
    assert overview(good).decision() == "base and awq keep the SLA at 4 users."
    failed = overview(good, quality={"awq": "FAIL"})
    assert failed.status == "FAIL"
    assert "awq keeps the SLA at 4 users, but quality FAILs." in failed.decision()
    missing = replace(overview(good), missing=["awq-8users"])
    assert missing.status == "INCONCLUSIVE"
    assert any("not measured: awq-8users" in text for text in laid_out(page_summary(missing)))


def test_every_text_of_the_page_has_its_place(first_page: Figure) -> None:
    texts = laid_out(first_page)
    for words in (
        "of 6 verdicts: 3 fail, 3 pass",
        "SLA: ttft p95 < 100 ms",
        "SLA holds up to",
        "8 (breaks at 16)",
        "4 (breaks at 8)",
        "Verdicts",
        "Against base",
        "Replicas and cost",
        UNSIZED,
        "TTFT p95 by load, ms",
        "ITL p99 by load, ms",
        "Good requests/s by load",
        "TTFT by percentile at 8 users, ms",
        "ITL at 8 users: share of gaps, ms",
        "Timeline at 8 users, s",
        "TTFT p95, ms",
        "Instrument: may this be believed?",
    ):
        assert words in texts
    assert any("FAIL" in text for text in texts)
    assert any(text.endswith("at 8 users") and " x" in text for text in texts), "awq's ratio to base"
    assert any(text.startswith("Tested: ") and "closed loop" in text for text in texts)
    assert "filled: keeps the whole SLA   cross: breaks it   whisker: 95 % bounds" in texts, (
        "only what is drawn"
    )
    assert "shaded: not judged" in texts, "nothing failed, nothing was offered"


def test_a_servers_capacity_is_an_interval(sweep: list[Judged]) -> None:
    base = overview(sweep).capacities[0]
    known = [
        (8.0, 16.0, "8 (breaks at 16)"),
        (None, 4.0, "not known (breaks at 4)"),
        (16.0, None, "16 or more"),
    ]
    for highest, refuted, words in [*known, (None, None, "not known")]:
        assert holds_up_to(replace(base, highest=highest, refuted=refuted)) == words
    between = replace(base, highest=4.0, refuted=16.0, undecided=(8.0,))
    assert holds_up_to(between) == "4 (8 ?, breaks at 16)"
    assert holds_up_to(replace(base, highest=None, refuted=4.0, contradicting=(8.0,))) == (
        "not known (breaks at 4, but not above)"
    )
    assert "not at 16 (8 undecided)" in replace(overview(sweep), capacities=[between]).decision()


def test_the_word_is_explained_where_no_cell_has_it(sweep: list[Judged]) -> None:
    good = [one for one in sweep if one[0].meta["experiment"]["level"] == 4]
    failed = laid_out(page_summary(overview(good, quality={"awq": "FAIL"})))
    assert "by quality, not by speed" in failed
    assert not any("verdicts:" in text for text in failed)
    assert "runs are missing" in laid_out(page_summary(replace(overview(good), missing=["awq-8users"])))


def test_gates_that_did_not_hold_are_named_of_a_simulator_too(sweep: list[Judged]) -> None:
    broken = Gate("dispatch lag p99", ok=False, severity="warning", found="6 ms", limit="5 ms")
    found = [(run, replace(verdict, simulated=True, gates=(broken,))) for run, verdict in sweep]
    words = believed(overview(found))
    assert (
        "INVALID. What was measured is a simulator. Gates that did not hold: warning: dispatch lag p99 ("
        in words
    )


def test_several_models_are_all_named(sweep: list[Judged]) -> None:
    (run, verdict), *others = sweep
    run = replace(run, meta={**run.meta, "target": {**run.meta["target"], "model": "another"}})
    words = target_words(overview([(run, verdict), *others]))
    assert "another on vLLM" in words
    assert "llama-8b on vLLM" in words


def test_an_undecided_cell_says_what_would_decide_it(sweep: list[Judged]) -> None:
    first = overview(sweep).together[0]
    one = replace(first.objectives[0], status="INCONCLUSIVE", more_minutes=2.2, bound_high=0.1)
    alone = replace(first, status="INCONCLUSIVE", objectives=(one, replace(one, status="PASS")))
    assert cell_words(alone, 0.9) == "? +3 min"
    never = replace(alone, objectives=(one, replace(one, more_minutes=None)))
    assert cell_words(never, 0.9) == "?"
    refused = replace(alone, objectives=(replace(one, bound_high=None), one))
    assert cell_words(refused, 0.9) == "?", "an interval is not yet a decision"
    spread = Spread(one.text, (), None, None, 7)
    pool = replace(alone, objectives=(one, one), spread=(spread, replace(spread, more_runs=1)))
    assert cell_words(pool, 0.9) == "? +7 runs"


def test_each_level_has_the_bounds_of_its_percentile_as_a_whisker(
    first_page: Figure, sweep: list[Judged]
) -> None:
    lines = [
        (float(line.get_xdata()[0]), tuple(map(float, line.get_ydata())))
        for line in charts(first_page)["TTFT p95 by load, ms"].lines
        if len(line.get_xdata())
    ]
    for one in (level for server in overview(sweep).capacities for level in server.levels):
        low, high = one.bounds["ttft p95"]
        assert low is not None
        assert high is not None
        assert low < (one.values["ttft p95"] or 0) < high
        assert (one.level, (low, high)) in lines


def test_a_server_looks_the_same_in_every_chart(sweep: list[Judged]) -> None:
    apart = {("base", 4), ("awq", 8)}
    where = [(one, one[0].meta["experiment"]) for one in sweep]
    found = overview([one for one, at in where if (at["server"], at["level"]) in apart])
    found = replace(found, capacities=[replace(one, highest=8.0) for one in found.capacities])
    curves = charts(page_summary(found))["TTFT by percentile at 8 users, ms"].lines
    (curve,) = [line for line in curves if str(line.get_label()).startswith("awq: ")]
    assert curve.get_color() == RUNS[1][0], "though base was not measured there"


def test_many_servers_and_levels_have_their_places(tmp_path: Path) -> None:
    servers: dict[str, dict[str, Any]] = {f"a-server-with-a-long-name-{i}": {} for i in range(6)}
    levels = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128]
    once = experiment(tmp_path, servers, levels=[1], blocks=1, sla=SLA)
    found = overview([(at_level(run, level), verdict) for run, verdict in once for level in levels])
    needed = {name: Needed(1234, "EUR", 1234.5, 0.1234, 0.0123) for name in servers}
    asked = replace(found, sized=Sized(f"{ASKED.words}, {ASKED.words}", needed))
    assert len(laid_out(page_summary(asked, compared(found)))) > 60


def at_level(run: Run, level: int) -> Run:
    return replace(run, meta={**run.meta, "experiment": {**run.meta["experiment"], "level": level}})


def test_the_report_begins_with_the_decision(written: Written) -> None:
    first, *others = written.pages
    for words in (
        "base keeps the SLA up to 8 users, not at 16",
        "awq answered later than base",
        ASKED.words,
        "12.00",
        "EUR an hour",
        "every figure is in verdict.json",
    ):
        assert words in first
    assert len(others) == 1 + 3
    image = imread(written.folder / "charts" / "summary.png")
    assert image.shape[0] == pytest.approx(image.shape[1] * math.sqrt(2), rel=0.01), "the whole page"


def test_the_html_has_the_same_on_one_page(written: Written) -> None:
    for words in (
        "base keeps the SLA up to 8 users, not at 16",
        ASKED.words,
        "12.00 EUR",
        "4.50 EUR",
        "6 runs, ",
        "SLA: ttft p95 &lt; 100 ms",
        "<td>8 (breaks at 16)</td>",
        *(f'<span class="verdict {status}" title="{status}">' for status in ("PASS", "FAIL")),
        *(f".{status} {{ background: {color}" for status, (color, _, _) in STATUS.items()),
    ):
        assert words in written.html
    assert written.html.count("<img") == 3 + 2 + 1 + 1  # by load, distributions, timeline, comparison
    assert 'src="http' not in written.html


@pytest.mark.usefixtures("no_html")
def test_one_server_alone_has_a_page_for_each_level(sweep: list[Judged], tmp_path: Path) -> None:
    placed = [(one, one[0].meta["experiment"]) for one in sweep]
    alone = [one for one, at in placed if at["server"] == "base" and at["level"] in {4, 8}]
    pdf = write_experiment(overview(alone), None, None, tmp_path)
    assert len(PdfReader(pdf).pages) == 1 + 2


@pytest.mark.parametrize(
    ("quality", "sized", "pages"),
    [
        (None, None, 1),
        ({"awq": {"status": "PASS", "reasons": []}}, None, 3),
        pytest.param(None, ASKED, 3, marks=pytest.mark.slow),
    ],
)
def test_two_runs_side_by_side_say_all_unless_there_is_more_to_tell(  # noqa: PLR0913, PLR0917 - three are a case
    request: pytest.FixtureRequest,
    sweep: list[Judged],
    tmp_path: Path,
    quality: dict[str, Any] | None,
    sized: Sized | None,
    pages: int,
) -> None:
    pair = [one for one in sweep if one[0].meta["experiment"]["level"] == 4]
    found = replace(overview(pair), sized=sized)
    if not sized:
        request.getfixturevalue("no_html")
    pdf = write_experiment(found, compared(found), quality, tmp_path)
    made = PdfReader(pdf).pages
    assert len(made) == pages
    assert (tmp_path / "comparison.json").exists()
    words = " ".join(made[0].extract_text().split())
    assert "awq answered" in words, "how they compare"
    if sized:
        names = ("report.pdf", "report.html", "comparison.json", "charts/summary.png")
        before = [(tmp_path / name).read_bytes() for name in names]
        write_experiment(found, compared(found), quality, tmp_path)
        assert [(tmp_path / name).read_bytes() for name in names] == before
