"""kubectl, as a person would type it: each command is shown before it runs, its mistakes are one line."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import click

from tokenswarm import EXIT_NOT_STARTED, TokenswarmError

_LOGGED = re.compile(r'^[EWF]\d{4} .* err="(.*)"$')  # how some of its commands write an error
MISSING = "kubectl: not found on PATH (https://kubernetes.io/docs/tasks/tools/)"


def run(*arguments: str, stdin: str | None = None, exit_code: int = EXIT_NOT_STARTED) -> str:
    """Run kubectl and return what it printed; raises TokenswarmError with this code if it failed."""
    with _told(arguments) as command:
        done = subprocess.run(  # noqa: S603 - kubectl of the user's PATH, arguments as a list
            command, input=stdin, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise TokenswarmError(f"kubectl {arguments[0]}: {mistake(done.stderr)}", exit_code)
    return done.stdout


def show(*arguments: str) -> int:
    """Run kubectl with its output going where ours goes; returns its exit code."""
    with _told(arguments) as command:
        return subprocess.run(command, check=False).returncode  # noqa: S603 - as above


def begin(*arguments: str) -> subprocess.Popen[str]:
    """Start kubectl; its output is there when it has ended."""
    with _told(arguments) as command:
        return subprocess.Popen(  # noqa: S603 - as above
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def mistake(said: str) -> str:
    """Return the line of kubectl's messages that says what is wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    logged = _LOGGED.match(last)
    return (logged[1].replace('\\"', '"') if logged else last).removeprefix("error: ")


@contextmanager
def _told(arguments: tuple[str, ...]) -> Iterator[list[str]]:
    command = ["kubectl", *arguments]
    click.secho(f"$ {shlex.join(command)}", dim=True, err=True)
    try:
        yield command
    except FileNotFoundError:
        raise TokenswarmError(MISSING, EXIT_NOT_STARTED) from None
