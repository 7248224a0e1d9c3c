"""What is said of an experiment that SIGTERM ended: INVALID, with a verdict on each run that there is."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from analysis import markdown, verdict
from analysis import sla as slas
from analysis.rundir import RunError
from analysis.verdict import INVALID
from tokenswarm import TokenswarmError, evicted, judging
from tokenswarm.experiment import Experiment, schedule


class Eviction(NamedTuple):
    """What came out; `verdicts` are those of the runs that there are, one that was cut off among them."""

    reason: str
    verdicts: list[verdict.Verdict]
    missing: list[str]  # planned, and not begun
    status: str = INVALID
    exit_code: int = verdict.EXIT_CODES[INVALID]

    def to_json(self) -> dict[str, Any]:
        """Return what verdict.json holds."""
        runs = [one.to_json() for one in self.verdicts]
        return evicted.VERDICT | {"reasons": [self.reason], "runs": runs, "missing": self.missing}

    def to_markdown(self) -> str:
        """Return the summary for a pull request."""
        said = [markdown.escaped(self.reason)]
        said += [f"{markdown.escaped(one.name)}: {one.status}" for one in self.verdicts]
        lines = "".join(f"- {line}\n" for line in said)
        return f"## {markdown.MARKS[INVALID]} {INVALID}\n\n{lines}"


def conclude(plan: Experiment, path: Path, by: slas.Sla, out: Path) -> Eviction:
    """Judge what there is, run by run, without reports; `path` is the experiment's file."""
    _keep(Eviction("evicted (SIGTERM); what was measured was not judged in time", [], []), out)
    planned = [run.name for run in schedule(plan)]
    runs = sorted((file.parent for file in out.glob("*/run.json")), key=_began_unix_ns)
    verdicts = []
    for run in runs:
        try:
            judging.keep_sla(plan, path, run)
            verdicts += judging.conclude([run], by, None).verdicts
        except (TokenswarmError, RunError, OSError):
            continue  # cut off before there was anything to judge: its files are there
    missing = [name for name in planned if out / name not in runs]
    found = Eviction(_reason(runs, planned), verdicts, missing)
    _keep(found, out)
    return found


def _keep(found: Eviction, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n"
    verdict.write_atomically(out / "verdict.json", text.encode("utf-8", "replace"))


def _reason(runs: list[Path], planned: list[str]) -> str:
    whole = sum(_is_whole(run) for run in runs)
    cut = [run.name for run in runs if not _is_whole(run)]
    of = f" of {len(planned)}" if planned else ""  # a search plans none
    said = f"evicted (SIGTERM) with {whole}{of} run{'s' if (len(planned) or whole) != 1 else ''} measured"
    if cut:
        return f"{said}, in the middle of {', '.join(cut)}"
    return f"{said}, before they were judged" if planned and whole == len(planned) else said


def _meta(run: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _is_whole(run: Path) -> bool:
    meta = _meta(run)
    return meta.get("ended_unix_ns") is not None and not meta.get("interrupted")


def _began_unix_ns(run: Path) -> int:
    return int(_meta(run).get("started_unix_ns") or 0)


def show(found: Eviction, console: Console) -> None:
    """Print it for a person."""
    console.print(Text(f"{INVALID}: {found.reason}", style="bold"), soft_wrap=True)
    for one in found.verdicts:
        console.print(Text(f"{one.name}: {one.status}: {one.reasons[0]}"), soft_wrap=True)
    if found.missing:
        console.print(Text(f"not measured: {', '.join(found.missing)}"), style="yellow", soft_wrap=True)
