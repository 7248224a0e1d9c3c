"""The report as one HTML file: the PDF's words and charts, without script and without network.

Charts are images in SVG inside the file, so that nothing in a name or an error message can become markup;
the page's own policy forbids everything else.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import overview_words, page, page_comparison, wording
from .capacity_words import money
from .charts import SIMULATED, STATUS, Figure, Judged, svg_address
from .charts_capacity import key
from .compare import Comparison
from .objective import ObjectiveResult
from .overview import Overview
from .page_panels import panel_figures
from .page_summary import SHARE_KEY, cell_words
from .sentences import paragraphs
from .summary import PERCENTILES, Percentiles, ScenarioSummary
from .verdict import SEVERITY, write_atomically
from .weighing import Quality

ALT = {
    "ttft": "TTFT by percentile",
    "itl": "Share of gaps between tokens by length",
    "timeline": "Requests, in flight, TTFT and tokens over time",
}
"""What the charts of a run show, for whoever cannot see them; the tables beside them hold the figures."""


def write_html(  # noqa: PLR0913 - what is known of several runs
    judged: Sequence[Judged],
    out: Path,
    overview: Overview | None = None,
    comparison: Comparison | None = None,
    quality: Quality | None = None,
    *,
    drawn: Mapping[str, Figure] | None = None,
    compared: Figure | None = None,
) -> Path:
    """Write report.html for one run or several into the folder `out`; the same data give the same bytes.

    Of one run, `drawn` may have the charts already, of a comparison `compared`. An experiment's page leaves
    its runs' charts to the pages in their own folders.
    """
    place = Path(__file__).parent
    pages = Environment(loader=FileSystemLoader(place), autoescape=True, undefined=StrictUndefined)
    charts = _whole_charts(judged, overview, comparison, compared)
    text = pages.get_template("report.html.jinja").render(
        **_whole(judged, overview, comparison, quality),
        **charts,
        runs=[_run(number, one, overview, drawn) for number, one in enumerate(judged, 1)],
    )
    return write_atomically(out / "report.html", text.encode("utf-8", "replace"))


def _whole(
    judged: Sequence[Judged],
    overview: Overview | None,
    comparison: Comparison | None,
    quality: Quality | None,
) -> dict[str, Any]:
    verdicts = [verdict for _, verdict in judged]
    servers = [one.server for one in overview.capacities] if overview else [one.name for one in verdicts]
    told = paragraphs(comparison, quality) if comparison else []
    if overview:
        told.insert(0, ("In short", overview.decision()))
    return {
        "title": f"Tokenswarm: {', '.join(servers)}",
        "simulated": SIMULATED if any(verdict.simulated for verdict in verdicts) else "",
        "status": overview.status if overview else min((v.status for v in verdicts), key=SEVERITY.index),
        "looks": STATUS,
        "symbols": "   ".join(f"{symbol} {status}" for status, (_, _, symbol) in STATUS.items()),
        "key": key(overview.capacities) if overview else "",
        "sla": ", ".join(dict.fromkeys(verdict.sla for verdict in verdicts)),
        "tested": [overview_words.target_words(overview), overview_words.asked(overview)] if overview else [],
        "paragraphs": told,
        "grid": _grid(overview) if overview else None,
        "replicas": _replicas(overview) if overview else None,
        "believed": overview_words.believed(overview) if overview else "",
        "origin": overview_words.origin(overview) if overview else "",
        "version": judged[0][0].meta.get("tokenswarm"),
    }


def _whole_charts(
    judged: Sequence[Judged],
    overview: Overview | None,
    comparison: Comparison | None,
    compared: Figure | None,
) -> dict[str, list[tuple[str, str]]]:
    """Return what the charts show and their addresses: those that a phone has room for, and wide ones."""
    panels = panel_figures(overview) if overview else {}
    wide = {}
    if comparison:
        chart = compared or page_comparison.chart_comparison(comparison, judged)
        wide["Ratios to the baseline, and metrics by load"] = chart
    return {
        "panels": [(name, svg_address(figure)) for name, figure in panels.items()],
        "wide": [(name, svg_address(figure)) for name, figure in wide.items()],
    }


def _grid(overview: Overview) -> dict[str, Any]:
    """Return the verdicts by server and level."""
    levels = overview.levels()
    rows = []
    for capacity in overview.capacities:
        cells = []
        for level in levels:
            found = overview.of(capacity.server, level)
            share = overview.good_share(capacity.server, level)
            cells.append((found.status, cell_words(found, share)) if found else ("", ""))
        rows.append((capacity.server, cells, overview_words.holds_up_to(capacity)))
    unit, named = overview.capacities[0].unit, [f"{level:g}" for level in levels]
    return {"unit": unit, "levels": named, "rows": rows, "key": SHARE_KEY}


def _replicas(overview: Overview) -> dict[str, Any]:
    """Return what each server needs for a demand; without one, how to ask."""
    if not overview.sized:
        return {"words": overview_words.UNSIZED, "rows": []}
    rows = []
    for server, one in overview.sized.needed.items():
        hour, tokens = (
            "" if value is None else f"{money(value)} {one.currency}"
            for value in (one.per_hour, one.per_million_output)
        )
        rows.append((server, "none" if one.replicas is None else f"{one.replicas:,}", hour, tokens))
    return {"words": overview.sized.words, "rows": rows}


def _run(
    number: int, one: Judged, overview: Overview | None, drawn: Mapping[str, Figure] | None
) -> dict[str, Any]:
    run, verdict = one
    charts = {} if overview else drawn or page.chart_figures([one])
    return {
        "anchor": f"run-{number}",
        "page": f"./{quote(run.path.name)}/report.html" if overview else "",
        "name": verdict.name,
        "status": verdict.status,
        "reasons": verdict.reasons,
        "load": wording.load(run, verdict),
        "objectives": [_objective(result) for result in verdict.objectives],
        "scenarios": [_scenario(scenario) for scenario in verdict.scenarios],
        "charts": [(ALT[name], svg_address(charts[name])) for name in ALT if name in charts],
        "markers": [(marker.clock, marker.text) for marker in run.markers],
        "gates": verdict.gates,
        "origin": wording.origin(run.meta, verdict),
    }


def _objective(result: ObjectiveResult) -> Mapping[str, str]:
    worth = "" if result.n_eff is None else f" ({result.n_eff:,.0f})"
    return {
        "text": result.text,
        "status": result.status,
        "observed": wording.observed(result),
        "bounds": wording.bounds(result),
        "allowed": "" if result.allowed is None else wording.figure(result, result.allowed),
        "n": f"{result.n:,}{worth}",
        "reason": result.reason,
    }


def _scenario(scenario: ScenarioSummary) -> Mapping[str, Any]:
    failed = ", ".join(f"{count:,} {outcome}" for outcome, count in scenario.failed.items())
    rates = [
        f"{value:,.3g} {unit}"
        for value, unit in (
            (scenario.requests_per_s, "requests/s"),
            (scenario.output_tokens_per_s, "output tokens/s"),
            (scenario.tokens_per_chunk, "tokens a chunk"),
        )
        if value is not None
    ]
    counts = f"{scenario.ok:,} of {scenario.n:,} answered, {failed or 'none failed'}"
    return {
        "name": scenario.scenario,
        "counts": "; ".join([counts, *rates]),
        "percentiles": [f"p{p:g}" for p in PERCENTILES] + ["max"],
        "latencies": [(metric, _cells(found)) for metric, found in (scenario.latencies or {}).items()],
    }


def _cells(found: Percentiles) -> list[str]:
    values = [found.all[name] for name in (*(f"p{p:g}" for p in PERCENTILES), "max")]
    return ["-" if v is None else "∞" if math.isinf(v) else f"{v:,.1f}" for v in values]
