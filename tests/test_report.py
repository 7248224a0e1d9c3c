import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from pypdf import PdfReader

from analysis.charts import Judged, style
from analysis.compare import compare
from analysis.page import page
from analysis.page_comparison import chart_comparison, page_comparison
from analysis.report import ReportError, write_comparison, write_page, write_report
from analysis.rundir import load
from analysis.sla import Sla, default, parse_objective
from analysis.verdict import judge
from tests.experiments import experiment
from tests.marks import more
from tests.run_directories import START_S, Load, write_run

MANY = Sla(
    "a long list of things that must hold, with a name to match",
    tuple(
        parse_objective(text)
        for text in (
            "ttft p50 < 60 ms",
            "ttft p95 < 100 ms",
            "ttft_sent p99 < 150 ms",
            "ttfo p95 < 120 ms",
            "itl p99 < 20 ms",
            "itl mean < 10 ms in chat",
            "tpot p90 < 15 ms",
            "output_tokens_per_s >= 100",
            "max_gap p95 < 250 ms in chat from 2 s every 8 s",
            "error_rate < 0.1 %",
            "goodput(ttft < 100 ms, tpot < 20 ms, max_gap < 250 ms, e2e < 2 s) >= 95 %",
        )
    ),
)
LOST = {
    "workers": {"lost": [{"worker": "w1", "detail": "no heartbeat for 3 s on the last node", "in_flight": 7}]}
}
LONG = "meta-llama-Llama-3.1-8B-Instruct-AWQ-INT4-with-a-suffix-that-nobody-would-type-but-a-pipeline-does"
MARKERS = [
    {
        "unix_ns": (START_S + at_s) * 10**9,
        "until_unix_ns": None,
        "text": f"at {at_s} s somebody deployed a build with a rather long name, {'and more ' * at_s}",
        "kind": "load" if at_s % 2 else "note",
    }
    for at_s in (0, 6, 7, 8, 9, 10, 20, 24, 40)
]
SMALL = {"seconds": 25, "rate": 25.0, "tokens": 10}
LOADS: dict[str, tuple[dict[str, Any], Sla]] = {
    "good": ({"name": "baseline", "rate": 240.0, "seed": 2}, default()),
    "simulated": (
        {"name": "awq", "simulated": True, "ttft_ms": 80.0, "burst_share": 0.02, "seed": 2},
        default(),
    ),
    "lost": ({"name": LONG, "meta": LOST}, default()),
    "saturated": ({"name": "too fast $x_1$", "ttft_rise_ms": 3000.0, "in_flight_rise": 300.0}, default()),
    "empty": ({"name": "nothing", "rate": 0.0}, default()),
    "failed": ({"name": "down", "failures": {"connect": 1.0}}, default()),
    "many": ({"name": "many", "failures": {"http_429": 0.01}, "loop": "closed"}, MANY),
    "many-slow": ({"name": LONG, "ttft_ms": 200.0, "phi": 0.9, "simulated": True}, MANY),
    "few": ({"name": "few", "rate": 0.4}, default()),
    "marked": ({"name": "marked", "meta": {"markers": MARKERS}}, default()),
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Judged]:
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name, (knobs, sla) in LOADS.items():
        run = load(write_run(folder / name, Load(**{**SMALL, **knobs})))
        made[name] = (run, judge(run, sla))
    return made


def test_the_runs_are_of_every_kind(runs: dict[str, Judged]) -> None:
    found = {verdict.status for _, verdict in runs.values()}
    assert found == {"PASS", "FAIL", "INCONCLUSIVE", "INVALID", "OVERSATURATED"}


PAGES = [
    ["good"],
    ["lost"],
    ["empty"],
    ["few"],
    more(["many"]),
    ["good", "simulated"],
    ["saturated", "failed"],
    ["many", "many-slow"],
    more(["marked"]),
    ["marked", "simulated"],
]


