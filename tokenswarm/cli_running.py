"""The command line of experiments: arguments only, as in cli."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenswarm import EXIT_INVALID, EXIT_USAGE, ROOT, TokenswarmError, evicted
from tokenswarm.cli_concluding import machine_option, markdown_option, stdout_is_taken, tell
from tokenswarm.evicted import Evicted

if TYPE_CHECKING:
    from rich.console import Console

    from tokenswarm.running import Order
    from tokenswarm.uploading import Destination

NOTHING = "evicted (SIGTERM) before anything was begun"
WORKERS_WAIT_S = 300

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
    show_default=str(WORKERS_WAIT_S),
    type=click.IntRange(1),
    help="With --listen: seconds that workers from elsewhere have to come to a run.",
)
@click.option("--seal", is_flag=True, help="At the end write SHA256SUMS of all results, and last DONE.")
@click.option(
    "--upload",
    metavar="s3://BUCKET/PREFIX",
    help="With --seal: put the results there, too, DONE last. Keys come from the environment (AWS_...).",
)
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
    markdown: Path | None = None,
    seal: bool = False,
    upload: str | None = None,
    **asked: Any,
) -> None:
    if out and resume:
        raise TokenswarmError("found --out and --resume, expected one of them", EXIT_USAGE)
    if asked.get("workers_wait") and not asked.get("listen"):
        text = (
            "found --workers-wait without --listen, expected both: only workers from elsewhere are waited for"
        )
        raise TokenswarmError(text, EXIT_USAGE)
    to = _destination(upload, sealed=seal)
    out = resume or out or Path("out") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    ours = False  # the directory, to write into
    try:
        try:
            order, console = _order(
                path, out, resume, to=to, taken=stdout_is_taken(markdown, machine=machine), **asked
            )
        except Evicted:
            ours = evicted.note(out, NOTHING)
            raise TokenswarmError(NOTHING, EXIT_INVALID) from None
        ours = True
        found = _measure(order, console, resume=bool(resume))
        tell(found, out, machine=machine, markdown=markdown, goes_on_with=order.goes_on_with())
    except (TokenswarmError, OSError) as error:  # what was measured before is there
        if seal and ours:
            _hand_over(out, getattr(error, "exit_code", EXIT_USAGE), to)
        raise
    if seal:
        _hand_over(out, found.exit_code, to, markdown)
    sys.exit(found.exit_code)


def _order(  # noqa: PLR0913 - as above
    path: Path,
    out: Path,
    resume: Path | None,
    *,
    to: "Destination | None",
    taken: bool,
    budget_minutes: float | None = None,
    listen: str | None = None,
    workers_wait: int | None = None,
) -> tuple["Order", "Console"]:
    """Return what is to be done, and where it is told; raises TokenswarmError where it cannot be."""
    from tokenswarm import budget, experiment, judging, running, sealing, tables  # noqa: PLC0415 - for --help
    from tokenswarm import door as doors  # noqa: PLC0415

    console = tables.console(machine=taken)
    plan = experiment.read(path)
    if budget_minutes is not None and (said := budget.cut(plan, budget_minutes)):
        console.print(said)
    sla = judging.experiment_sla(plan, path)
    door = doors.open_for(plan, listen, workers_wait or WORKERS_WAIT_S) if listen else None
    if not resume:
        _refuse_to_overwrite(out, [run.name for run in experiment.schedule(plan)])
    if to:
        to.claim()
    sealing.unseal(out)
    return running.Order(plan, path, sla, out, door), console


def _measure(order: "Order", console: "Console", *, resume: bool) -> Any:
    """Return what came out of an experiment, or of what SIGTERM left of it."""
    from tokenswarm import cut_short, running  # noqa: PLC0415 - as above

    try:
        found = running.run(order, console, resume=resume)
        evicted.too_late()
    except (Evicted, TokenswarmError):
        if not evicted.came():
            raise
        return cut_short.conclude(order.plan, order.path, order.sla, order.out)
    return found


def _destination(upload: str | None, *, sealed: bool) -> "Destination | None":
    if upload is None:
        return None
    if not sealed:
        raise TokenswarmError("found --upload without --seal, expected both", EXIT_USAGE)
    from tokenswarm import uploading  # noqa: PLC0415 - as above

    return uploading.Destination(upload)


def _hand_over(out: Path, exit_code: int, to: "Destination | None", markdown: Path | None = None) -> None:
    """Seal what there is and upload it; a failure to upload is told, and changes no exit code."""
    from analysis.markdown import escaped  # noqa: PLC0415 - as above
    from tokenswarm import sealing  # noqa: PLC0415

    if not out.is_dir():
        return
    evicted.deafen()
    sealing.seal(out, exit_code)
    if not (to and to.is_claimed):
        return
    failure = to.upload(out)
    click.echo(f"tokenswarm: {failure}" if failure else f"Uploaded: {to.at}", err=True)
    if failure and markdown:
        with click.open_file(str(markdown), "a", encoding="utf-8") as file:
            file.write(f"\n**{escaped(failure[0].upper() + failure[1:])}**\n")
        sealing.seal(out, exit_code)  # the summary may be one of the results


def _refuse_to_overwrite(out: Path, names: list[str]) -> None:
    for name in names or [file.parent.name for file in out.glob("*/run.json")]:  # a search plans no names
        if (out / name / "run.json").exists():
            text = f"--out: {out / name} already holds a run, expected a new directory (or --resume {out})"
            raise TokenswarmError(text, EXIT_USAGE)
    for name in ("verdict.json", "DONE"):  # a second try would pass for the first
        if (out / name).exists():
            text = f"--out: {out / name} is there: found an experiment's end, expected a new directory"
            raise TokenswarmError(f"{text} (or --resume {out})", EXIT_USAGE)
