"""An experiment from its first server to its report: measure, ask, judge, compare."""

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
    serving,
    tables,
)
from tokenswarm.experiment import Experiment, Run
from tokenswarm.gate import FOLDER, Gate, judge
from tokenswarm.measuring import Up
from tokenswarm.tables import Progress


def run(plan: Experiment, path: Path, sla: slas.Sla, out: Path, console: Console) -> judging.Conclusion:
    """Do an experiment; what was measured is judged, whatever became of the rest.

    Raises TokenswarmError if a run could not begin.
    """
    directories: list[Path] = []
    failure: TokenswarmError | None = None
    out.mkdir(parents=True, exist_ok=True)
    rejudging.keep_plan(plan, out)
    with tables.progress(console) as show:
        gate = Gate(plan, out / FOLDER, show)
        ask = gate if plan.sla and sla.quality and len(plan.servers) > 1 else _ask_nothing
        try:
            measuring.check(plan, lambda line: show(Progress("", 0, 1, {}, line)))
            for directory in measuring.measure_all(plan, out, show, ask):
                judging.keep_sla(plan, path, directory)
                directories.append(directory)
        except TokenswarmError as error:
            failure = error
        except ServerError as error:
            failure = serving.refusal(error)
        except OSError as error:  # a full disk, say
            failure = TokenswarmError(f"{error.filename or out}: {error.strerror or error}", EXIT_NOT_STARTED)
        except KeyboardInterrupt:  # while a server starts, or is asked: what was measured is judged
            failure = TokenswarmError("interrupted", EXIT_INTERRUPTED)
    if not directories:
        raise failure or TokenswarmError("interrupted", EXIT_INTERRUPTED)
    names, runs = rejudging.planned(out)
    missing = [name for name in runs if out / name not in directories]
    quality = judge(out / FOLDER, names, sla, gate.unasked) if ask is gate else {}
    found = judging.conclude(directories, sla, out, quality=quality, unasked=gate.unasked, missing=missing)
    if failure:
        raise failure
    return found


def _ask_nothing(_run: Run, _up: Up) -> None:
    """Stand in for the gate where the SLA has no limits of quality."""
