"""Run an experiment: start each server, load it, keep what is known of it beside the run."""

import json
import math
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from server import launch, locate
from server.errors import ServerError
from server.making import Say
from tokenswarm import EXIT_NOT_STARTED, EXIT_USAGE, ROOT, TokenswarmError, cooling, evicted, serving
from tokenswarm.cooling import Rest
from tokenswarm.door import Door
from tokenswarm.evicted import Evicted
from tokenswarm.experiment import Experiment, Run, profile_of, schedule
from tokenswarm.pace import Pace, load_s, starts
from tokenswarm.processes import child, last_line
from tokenswarm.tables import Progress


class Up(NamedTuple):
    """A server that is running; `facts` are None where somebody else started it."""

    name: str
    url: str
    model: str  # what requests call its model; "" for the first that it lists
    facts: dict[str, Any] | None
    ended: Callable[[], str | None] = lambda: None  # why it is not running any more, None if it is
    start: int = 0  # that of the runs which share it
    log: Path | None = None


NO_PROXY = urllib.request.ProxyHandler({})
Show = Callable[[Progress], None]
After = Callable[[Run, Up], None]
"""Called after each run while its server is still up."""


def check(experiment: Experiment, say: Say) -> None:
    """Look for all that the servers need before the first of them is loaded. Raises TokenswarmError."""
    for server in experiment.servers:
        if not server.url:
            try:
                locate.place(profile_of(server, experiment), say=say)
            except ServerError as error:
                refused = serving.refusal(error)
                raise TokenswarmError(f"{server.name}: {refused}", refused.exit_code) from None


class Bench:
    """Where runs are made: one server is up at a time, and stays up while runs follow that share its start.

    Before each run the server cools down (nothing of the run before is left), and its prefix cache is
    emptied; where one of the two cannot be had of a server of ours, it is started anew. Use it in a `with`
    block.
    """

    def __init__(self, experiment: Experiment, out: Path, pace: Pace, door: Door | None = None) -> None:
        """Keep the runs' directories in `out`; by a `door`, workers come from elsewhere."""
        self.door = door
        self.experiment = experiment
        self.out = out
        self.pace = pace
        self._stack = ExitStack()
        self.up: Up | None = None

    def __enter__(self) -> Self:
        """Begin with nothing up."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the server that is up."""
        self._stack.close()

    def measure(self, run: Run) -> bool:
        """Make a run; returns whether it was let finish. Ctrl-C ends it in order. Its server stays up.

        Raises TokenswarmError if it could not begin, and Evicted, after its end, if SIGTERM ended it.
        """
        directory = self.out / run.name
        directory.mkdir(parents=True, exist_ok=True)
        up, rest = self._ready(run, directory)
        with self.pace.run(load_s(run, self.experiment.load.warmup_s)):
            interrupt = self._load(run, up, directory)
        reason = up.ended()
        if reason:
            self.pace(Progress(run.name, 0, 1, {}, f"the server {reason} (see {up.log})", last=True))
        _keep_facts(self.experiment, run, up, rest, directory)
        if isinstance(interrupt, Evicted):
            raise interrupt
        return interrupt is None

    def starts(self, runs: Sequence[Run]) -> int:
        """Return how often a server of ours starts for these runs, the one that is up not counted."""
        up = self.up
        return starts([run for run in runs if not up or (up.name, up.start) != (run.server.name, run.start)])

    def _load(self, run: Run, up: Up, directory: Path) -> KeyboardInterrupt | None:
        """Load a server; returns what ended it early. Raises TokenswarmError if it did not begin."""
        interrupt = None
        log = directory / "locust.log"
        command = locust_command(self.experiment, run, up, directory, self.door)
        if self.door:
            waiting = f"waiting for {self.experiment.load.workers} workers at {self.door.at}"
            self.pace(Progress(run.name, 0, 1, {}, waiting))
        with self.door.lent() if self.door else nullcontext(), child(command, log) as process:
            try:
                total_s = load_s(run, self.experiment.load.warmup_s)
                _watch(process, run.name, total_s, directory, self.pace)
            except KeyboardInterrupt as found:
                interrupt = found
                process.terminate()  # Locust ends in order: streams drain, reports come in
                with suppress(subprocess.TimeoutExpired):
                    process.wait(evicted.GRACE_S if isinstance(found, Evicted) else None)
        if not (directory / "run.json").exists():
            if isinstance(interrupt, Evicted):
                raise interrupt
            code = EXIT_USAGE if process.returncode == EXIT_USAGE else EXIT_NOT_STARTED
            why = (self.door and self.door.missed(log)) or last_line(log)
            raise TokenswarmError(f"{run.name}: {why}", code)
        return interrupt

    def _ready(self, run: Run, directory: Path) -> tuple[Up, Rest]:
        """Return a server that is ready for a run, and how it cooled down."""
        up = self.up
        if up and (up.name, up.start) == (run.server.name, run.start) and up.ended() is None:
            rest = self._cool(run, up)
            if (rest.found != "busy" or up.facts is None) and _is_fresh(up):
                return up, rest
        self.up = None
        self._stack.close()
        self.up = up = self._stack.enter_context(_serving(self.experiment, run, directory, self.pace))
        return up, self._cool(run, up)

    def _cool(self, run: Run, up: Up) -> Rest:
        verify = "--insecure" not in self.experiment.workload.options
        rest = cooling.wait(up.url, lambda line: self.pace(Progress(run.name, 0, 1, {}, line)), verify=verify)
        if rest.warning:
            self.pace(Progress(run.name, 0, 1, {}, rest.warning, last=True))
        return rest


