"""The command line of a worker: arguments only, as in cli."""

import sys

import click


@click.command()
@click.argument("master", metavar="HOST:PORT")
@click.option(
    "--wait",
    default=300.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds until the first master must have come.",
)
@click.option(
    "--linger",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds without anybody there that end it after a run.",
)
def worker(master: str, wait: float, linger: float) -> None:
    """Send requests for `tokenswarm run EXPERIMENT --listen HOST:PORT`, in all of its runs.

    One worker is one process and keeps one core busy: start as many as the experiment's load.workers says,
    anywhere in a network that is trusted (Locust's protocol has neither passwords nor encryption). An API key
    comes from this worker's own environment, as with `tokenswarm run`.
    """
    from tokenswarm import door  # noqa: PLC0415 - --help must not wait
    from tokenswarm import worker as working  # noqa: PLC0415

    at = door.address(master, "HOST:PORT")
    sys.exit(working.work(at, wait, linger, lambda line: click.echo(f"tokenswarm worker: {line}", err=True)))
