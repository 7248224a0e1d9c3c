"""From run directories to verdicts and reports: the front door's way through the judging room."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from analysis import junit, report, rundir, verdict
from analysis import sla as slas
from tokenswarm import EXIT_USAGE, TokenswarmError
from tokenswarm.experiment import Experiment, InlineSla

KEPT = "sla.yaml"  # in a run directory: what the run was made for
SEVERITY = ("INVALID", "OVERSATURATED", "FAIL", "INCONCLUSIVE", "PASS")


def sla(path: Path | None, run: Path | None = None) -> slas.Sla:
    """Read an SLA file, or the one kept with a run, or take the default one; raises TokenswarmError."""
    if path is None and run is not None and (run / KEPT).exists():
        path = run / KEPT
    try:
        return slas.load(path) if path else slas.default()
    except slas.SlaError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None


def experiment_sla(plan: Experiment, path: Path) -> slas.Sla:
    """Return an experiment's SLA, before anything runs; raises TokenswarmError."""
    if isinstance(plan.sla, str):
        return sla(path.parent / plan.sla if plan.sla else None)
    try:
        return slas.parse(_yaml(plan.sla), f"{path}: sla")
    except slas.SlaError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None


def keep_sla(plan: Experiment, path: Path, directory: Path) -> None:
    """Put an experiment's SLA beside the run, so that it is judged by it again."""
    if isinstance(plan.sla, InlineSla):
        (directory / KEPT).write_text(_yaml(plan.sla), encoding="utf-8")
    elif plan.sla:
        shutil.copyfile(path.parent / plan.sla, directory / KEPT)


def _yaml(written: InlineSla) -> str:
    plain = {"name": written.name, "objectives": written.objectives}
    return str(yaml.safe_dump(plain, allow_unicode=True))


def conclude(directories: list[Path], by: slas.Sla, out: Path | None) -> list[verdict.Verdict]:
    """Judge runs and write what belongs beside them: verdict.json and junit.xml; with `out`, reports.

    Each run's own report goes into its directory. Two runs are also reported side by side, in `out`.
    Raises TokenswarmError where a directory holds no run.
    """
    judged = []
    for directory in directories:
        try:
            run = rundir.load(directory)
        except rundir.RunError as error:
            raise TokenswarmError(str(error), EXIT_USAGE) from None
        try:
            found = verdict.judge(run, by)
        except (TypeError, AttributeError, KeyError) as error:
            text = f"{directory}: run.json holds what no run writes ({error})"
            raise TokenswarmError(text, EXIT_USAGE) from None
        verdict.write_verdict(found, directory / "verdict.json")
        junit.write_junit(found, directory / "junit.xml")
        judged.append((run, found))
    if out:
        for directory, pair in zip(directories, judged, strict=True):
            report.write_report([pair], directory)
        if len(judged) == report.MAX_RUNS:
            report.write_report(judged, out)
    return [found for _, found in judged]


def as_json(verdicts: list[verdict.Verdict]) -> dict[str, Any]:
    """Return the verdict of one run, or of several with the worst of them as the whole's."""
    if len(verdicts) == 1:
        return verdicts[0].to_json()
    return {
        "status": _worst(verdicts),
        "exit_code": exit_code(verdicts),
        "runs": [v.to_json() for v in verdicts],
    }


def exit_code(verdicts: list[verdict.Verdict]) -> int:
    """Return the exit code of the worst verdict."""
    return verdict.EXIT_CODES[_worst(verdicts)]


def _worst(verdicts: list[verdict.Verdict]) -> str:
    return min((found.status for found in verdicts), key=SEVERITY.index)