def measure_all(  # noqa: PLR0913 - what is measured, where to, who is told, what is there, who sends
    experiment: Experiment,
    out: Path,
    pace: Pace,
    after: After,
    kept: Collection[str] = (),
    *,
    door: Door | None = None,
) -> Iterator[Path]:
    """Make all runs but those that are `kept`; yields the directories of all. Ctrl-C makes one the last.

    A server stays up for the levels of a block. Each block starts it anew, also where two of its blocks
    follow each other: else one server is met warm and the other is not. Raises TokenswarmError if a run
    could not begin.
    """
    runs = list(schedule(experiment))
    with Bench(experiment, out, pace, door) as bench:
        for number, run in enumerate(runs, 1):
            if run.name in kept:
                yield out / run.name
                continue
            ahead = [one for one in runs[number - 1 :] if one.name not in kept]
            loads_s = [load_s(one, experiment.load.warmup_s) for one in ahead]
            pace.expect(f"run {number} of {len(runs)}", loads_s, bench.starts(ahead))
            whole = bench.measure(run)
            yield out / run.name
            if not whole:
                return
            if bench.up:
                after(run, bench.up)


@contextmanager
def _serving(experiment: Experiment, run: Run, directory: Path, pace: Pace) -> Iterator[Up]:
    if run.server.url:
        yield Up(run.server.name, run.server.url, "", None, start=run.start)
        return

    log = directory / "server.log"

    def say(doing: str) -> None:
        pace(Progress(run.name, 0, 1, {}, doing))

    say("starting")  # in a log this line stands while the engine loads
    with ExitStack() as stack:
        try:
            profile = profile_of(run.server, experiment)
            command = locate.command(profile, launch.free_port(), say=say, development=True)
            with pace.start():
                server = stack.enter_context(launch.serving(command, log, say=say))
        except ServerError as error:
            refused = serving.refusal(error)
            see = f" (see {log})" if refused.tail else ""
            text = f"{run.server.name}: {refused}{see}"
            raise TokenswarmError(text, refused.exit_code, refused.tail) from None
        facts = serving.facts(profile, command, server)
        yield Up(run.server.name, server.url, command.model, facts, server.ended, run.start, log)


def _is_fresh(up: Up) -> bool:
    """Empty the prefix cache of a server that stays up; False where it must be started anew for that."""
    if up.facts is None or up.facts["profile"]["engine"] == "sim":
        return True  # not ours to touch; and no two runs of a server have the same prompts
    asked = urllib.request.Request(up.url + "/reset_prefix_cache", method="POST")  # noqa: S310 - our own URL
    try:
        with urllib.request.build_opener(NO_PROXY).open(asked, timeout=30) as answer:
            return bool(answer.status == 200 and json.load(answer).get("success", True))
    except (OSError, ValueError, AttributeError):
        return False


def _keep_facts(experiment: Experiment, run: Run, up: Up, rest: Rest, directory: Path) -> None:
    """Add to run.json what only the front door knows: which run of the experiment, and of which server."""
    file = directory / "run.json"
    meta = json.loads(file.read_text(encoding="utf-8"))
    baseline = experiment.servers[0].name
    meta["experiment"] = {
        "server": run.server.name,
        "baseline": baseline,
        "level": run.level,
        "block": run.block,
    }
    meta["cool_down"] = rest.to_json()
    margin = experiment.margin_share()
    if margin is not None:
        meta["experiment"]["margin"] = margin
    if up.facts is not None:
        meta["server"] = up.facts | {"ended": up.ended()}
    draft = file.with_suffix(".json.part")
    draft.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    draft.replace(file)


def locust_command(
    experiment: Experiment, run: Run, up: Up, directory: Path, door: Door | None = None
) -> list[str]:
    """Return Locust's command line for one run."""
    load, workload = experiment.load, experiment.workload
    locustfile = "arrivals" if load.loop == "open" else "chat"
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--run-name", run.name]
    command += ["-f", str(ROOT / "locustfiles" / f"{locustfile}.py"), "--host", up.url]
    users = math.ceil(run.level)
    command += ["-u", str(users), "-r", str(users), "--run-dir", str(directory)]
    if users != run.level:
        command += ["--rate-per-user", repr(run.level / users)]
    command += ["-t", f"{load_s(run, load.warmup_s):.0f}s", "--warmup", f"{load.warmup_s:g}"]
    command += ["--arrivals", load.arrivals, "--seed", str(run.seed), "--scenario", workload.endpoint]
    command += ["--endpoint", workload.endpoint, "--model", workload.model or up.model]
    command += ["--prompt-words", str(workload.prompt_words), "--max-tokens", str(workload.max_tokens)]
    if door:
        command += door.locust_options(load.workers)
    elif load.workers > 1:
        port = str(launch.free_port())
        command += ["--processes", str(load.workers), "--expect-workers-max-wait", "30"]
        command += ["--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]
    return command + workload.options


def _watch(process: subprocess.Popen[str], name: str, total_s: float, directory: Path, show: Show) -> None:
    while True:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            if evicted.came():  # Python dropped the exception: it does so in handlers around a fork
                raise Evicted from None
            rows = _timeline(directory / "timeline.csv")
            elapsed_s = int(rows[-1]["unix_s"]) - int(rows[0]["unix_s"]) + 1 if rows else 0
            show(Progress(name, elapsed_s, total_s, rows[-2] if len(rows) > 1 else {}))
        else:
            return


def _timeline(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    header, *lines = path.read_text().splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=False)) for line in lines]
