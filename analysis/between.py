"""Runs of one folder against those of others: yesterday's against today's, in one comparison.

What two runs of one experiment share by being made together must here be shown: the work, the load, the
server's arguments and the machine. Runs of the same load and seed are pairs. Where the seeds do not agree the
runs stand against each other as two groups, and where each side has one run it is one pair, which proves
nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .compare import Comparison, compare
from .conditions import Difference, differences, is_declared
from .effects import MARGIN
from .reading import ComparisonError, margin_of
from .replications import decided, replications
from .rundir import Run
from .sla import Sla
from .verdict import Verdict

NATURAL = ("load.seed",)
"""What may differ undeclared between runs that were not made together."""

Judged = tuple[Run, Verdict]


class UndeclaredError(ComparisonError):
    """Runs that differ in what nobody declared: says in what, one line each."""

    def __init__(self, text: str, lines: Sequence[str]) -> None:
        """Keep the differences in words."""
        super().__init__(text)
        self.lines = tuple(lines)


@dataclass(frozen=True, slots=True)
class Side:
    """The runs of one server in one folder, and what to call them."""

    name: str
    judged: Sequence[Judged]

    def at(self, level: float) -> list[Judged]:
        """Return the runs of a level, in the order in which they were made."""
        own = [one for one in self.judged if level_of(one[0]) == level]
        return sorted(own, key=lambda one: int(one[0].meta["started_unix_ns"]))

    @property
    def levels(self) -> list[float]:
        """The levels that were measured, in rising order."""
        return sorted({level_of(run) for run, _ in self.judged})


def between(
    sides: Sequence[Side], sla: Sla, declared: Sequence[str] = (), margin: float | None = None
) -> tuple[Comparison, list[Judged]]:
    """Compare sides with the first of them; return the runs, too, placed as those of an experiment are.

    `declared` are the conditions that may differ, by their names or those of their sections. Without a margin
    the baseline's own counts, else 5 %. Raises UndeclaredError for any other difference, ComparisonError
    where there is nothing to compare.
    """
    base, *candidates = sides
    lines = [line for side in candidates for line in _undeclared(base, side, declared)]
    if lines:
        what = "difference that was" if len(lines) == 1 else "differences that were"
        text = f"found {len(lines)} {what} not declared, expected runs that can be compared"
        raise UndeclaredError(text, lines)
    placed = [one for side in sides for one in _placed(side, base)]
    found = margin if margin is not None else margin_of(base.judged[0][0], MARGIN)
    verdicts = decided(replications(placed, sla))
    return compare(placed, margin=found, declared=(*declared, *NATURAL), decided=verdicts), placed


def _undeclared(base: Side, side: Side, declared: Sequence[str]) -> list[str]:
    """Return in words what a side, or the baseline within itself, does not share with the baseline."""
    common = [level for level in base.levels if level in side.levels]
    pairs = [(run, base.at(level)[0][0]) for level in common for run, _ in (*base.at(level), *side.at(level))]
    if not common:
        pairs = [(side.judged[0][0], base.judged[0][0])]
    found: dict[str, Difference] = {}
    for run, first in pairs:
        for one in differences(run, first):
            known = is_declared(one.name, (*declared, *NATURAL))
            if not known or (not common and one.name == "load.users"):
                found.setdefault(one.name, one)
    if not common and "load.users" not in found:
        raise ComparisonError(f"found the loads {side.levels} in {side.name}, expected one of {base.levels}")
    return [f"{side.name}: {one}" for one in found.values()]


def _placed(side: Side, base: Side) -> list[Judged]:
    """Return runs as members of one experiment, in which pairs share a block."""
    placed = []
    for level in side.levels:
        own = side.at(level)
        blocks = _blocks(own, own if side is base else base.at(level))
        for (run, verdict), block in zip(own, blocks, strict=True):
            where = {"server": side.name, "baseline": base.name, "level": level, "block": block}
            name = side.name if len(side.judged) == 1 else f"{side.name}/{verdict.name}"
            meta = {**run.meta, "experiment": where, "name": name}
            placed.append((replace(run, meta=meta), replace(verdict, name=name)))
    return placed


def _blocks(own: Sequence[Judged], base: Sequence[Judged]) -> list[int]:
    """Return a block for each run: that of the baseline's run of the same seed, or one of its own."""
    mine, its = (_seeds(runs) for runs in (own, base))
    if own is base or len(own) == len(base) == 1:
        return list(range(1, len(own) + 1))
    alone = all(count == 1 for seeds in (mine, its) for count in Counter(seeds).values())
    known = {seed: block for block, seed in enumerate(its, 1)} if alone else {}
    fresh = iter(range(len(base) + 1, len(base) + len(own) + 1))
    return [known[seed] if seed in known else next(fresh) for seed in mine]


def _seeds(runs: Sequence[Judged]) -> list[object]:
    return [run.meta["load"].get("seed") for run, _ in runs]


def level_of(run: Run) -> float:
    """Return a run's level of load: users or arrivals/s. Raises ComparisonError where run.json has none."""
    experiment, load = run.meta.get("experiment"), run.meta["load"]
    users, rate = load.get("users"), load.get("rate_per_s")
    found = experiment.get("level") if isinstance(experiment, dict) else rate if users is None else users
    if not isinstance(found, int | float):
        names = f"load.users = {users!r} and load.rate_per_s = {rate!r}"
        raise ComparisonError(f"{run.path}: run.json: found {names}, expected a number")
    return float(found)
