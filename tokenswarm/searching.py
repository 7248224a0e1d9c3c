"""Search the highest load that each server bears within the SLA: each run follows from the verdicts before.

    plan.json       the experiment
    search.json     what came out, and of which runs; rewritten after each of them
    SERVER-LEVEL-N  the N-th run of a server at a level

The runs are all that a search remembers: gone on with, or judged again, it takes the same way through them,
and what is whole is not measured twice.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from analysis import rundir, verdict
from analysis import searching as steps
from analysis import sla as slas
from analysis.quality import QualityVerdict
from analysis.reading import LEVEL_UNITS
from analysis.record import SCHEMA
from analysis.replications import Judged, pool
from analysis.searching import CONFIRM, PROBE, Done, Step, Trial
from analysis.verdict import INVALID, write_atomically
from tokenswarm import EXIT_USAGE, TokenswarmError, judging
from tokenswarm.experiment import Experiment, Run, Search, Server
from tokenswarm.resuming import PLAN, is_whole

FILE = "search.json"


Measure = Callable[[Run, "list[Searched]"], bool]
"""Makes a run, if it is not there; returns whether it is whole. It is told how far all searches are."""


@dataclass
class Searched:
    """One server's search: its runs and their trials in order, and what came out (None: not at its end)."""

    server: Server
    runs: list[Run] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    done: Done | None = None

    @property
    def status(self) -> str:
        """What came out; INCONCLUSIVE where the search was not finished."""
        return self.done.status if self.done else "INCONCLUSIVE"


class Found(NamedTuple):
    """What came out of an experiment that is a search."""

    unit: str
    sla: str
    settings: steps.Settings
    searched: list[Searched]
    quality: dict[str, QualityVerdict]
    unasked: dict[str, str]
    objectives: tuple[str, ...]  # of the SLA

    @property
    def status(self) -> str:
        """The worst of all: PASS has a confirmed load for each server."""
        found = [one.status for one in self.searched] + [one.status for one in self.quality.values()]
        found += ["INCONCLUSIVE"] if self.unasked else []
        return min(found, key=verdict.SEVERITY.index)

    @property
    def exit_code(self) -> int:
        """The exit code of the worst."""
        return verdict.EXIT_CODES[self.status]

    def to_json(self) -> dict[str, Any]:
        """Return what search.json holds."""
        return {
            "schema": SCHEMA,
            "status": self.status,
            "exit_code": self.exit_code,
            "unit": self.unit,
            "sla": self.sla,
            "objectives": list(self.objectives),
            "settings": asdict(self.settings),
            "servers": [_plain(one, self.settings) for one in self.searched],
            "quality": {name: one.to_json() for name, one in self.quality.items()},
            "unasked": self.unasked,
        }


def _plain(one: Searched, settings: steps.Settings) -> dict[str, Any]:
    decided = {
        (trial.level, trial.phase): (found.pooled if found else None)
        for trial in one.trials
        for found in [steps.outcome(one.trials, settings, trial.level, trial.phase)]
    }
    levels = [
        {
            "level": level,
            PROBE: decided.get((level, PROBE)),
            CONFIRM: decided.get((level, CONFIRM)),
            "runs": [run.name for run in one.runs if run.level == level],
        }
        for level in sorted({trial.level for trial in one.trials})
    ]
    return {
        "server": one.server.name,
        "status": one.status,
        "finished": one.done is not None,
        **asdict(one.done or Done("", "not finished", None, None, None)),
        "contradictions": contradictions(one, settings),
        "levels": levels,
        "trials": [
            {"run": run.name, "seed": run.seed, "duration_s": run.duration_s, **asdict(trial)}
            for run, trial in zip(one.runs, one.trials, strict=True)
        ],
    } | {"status": one.status}


def contradictions(one: Searched, settings: steps.Settings) -> list[str]:
    """Return, in words, where more load was better than less."""
    return [
        f"{good.phase} at {good.level:g}: PASS, but {bad.phase} at {bad.level:g}: {bad.pooled}"
        for good, bad in steps.contradictions(one.trials, settings)
    ]


def _wanted(plan: Experiment) -> Search:
    return plan.search or Search()


def settings_of(plan: Experiment) -> steps.Settings:
    """Return a search's settings as the judging room has them."""
    search, whole = _wanted(plan), plan.load.loop == "closed"
    return steps.Settings(search.start, search.top, search.share, search.confirm, search.longest, whole)


