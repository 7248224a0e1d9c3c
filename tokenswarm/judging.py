"""From run directories to verdicts and reports: the front door's way through the judging room."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from analysis import capacity, compare, junit, markdown, report, rundir, sentences, sized, verdict
from analysis import sla as slas
from analysis.overview import Overview
from analysis.quality import QualityVerdict
from analysis.reading import ComparisonError
from analysis.record import SLA_FILE
from analysis.replications import Judged, Replications, decided, replications
from tokenswarm import EXIT_USAGE, TokenswarmError
from tokenswarm.experiment import Experiment, InlineSla, scenarios

KEPT = SLA_FILE


def sla(path: Path | None, run: Path | None = None) -> slas.Sla:
    """Read an SLA file, or the one kept with a run, or take the default one; raises TokenswarmError."""
    if path is None and run is not None and (run / KEPT).exists():
        path = run / KEPT
    try:
        return slas.load(path) if path else slas.default()
    except slas.SlaError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None


def experiment_sla(plan: Experiment, path: Path) -> slas.Sla:
    """Return an experiment's SLA, before anything runs; raises TokenswarmError.

    What it says of scenarios and times must be what the plan will measure.
    """
    file = f"{path}: sla" if isinstance(plan.sla, InlineSla) else str(path.parent / plan.sla)
    try:
        if isinstance(plan.sla, InlineSla):
            found = slas.parse(_yaml(plan.sla), file)
        else:
            found = slas.load(file) if plan.sla else slas.default()
        measured_s = plan.search.probe_s if plan.search else plan.load.duration_s
        slas.refuse_unmeasured(found, file, scenarios(plan), measured_s)
    except slas.SlaError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None
    return found


def keep_sla(plan: Experiment, path: Path, directory: Path) -> None:
    """Put an experiment's SLA beside the run, so that it is judged by it again."""
    if isinstance(plan.sla, InlineSla):
        (directory / KEPT).write_text(_yaml(plan.sla), encoding="utf-8")
    elif plan.sla:
        shutil.copyfile(path.parent / plan.sla, directory / KEPT)


def _yaml(written: InlineSla) -> str:
    plain = {"name": written.name}
    plain |= {key: getattr(written, key) for key in ("objectives", "quality") if getattr(written, key)}
    return str(yaml.safe_dump(plain, allow_unicode=True))


class Conclusion(NamedTuple):
    """What came out: a verdict for each run; of an experiment, the comparison in words and the quality.

    An experiment's runs of one server at one level are judged together: its status is that of its
    replications.
    """

    verdicts: list[verdict.Verdict]
    said: list[str]
    comparison: compare.Comparison | None
    quality: dict[str, QualityVerdict]
    unasked: dict[str, str]  # servers whose quality is limited but unknown, and why
    missing: list[str]  # runs that were planned and are not there
    replications: tuple[Replications, ...] = ()  # of an experiment
    capacities: tuple[capacity.Capacity, ...] = ()  # the same, by server: what its first page draws

    @property
    def status(self) -> str:
        """The worst of all: speed without quality is no PASS."""
        found = [one.status for one in self.replications or self.verdicts]
        found += [one.status for one in self.quality.values()]
        found += ["INCONCLUSIVE"] if self.unasked or self.missing else []
        return min(found, key=verdict.SEVERITY.index)

    @property
    def together(self) -> tuple[Replications, ...]:
        """The verdicts on replications, where there are any; nothing where each run stands for itself."""
        return self.replications if any(len(one.runs) > 1 for one in self.replications) else ()

    @property
    def exit_code(self) -> int:
        """The exit code of the worst."""
        return verdict.EXIT_CODES[self.status]

    def to_json(self) -> dict[str, Any]:
        """Return the verdict of one run, or of several with the worst of them as the whole's."""
        if len(self.verdicts) == 1 and not (self.quality or self.unasked or self.missing):
            return self.verdicts[0].to_json()
        return {
            "status": self.status,
            "exit_code": self.exit_code,
            "replications": [one.to_json() for one in self.replications],
            "capacities": [verdict.plain(asdict(one)) for one in self.capacities],
            "requests_judged": sum(scenario.n for one in self.verdicts for scenario in one.scenarios),
            "runs": [one.to_json() for one in self.verdicts],
            "said": self.said,
            "comparison": self.comparison.to_json() if self.comparison else None,
            "quality": {name: one.to_json() for name, one in self.quality.items()},
            "unasked": self.unasked,
            "missing": self.missing,
        }

    def to_markdown(self) -> str:
        """Return the summary for a pull request."""
        quality = {name: (one.status, one.reasons) for name, one in self.quality.items()}
        quality |= {name: ("INCONCLUSIVE", (f"not judged: {why}",)) for name, why in self.unasked.items()}
        together = [
            markdown.Judgement(one.name, one.status, one.reasons, one.objectives) for one in self.together
        ]
        whole = markdown.Whole(self.status, self.verdicts, self.said, quality, self.missing, together)
        return markdown.markdown(whole)


