"""Run a program in an engine's own environment: it sees nothing of ours, and leaves nothing behind."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from server import guardian
from server.errors import ServerError
from server.making import Say

GUARDIAN = Path(guardian.__file__)
PROGRESS = "progress: "
OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
OFFLINE = {"HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


class FailedError(ServerError):
    """A program ended with an exit code that is not 0; above 128 for a signal."""

    def __init__(self, text: str, code: int) -> None:
        """Keep the code beside the reason."""
        super().__init__(text)
        self.code = code


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables for an engine: ours without what points into our own environment, and `more`."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    return kept | OFFLINE | dict(more or {})


def guarded(argv: Sequence[str | Path], grace_s: float) -> list[str]:
    """Return the command line that runs a program under the guardian, which lives as long as its stdin."""
    return [sys.executable, "-I", "-S", str(GUARDIAN), str(grace_s), *map(str, argv)]


def run(  # noqa: PLR0913 - two ways to follow it, and its bounds; all but two have a default
    argv: Sequence[str | Path],
    log: Path,
    *,
    say: Say = lambda _line: None,
    each: Callable[[str], None] = lambda _line: None,
    limit_s: float = 3600,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end and return what it printed; all of it is in `log`, too.

    Lines that begin with "progress: " go to `say` as they come, every line goes to `each`. Raises ServerError
    with the program's most telling line if it fails or runs past `limit_s`; then, on Ctrl-C, and
    however we end, all its processes are ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    name = Path(argv[0]).name
    with log.open("w", encoding="utf-8") as kept:
        process = subprocess.Popen(  # noqa: S603 - arguments as a list
            guarded(argv, grace_s=0),
            stdin=subprocess.PIPE,  # closes when we are gone
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment(variables),
            start_new_session=True,
        )
        late = threading.Event()
        timer = threading.Timer(limit_s, _too_late, (late, process))
        timer.start()
        try:
            for line in process.stdout or ():
                kept.write(line)
                kept.flush()
                lines.append(line.rstrip())
                each(lines[-1])
                if line.startswith(PROGRESS):
                    say(line.removeprefix(PROGRESS).rstrip())
            code = process.wait()
        finally:
            timer.cancel()
            _end(process)
    if late.is_set():
        raise ServerError(f"{name} ran past {limit_s:.0f} s (see {log})")
    if code:
        raise FailedError(f"{telling(lines)} (exit code {code}, see {log})", code)
    return "\n".join(lines)


def telling(lines: Sequence[str]) -> str:
    """Return the line that says why a program failed: its own `error:` line, or else the last."""
    spoken = [line.strip() for line in lines if line.strip()]
    for line in reversed(spoken):
        if line.lower().startswith("error:"):
            return line[len("error:") :].strip()
    return spoken[-1] if spoken else "it printed nothing"


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin:
        process.stdin.close()
    process.terminate()  # the guardian; it ends the rest
    process.wait()


def _too_late(late: threading.Event, process: subprocess.Popen[str]) -> None:
    late.set()
    process.terminate()
