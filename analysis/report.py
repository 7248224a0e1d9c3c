"""Reports: of one run, of two side by side, or of an experiment; report.pdf and the charts as PNGs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .compare import Comparison
from .overview import Overview
from .rundir import Run
from .sentences import paragraphs, sentences
from .verdict import Verdict, plain, write_atomically
from .weighing import Quality, weigh

MAX_RUNS = 2

Judged = tuple[Run, Verdict]


class ReportError(ValueError):
    """A report that cannot be made: says what was found and what was expected."""


def write_report(judged: Sequence[Judged], out: Path) -> Path:
    """Write report.pdf, report.html and charts/*.png into the folder `out`; return the PDF's path.

    The same runs give the same bytes. Raises ReportError for any number of runs but one or two.
    """
    if not 1 <= len(judged) <= MAX_RUNS:
        raise ReportError(f"found {len(judged)} runs, expected one, or two to compare")
    from . import charts, page, web_report  # noqa: PLC0415 - matplotlib costs a second that only a report needs

    (out / "charts").mkdir(parents=True, exist_ok=True)
    drawn = page.chart_figures(judged)
    for name, figure in drawn.items():
        charts.save_png(figure, out / "charts" / f"{name}.png")
    web_report.write_html(judged, out, drawn=drawn if len(judged) == 1 else None)
    return write_page(judged, out / "report.pdf")


def write_page(judged: Sequence[Judged], path: Path) -> Path:
    """Write the PDF alone, of one run or two; of a run that goes on it says so."""
    from . import charts, page  # noqa: PLC0415 - as above

    title = "Tokenswarm: " + " and ".join(verdict.name for _, verdict in judged)
    return charts.save_pdf([page.page(judged)], path, title)


def write_experiment(
    overview: Overview, comparison: Comparison | None, quality: Quality | None, out: Path
) -> Path:
    """Write report.pdf and .html, charts and comparison.json into `out`; return the PDF's path.

    The first page (also charts/summary.png) is the decision; then comes the comparison, if there is one, and
    a page for each level: the pairs of its first block side by side, or else its first run. Two runs side by
    side keep the one page of `write_report`, with the comparison in a sentence, unless there is more to tell:
    a quality verdict, or replicas that somebody asked for. The same data give the same bytes.
    """
    from . import charts, page, page_comparison, page_summary, web_report  # noqa: PLC0415 - as above

    (out / "charts").mkdir(parents=True, exist_ok=True)
    judged, pairs = overview.judged, _pairs(comparison, overview.judged) if comparison else []
    pair = pairs[0] if len(judged) == MAX_RUNS and pairs and not (quality or overview.sized) else None
    said = paragraphs(comparison, quality)[0] if comparison and pair else None
    first = page.page(pair, said) if pair else page_summary.page_summary(overview, comparison, quality)
    charts.save_png(first, out / "charts" / "summary.png")
    drawn = None
    if comparison:
        _write_json(comparison, quality, out)
        drawn = page_comparison.chart_comparison(comparison, judged)
        charts.save_png(drawn, out / "charts" / "comparison.png")
    web_report.write_html(judged, out, overview, comparison, quality, compared=drawn)
    title = "Tokenswarm: " + ", ".join(one.server for one in overview.capacities)
    if pair:
        return charts.save_pdf([first], out / "report.pdf", title)
    pages = [first]
    if comparison:
        pages.append(page_comparison.page_comparison(comparison, judged, quality or {}))
    pages += map(page.page, pairs or _singles(judged))
    return charts.save_pdf(pages, out / "report.pdf", title)


def write_comparison(
    comparison: Comparison, judged: Sequence[Judged], quality: Quality | None, out: Path
) -> Path:
    """Write comparison.json, charts/comparison.png, report.pdf and .html of a comparison between directories.

    A page on the comparison, and the pairs of each level's first block that has any, side by side.
    """
    from . import charts, page, page_comparison, web_report  # noqa: PLC0415 - as above

    (out / "charts").mkdir(parents=True, exist_ok=True)
    _write_json(comparison, quality, out)
    chart = page_comparison.chart_comparison(comparison, judged)
    charts.save_png(chart, out / "charts" / "comparison.png")
    web_report.write_html(judged, out, None, comparison, quality, compared=chart)
    pages = [page_comparison.page_comparison(comparison, judged, quality or {})]
    pages += map(page.page, _pairs(comparison, judged))
    title = f"Tokenswarm: {', '.join(comparison.candidates)} against {comparison.baseline}"
    return charts.save_pdf(pages, out / "report.pdf", title)


def _write_json(comparison: Comparison, quality: Quality | None, out: Path) -> None:
    text = json.dumps(comparison_json(comparison, quality), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(out / "comparison.json", f"{text}\n".encode("utf-8", "replace"))


def comparison_json(comparison: Comparison, quality: Quality | None) -> dict[str, Any]:
    """Return what comparison.json holds: the comparison, each candidate's verdict, words, and the quality."""
    return {
        **comparison.to_json(),
        "weighed": {name: plain(asdict(one)) for name, one in weigh(comparison, quality).items()},
        "sentences": sentences(comparison, quality),
        "quality": plain(quality or {}),
    }


def _singles(judged: Sequence[Judged]) -> list[list[Judged]]:
    """Return the first run of each server at each level, alone."""
    first: dict[tuple[str, float], Judged] = {}
    for one in judged:
        at = one[0].meta["experiment"]
        first.setdefault((str(at["server"]), float(at["level"])), one)
    return [[one] for one in first.values()]


def _pairs(comparison: Comparison, judged: Sequence[Judged]) -> list[list[Judged]]:
    """Return [baseline, candidate] for each candidate and level, of the first block that has both."""
    runs = {}
    for one in judged:
        at = one[0].meta["experiment"]
        runs[(str(at["server"]), float(at["level"]), int(at["block"]))] = one
    blocks = sorted({block for _, _, block in runs})
    made = []
    for contrast in comparison.contrasts:
        for block in blocks:
            names = (comparison.baseline, contrast.candidate)
            both = [runs[key] for name in names if (key := (name, contrast.level, block)) in runs]
            if len(both) == MAX_RUNS:
                made.append(both)
                break
    return made
