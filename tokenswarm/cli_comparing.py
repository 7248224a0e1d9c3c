"""The command line of comparing folders: arguments only, as in cli."""

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("baseline_dir", type=click.Path(path_type=Path))
@click.argument("candidate_dirs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--server", default="", help="Which server of an experiment that has several.")
@click.option(
    "--differs",
    multiple=True,
    metavar="NAME",
    help="What may differ, by its name in run.json, such as server.profile; may be repeated.",
)
@click.option("--margin", default="", help="What makes no difference; default: the baseline's own, else 5 %.")
@click.option(
    "--sla",
    type=click.Path(path_type=Path),
    help="SLA file (YAML); default: the baseline's own, else sub-100ms.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for comparison.json and report.pdf; default: nothing is written.",
)
@click.option("--json", "machine", is_flag=True, help="Print the comparison as JSON on stdout.")
def compare(  # noqa: PLR0913 - the command's options
    baseline_dir: Path,
    candidate_dirs: tuple[Path, ...],
    *,
    server: str,
    differs: tuple[str, ...],
    margin: str,
    sla: Path | None,
    out: Path | None,
    machine: bool,
) -> None:
    """Compare runs with earlier ones, and say whether anything that the SLA limits is worse.

    Each directory is a run, an experiment's, or holds runs. Runs of the same load and seed are pairs; other
    ones are compared as two groups. Runs that differ in load, work, server arguments or machine are refused,
    unless --differs declares it.

    \b
    tokenswarm compare out/yesterday out/today
    tokenswarm compare out/bf16 out/awq --differs server.profile --margin "2 %"

    \b
    Exit codes: 0 nothing limited is worse by the margin · 3 something is worse · 4 undecided
                5 refused, or no run counts · 2 wrong usage
    """
    from tokenswarm import comparing, tables  # noqa: PLC0415 - --help must not wait for them
    from tokenswarm.experiment import percentage  # noqa: PLC0415

    asked = comparing.Asked(
        folders=[baseline_dir, *candidate_dirs],
        server=server,
        differs=list(differs),
        margin=percentage(margin, "--margin") if margin else None,
        sla=sla,
    )
    found = comparing.compare(asked)
    if out:
        comparing.write(found, out)
    if machine:
        click.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        console = tables.console(machine=False)
        comparing.show(found, console)
        if out:
            console.print(f"Results: {out}", soft_wrap=True)
    sys.exit(found.exit_code)
