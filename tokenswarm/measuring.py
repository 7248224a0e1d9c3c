"""Run an experiment: start each server, load it, keep what is known of it beside the run."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from server import launch, locate
from server.errors import ServerError
from server.making import Say
from tokenswarm import EXIT_NOT_STARTED, EXIT_USAGE, ROOT, TokenswarmError, serving
from tokenswarm.experiment import Experiment, Run, profile_of, schedule
from tokenswarm.processes import child, last_line
from tokenswarm.tables import Progress


class Up(NamedTuple):
    """A server that is running; `facts` are None where somebody else started it."""

    name: str
    url: str
    model: str  # what requests call its model; "" for the first that it lists
    facts: dict[str, Any] | None
    ended: Callable[[], str | None] = lambda: None  # why it is not running any more, None if it is
    block: int = 0  # in which it was started
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


def measure_all(experiment: Experiment, out: Path, show: Show, after: After) -> Iterator[Path]:
    """Do all runs; yields their directories. Ctrl-C ends the current run in order, and is the last.

    A server stays up for the levels of a block, with its prefix cache emptied between them. Each block starts
    it anew, also where two of its blocks follow each other: else one server is met warm and the other is not.
    Raises TokenswarmError if a run could not begin.
    """
    up = None
    with ExitStack() as stack:
        for run in schedule(experiment):
            directory = out / run.name
            directory.mkdir(parents=True, exist_ok=True)
            if up is None or (up.name, up.block) != (run.server.name, run.block) or not _is_fresh(up):
                stack.close()
                up = stack.enter_context(_serving(experiment, run, directory, show))
            whole = _measure(experiment, run, up, directory, show)
            reason = up.ended()
            if reason:
                show(Progress(run.name, 0, 1, {}, f"the server {reason} (see {up.log})", last=True))
            _keep_facts(experiment, run, up, directory)
            yield directory
            if not whole:
                return
            after(run, up)


@contextmanager
def _serving(experiment: Experiment, run: Run, directory: Path, show: Show) -> Iterator[Up]:
    if run.server.url:
        yield Up(run.server.name, run.server.url, "", None, block=run.block)
        return

    log = directory / "server.log"

    def say(doing: str) -> None:
        show(Progress(run.name, 0, 1, {}, doing))

    say("starting")  # in a log this line stands while the engine loads
    with ExitStack() as stack:
        try:
            profile = profile_of(run.server, experiment)
            command = locate.command(profile, launch.free_port(), say=say, development=True)
            server = stack.enter_context(launch.serving(command, log, say=say))
        except ServerError as error:
            refused = serving.refusal(error)
            see = f" (see {log})" if refused.tail else ""
            text = f"{run.server.name}: {refused}{see}"
            raise TokenswarmError(text, refused.exit_code, refused.tail) from None
        facts = serving.facts(profile, command, server)
        yield Up(run.server.name, server.url, command.model, facts, server.ended, run.block, log)


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


def _measure(experiment: Experiment, run: Run, up: Up, directory: Path, show: Show) -> bool:
    """Load a server; returns whether the run was let finish. Raises TokenswarmError if it did not begin."""
    whole = True
    log = directory / "locust.log"
    with child(locust_command(experiment, run, up, directory), log) as process:
        try:
            _watch(process, experiment, run.name, directory, show)
        except KeyboardInterrupt:
            whole = False
            process.terminate()  # Locust ends in order: streams drain, reports come in
            process.wait()
    if not (directory / "run.json").exists():
        code = EXIT_USAGE if process.returncode == EXIT_USAGE else EXIT_NOT_STARTED
        raise TokenswarmError(f"{run.name}: {last_line(log)}", code)
    return whole


def _keep_facts(experiment: Experiment, run: Run, up: Up, directory: Path) -> None:
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
    margin = experiment.margin_share()
    if margin is not None:
        meta["experiment"]["margin"] = margin
    if up.facts is not None:
        meta["server"] = up.facts | {"ended": up.ended()}
    draft = file.with_suffix(".json.part")
    draft.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    draft.replace(file)


def seed_of(experiment: Experiment, run: Run) -> int:
    """Return a run's seed: the same for all servers, another one for each block and level."""
    levels = experiment.load.levels()
    return experiment.load.seed + (run.block - 1) * len(levels) + levels.index(run.level)


def locust_command(experiment: Experiment, run: Run, up: Up, directory: Path) -> list[str]:
    """Return Locust's command line for one run."""
    load, workload = experiment.load, experiment.workload
    locustfile = "arrivals" if load.loop == "open" else "chat"
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--run-name", run.name]
    command += ["-f", str(ROOT / "locustfiles" / f"{locustfile}.py"), "--host", up.url]
    command += ["-u", str(run.level), "-r", str(run.level), "--run-dir", str(directory)]
    command += ["-t", f"{load.duration_s + load.warmup_s + 1:.0f}s", "--warmup", f"{load.warmup_s:g}"]
    command += [
        "--arrivals",
        load.arrivals,
        "--seed",
        str(seed_of(experiment, run)),
        "--scenario",
        workload.endpoint,
    ]
    command += ["--endpoint", workload.endpoint, "--model", workload.model or up.model]
    command += ["--prompt-words", str(workload.prompt_words), "--max-tokens", str(workload.max_tokens)]
    if load.workers > 1:
        port = str(launch.free_port())
        command += ["--processes", str(load.workers), "--expect-workers-max-wait", "30"]
        command += ["--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]
    return command + workload.options


def _watch(
    process: subprocess.Popen[str],
    experiment: Experiment,
    name: str,
    directory: Path,
    show: Show,
) -> None:
    total_s = experiment.load.duration_s + experiment.load.warmup_s + 1
    while True:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
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