def conclude(  # noqa: PLR0913 - what was measured, asked and left out
    directories: list[Path],
    by: slas.Sla,
    out: Path | None,
    *,
    quality: dict[str, QualityVerdict] | None = None,
    unasked: dict[str, str] | None = None,
    missing: list[str] | None = None,
) -> Conclusion:
    """Judge runs and write what belongs beside them: verdict.json and junit.xml; with `out`, reports.

    Each run's own report goes into its directory; several runs are also compared, in `out`, which then holds
    the verdict on all of them: replications of a server at a level are judged together. `missing` are runs
    that were planned: without them there is no PASS. Raises TokenswarmError where a directory holds no run.
    """
    judged = [_judge(directory, by) for directory in directories]
    verdicts = [found for _, found in judged]
    if not out:
        return Conclusion(verdicts, [], None, {}, {}, [])
    for directory, pair in zip(directories, judged, strict=True):
        report.write_report([pair], directory)
    if len(judged) == 1 and not missing:
        if out not in directories:
            (out / "verdict.json").unlink(missing_ok=True)  # of an eviction: the run's own holds
        return Conclusion(verdicts, [], None, {}, {}, [])
    quality, unasked = quality or {}, unasked or {}
    plain = {name: one.to_json() for name, one in quality.items()}
    plain |= {
        name: {"status": "INCONCLUSIVE", "reasons": [f"not judged: {why}"]} for name, why in unasked.items()
    }
    together = replications(judged, by)
    comparison = None
    try:
        comparison = compare.compare(judged, decided=decided(together))
        said = sentences.sentences(comparison, plain or None)
    except ComparisonError as error:
        said = [] if _one_server(judged) else [f"not compared: {error}"]
    curves = _curves(judged, by, together)
    statuses = {name: str(one["status"]) for name, one in plain.items()}
    whole = Overview(judged, together, curves, statuses, missing or [], sized.read(out / sized.FILE, curves))
    _report(whole, comparison, plain, out)
    found = Conclusion(verdicts, said, comparison, quality, unasked, missing or [], together, curves)
    junit.write_junit_of_all(verdicts, _other_cases(found), out / "junit.xml", found.together)
    text = json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n"
    verdict.write_atomically(out / "verdict.json", text.encode("utf-8", "replace"))
    return found


def _curves(
    judged: list[Judged], by: slas.Sla, together: tuple[Replications, ...]
) -> tuple[capacity.Capacity, ...]:
    """Return what each server carries; nothing where no experiment placed the runs, or loops differ."""
    try:
        return capacity.measure(judged, by, decided(together))
    except (capacity.CapacityError, ComparisonError):
        return ()


def _report(
    whole: Overview,
    comparison: compare.Comparison | None,
    quality: Mapping[str, Mapping[str, Any]],
    out: Path,
) -> None:
    """Write an experiment's report; of at most two runs that no experiment placed, a page side by side."""
    for name in ("comparison.json", "report.pdf", "report.html"):  # what was said before may not hold
        (out / name).unlink(missing_ok=True)
    if whole.capacities:
        report.write_experiment(whole, comparison, quality or None, out)
    elif len(whole.judged) <= report.MAX_RUNS and not all(
        run.meta.get("experiment") for run, _ in whole.judged
    ):
        report.write_report(whole.judged, out)


def _other_cases(found: Conclusion) -> list[junit.Case]:
    """Return the tests of an experiment that no single run is judged by."""
    cases = [
        junit.Case(f"quality of {name}", one.status, "; ".join(one.reasons))
        for name, one in found.quality.items()
    ]
    cases += [
        junit.Case(f"quality of {name}", "INCONCLUSIVE", f"not judged: {why}")
        for name, why in found.unasked.items()
    ]
    return cases + [junit.Case(name, "INCONCLUSIVE", "planned, and not measured") for name in found.missing]


def _one_server(judged: list[tuple[rundir.Run, verdict.Verdict]]) -> bool:
    """Say whether all runs are of an experiment with one server, which nobody expects to be compared."""
    placed = [run.meta.get("experiment") or {} for run, _ in judged]
    return all(place.get("server") for place in placed) and len({place["server"] for place in placed}) == 1


def read(directory: Path, by: slas.Sla) -> tuple[rundir.Run, verdict.Verdict]:
    """Read a run and judge it, writing nothing; raises TokenswarmError where the directory holds none."""
    try:
        run = rundir.load(directory)
    except rundir.RunError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None
    try:
        return run, verdict.judge(run, by)
    except (TypeError, AttributeError, KeyError) as error:
        text = f"{directory}: run.json holds what no run writes ({error})"
        raise TokenswarmError(text, EXIT_USAGE) from None


def _judge(directory: Path, by: slas.Sla) -> tuple[rundir.Run, verdict.Verdict]:
    run, found = read(directory, by)
    verdict.write_verdict(found, directory / "verdict.json")
    junit.write_junit(found, directory / "junit.xml")
    return run, found
