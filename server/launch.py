"""Start a server, wait until it has really answered, and end it so that nothing of it is left."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from server import enginelog, guardian, keys, programs
from server.argv import DRAIN_S, Command
from server.errors import ServerError
from server.making import Say

GRACE_S = DRAIN_S + 5
READY_LIMIT_S = 1800  # a large model may have to be fetched first
TAIL = 15
PATIENCE = 20  # answers "500" before it is given up: what fails always will not mend itself


class StartError(ServerError):
    """It did not become ready; `tail` holds the last lines of its log."""

    def __init__(self, text: str, tail: Sequence[str]) -> None:
        """Keep the lines beside the reason."""
        super().__init__(text)
        self.tail = tuple(tail)


@dataclass(slots=True)
class Server:
    """A running server; the guardian's process stands for all of its processes."""

    process: subprocess.Popen[bytes]
    url: str
    model: str
    log: Path
    ready_s: float = 0.0  # from the start to the first token that it answered
    memory_mb: int = 0  # proportional set size of all its processes, once ready
    kernels: tuple[str, ...] = field(default=())

    def ended(self) -> str | None:
        """Return why it is not running any more, or None if it is."""
        code = self.process.poll()
        lines = _lines(self.log)  # once it was ready, only the end of them can say why it is not
        return None if code is None else enginelog.failure(lines[-100 if self.ready_s else 0 :], code)

    def stop(self) -> None:
        """End it: requests that are running may finish, then every process of it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


@contextlib.contextmanager
def serving(
    command: Command, log: Path, *, say: Say = lambda _line: None, limit_s: float = READY_LIMIT_S
) -> Iterator[Server]:
    """Run a server for the length of a `with` block.

    Raises StartError if it ends before it is ready or is not ready in time.
    """
    server = start(command, log, say=say, limit_s=limit_s)
    try:
        yield server
    finally:
        server.stop()


def start(
    command: Command, log: Path, *, say: Say = lambda _line: None, limit_s: float = READY_LIMIT_S
) -> Server:
    """Start a server and wait until /health, /v1/models and a completion have answered.

    Raises StartError if they never do, ServerError if the port is taken already: what answers there would
    pass for ours.
    """
    free_port(command.port, command.host, exact=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - arguments as a list
            programs.guarded(command.argv, GRACE_S),
            stdin=subprocess.PIPE,  # closes when we are gone, and then the guardian ends the engine
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_variables(command),
            start_new_session=True,  # Ctrl-C comes to us alone
        )
    host = "127.0.0.1" if command.host == "0.0.0.0" else command.host  # noqa: S104 - everywhere is here, too
    server = Server(process, f"http://{host}:{command.port}", command.model, log)
    try:
        _wait_until_ready(server, (host, command.port), say, began + limit_s)
    except BaseException:  # Ctrl-C too: nothing may be left
        server.stop()
        raise
    server.ready_s = time.monotonic() - began
    server.kernels = enginelog.kernels(_lines(log))
    server.memory_mb = memory_mb(process.pid)
    return server


def free_port(wanted: int = 0, host: str = "127.0.0.1", *, exact: bool = False) -> int:
    """Return the wanted port if it is free, else (unless `exact`) any that is.

    Raises ServerError if exactly that one is wanted and cannot be had.
    """
    try:
        with socket.create_server((host, wanted)) as held:
            return int(held.getsockname()[1])
    except OSError as error:
        if exact or not wanted:
            raise ServerError(f"{host}:{wanted}: cannot listen there ({error.strerror or error})") from None
        return free_port(0, host)


def memory_mb(ancestor: int) -> int:
    """Return the memory of all processes below one, shared pages counted once; 0 where it cannot be read."""
    total_kb = 0
    for process in guardian.descendants(ancestor):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
            total_kb += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total_kb // 1024


def _variables(command: Command) -> dict[str, str]:
    ours = programs.environment(command.variables)
    if command.argv[0] == sys.executable:  # the simulator is a program of the checkout
        ours["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    return ours


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()


def _wait_until_ready(server: Server, address: tuple[str, int], say: Say, deadline: float) -> None:
    """Health comes before the model is listed, and neither proves that the engine can answer."""
    named = {"model": server.model, "max_tokens": 1}
    chat = named | {"messages": [{"role": "user", "content": "Hi"}]}
    steps: list[tuple[str, str, dict[str, object] | None]] = [
        ("GET", "/health", None),
        ("GET", "/v1/models", None),
        ("POST", "/v1/chat/completions", chat),
    ]
    said, broken = "", 0
    while steps:
        method, path, body = steps[0]
        status, answer = _ask(address, method, path, body)
        broken += status == 500
        if server.process.poll() is not None:
            raise StartError(server.ended() or "", _lines(server.log)[-TAIL:])
        if status == 200:
            del steps[0]
        elif body is chat and status == 400:  # a model without a chat template
            steps[0] = ("POST", "/v1/completions", named | {"prompt": "Hi"})
        elif time.monotonic() > deadline or (body and 400 <= status < 500) or broken > PATIENCE:
            reason = f"{method} {path} gave {answer}, expected 200 in time"
            raise StartError(f"did not become ready: {reason}", _lines(server.log)[-TAIL:])
        else:
            said = _say_what_it_does(server.log, said, say)
            time.sleep(0.1)


def _say_what_it_does(log: Path, said: str, say: Say) -> str:
    lines = [line for line in map(enginelog.plain, _lines(log)[-5:]) if line]
    now = lines[-1][:100] if lines else ""
    if now and now != said:
        say(now)
    return now


def _ask(
    address: tuple[str, int], method: str, path: str, body: Mapping[str, object] | None
) -> tuple[int, str]:
    """Return the status and what was said, (0, reason) where nothing answered."""
    connection = http.client.HTTPConnection(*address, timeout=120)
    try:
        text = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} | keys.header()
        connection.request(method, path, text, headers)
        answer = connection.getresponse()
        return answer.status, f"{answer.status} {answer.read(300).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()