def search(plan: Experiment, sla: slas.Sla, out: Path, measure: Measure) -> Found:
    """Search for all servers, one after another, as far as runs can be had; keeps search.json up to date."""
    settings = settings_of(plan)
    searched = [Searched(server) for server in plan.servers]
    texts = tuple(one.text for one in sla.objectives)
    found = Found(LEVEL_UNITS[plan.load.loop], sla.name, settings, searched, {}, {}, texts)
    for one in searched:
        before: list[Judged] = []
        while isinstance(step := steps.next_step(one.trials, settings), Step):
            run = next_run(plan, one, step)
            if not measure(run, searched):
                return found
            if not one.trials or (one.trials[-1].level, one.trials[-1].phase) != step:
                before = []
            alone = judging.conclude([out / run.name], sla, None).verdicts[0]
            one.trials.append(_trial(step, (rundir.load(out / run.name), alone), before, sla))
            one.runs.append(run)
            keep(found, out)
        one.done = step
        keep(found, out)
    return found


def _trial(step: Step, judged: Judged, before: list[Judged], sla: slas.Sla) -> Trial:
    """Judge a run, and with it all of its level and phase; `before` grows by it where it can be used."""
    alone = judged[1]
    if alone.status == INVALID:
        return Trial(step.level, step.phase, INVALID, INVALID, alone.reasons[0])
    before.append(judged)
    found = pool(alone.name, step.level, before, sla)
    return Trial(step.level, step.phase, alone.status, found.status, found.reasons[0])


def next_run(plan: Experiment, one: Searched, step: Step) -> Run:
    """Return a search's next run: a seed of its own, and the number of its runs at this level."""
    number = 1 + sum(trial.level == step.level for trial in one.trials)
    name = f"{one.server.name}-{step.level:g}{plan.load.unit}-{number}"
    duration_s = _wanted(plan).probe_s if step.phase == PROBE else _wanted(plan).confirm_s
    return Run(one.server, step.level, number, name, plan.load.seed + len(one.trials), duration_s)


def loads_left_s(plan: Experiment, searched: list[Searched]) -> list[float]:
    """Return the loads that are still to come, as far as can be told: as many runs per probe as so far."""
    wanted, settings = _wanted(plan), settings_of(plan)
    around_s = plan.load.warmup_s + 1
    probes = confirmations = made = decided = 0
    for one in searched:
        left = steps.left(one.trials, settings)
        probes, confirmations = probes + left.probes, confirmations + left.confirmations
        levels = {trial.level for trial in one.trials if trial.phase == PROBE}
        made += sum(trial.phase == PROBE for trial in one.trials)
        decided += len(levels)
    each = made / decided if decided else 1.0
    runs = max(probes, math.ceil(probes * each))
    return [wanted.probe_s + around_s] * runs + [wanted.confirm_s + around_s] * confirmations


def keep(found: Found, out: Path) -> None:
    """Write search.json, and the runs so far into plan.json."""
    text = json.dumps(verdict.plain(found.to_json()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(out / FILE, text.encode("utf-8", "replace"))
    plan = json.loads((out / PLAN).read_text(encoding="utf-8"))
    made = [run.name for one in found.searched for run in one.runs]
    plan["runs"] += [name for name in made if name not in plan["runs"]]
    write_atomically(out / PLAN, (json.dumps(plan, indent=1) + "\n").encode("utf-8", "replace"))


def planned(out: Path) -> Experiment | None:
    """Return the experiment that a directory holds if it is a search; raises TokenswarmError."""
    file = out / PLAN
    try:
        made = json.loads(file.read_text(encoding="utf-8")).get("experiment")
        if not made or not made.get("search"):
            return None
        return msgspec.convert({key: made[key] for key in made if key != "files"}, Experiment)
    except (OSError, ValueError, AttributeError) as error:
        raise TokenswarmError(f"{file}: found no plan of an experiment ({error!r})", EXIT_USAGE) from None


def again(plan: Experiment, out: Path, by: Path | None) -> Found:
    """Judge a search again by its runs alone, by another SLA if there is one: as far as its runs go."""
    runs = sorted(out.glob("*/run.json"))
    if not runs:
        raise TokenswarmError(f"{out}: found none of a search's runs, expected one", EXIT_USAGE)
    sla = judging.sla(by, runs[0].parent)
    found = search(plan, sla, out, lambda run, _: is_whole(run, out))
    return with_quality(found, plan, sla, out, {})


def with_quality(found: Found, plan: Experiment, sla: slas.Sla, out: Path, unasked: dict[str, str]) -> Found:
    """Add what the servers said, where the SLA limits it."""
    if plan.sla and sla.quality and len(plan.servers) > 1:
        names = [server.name for server in plan.servers]
        from tokenswarm import gate  # noqa: PLC0415 - what asks servers costs a tenth of a verdict's start

        quality = gate.judge(out / gate.FOLDER, names, sla, unasked)
        found = found._replace(quality=quality, unasked=unasked)
    keep(found, out)
    return found
