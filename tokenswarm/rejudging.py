"""Judge what was measured again, without any server: a run, or all of an experiment.

An experiment's directory holds its runs, and plan.json: the servers, the baseline first, and the runs that
were to be made.
"""

import json
from pathlib import Path
from typing import Any

from analysis.verdict import write_atomically
from tokenswarm import EXIT_USAGE, TokenswarmError, judging, searching
from tokenswarm.experiment import Experiment, schedule
from tokenswarm.judging import Conclusion
from tokenswarm.resuming import PLAN, definition


def keep_plan(plan: Experiment, out: Path, path: Path | None = None) -> None:
    """Write what an experiment is to measure, in this order, into its directory; `path` is its file."""
    made: dict[str, Any] = {
        "servers": [server.name for server in plan.servers],
        "runs": [run.name for run in schedule(plan)],
    }
    made |= {"experiment": definition(plan, path)} if path else {}
    text = json.dumps(made, indent=1) + "\n"
    write_atomically(out / PLAN, text.encode("utf-8", "replace"))


def planned(directory: Path) -> tuple[list[str], list[str]]:
    """Return the names of an experiment's servers and of its runs; raises TokenswarmError."""
    file = directory / PLAN
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return [str(name) for name in found["servers"]], [str(name) for name in found["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenswarmError(f"{file}: found no plan of an experiment ({error!r})", EXIT_USAGE) from None


def again(directory: Path, by: Path | None, *, report: bool) -> Conclusion | searching.Found:
    """Judge the run, or the experiment, in a directory by an SLA file, or by the one that it was made for.

    Of a run, the report is remade if it is asked for; of an experiment always, for comparison and quality are
    what it is about. Raises TokenswarmError where the directory holds neither.
    """
    if not (directory / PLAN).exists():
        return judging.conclude([directory], judging.sla(by, directory), directory if report else None)
    servers, names = planned(directory)
    searched = searching.planned(directory)
    if searched:
        return searching.again(searched, directory, by)
    runs = [directory / name for name in names if (directory / name / "run.json").exists()]
    if not runs:
        raise TokenswarmError(f"{directory}: found none of its {len(names)} runs, expected one", EXIT_USAGE)
    missing = [name for name in names if directory / name not in runs]
    sla = judging.sla(by, runs[0])
    unasked: dict[str, str] = {}
    wanted = by or (runs[0] / judging.KEPT).exists()  # the default SLA's limits are asked for by nobody
    asked = wanted and sla.quality and len(servers) > 1
    quality = {}
    if asked:
        from tokenswarm import gate  # noqa: PLC0415 - what asks servers costs a tenth of a verdict's start

        quality = gate.judge(directory / gate.FOLDER, servers, sla, unasked)
    return judging.conclude(runs, sla, directory, quality=quality, unasked=unasked, missing=missing)
