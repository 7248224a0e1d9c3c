"""Plan a fleet from the stored runs of an experiment: nothing is measured, any number can be asked again."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from analysis import capacity_plan, demand, prices, rundir, sized, verdict
from analysis.capacity import CapacityError
from analysis.capacity_plan import CapacityPlan
from analysis.fleet import Assumptions
from analysis.reading import ComparisonError
from analysis.replications import decided, replications
from analysis.sla import Sla
from tokenswarm import EXIT_USAGE, TokenswarmError, judging, rejudging, resuming, searching

RESULT, REPLICAS, PDF = sized.FILE, "replicas.csv", "capacity.pdf"

Judged = tuple[rundir.Run, verdict.Verdict]


class Question(NamedTuple):
    """What a planner asks of an experiment's directory."""

    demand: str  # requests/s, or the path of a trace
    by: Assumptions
    sla: Path | None = None
    prices: Path | None = None
    server: str = ""  # all where empty
    by_tokens: bool = False


def answer(directory: Path, asked: Question) -> tuple[CapacityPlan, list[Judged]]:
    """Make the plan; raises TokenswarmError, one line, for a directory, demand or price file that is none."""
    runs, missing = _runs(directory)
    try:
        wanted = _demand(asked)
        price = prices.read(asked.prices) if asked.prices else None
        sla = judging.sla(asked.sla, runs[0])
        loaded = [rundir.load(run) for run in runs]
        if asked.server:
            loaded = _of_server(directory, loaded, asked.server)
        judged = [(run, verdict.judge(run, sla)) for run in loaded]
        made = capacity_plan.plan(
            judged,
            sla,
            wanted,
            asked.by,
            price,
            by_tokens=asked.by_tokens,
            decided=decided(replications(judged, sla)) | ({} if asked.sla else _searched(directory, sla)),
        )
    except (demand.DemandError, prices.PriceError, rundir.RunError, CapacityError, ComparisonError) as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None
    return replace(made, missing=tuple(missing)), judged


def _runs(directory: Path) -> tuple[list[Path], list[str]]:
    """Return the runs of an experiment's directory in the order of its plan, and those that are not there."""
    if (directory / "run.json").exists():
        return [directory], []
    if not (directory / resuming.PLAN).exists():
        expected = f"expected the directory of an experiment, with {resuming.PLAN}"
        raise TokenswarmError(f"{directory}: found no runs, {expected}", EXIT_USAGE)
    _, names = rejudging.planned(directory)
    runs = [directory / name for name in names if (directory / name / "run.json").exists()]
    if not runs:
        raise TokenswarmError(f"{directory}: found none of its {len(names)} runs, expected one", EXIT_USAGE)
    return runs, [name for name in names if directory / name not in runs]


def _searched(directory: Path, sla: Sla) -> dict[tuple[str, float], str]:
    """Return what a load search decided on all runs of a level; nothing where none was made for this SLA.

    A search that was judged again may have been so by another SLA of the same name.
    """
    try:
        found = json.loads((directory / searching.FILE).read_text(encoding="utf-8"))
        levels = [(one["server"], level) for one in found["servers"] for level in one["levels"]]
        kept = {(server, float(one["level"])): one["confirmation"] or one["probe"] for server, one in levels}
        by_this = (found["sla"], found["objectives"]) == (sla.name, [one.text for one in sla.objectives])
        return {at: status for at, status in kept.items() if status and by_this}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # the runs are judged all the same


def _of_server(directory: Path, runs: list[rundir.Run], server: str) -> list[rundir.Run]:
    """Return the runs of one server."""
    names = [str((run.meta.get("experiment") or {}).get("server")) for run in runs]
    if server not in names:
        known = " or ".join(dict.fromkeys(names))
        raise TokenswarmError(f"--server: found {server!r}, expected {known} ({directory})", EXIT_USAGE)
    return [run for run, name in zip(runs, names, strict=True) if name == server]


def _demand(asked: Question) -> capacity_plan.Demand:
    try:
        per_s = float(asked.demand)
    except ValueError:
        return capacity_plan.of_trace(demand.read_trace(asked.demand), asked.by)
    if not (math.isfinite(per_s) and per_s > 0):
        raise TokenswarmError(f"--demand: found {asked.demand}, expected more than 0 requests/s", EXIT_USAGE)
    if asked.by_tokens:
        text = "--by tokens: found a number as --demand, expected a trace with tokens"
        raise TokenswarmError(text, EXIT_USAGE)
    return capacity_plan.number(per_s)


def write(plan: CapacityPlan, judged: list[Judged], directory: Path) -> list[Path]:
    """Write the plan, its charts and its page into the directory; the same data give the same bytes."""
    from analysis import charts, page_capacity  # noqa: PLC0415 - matplotlib costs a second that a mistake need not

    text = json.dumps(plan.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files = [verdict.write_atomically(directory / RESULT, text.encode("utf-8", "replace"))]
    (directory / REPLICAS).unlink(missing_ok=True)  # of another demand
    if plan.demand.trace:
        files.append(verdict.write_atomically(directory / REPLICAS, _over_trace(plan).encode()))
    (directory / "charts").mkdir(exist_ok=True)
    for name, figure in page_capacity.chart_figures(plan, judged).items():
        files.append(charts.save_png(figure, directory / "charts" / f"{name}.png"))
    page = page_capacity.page_capacity(plan, judged)
    return [*files, charts.save_pdf([page], directory / PDF, f"Tokenswarm: capacity for {plan.sla}")]


def _over_trace(plan: CapacityPlan) -> str:
    """Return the steps of the trace as CSV: demand, and for each server the replicas needed and ready."""
    sized = [fleet for fleet in plan.fleets if fleet.autoscaled]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    heads = [f"{fleet.server}_{what}" for fleet in sized for what in ("needed", "ready")]
    writer.writerow(["start_s", "requests", "peak_per_s", *heads])
    for i, step in enumerate(plan.demand.steps):
        moments = [fleet.autoscaled.moments[i] for fleet in sized if fleet.autoscaled]
        counts = [count for one in moments for count in (one.needed, one.ready)]
        writer.writerow([f"{step.start_s:g}", step.arrivals, f"{step.peak_per_s:.6g}", *counts])
    return file.getvalue()
