"""What a measurement must be like before an SLA is decided: reads the question, prints the answer."""

from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import planning, rundir, verdict
from analysis.objective import ObjectiveResult
from analysis.sla import Sla
from tokenswarm import EXIT_USAGE, TokenswarmError, experiment, judging

DEFAULT_RUN_S = 60.0


@dataclass(frozen=True)
class Planned:
    """The answer, and what it supposes."""

    sla: str
    supposed: planning.Supposed
    like: Path | None
    needs: list[planning.Need]
    servers: int
    blocks: int
    margin: float
    paired: dict[float, int | None]  # CV -> blocks that show the margin


def read(  # noqa: PLR0913 - the command's options
    file: Path,
    *,
    rate: float | None,
    part: float,
    tau: float,
    like: Path | None,
    run_s: float | None,
    margin: float,
    cvs: tuple[float, ...],
) -> Planned:
    """Plan an SLA, or an experiment with its own; margin and CVs in percent. Raises TokenswarmError."""
    plan = experiment.read(file) if _is_experiment(file) else None
    sla = judging.experiment_sla(plan, file) if plan else judging.sla(file)
    if rate is None and plan and plan.load.loop == "open":
        rate = min(plan.load.levels())
    if rate is None:
        raise TokenswarmError(f"{file}: found no rate of arrivals, expected --rate", EXIT_USAGE)
    duration_s = plan.load.duration_s if plan else DEFAULT_RUN_S
    supposed = planning.Supposed(rate, run_s or duration_s, part, tau)
    earlier = _earlier(like, sla) if like else [None] * len(sla.objectives)
    return Planned(
        sla=sla.name,
        supposed=supposed,
        like=like,
        needs=[
            planning.need(objective, supposed, found)
            for objective, found in zip(sla.objectives, earlier, strict=True)
        ],
        servers=len(plan.servers) if plan else 1,
        blocks=plan.blocks if plan else 1,
        margin=margin,
        paired={cv: planning.blocks_needed(margin / 100, cv / 100) for cv in cvs},
    )


def _is_experiment(file: Path) -> bool:
    """Say whether a YAML file has servers; whatever else is wrong with it is said by whoever reads it."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(found, dict) and "servers" in found


def _earlier(path: Path, sla: Sla) -> list[planning.Earlier | None]:
    """Return what the run says of each objective, of those about stretches over all of them together."""
    whole = [replace(one, scope=replace(one.scope, every_ns=None)) for one in sla.objectives]
    try:
        found = verdict.judge(rundir.load(path), replace(sla, objectives=tuple(whole)))
    except rundir.RunError as error:
        raise TokenswarmError(f"--like: {error}", EXIT_USAGE) from None
    window_s = (found.window_end_unix_ns - found.window_start_unix_ns) / 1e9
    requests = sum(scenario.n for scenario in found.scenarios)
    return [_of_part(result, requests, window_s) for result in found.objectives]


def _of_part(result: ObjectiveResult, requests: int, window_s: float) -> planning.Earlier | None:
    """Return a result with the requests of the part of the window that it is about."""
    if result.start_s is not None and result.end_s is not None:
        requests = round(requests * (result.end_s - result.start_s) / window_s)
    return planning.Earlier(result, requests) if requests else None


def show(planned: Planned, console: Console) -> None:
    """Print the plan for a person."""
    supposed = planned.supposed
    table = Table(title=f"SLA {planned.sla}, {supposed.rate_per_s:g} requests/s", title_justify="left")
    for heading in (
        "objective",
        "independent",
        "requests",
        "one run, minutes",
        f"runs of {supposed.run_s:g} s",
    ):
        table.add_column(heading, justify="left" if heading == "objective" else "right")
    for need in planned.needs:
        figures = (need.independent, need.requests, need.minutes, need.runs)
        table.add_row(need.text, *("-" if figure is None else _figure(figure) for figure in figures))
    console.print(table)
    told = [
        f"Each is decided in 80 of 100 cases, if {supposed.part:g} of the bad events that are allowed happen",
        f"and requests depend on each other as in {planned.like}."
        if planned.like
        else f"and one in {supposed.tau:g} requests is independent (--tau; --like asks an earlier run).",
        *(f"{need.text}: {need.reason}" for need in planned.needs if need.reason),
    ]
    asking = [need for need in planned.needs if need.runs]
    if asking:
        most = max(asking, key=lambda need: need.runs or 0)
        whose = f" (so many for {most.text})" if len(asking) > 1 else ""
        short = any(need.requests and not need.runs for need in planned.needs)
        told.append(f"For {'the others' if short else 'all of them'}: blocks: {most.runs}{whose}")
    if planned.servers > 1:
        told += [
            f"A difference of {planned.margin:g} % between servers, where runs vary by {cv:g} %: "
            + ("more than 10,000 blocks" if blocks is None else f"{blocks:,} paired blocks")
            for cv, blocks in planned.paired.items()
        ]
    for line in told:
        console.print(Text(line), soft_wrap=True)


def _figure(value: float) -> str:
    return f"{value:.1f}" if isinstance(value, float) and value < 10 else f"{value:,.0f}"
