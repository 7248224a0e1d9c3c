"""The search for the highest load that meets an SLA: what to measure next, as a pure function of what was.

Nothing is kept here: the same history gives the same next step, so a search goes on after an interruption as
if there had been none. The way (Tokenswarm's METHOD, "max-goodput search with noise"):

1. Bracket. From `start` the load doubles until a level is not PASS (or halves until one is).
2. Bisect on the logarithm until the two sides lie within the precision that was asked for.
3. Confirm the lower side with fresh runs, judged once, all together. If they do not PASS, the search steps
   down by its precision and confirms there.

A probe is one run. One that is INCONCLUSIVE is extended, not guessed: more runs of other seeds at the same
level, judged together after 1, 2, 4, 8 … of them (each look is another chance of a wrong answer, so looks are
few). What stays undecided counts as not PASS, and the result says so. An INVALID run is measured again once;
two in a row end the search upwards, for there the load generator is the limit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import NamedTuple

from .objective import FAIL, INCONCLUSIVE, PASS
from .verdict import INVALID, OVERSATURATED

PROBE, CONFIRM = "probe", "confirmation"

DEEPEST = 16
"""Without a PASS at this part of `start` the search gives up."""

CONFIRMATIONS = 4
"""So many levels are tried, each a step below the one before, until one is confirmed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is searched for, and how well. Levels are arrivals a second, or users (then `whole`)."""

    start: float
    top: float
    within: float  # the interval's ends differ by this share of the lower one at most
    confirm: int  # runs of a confirmation
    longest: int  # runs of a probe at most
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of the search, as the next step needs to know it."""

    level: float
    phase: str  # PROBE or CONFIRM
    status: str  # the run's own verdict
    pooled: str  # the verdict on all runs of this level and phase so far
    reason: str = ""


class Step(NamedTuple):
    """What to measure next: one run."""

    level: float
    phase: str


@dataclass(frozen=True, slots=True)
class Done:
    """What came out.

    `low` is the highest level whose confirmation is PASS, `high` the lowest above it that is not PASS (None:
    none was found), `fails_from` the lowest that is certainly beyond the SLA; between `high` and it nothing
    could be shown. `status`: PASS has a confirmed `low`; FAIL and INCONCLUSIVE have none; INVALID ended
    because the instrument could not measure, and has a `low` all the same if one was confirmed.
    """

    status: str
    reason: str
    low: float | None
    high: float | None
    fails_from: float | None


class Left(NamedTuple):
    """Runs that a search will still need if each probe is decided at once."""

    probes: int
    confirmations: int


class _Sides(NamedTuple):
    """Where the search stands: the highest PASS, the lowest level above it that is not, why it stopped."""

    step: Step | None = None
    low: float | None = None
    high: float | None = None
    broken: str = ""


def next_step(history: Sequence[Trial], settings: Settings) -> Step | Done:
    """Return the run to make next, or what came out."""
    sides = _bisect(history, settings, _bracket(history, settings))
    if sides.step:
        return sides.step
    if sides.low is None:
        return _nothing(history, settings, sides)
    return _confirm(history, settings, sides, sides.low)


def outcome(history: Sequence[Trial], settings: Settings, level: float, phase: str) -> Trial | None:
    """Return the run that decided a level, or None where another one is needed.

    Its `pooled` is the level's verdict; INVALID where the level cannot be measured.
    """
    own = [trial for trial in history if (trial.level, trial.phase) == (level, phase)]
    if [trial.status for trial in own[-2:]] == [INVALID, INVALID]:
        return replace(own[-1], pooled=INVALID)
    valid = [trial for trial in own if trial.status != INVALID]
    most = settings.longest if phase == PROBE else settings.confirm
    if not valid or own[-1].status == INVALID or not _is_time(len(valid), most, phase):
        return None
    return valid[-1] if valid[-1].pooled != INCONCLUSIVE or len(valid) >= most else None


def _is_time(runs: int, most: int, phase: str) -> bool:
    """Say whether so many runs are judged: a probe at 1, 2, 4, 8 …, a confirmation at its end alone."""
    return runs >= most or (phase == PROBE and runs & (runs - 1) == 0)


def contradictions(history: Sequence[Trial], settings: Settings) -> list[tuple[Trial, Trial]]:
    """Return pairs (PASS, not PASS) of which the PASS has the same or the higher load.

    More load was never shown to be better: one of the two is chance, or the server changed meanwhile.
    """
    decided = [trial for key in _levels(history) if (trial := outcome(history, settings, *key))]
    passed = [trial for trial in decided if trial.pooled == PASS]
    failed = [trial for trial in decided if trial.pooled in (FAIL, OVERSATURATED)]
    return [(good, bad) for good, bad in product(passed, failed) if bad.level <= good.level]


