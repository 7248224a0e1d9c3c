"""Compare what lies in folders: yesterday's runs with today's, one server's with another's.

A folder is a run, an experiment, or holds runs. Nothing in it is changed.
"""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import answers, between, quality, report, sentences, weighing
from analysis import sla as slas
from analysis.between import Judged, Side
from analysis.compare import Comparison
from analysis.conditions import conditions, is_part
from analysis.effects import Effect
from analysis.reading import ComparisonError
from analysis.verdict import EXIT_CODES, INVALID, SEVERITY
from tokenswarm import EXIT_USAGE, TokenswarmError, judging, rejudging, resuming, tables
from tokenswarm.gate import FLOORS, FOLDER

EXIT_REFUSED = EXIT_CODES[INVALID]


class Asked(NamedTuple):
    """What to compare, and how."""

    folders: list[Path]  # the baseline's first
    server: str  # of experiments with several; "" where there is one
    differs: list[str]
    margin: float | None
    sla: Path | None


class Compared(NamedTuple):
    """What came out."""

    comparison: Comparison
    runs: list[Judged]
    quality: dict[str, dict[str, Any]]  # by candidate

    @property
    def weighed(self) -> dict[str, weighing.Weighed]:
        """Each candidate's verdict."""
        return weighing.weigh(self.comparison, self.quality)

    @property
    def exit_code(self) -> int:
        """The exit code of the worst candidate."""
        found = [one.status for one in self.weighed.values()]
        return EXIT_CODES[min(found, key=SEVERITY.index)]

    def to_json(self) -> dict[str, Any]:
        """Return what comparison.json holds."""
        return report.comparison_json(self.comparison, self.quality)


def compare(asked: Asked) -> Compared:
    """Read, judge and compare. Raises TokenswarmError, with code 5 where the runs may not be compared."""
    names = _names(asked.folders)
    found = [_runs(folder, asked.server) for folder in asked.folders]
    by = judging.sla(asked.sla, found[0][0])
    sides = [
        Side(name, [judging.read(run, by) for run in runs]) for name, runs in zip(names, found, strict=True)
    ]
    _check_names(asked.differs, sides)
    try:
        comparison, placed = between.between(sides, by, asked.differs, asked.margin)
    except between.UndeclaredError as error:
        raise TokenswarmError(f"{error} (--differs NAME declares one)", EXIT_REFUSED, error.lines) from None
    except ComparisonError as error:
        raise TokenswarmError(str(error), EXIT_REFUSED) from None
    wanted = by.quality and (asked.sla or (found[0][0] / judging.KEPT).exists())
    return Compared(comparison, placed, _qualities(asked, sides, by) if wanted else {})


def write(found: Compared, out: Path) -> None:
    """Write comparison.json, report.pdf and the chart."""
    report.write_comparison(found.comparison, found.runs, found.quality or None, out)


def _names(folders: Sequence[Path]) -> list[str]:
    """Name the sides by their folders. Raises TokenswarmError where one is there twice."""
    whole = [folder.resolve() for folder in folders]
    for folder in whole:
        if whole.count(folder) > 1:
            raise TokenswarmError(f"{folder}: found twice, expected runs of another time", EXIT_USAGE)
    last = [folder.name for folder in whole]
    return last if len(set(last)) == len(last) else [str(folder) for folder in folders]


def _runs(folder: Path, server: str) -> list[Path]:
    """Return the runs of one server in a folder; raises TokenswarmError."""
    if (folder / "run.json").exists():
        return [folder]
    if (folder / resuming.PLAN).exists():
        runs = [folder / name for name in rejudging.planned(folder)[1]]
        runs = [run for run in runs if (run / "run.json").exists()]
    else:
        runs = sorted(file.parent for file in folder.glob("*/run.json"))
    if not runs:
        raise TokenswarmError(
            f"{folder}: found no run, expected a run directory or an experiment's", EXIT_USAGE
        )
    servers = {run: _server(run) for run in runs}
    known = list(dict.fromkeys(servers.values()))
    if len(known) > 1 and not server:
        text = f"{folder}: found the servers {', '.join(known)}, expected --server with one of them"
        raise TokenswarmError(text, EXIT_USAGE)
    if len(known) > 1 and server not in known:
        text = f"{folder}: found the servers {', '.join(known)}, expected {server!r} among them"
        raise TokenswarmError(text, EXIT_USAGE)
    return [run for run in runs if len(known) == 1 or servers[run] == server]


