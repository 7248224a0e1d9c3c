"""A server, a master and workers, each on a host of its own, and what came of their run."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from analysis import rundir, sla, verdict
from analysis.gates import Gate
from tests.end_to_end.locusts import ROOT, Locust, Result, command, result, started
from tests.netns import Host, network

SECOND_NS = 10**9
URL = "http://server:8000"
STEADY = '{"ttft_ms": 50, "itl_ms": 20, "tokens": 10}'


@dataclass(frozen=True)
class Hosts:
    """What a run is made of. Programs begin when they are asked to, and end with the network."""

    path: Path
    by_name: dict[str, Host]
    _stack: ExitStack
    programs: dict[str, Locust] = field(default_factory=dict)

    def server(self, log: Path | None = None) -> "subprocess.Popen[bytes]":
        """Start the simulator; it listens when this returns. `log` is told of every request that ended."""
        order = [sys.executable, "-m", "server.sim", "--host", self.by_name["server"].address]
        order += ["--port", "8000", "--script", STEADY, *(["--send-log", str(log)] if log else [])]
        process = self.by_name["server"].start(
            order, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        assert process.stdout
        assert json.loads(process.stdout.readline())["listening"]
        return process

    def master(self, *arguments: str, name: str = "master", workers: int = 2) -> Locust:
        """Start a master: its arguments say what load."""
        order = command("arrivals", URL, "--master", "--expect-workers", str(workers), *arguments)
        return self._start("master", name, [*order, "--expect-workers-max-wait", "60"])

    def worker(
        self, name: str, to: str = "master", root: Path = ROOT, port: int = 5557, **variables: str
    ) -> Locust:
        """Start the worker that has this host, from the checkout at `root`."""
        file = str(root / "locustfiles" / "arrivals.py")
        order = [sys.executable, "-m", "locust", "-f", file, "--worker", "--master-host", to]
        return self._start(
            name, name, [*order, "--master-port", str(port)], PYTHONPATH=str(root), **variables
        )

    def _start(self, host: str, name: str, order: list[str], **variables: str) -> Locust:
        order = self.by_name[host].command(order)
        program = self._stack.enter_context(started(order, self.path / f"{name}.log", **variables))
        self.programs[name] = program
        return program

    def said(self) -> str:
        """Return what all programs said, for a test that fails."""
        return "\n".join(f"== {name}\n{program.said}" for name, program in self.programs.items())


@contextmanager
def hosts(path: Path, *workers: str, more: tuple[str, ...] = ()) -> Iterator[Hosts]:
    """Make the hosts: server, master, the workers, and `more`."""
    with network("server", "master", *workers, *more) as by_name, ExitStack() as stack:
        yield Hosts(path, by_name, stack)


@dataclass(frozen=True)
class Outcome:
    """What came of a run, or of one that was refused; `times_ns` are moments that its play noted (unix)."""

    code: int | None
    said: str
    run: Result | None
    times_ns: dict[str, int] = field(default_factory=dict)

    @property
    def measured(self) -> Result:
        assert self.run is not None, self.said
        return self.run

    def read(self, name: str) -> Result:
        """Read another run of the same play."""
        return result(self.measured.path.parent / name)

    @property
    def verdict(self) -> verdict.Verdict:
        return verdict.judge(rundir.load(self.measured.path), sla.default())

    def gate(self, name: str) -> Gate:
        """Return a gate of the verdict by its name."""
        (found,) = [gate for gate in self.verdict.gates if gate.name == name]
        return found


def outcome(made: Hosts, code: int | None, run: str = "run", **times_ns: int) -> Outcome:
    """Read what is left."""
    path = made.path / run
    return Outcome(code, made.said(), result(path) if path.exists() else None, times_ns)
