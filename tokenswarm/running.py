"""An experiment from its first server to its report: measure, ask, judge, compare."""

import json
import shlex
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from analysis import sla as slas
from server.errors import ServerError
from tokenswarm import (
    EXIT_INTERRUPTED,
    EXIT_NOT_STARTED,
    TokenswarmError,
    judging,
    measuring,
    rejudging,
    resuming,
    searching,
    serving,
    tables,
)
from tokenswarm.door import Door
from tokenswarm.evicted import Evicted
from tokenswarm.experiment import Experiment, Run, schedule
from tokenswarm.gate import FOLDER, Gate, judge
from tokenswarm.measuring import Bench, Up
from tokenswarm.pace import Pace
from tokenswarm.searching import Found, Searched
from tokenswarm.tables import Progress

Ask = Callable[[Run, Up], None]


class Order:
    """An experiment that is to be done: what, by which SLA, from which file, into which directory."""

    def __init__(
        self, plan: Experiment, path: Path, sla: slas.Sla, out: Path, door: Door | None = None
    ) -> None:
        """Take note; by a `door`, workers come from elsewhere."""
        self.plan, self.path, self.sla, self.out, self.door = plan, path, sla, out, door
        self.asked = bool(plan.sla and sla.quality and len(plan.servers) > 1)

    def goes_on_with(self) -> str:
        """Return the command that goes on with it; empty where all was measured."""
        if self.plan.search:
            file = self.out / searching.FILE
            servers = json.loads(file.read_text(encoding="utf-8"))["servers"] if file.exists() else []
            whole = bool(servers) and all(server["finished"] for server in servers)
        else:
            whole = all(resuming.is_whole(run, self.out) for run in schedule(self.plan))
        listen = ["--listen", str(self.door.at)] if self.door else []
        again = ["tokenswarm", "run", str(self.path), "--resume", str(self.out), *listen]
        return "" if whole else shlex.join(again)


def run(order: Order, console: Console, *, resume: bool = False) -> judging.Conclusion | Found:
    """Do an experiment, or go on with it; what was measured is judged, whatever became of the rest.

    Raises TokenswarmError if a run could not begin, or if what is to be gone on with is another experiment.
    """
    if resume:
        resuming.check(order.plan, order.path, order.out)
        (order.out / "verdict.json").unlink(missing_ok=True)  # it was of less
    else:
        order.out.mkdir(parents=True, exist_ok=True)
        rejudging.keep_plan(order.plan, order.out, order.path)
    with tables.progress(console) as show, order.door or nullcontext():
        gate = Gate(order.plan, order.out / FOLDER, show)
        ask: Ask = gate if order.asked else _ask_nothing
        measure = _search if order.plan.search else _measure
        return measure(order, Pace(show), ask, gate)


def _measure(order: Order, pace: Pace, ask: Ask, gate: Gate) -> judging.Conclusion:
    plan, out = order.plan, order.out
    directories: list[Path] = []

    def work() -> None:
        measuring.check(plan, _teller(pace))
        unasked = gate.to_ask(order.asked)
        kept = resuming.kept(list(schedule(plan)), out, _teller(pace, last=True), unasked=unasked)
        for directory in measuring.measure_all(plan, out, pace, ask, kept, door=order.door):
            judging.keep_sla(plan, order.path, directory)
            directories.append(directory)

    failure = _failure_of(work, order)
    if not directories:
        raise failure or TokenswarmError("interrupted", EXIT_INTERRUPTED)
    names, runs = rejudging.planned(out)
    missing = [name for name in runs if out / name not in directories]
    quality = judge(out / FOLDER, names, order.sla, gate.unasked) if order.asked else {}
    found = judging.conclude(
        directories, order.sla, out, quality=quality, unasked=gate.unasked, missing=missing
    )
    if failure:
        raise failure
    return found


def _search(order: Order, pace: Pace, ask: Ask, gate: Gate) -> Found:
    plan, out = order.plan, order.out
    ended: list[Found] = []

    def work() -> None:
        measuring.check(plan, _teller(pace))
        with Bench(plan, out, pace, order.door) as bench:

            def measure(run: Run, searched: list[Searched]) -> bool:
                if resuming.is_whole(run, out):
                    return True
                resuming.move_aside(run, out, _teller(pace, last=True))
                left = [Run(one.server, 0, 1, "") for one in searched if not one.done]
                number = 1 + sum(len(one.trials) for one in searched)
                pace.expect(f"run {number}", searching.loads_left_s(plan, searched), bench.starts(left))
                whole = bench.measure(run)
                judging.keep_sla(plan, order.path, out / run.name)
                if whole and bench.up:
                    ask(run, bench.up)
                return whole

            ended.append(searching.search(plan, order.sla, out, measure))

    failure = _failure_of(work, order)
    if failure:
        raise failure
    return searching.with_quality(ended[0], plan, order.sla, out, gate.unasked)


def _failure_of(work: Callable[[], None], order: Order) -> TokenswarmError | None:
    """Do what may fail on the way; returns why it did."""
    try:
        work()
    except Evicted:
        raise  # there is no time for more than what it takes to judge the runs
    except TokenswarmError as error:
        return error
    except ServerError as error:
        return serving.refusal(error)
    except OSError as error:  # a full disk, say
        text = f"{error.filename or order.out}: {error.strerror or error}"
        return TokenswarmError(text, EXIT_NOT_STARTED)
    except KeyboardInterrupt:  # while a server starts, or is asked: what was measured is judged
        return TokenswarmError(f"interrupted; go on with: {order.goes_on_with()}", EXIT_INTERRUPTED)
    return None


def _teller(pace: Pace, *, last: bool = False) -> Callable[[str], None]:
    return lambda line: pace(Progress("", 0, 1, {}, line, last=last))


def _ask_nothing(_run: Run, _up: Up) -> None:
    """Stand in for the gate where the SLA has no limits of quality."""