def visible_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Return every text that is drawn, with its place in pixels, the watermark left out."""
    canvas = FigureCanvasAgg(figure)
    with style():
        figure.draw_without_rendering()
    hidden = {id(text) for axes in figure.axes for text in undrawn(axes)}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    drawn = [text for text in texts if id(text) not in hidden and text.get_rotation() != 30]
    return [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in drawn]


def undrawn(axes: Axes) -> list[Text]:
    """Return what an axes holds without drawing it: ticks beyond its limits, all where it is off."""
    found = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not axes.axison or not low <= tick.get_loc() <= high:
                found += [tick.label1, tick.label2]
    return found


@pytest.mark.parametrize("names", PAGES, ids="+".join)
def test_every_text_is_on_the_page_and_none_covers_another(runs: dict[str, Judged], names: list[str]) -> None:
    assert len(laid_out(page([runs[name] for name in names]))) > 60


def laid_out(figure: Figure) -> list[str]:
    """Return a figure's texts, all of which must be on it, and none cover another."""
    texts = [(text, *map(float, box.extents)) for text, box in visible_texts(figure)]
    width, height = figure.get_size_inches() * figure.dpi
    for text, x0, y0, x1, y1 in texts:
        assert x0 >= 0 <= y0, text
        assert x1 <= width, text
        assert y1 <= height, text
    covered = []
    for (text, x0, y0, x1, y1), (other, left, bottom, right, top) in combinations(texts, 2):
        wide, high = min(x1, right) - max(x0, left), min(y1, top) - max(y0, bottom)
        # Boxes hold room for accents and descenders: a third of the smaller line may be shared.
        if wide > 2 and high > 0.34 * min(y1 - y0, top - bottom):
            covered.append((text, other))
    assert covered == []
    return [text for text, *_ in texts]