def _server(run: Path) -> str:
    """Return which server of an experiment a run is of; "" where it is of none, or is no run."""
    try:
        found = json.loads((run / "run.json").read_text(encoding="utf-8")).get("experiment")
    except (ValueError, AttributeError):
        return ""
    return str(found.get("server", "")) if isinstance(found, dict) else ""


def _check_names(differs: Sequence[str], sides: Sequence[Side]) -> None:
    """Raise TokenswarmError for a declared name that is no condition of any run."""
    known = {name for side in sides for run, _ in side.judged for name in conditions(run)}
    for name in differs:
        if not any(is_part(one, [name]) for one in known):
            near = difflib.get_close_matches(name, sorted(known), 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            text = f"--differs: found {name!r}, expected what a run has, such as server.profile{meant}"
            raise TokenswarmError(text, EXIT_USAGE)


def _qualities(asked: Asked, sides: Sequence[Side], by: slas.Sla) -> dict[str, dict[str, Any]]:
    """Judge each candidate's kept answers against the baseline's; who was not asked is undecided."""
    base, *candidates = zip(asked.folders, sides, strict=True)
    made = {}
    for folder, side in candidates:
        files = [_answers(*base), _answers(folder, side)]
        absent = [file for file in files if not file.exists()]
        if absent:
            reason = f"not judged: found no {absent[0]}"
            made[side.name] = {"status": "INCONCLUSIVE", "reasons": [reason]}
            continue
        try:
            floor, how = _floor(*base)
            said = [answers.load(file) for file in files]
            verdict = quality.judge(said[0], said[1], by.quality, floor=floor, how=how, sla=by.name)
        except answers.AnswersError as error:
            made[side.name] = {"status": "INCONCLUSIVE", "reasons": [f"not judged: {error}"]}
        else:
            made[side.name] = verdict.to_json()
    return made


def _answers(folder: Path, side: Side) -> Path:
    return folder / FOLDER / f"{_server(side.judged[0][0].path)}.json.gz"


def _floor(folder: Path, side: Side) -> tuple[answers.Answers | None, str]:
    """Return what the baseline said when it was asked again, where that was this server, and how it was."""
    experiment = side.judged[0][0].meta.get("experiment") or {}
    for word, how in FLOORS.items():
        file = folder / FOLDER / "floor" / f"{word}.json.gz"
        if experiment.get("server") == experiment.get("baseline") and file.exists():
            return answers.load(file), how
    return None, ""


def show(found: Compared, console: Console) -> None:
    """Print what the SLA limits, the comparison in words, and each candidate's verdict."""
    comparison = found.comparison
    several = len(comparison.candidates) > 1
    mark = "  (SIMULATED)" if comparison.simulated else ""
    table = Table(title=f"against {comparison.baseline}, SLA {comparison.sla}{mark}", title_justify="left")
    table.add_column("limited metric")
    for column in (comparison.unit, comparison.baseline, "candidate", "ratio", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_column("")
    for contrast in comparison.contrasts:
        for effect in contrast.effects:
            if effect.limited:
                name = f"{effect.metric}, {contrast.candidate}" if several else effect.metric
                table.add_row(name, f"{contrast.level:g}", *_cells(effect))
    console.print(table)
    for text in sentences.sentences(comparison, found.quality):
        console.print(Text(text), soft_wrap=True)
    for name, weighed in found.weighed.items():
        line = Text(f"{name}: ")
        line.append(weighed.status, style=tables.STYLES[weighed.status])
        console.print(line.append(f": {'; '.join(weighed.reasons)}"), soft_wrap=True)


def _cells(effect: Effect) -> tuple[str, ...]:
    def value(number: float | None) -> str:
        if number is None:
            return "-"
        return f"{number * 100:.2f} %" if effect.unit == "share" else f"{number:.1f} {effect.unit}"

    ratio = "-" if effect.ratio is None else f"{effect.ratio:.3f}"
    interval = "-" if effect.low is None else f"{effect.low:.3f} to {effect.high:.3f}"
    return value(effect.baseline), value(effect.candidate), ratio, interval, effect.outcome
