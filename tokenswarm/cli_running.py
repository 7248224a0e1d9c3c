"""The command line of experiments: arguments only, as in cli."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tokenswarm import EXIT_USAGE, ROOT, TokenswarmError
from tokenswarm.cli_concluding import machine_option, markdown_option, stdout_is_taken, tell

out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the results (default: out/<time>).",
)


@click.command()
@out_option
@machine_option
def demo(out: Path | None, *, machine: bool) -> None:
    """Run the main job on the built-in simulator: baseline and awq, two workers, about 75 s.

    Everything is real except the servers: processes, sockets, Locust, statistics, report. The results say
    SIMULATED.
    """
    _experiment(ROOT / "tokenswarm" / "demo.yaml", out, machine=machine)


@click.command()
@click.argument("experiment", type=click.Path(path_type=Path))
@out_option
@click.option(
    "--resume",
    type=click.Path(file_okay=False, path_type=Path),
    help="Go on with the experiment in this directory: what is whole there is kept.",
)
@click.option(
    "--budget-minutes",
    type=click.FloatRange(0, min_open=True),
    help="Cut the runs so that all fit into this time; what that cannot decide is INCONCLUSIVE, never PASS.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Workers come here from elsewhere (tokenswarm worker HOST:PORT); default: processes of this host.",
)
@click.option(
    "--workers-wait",
    default=300,
    show_default=True,
    type=click.IntRange(1),
    help="Seconds that workers from elsewhere have to come to a run.",
)
@click.option("--seal", is_flag=True, help="At the end write SHA256SUMS of all results, and last DONE.")
@markdown_option
@machine_option
def run(experiment: Path, out: Path | None, **asked: Any) -> None:
    """Measure the servers of an EXPERIMENT file under the same load, judge them, write report.pdf.

    The smallest file, everything else has a default:

    \b
        servers:
          - {name: mine, url: "http://127.0.0.1:8000"}
        load: {loop: open, rate: 20, duration_s: 60}
        sla: {name: sub-100ms, objectives: ["ttft p95 < 100 ms", "error_rate < 0.1 %"]}

    tokenswarm/demo.yaml is a longer one; tokenswarm/experiment.py lists every key. An API key comes from the
    environment: TOKENSWARM_API_KEY, OPENAI_API_KEY or VLLM_API_KEY (which a vLLM that we start inherits).

    With `search: {from: 1, to: 200}` in it, it looks for the highest load that each server bears within
    the SLA.
    """
    _experiment(experiment, out, **asked)


def _experiment(  # noqa: PLR0913 - the options of `run`
    path: Path,
    out: Path | None,
    resume: Path | None = None,
    *,
    machine: bool,
    budget_minutes: float | None = None,
    markdown: Path | None = None,
    listen: str | None = None,
    workers_wait: int = 0,
    seal: bool = False,
) -> None:
    from tokenswarm import budget, experiment, judging, running, sealing, tables  # noqa: PLC0415 - for --help
    from tokenswarm import door as doors  # noqa: PLC0415

    if out and resume:
        raise TokenswarmError("found --out and --resume, expected one of them", EXIT_USAGE)
    console = tables.console(machine=stdout_is_taken(markdown, machine=machine))
    plan = experiment.read(path)
    if budget_minutes is not None and (said := budget.cut(plan, budget_minutes)):
        console.print(said)
    sla = judging.experiment_sla(plan, path)
    out = resume or out or Path("out") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if resume:
        sealing.unseal(out)
    else:
        _refuse_to_overwrite(out, [run.name for run in experiment.schedule(plan)])
    order = running.Order(
        plan, path, sla, out, doors.open_for(plan, listen, workers_wait) if listen else None
    )
    try:
        found = running.run(order, console, resume=bool(resume))
        tell(found, out, machine=machine, markdown=markdown, goes_on_with=order.goes_on_with())
    except (TokenswarmError, OSError) as error:  # what was measured before is there
        _seal(out, getattr(error, "exit_code", EXIT_USAGE), asked=seal)
        raise
    _seal(out, found.exit_code, asked=seal)
    sys.exit(found.exit_code)


def _seal(out: Path, exit_code: int, *, asked: bool) -> None:
    from tokenswarm import sealing  # noqa: PLC0415 - as above

    if asked and out.is_dir():
        sealing.seal(out, exit_code)


def _refuse_to_overwrite(out: Path, names: list[str]) -> None:
    for name in names or [file.parent.name for file in out.glob("*/run.json")]:  # a search plans no names
        if (out / name / "run.json").exists():
            text = f"--out: {out / name} already holds a run, expected a new directory (or --resume {out})"
            raise TokenswarmError(text, EXIT_USAGE)