def left(history: Sequence[Trial], settings: Settings) -> Left:
    """Return how many runs are still to come, at least; a bracket that is open is taken to end next."""
    step = next_step(history, settings)
    if isinstance(step, Done):
        return Left(0, 0)
    if step.phase == CONFIRM:
        made = [trial for trial in history if (trial.level, trial.phase) == step and trial.status != INVALID]
        return Left(0, settings.confirm - len(made))
    sides = _bisect(history, settings, _bracket(history, settings))
    bracket = sides.low is None or sides.high is None
    ratio = 2.0 if sides.low is None or sides.high is None else sides.high / sides.low
    narrower = settings.within if not settings.whole else max(settings.within, 1 / (sides.low or step.level))
    halvings = max(0, math.ceil(math.log2(math.log(ratio) / math.log1p(narrower)) - 1e-9))
    return Left(max(1, halvings + bracket), settings.confirm)


def _bracket(history: Sequence[Trial], settings: Settings) -> _Sides:
    """Go up from `start` by doubling, or down by halving, until a PASS and a level that is none are known."""
    level, low, high = _rounded(settings.start, settings), None, None
    while True:
        found = outcome(history, settings, level, PROBE)
        if found is None:
            return _Sides(Step(level, PROBE), low, high)
        if found.pooled == INVALID:
            return _Sides(None, low, high, _broken(found))
        if found.pooled == PASS:
            low = level
        else:
            high = level
        following = min(level * 2, settings.top) if high is None else max(level / 2, _deepest(settings))
        at_end = abs(math.log(following / level)) <= math.log1p(settings.within)
        if (low is not None and high is not None) or at_end:
            return _Sides(None, low, high)
        level = _rounded(following, settings)


def _deepest(settings: Settings) -> float:
    return max(settings.start / DEEPEST, 1 if settings.whole else 0)


def _bisect(history: Sequence[Trial], settings: Settings, sides: _Sides) -> _Sides:
    """Halve the bracket, on the logarithm, until its sides are near enough or no level lies between."""
    low, high = sides.low, sides.high
    if sides.step or sides.broken or low is None or high is None:
        return sides
    while high / low > 1 + settings.within:
        level = _rounded(math.sqrt(low * high), settings)
        if not low < level < high:
            break
        found = outcome(history, settings, level, PROBE)
        if found is None:
            return _Sides(Step(level, PROBE), low, high)
        if found.pooled == INVALID:
            return _Sides(None, low, high, _broken(found))
        low, high = (level, high) if found.pooled == PASS else (low, level)
    return _Sides(None, low, high)


def _confirm(history: Sequence[Trial], settings: Settings, sides: _Sides, highest: float) -> Step | Done:
    """Confirm the lower side, or a step below it."""
    level, high = highest, sides.high
    for _ in range(CONFIRMATIONS):
        found = outcome(history, settings, level, CONFIRM)
        if found is None:
            return Step(level, CONFIRM)
        done = partial(Done, high=high, fails_from=_fails_from(history, settings))
        if found.pooled == INVALID:
            return done(INVALID, reason=_broken(found), low=None)
        if found.pooled == PASS:
            reason = f"{settings.confirm} fresh runs PASS at {level:g}{_above(history, settings, high)}"
            return done(INVALID if sides.broken else PASS, reason=sides.broken or reason, low=level)
        high, level = level, _rounded(level / (1 + settings.within), settings)
        if settings.whole:
            level = min(level, high - 1)
        if level < _rounded(_deepest(settings), settings):
            break
    tried = f"none of the levels from {highest:g} down to {high:g} was confirmed"
    return Done(INCONCLUSIVE, tried, None, high, _fails_from(history, settings))


def _above(history: Sequence[Trial], settings: Settings, high: float | None) -> str:
    """Say what is known of the level above the answer, where it is not simply a FAIL."""
    if high is None:
        return ", the highest that was allowed"
    decided = [outcome(history, settings, high, phase) for phase in (PROBE, CONFIRM)]
    undecided = all(trial is None or trial.pooled in (PASS, INCONCLUSIVE) for trial in decided)
    return f"; {high:g} stays undecided" if undecided else ""


def _nothing(history: Sequence[Trial], settings: Settings, sides: _Sides) -> Done:
    """Say that no level passed, and why."""
    fails_from = _fails_from(history, settings)
    if sides.broken or sides.high is None:
        return Done(INVALID, sides.broken, None, sides.high, fails_from)
    lowest = outcome(history, settings, sides.high, PROBE)
    reason = f"nothing passes down to {sides.high:g}" + (f": {lowest.reason}" if lowest else "")
    status = FAIL if fails_from == sides.high else INCONCLUSIVE
    return Done(status, reason, None, sides.high, fails_from)


def _broken(trial: Trial) -> str:
    return f"two INVALID runs in a row at {trial.level:g} (the generator is the limit): {trial.reason}"


def _fails_from(history: Sequence[Trial], settings: Settings) -> float | None:
    decided = [trial for key in _levels(history) if (trial := outcome(history, settings, *key))]
    return min((trial.level for trial in decided if trial.pooled in (FAIL, OVERSATURATED)), default=None)


def _levels(history: Sequence[Trial]) -> list[tuple[float, str]]:
    return list(dict.fromkeys((trial.level, trial.phase) for trial in history))


def _rounded(level: float, settings: Settings) -> float:
    """Return a level as it can be asked for and written: whole users, or rates of three digits."""
    if settings.whole:
        return max(1, round(level))
    short = float(f"{level:.3g}")
    return int(short) if short.is_integer() else short
