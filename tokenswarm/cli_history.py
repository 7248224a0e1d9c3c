"""The command line of the history: arguments only, as in cli."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from tokenswarm import EXIT_USAGE, TokenswarmError

REGRESSED, UNDECIDED = 3, 4

db_option = click.option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("out/history.sqlite"),
    show_default=True,
    help="The history's file.",
)


def which(command: Any) -> Any:
    """Add the options that say which series are meant."""
    for name, text in (
        ("metric", 'One metric, such as "ttft p95", "output tokens/s" or "error share".'),
        ("scenario", "One scenario."),
        ("server", "One server."),
    ):
        command = click.option(f"--{name}", help=text)(command)
    return db_option(command)


@click.group()
def history() -> None:
    """Keep what was judged, run after run, and say where it changed.

    \b
    tokenswarm history add out/nightly --commit "$SHA"    append; what is there already stays as it is
    tokenswarm history show --metric "ttft p95"           the series
    tokenswarm history check                              change points; exit code 3 if the newest got worse
    tokenswarm history export out/otava                   CSV files and otava.yaml for Apache Otava

    A series is one figure of one server at one load. It goes on while load, workload, deadlines, endpoint and
    model stay equal; otherwise another one begins, and `show` says what differs.
    """


@history.command()
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@db_option
@click.option(
    "--commit",
    envvar=["GITHUB_SHA", "CI_COMMIT_SHA"],
    help="What was measured; default: GITHUB_SHA or CI_COMMIT_SHA, where one is set.",
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Anything else; may be repeated.")
def add(directories: tuple[Path, ...], db: Path, commit: str | None, labels: tuple[str, ...]) -> None:
    """Append judged runs, or all runs of experiments: all of DIRECTORIES or, if one is none, nothing."""
    from tokenswarm import remembering  # noqa: PLC0415 - --help must not wait for it

    new, runs = remembering.add(db, directories, commit, _labels(labels))
    known = f", {runs - new} already there" if new < runs else ""
    click.echo(f"{db}: {new} run{'' if new == 1 else 's'} added{known}")


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise TokenswarmError(f"--label: found {pair!r}, expected KEY=VALUE", EXIT_USAGE)
        found[key] = value
    return found


@history.command()
@which
def show(db: Path, **asked: str | None) -> None:
    """List the series with their newest points; every point where only one series is meant."""
    from tokenswarm import remembering, tables  # noqa: PLC0415 - as above

    remembering.show(remembering.read(db, remembering.Asked(**asked)), tables.console(machine=False))


@history.command()
@which
@click.option(
    "--newest",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="A change for the worse among so many newest points is a regression; an older one is only told.",
)
@click.option(
    "--smallest",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0),
    help="The smallest change to speak of, in percent.",
)
@click.option("--json", "machine", is_flag=True, help="Print the changes as JSON on stdout.")
def check(db: Path, *, newest: int, smallest: float, machine: bool, **asked: str | None) -> None:
    """Look for change points (Apache Otava; install it with: uv sync --extra history).

    Exit code 3 if the newest points of a series are worse than those before, 4 if every series is too short
    to tell, else 0. A change needs about three points to be seen, so this is for nightly series; a pull
    request is judged against its baseline in one experiment, in mirrored blocks.
    """
    from tokenswarm import remembering, tables  # noqa: PLC0415 - as above

    series = remembering.read(db, remembering.Asked(**asked))
    found = remembering.check(series, newest, smallest / 100)
    if machine:
        click.echo(json.dumps(remembering.to_json(found), indent=2, allow_nan=False))
    else:
        remembering.tell(found, tables.console(machine=False))
    if any(one.newest for one in found):
        sys.exit(REGRESSED)
    sys.exit(0 if remembering.judged(found) else UNDECIDED)


@history.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@which
def export(out: Path, db: Path, **asked: str | None) -> None:
    """Write the series into the folder OUT as CSV files, with an otava.yaml that describes them."""
    from tokenswarm import remembering  # noqa: PLC0415 - as above

    for file in remembering.export(remembering.read(db, remembering.Asked(**asked)), out):
        click.echo(file)
