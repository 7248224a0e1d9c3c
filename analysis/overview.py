"""What an experiment says as a whole: its verdict, and up to which load each server keeps the SLA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .capacity import Capacity
from .objective import FAIL, INCONCLUSIVE
from .replications import Judged, Replications
from .sized import Sized
from .verdict import INVALID, SEVERITY

PLURAL = {"keeps": "keep", "breaks": "break", "is": "are"}


@dataclass(frozen=True, slots=True)
class Overview:
    """An experiment: its runs, the verdicts on their replications, and what each server carried by load."""

    judged: Sequence[Judged]
    together: Sequence[Replications]
    capacities: Sequence[Capacity]
    quality: Mapping[str, str]  # server -> verdict, where it was asked or should have been
    missing: Sequence[str]
    sized: Sized | None = None  # the replicas for a demand, where somebody asked

    @property
    def status(self) -> str:
        """The worst of all, as the exit code has it."""
        found = [*(one.status for one in self.together), *self.quality.values()]
        found += [INCONCLUSIVE] if self.missing else []
        return min(found, key=SEVERITY.index)

    def of(self, server: str, level: float) -> Replications | None:
        """Return the verdict on a server at a level, if it was measured."""
        return next((one for one in self.together if (one.server, one.level) == (server, level)), None)

    def good_share(self, server: str, level: float) -> float | None:
        """Return the share of good requests of a server at a level, if its runs may be believed."""
        own = (one for capacity in self.capacities if capacity.server == server for one in capacity.levels)
        return next((one.good_share for one in own if one.level == level), None)

    def levels(self) -> list[float]:
        """Return all levels, rising."""
        return sorted({one.level for capacity in self.capacities for one in capacity.levels})

    def decision(self) -> str:
        """Say up to which load each server was shown to keep the SLA, in one sentence."""
        alike: dict[tuple[str, str], list[str]] = {}
        for one in self.capacities:
            alike.setdefault(self._words(one), []).append(one.server)
        told = []
        for (verb, rest), names in alike.items():
            both = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
            told.append(f"{both} {PLURAL[verb] if len(names) > 1 else verb} {rest}")
        return f"{'; '.join(told)}."

    def _words(self, one: Capacity) -> tuple[str, str]:
        """Return what a server does, and up to where."""
        if one.highest is not None:
            text = f"the SLA {'at' if len(one.levels) == 1 else 'up to'} {one.words(one.highest)}"
            text += f", not at {one.refuted:g}" if one.refuted is not None else ""
            open_ = ", ".join(f"{level:g}" for level in one.undecided)
            found = "keeps", f"{text} ({open_} undecided)" if open_ else text
        elif one.refuted is not None:
            found = "breaks", f"the SLA at {one.words(one.refuted)}"
        else:
            found = "is", "not shown to keep or to break the SLA"
        beside = {FAIL: ", but quality FAILs", INCONCLUSIVE: ", quality undecided"}
        return found[0], found[1] + beside.get(self.quality.get(one.server, ""), "")

    def deciding_level(self) -> float:
        """Return the highest level that any server keeps, or else the lowest."""
        kept = [one.highest for one in self.capacities if one.highest is not None]
        return max(kept) if kept else self.levels()[0]

    def at_decision(self) -> list[Judged]:
        """Return one run of each server at the deciding level.

        An INVALID run only stands in where there is no other at all.
        """
        level = self.deciding_level()
        shown: dict[str, Judged] = {}
        for run, verdict in self.judged:
            place = run.meta["experiment"]
            if float(place["level"]) == level and verdict.status != INVALID:
                shown.setdefault(str(place["server"]), (run, verdict))
        found = [shown[one.server] for one in self.capacities if one.server in shown]
        return found or list(self.judged[:1])