@pytest.fixture(scope="session")
def report(runs: dict[str, Judged], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([runs["good"]], tmp_path_factory.mktemp("report"))


def test_the_report_says_what_was_decided_and_where_it_comes_from(
    runs: dict[str, Judged], report: Path
) -> None:
    assert report.name == "report.pdf"
    (sheet,) = PdfReader(report).pages
    assert (round(sheet.mediabox.width), round(sheet.mediabox.height)) == (595, 842)  # A4
    text = sheet.extract_text()
    run, verdict = runs["good"]
    for words in (
        verdict.status,
        "baseline",
        run.meta["run"],
        "vLLM 0.32.0",
        "seed 2",
        "kernel",
        "2026-09-21",
    ):
        assert words in text
    for result in verdict.objectives:
        assert result.text in text
        assert f"{result.n:,}  ({result.n_eff:,.0f})" in text
    for gate in verdict.gates:
        assert gate.name in text
    assert "SIMULATED" not in text


def test_whatever_was_simulated_says_so(runs: dict[str, Judged], tmp_path: Path) -> None:
    pdf = write_page([runs["good"], runs["simulated"]], tmp_path / "report.pdf")
    text = PdfReader(pdf).pages[0].extract_text()
    assert text.count("SIMULATED") >= 2  # the banner and the watermark


def test_fonts_are_embedded_without_what_only_lays_out_text(report: Path) -> None:
    fonts = PdfReader(report).pages[0]["/Resources"]["/Font"]
    for font in fonts.values():
        descendants = font.get_object().get("/DescendantFonts", [font])
        for one in descendants:
            file = one.get_object()["/FontDescriptor"]["/FontFile2"].get_object().get_data()
            tables = {file[at : at + 4] for at in range(12, 12 + 16 * int.from_bytes(file[4:6], "big"), 16)}
            assert b"glyf" in tables
            assert not {b"GDEF", b"GPOS", b"GSUB"} & tables


REBUILD = """
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from analysis.report import write_report
from analysis.rundir import load
from analysis.sla import default
from analysis.verdict import judge
run = load(Path(sys.argv[1]))
write_report([(run, judge(run, default()))], Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_the_same_data_give_the_same_bytes_in_another_process(
    runs: dict[str, Judged], report: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", REBUILD, str(runs["good"][0].path), str(tmp_path)]
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[1])
    names = ["instrument.png", "itl.png", "timeline.png", "ttft.png"]
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == names
    for file in ("report.pdf", *(f"charts/{name}" for name in names)):
        assert (tmp_path / file).read_bytes() == (report.parent / file).read_bytes(), file


def test_a_page_compares_two_runs_at_most(runs: dict[str, Judged], tmp_path: Path) -> None:
    for judged in ([], [runs["good"]] * 3):
        with pytest.raises(ReportError, match=f"^found {len(judged)} runs, expected one, or two to compare$"):
            write_report(judged, tmp_path)


def test_only_a_report_that_is_written_loads_matplotlib() -> None:
    code = (
        "import sys, analysis; assert not {'numpy', 'matplotlib', 'pandas'} & set(sys.modules);"
        "import analysis.report, analysis.junit; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


# Experiments


def served(kernel: str, **knobs: Any) -> dict[str, Any]:
    facts = {"kernels": [kernel], "kernel_expected": "CPU", "kernel_ok": "CPU" in kernel}
    return {**knobs, "meta": {"server": {**facts, "ready_s": 31.4, "memory_mb": 13016}}}


STEADY = {"ttft_sigma": 0.02, "itl_sigma": 0.02}
AWQ = served("CPUWNA16LinearKernel", **STEADY, ttft_ms=90.0, itl_ms=10.0)
INT8 = served("CPUInt8ScaledMMLinearKernelOfSomeOtherLongName", ttft_ms=35.0, itl_ms=7.0, simulated=True)
FIVE = {
    "baseline": {},
    "awq": AWQ,
    "int8": INT8,
    LONG: {"failures": {"http_429": 0.01}},
    "lost": {"meta": LOST},
    "slow $x_1$": {"ttft_ms": 900.0},
}
RISING = {"loop": "open", "seconds": 26, "ttft_rise_ms": 3000.0, "in_flight_rise": 300.0}
CROSSING = {1: {"awq": 0.4}, 4: {}, 16: {"awq": 2.0}}
QUALITY = {
    "awq": {
        "status": "INCONCLUSIVE",
        "reasons": ["kl <= 0.05: between 0.04 and 0.06", "top1"],
        "measures": [{"name": "ppl_ratio", "value": 1.0213}, {"name": "kl", "value": 0.0481}],
    }
}
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "levels": {"servers": {"baseline": STEADY, "awq": AWQ, "int8": INT8}, "levels": CROSSING},
    "one load": {"servers": {"baseline": {}, "awq": AWQ, "int8": INT8}, "blocks": 3},
    "one pair": {"servers": {"baseline": {}, "awq": AWQ}, "blocks": 1},
    "five": {"servers": FIVE, "levels": [1, 2, 4, 8, 16], "blocks": 1, "sla": MANY},
    "no ratio": {"servers": {"baseline": {**RISING, "ttft_rise_ms": 0.0}, "awq": RISING}, "levels": [20, 40]},
}


@pytest.fixture(scope="session")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Judged]]:
    folder = tmp_path_factory.mktemp("experiments")
    return cache(lambda name: experiment(folder / name, **EXPERIMENTS[name]))


@pytest.mark.parametrize("name", ["levels", more("one load"), "one pair", "no ratio", more("five")])
def test_every_text_of_a_comparison_is_on_the_page_and_none_covers_another(
    experiments: Callable[[str], list[Judged]], name: str
) -> None:
    judged = experiments(name)
    comparison = compare(judged)
    texts = laid_out(page_comparison(comparison, judged, QUALITY))
    assert any(text.startswith("awq ") for text in texts)
    assert laid_out(chart_comparison(comparison, judged))


@pytest.mark.usefixtures("no_html")
def test_a_comparison_is_the_first_page_and_pairs_follow(
    experiments: Callable[[str], list[Judged]], tmp_path: Path
) -> None:
    placed = [(one, one[0].meta["experiment"]) for one in experiments("levels")]
    judged = [one for one, at in placed if at["server"] != "int8" or at["level"] == 4]
    comparison = compare(judged)
    pdf = write_comparison(comparison, judged, QUALITY, tmp_path)
    first, *pairs = PdfReader(pdf).pages
    assert (pdf.name, len(pairs)) == ("report.pdf", 3 + 1)  # one candidate at three levels, one at one
    text = " ".join(first.extract_text().split())
    for words in (
        "awq answers earlier than baseline at 1 user, later at 4 and 16 users",
        "Crossover: first token between 1 and 4 users (better below)",
        "CPUWNA16LinearKernel",
        "13,016",
        "INCONCLUSIVE",
        "ppl x 1.021",
        "SLA: 100 ms",
        "SIMULATED",
        "sub-100ms",
    ):
        assert words in text
    assert "awq-16-1" in pairs[2].extract_text()
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["sentences"][0].startswith("SIMULATED: awq answers earlier")
    assert found["quality"] == QUALITY
    assert len(found["readings"]) == len(judged)
    assert {path.name for path in (tmp_path / "charts").iterdir()} == {"comparison.png"}


COMPARE = """
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from analysis.compare import compare
from analysis.report import write_comparison
from analysis.rundir import load
from analysis.sla import default
from analysis.verdict import judge
judged = [(run, judge(run, default())) for run in map(load, sys.argv[2:])]
quality = {"awq": {"status": "PASS", "reasons": ["all 7 limits hold"]}}
write_comparison(compare(judged), judged, quality, Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_the_same_experiment_gives_the_same_bytes_in_another_process(
    experiments: Callable[[str], list[Judged]], tmp_path: Path
) -> None:
    judged = experiments("one pair")
    quality = {"awq": {"status": "PASS", "reasons": ["all 7 limits hold"]}}
    write_comparison(compare(judged), judged, quality, tmp_path / "here")
    command = [sys.executable, "-c", COMPARE, str(tmp_path / "there"), *(str(run.path) for run, _ in judged)]
    environment = {**os.environ, "PYTHONHASHSEED": "54321"}
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[1])
    for file in ("report.pdf", "comparison.json", "charts/comparison.png"):
        assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "here" / file).read_bytes(), file
