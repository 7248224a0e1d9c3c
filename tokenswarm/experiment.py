"""An experiment: one or more servers under the same load, one after another, judged by one SLA.

The file (YAML; every key but `servers` may be left out):

    name: baseline vs awq
    servers:                  # measured in this order, each with the same seed
      - name: baseline
        sim: baseline         # a profile of the built-in simulator …
      - name: production
        url: http://host:8000 # … or a server that is running
    load:
      loop: open              # open: `rate` arrivals a second; closed: `users` at a time
      rate: 20
      duration_s: 60          # measured at least, after warm-up
      warmup_s: 5
      workers: 2              # processes that send; 1 does without a master
      arrivals: poisson       # or constant
      seed: 1
    workload:
      endpoint: chat          # or completions
      model: ""               # the first that the server lists
      prompt_words: 40-160
      max_tokens: 64
      options: []             # further options of the locustfile, such as [--ignore-eos]
    sla: sla.yaml             # a file beside this one, or the SLA itself (name, objectives)
"""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import yaml
from msgspec import Meta

from server.sim.profiles import PROFILES
from tokenswarm import EXIT_NOT_STARTED, EXIT_USAGE, ROOT, TokenswarmError
from tokenswarm.processes import child, last_line, simulator

Positive = Annotated[float, Meta(gt=0, lt=1e7)]
Count = Annotated[int, Meta(ge=1)]


class Server(msgspec.Struct, forbid_unknown_fields=True):
    """What is measured: a profile of the simulator, or a URL."""

    name: Annotated[str, Meta(pattern=r"^(\w[\w.-]*)?$")] = ""
    sim: str = ""
    url: str = ""


class Load(msgspec.Struct, forbid_unknown_fields=True):
    """How much is asked."""

    loop: Literal["open", "closed"] = "open"
    rate: Count = 10
    users: Count = 10
    duration_s: Positive = 60
    warmup_s: Annotated[float, Meta(ge=0)] = 5
    workers: Count = 2
    arrivals: Literal["poisson", "constant"] = "poisson"
    seed: int = 1


class Workload(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked."""

    endpoint: Literal["chat", "completions"] = "chat"
    model: str = ""
    prompt_words: str | int = "40-160"
    max_tokens: str | int = 64
    options: list[str] = []


class InlineSla(msgspec.Struct, forbid_unknown_fields=True):
    """An SLA written into the experiment."""

    name: str
    objectives: list[str]


class Experiment(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    servers: Annotated[list[Server], Meta(min_length=1)]
    name: str = ""  # for whoever reads the file
    load: Load = msgspec.field(default_factory=Load)
    workload: Workload = msgspec.field(default_factory=Workload)
    sla: str | InlineSla = ""


class Progress(NamedTuple):
    """What is known of a run while it goes on: the last complete second of its timeline."""

    server: str
    elapsed_s: float
    total_s: float
    row: dict[str, str]


def read(path: Path) -> Experiment:
    """Read an experiment; raises TokenswarmError saying what was found, where, and what was expected."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        experiment = msgspec.convert(plain, Experiment)
    except (OSError, UnicodeDecodeError) as error:
        raise TokenswarmError(f"{path}: cannot be read ({error})", EXIT_USAGE) from None
    except yaml.YAMLError as error:
        raise TokenswarmError(f"{path}: not YAML ({' '.join(str(error).split())})", EXIT_USAGE) from None
    except msgspec.ValidationError as error:
        raise TokenswarmError(f"{path}: {error}", EXIT_USAGE) from None
    for number, server in enumerate(experiment.servers, 1):
        if bool(server.sim) == bool(server.url):
            found = "both" if server.sim else "neither"
            raise TokenswarmError(f"{path}: server {number}: expected sim or url, found {found}", EXIT_USAGE)
        if server.sim and server.sim not in PROFILES:
            known = ", ".join(sorted(PROFILES))
            text = f"{path}: server {number}: sim: found {server.sim!r}, expected one of {known}"
            raise TokenswarmError(text, EXIT_USAGE)
        server.name = server.name or server.sim or f"server-{number}"
    names = [server.name for server in experiment.servers]
    if len(set(names)) < len(names):
        raise TokenswarmError(f"{path}: servers: found a name twice in {names}", EXIT_USAGE)
    return experiment


def measure_all(experiment: Experiment, out: Path, show: Callable[[Progress], None]) -> Iterator[Path]:
    """Load the servers one after another; yields their run directories. Ctrl-C ends the current run in order.

    Raises TokenswarmError if a run could not begin.
    """
    for server in experiment.servers:
        directory, whole = measure(experiment, server, out, show)
        yield directory
        if not whole:
            return


def measure(
    experiment: Experiment, server: Server, out: Path, show: Callable[[Progress], None]
) -> tuple[Path, bool]:
    """Load one server; returns its run directory, and whether the run was let finish.

    Raises TokenswarmError if the run could not begin.
    """
    directory = out / server.name
    directory.mkdir(parents=True, exist_ok=True)
    whole = True
    with _serving(server, directory) as url:
        log = directory / "locust.log"
        with child(locust_command(experiment, server.name, url, directory), log) as process:
            try:
                _watch(process, experiment, server, directory, show)
            except KeyboardInterrupt:
                whole = False
                process.terminate()  # Locust ends in order: streams drain, reports come in
                process.wait()
    if not (directory / "run.json").exists():
        code = EXIT_USAGE if process.returncode == EXIT_USAGE else EXIT_NOT_STARTED
        raise TokenswarmError(f"{server.name}: {last_line(log)}", code)
    return directory, whole


@contextmanager
def _serving(server: Server, directory: Path) -> Iterator[str]:
    if server.url:
        yield server.url
    else:
        with simulator(["--profile", server.sim], directory / "server.log") as url:
            yield url


def locust_command(experiment: Experiment, name: str, url: str, directory: Path) -> list[str]:
    """Return Locust's command line for one run."""
    load, workload = experiment.load, experiment.workload
    users = load.rate if load.loop == "open" else load.users
    locustfile = "arrivals" if load.loop == "open" else "chat"
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--run-name", name]
    command += ["-f", str(ROOT / "locustfiles" / f"{locustfile}.py"), "--host", url]
    command += ["-u", str(users), "-r", str(users), "--run-dir", str(directory)]
    command += ["-t", f"{load.duration_s + load.warmup_s + 1:.0f}s", "--warmup", f"{load.warmup_s:g}"]
    command += ["--arrivals", load.arrivals, "--seed", str(load.seed), "--scenario", workload.endpoint]
    command += ["--endpoint", workload.endpoint, "--model", workload.model]
    command += ["--prompt-words", str(workload.prompt_words), "--max-tokens", str(workload.max_tokens)]
    if load.workers > 1:
        port = str(_free_port())
        command += ["--processes", str(load.workers), "--expect-workers-max-wait", "30"]
        command += ["--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]
    return command + workload.options


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(
    process: subprocess.Popen[str],
    experiment: Experiment,
    server: Server,
    directory: Path,
    show: Callable[[Progress], None],
) -> None:
    total_s = experiment.load.duration_s + experiment.load.warmup_s + 1
    while True:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            rows = _timeline(directory / "timeline.csv")
            elapsed_s = int(rows[-1]["unix_s"]) - int(rows[0]["unix_s"]) + 1 if rows else 0
            show(Progress(server.name, elapsed_s, total_s, rows[-2] if len(rows) > 1 else {}))
        else:
            return


def _timeline(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    header, *lines = path.read_text().splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=False)) for line in lines]
