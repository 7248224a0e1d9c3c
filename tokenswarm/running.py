"""An experiment from its first server to its report: measure, ask, judge, compare."""

from pathlib import Path

from rich.console import Console

from analysis import sla as slas
from tokenswarm import EXIT_INTERRUPTED, TokenswarmError, judging, measuring, tables
from tokenswarm.experiment import Experiment, Run
from tokenswarm.gate import Gate
from tokenswarm.measuring import Up
from tokenswarm.tables import Progress


def run(plan: Experiment, path: Path, sla: slas.Sla, out: Path, console: Console) -> judging.Conclusion:
    """Do an experiment; what was measured is judged, whatever became of the rest.

    Raises TokenswarmError if a run could not begin.
    """
    directories: list[Path] = []
    failure: TokenswarmError | None = None
    out.mkdir(parents=True, exist_ok=True)
    with tables.progress(console) as show:
        gate = Gate(plan, out / "quality", lambda line: show(Progress("", 0, 1, {}, line)))
        ask = gate if plan.sla and sla.quality and len(plan.servers) > 1 else _ask_nothing
        try:
            measuring.check(plan, lambda line: show(Progress("", 0, 1, {}, line)))
            for directory in measuring.measure_all(plan, out, show, ask):
                judging.keep_sla(plan, path, directory)
                directories.append(directory)
        except TokenswarmError as error:
            failure = error
        except KeyboardInterrupt:  # while a server starts, or is asked: what was measured is judged
            failure = TokenswarmError("interrupted", EXIT_INTERRUPTED)
    if not directories:
        raise failure or TokenswarmError("interrupted", EXIT_INTERRUPTED)
    quality = gate.judge(sla)
    found = judging.conclude(directories, sla, out, quality, gate.unasked)
    if failure:
        raise failure
    return found


def _ask_nothing(_run: Run, _up: Up) -> None:
    """Stand in for the gate where the SLA has no limits of quality."""
