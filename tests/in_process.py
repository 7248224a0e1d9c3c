"""The command line in the test's own process, for what starts no load: a process takes a second to start."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tokenswarm import cli


class Answer(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str


def asked(
    printed: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path
) -> Answer:
    """Run `tokenswarm` with these arguments; `printed` is capsys, or capfd where programs of others print."""
    monkeypatch.setattr(sys, "argv", ["tokenswarm", *map(str, arguments)])
    printed.readouterr()
    code: Any = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    return Answer(code, *printed.readouterr())
