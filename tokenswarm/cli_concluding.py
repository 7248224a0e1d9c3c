"""How commands that end with a verdict say it: options, table, JSON, summary, exit code."""

import json
import sys
from pathlib import Path
from typing import Any

import click

machine_option = click.option("--json", "machine", is_flag=True, help="Print the verdict as JSON on stdout.")
markdown_option = click.option(
    "--markdown",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write a summary for a pull request into this file; - is stdout (the table then goes to stderr).",
)


def stdout_is_taken(markdown: Path | None, *, machine: bool) -> bool:
    """Say whether stdout is for something else than people; refuse two things at once."""
    summary = markdown == Path("-")
    if summary and machine:
        raise click.UsageError("--markdown -: found --json, too, expected one of them on stdout")
    return summary or machine


def tell(
    found: Any, where: Path, *, machine: bool, markdown: Path | None = None, goes_on_with: str = ""
) -> None:
    """Say what came out: the table, or JSON, and the summary where one is asked for."""
    from tokenswarm import cut_short, searching, tables, tables_search  # noqa: PLC0415 - --help must not wait

    if markdown:
        with click.open_file(str(markdown), "w", encoding="utf-8") as file:
            file.write(found.to_markdown())
    if machine:
        click.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        console = tables.console(machine=stdout_is_taken(markdown, machine=machine))
        special: dict[type, Any] = {
            searching.Found: tables_search.conclusion,
            cut_short.Eviction: cut_short.show,
        }
        special.get(type(found), tables.conclusion)(found, console)
        console.print(f"Results: {where}", soft_wrap=True)
    if goes_on_with:
        tables.console(machine=machine).print(f"Go on with: {goes_on_with}", soft_wrap=True)


def conclude(found: Any, where: Path, *, machine: bool, markdown: Path | None = None) -> None:
    """Say what came out, and end with its exit code."""
    tell(found, where, machine=machine, markdown=markdown)
    sys.exit(found.exit_code)
