"""Run the simulator: python -m server.sim --profile baseline."""

import argparse
import asyncio
import ctypes
import gc
import json
import logging
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from .connection import Connection
from .profiles import PROFILES
from .script import ScriptError, parse_scripts
from .sendlog import SendLog
from .simulator import Settings, Simulator

_EXIT_USAGE = 2
_EXIT_NOT_STARTED = 6
_PR_SET_PDEATHSIG = 1
_BACKLOG = 4096


def main(words: list[str] | None = None) -> int:
    """Parse arguments (default: the command line's), serve until SIGTERM or SIGINT, return the exit code."""
    arguments = _parser().parse_args(words)
    if arguments.exit_with_parent:
        _exit_with_parent()
    try:
        scripts = parse_scripts(arguments.script) if arguments.script else ()
    except ScriptError as error:
        print(f"server.sim: {error}", file=sys.stderr)  # noqa: T201
        return _EXIT_USAGE
    try:
        log = SendLog(arguments.send_log) if arguments.send_log else None
        listener = listen(arguments.host, arguments.port)
    except OSError as error:
        print(f"server.sim: could not start: {error}", file=sys.stderr)  # noqa: T201
        return _EXIT_NOT_STARTED
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a connection is a file
    settings = Settings(PROFILES[arguments.profile], arguments.model, arguments.seed, scripts, log)
    asyncio.run(serve(listener, settings))
    if log:
        log.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    # without usage, an error is one line
    parser = argparse.ArgumentParser(prog="server.sim", description=__doc__, usage=argparse.SUPPRESS)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0: any free port; it is printed when listening")
    add("--profile", choices=sorted(PROFILES), default="baseline")
    add("--seed", type=int, default=0)
    add("--model", default="sim", help="the name it is served under")
    add("--script", metavar="FILE_OR_JSON", help="script mode: what to do, request by request")
    add("--send-log", type=Path, metavar="FILE", help="one JSON line for each streamed request")
    add("--exit-with-parent", action="store_true", help="end when what started it ends (Linux)")
    return parser


def listen(host: str, port: int) -> socket.socket:
    """Bind. Raises OSError with host and port in it."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise OSError(f"{host}:{port}: {error}") from None


async def serve(listener: socket.socket, settings: Settings) -> None:
    """Print the line that says where, then answer requests until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of writes to a client that has left
    gc.collect()
    gc.freeze()  # what was imported is there to stay; looking through it again would delay tokens
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    simulator = Simulator(settings, loop)
    server = await loop.create_server(lambda: Connection(simulator.handle), sock=listener, backlog=_BACKLOG)
    host, port = listener.getsockname()[:2]
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    line = {"listening": where, "profile": settings.profile.name, "simulated": True}
    print(json.dumps(line), flush=True)  # noqa: T201 - a parent waits for it
    await stopped.wait()
    server.close()


def _exit_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent ends; elsewhere nothing happens."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended in between
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
