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

from . import page, page_comparison, wording
from .charts import STATUS, Figure, Judged, svg_address
from .compare import Comparison
from .objective import ObjectiveResult
from .overview import Overview
from .page_summary import chart_summary
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
) -> Path:
    """Write report.html for one run or several into the folder `out`; the same data give the same bytes.

    Of one run, `drawn` may have the charts already. An experiment's page leaves its runs' charts to the pages
    in their own folders.
    """
    place = Path(__file__).parent
    pages = Environment(loader=FileSystemLoader(place), autoescape=True, undefined=StrictUndefined)
    text = pages.get_template("report.html.jinja").render(
        _whole(judged, overview, comparison, quality, drawn)
    )
    return write_atomically(out / "report.html", text.encode("utf-8", "replace"))


def _whole(
    judged: Sequence[Judged],
    overview: Overview | None,
    comparison: Comparison | None,
    quality: Quality | None,
    drawn: Mapping[str, Figure] | None,
) -> dict[str, Any]:
    verdicts = [verdict for _, verdict in judged]
    servers = [one.server for one in overview.capacities] if overview else [one.name for one in verdicts]
    whole, told = [], paragraphs(comparison, quality) if comparison else []
    if overview:
        whole.append(("Verdicts, latency and goodput by load", svg_address(chart_summary(overview))))
        told.insert(0, ("In short", overview.decision()))
    if comparison:
        chart = page_comparison.chart_comparison(comparison, judged)
        whole.append(("Ratios to the baseline, and metrics by load", svg_address(chart)))
    return {
        "title": f"Tokenswarm: {', '.join(servers)}",
        "simulated": any(verdict.simulated for verdict in verdicts),
        "status": overview.status if overview else min((v.status for v in verdicts), key=SEVERITY.index),
        "symbols": {status: symbol for status, (_, _, symbol) in STATUS.items()},
        "sla": ", ".join(dict.fromkeys(verdict.sla for verdict in verdicts)),
        "paragraphs": told,
        "overview": whole,
        "runs": [_run(number, one, overview, drawn) for number, one in enumerate(judged, 1)],
        "version": judged[0][0].meta.get("tokenswarm"),
    }


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
