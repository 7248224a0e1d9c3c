"""The command line of planning: arguments only, as in cli."""

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Requests/s; default: the experiment's."
)
@click.option(
    "--bad-share",
    "part",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0),
    help="The true share of bad events, as a part of the allowed one.",
)
@click.option(
    "--tau",
    default=10.0,
    show_default=True,
    type=click.FloatRange(1),
    help="So many neighbouring requests are worth one independent one.",
)
@click.option(
    "--like", type=click.Path(path_type=Path), help="An earlier run: takes tau and scatter from there."
)
@click.option(
    "--duration",
    "run_s",
    type=click.FloatRange(0, min_open=True),
    help="Seconds of one replication; default: the experiment's, else 60.",
)
@click.option(
    "--margin",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="The difference between servers that is to be shown, in %.",
)
@click.option(
    "--cv",
    "cvs",
    multiple=True,
    default=(3.0, 5.0, 10.0),
    type=click.FloatRange(0, min_open=True),
    help="How a metric varies from run to run, in %; may be repeated; default 3, 5 and 10.",
)
def plan(file: Path, **asked: Any) -> None:
    """Say how long to measure, and how often, before an SLA is decided; FILE is an SLA or an experiment.

    Each objective is decided with a probability of 80 %, if the server is as supposed: by default half as
    many bad requests as are allowed. Of an experiment with several servers also: how many blocks show a
    difference.

    \b
    tokenswarm plan sla.yaml --rate 20
    tokenswarm plan mine.yaml --like out/mine/mine
    """
    from tokenswarm import planned, tables  # noqa: PLC0415 - --help must not wait for them

    planned.show(planned.read(file, **asked), tables.console(machine=False))
