"""A metric of a candidate against the baseline's at one load: what was shown, and what was not.

A difference is shown where the ratio's 95 % interval leaves out 1 (for what the SLA limits: by Holm's p over
all of it), equivalence where its 90 % interval lies within a margin. Both may be true: a difference that was
shown to be smaller than the margin.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from .blocks import CONFIDENCE, Ratio, holm, paired_ratio, pairs_needed, unpaired_ratio
from .objective import percent
from .reading import ERRORS, TOKENS, Reading, lower_is_better
from .statistics import share_bounds

BETTER, WORSE, EQUIVALENT, NO_DIFFERENCE = "better", "worse", "equivalent", "no difference shown"
ONE_PAIR, NO_RATIO = "one pair", "no ratio"

MARGIN = 0.05
"""A ratio between 1 / 1.05 and 1.05 makes no difference to anybody, unless somebody says otherwise."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A metric of a candidate against the baseline's, over the pairs (or the runs) of one level.

    `candidate` and `baseline` are medians over runs; `ratio`, candidate / baseline, is the geometric mean
    of the pairs' own ratios, with a two-sided 95 % interval (`low`, `high`) and the 90 % interval that
    equivalence is judged by. None stands for what cannot be said.
    """

    metric: str
    unit: str  # ms, tokens/s or share
    limited: bool  # by the SLA
    candidate: float | None
    baseline: float | None
    ratio: float | None
    low: float | None
    high: float | None
    low_90: float | None
    high_90: float | None
    p: float | None  # Holm's, over the limited metrics; the metric's own otherwise
    p_alone: float | None
    outcome: str
    within: bool  # shown to differ by less than the margin, if at all
    beyond: bool  # shown to differ by more than the margin
    more_pairs: int | None  # that would decide what is not shown
    reason: str  # where the outcome needs one

    @property
    def sign(self) -> int:
        """1 where the candidate is worse, -1 where it is better, 0 where neither was shown or seen."""
        if self.outcome == ONE_PAIR and self.ratio is not None:
            change = self.ratio - 1 if lower_is_better(self.metric) else 1 - self.ratio
            return (change > 0) - (change < 0)
        return {WORSE: 1, BETTER: -1}.get(self.outcome, 0)


@dataclass(frozen=True, slots=True)
class Terms:
    """What effects are judged by."""

    limits: Mapping[str, float]  # of the SLA, by metric (ms)
    error_rate: float | None  # the share of failed requests that the SLA allows, if it limits them
    margin: float


@dataclass(frozen=True, slots=True)
class Sides:
    """The runs of a candidate and of the baseline that count, pair by pair where they are pairs."""

    candidate: Sequence[Reading]
    baseline: Sequence[Reading]
    paired: bool

    @property
    def fewest(self) -> int:
        """The pairs, or the runs of the side that has fewer."""
        return min(len(self.candidate), len(self.baseline))

    def ratio(self, candidate: Sequence[float], baseline: Sequence[float], at_once: int = 1) -> Ratio:
        """Return the ratio of values, one for each run."""
        return (paired_ratio if self.paired else unpaired_ratio)(candidate, baseline, at_once)


def effects_of(sides: Sides, terms: Terms) -> tuple[Effect, ...]:
    """Return the effect on each metric that has any value; nothing where no run counts."""
    metrics = sides.candidate[0].values if sides.fewest else ()
    tests = sum(metric in terms.limits for metric in metrics)
    found = [_effect(metric, sides, terms, tests if metric in terms.limits else 1) for metric in metrics]
    return _together([one for one in found if one.candidate is not None or one.reason], terms)


def _effect(metric: str, sides: Sides, terms: Terms, tests: int) -> Effect:
    mine, its = ([run.values.get(metric) for run in runs] for runs in (sides.candidate, sides.baseline))
    known = [[value for value in values if value is not None] for values in (mine, its)]
    effect = Effect(
        metric=metric,
        unit={TOKENS: "tokens/s", ERRORS: "share"}.get(metric, "ms"),
        limited=metric in terms.limits or (metric == ERRORS and terms.error_rate is not None),
        candidate=median(known[0]) if known[0] else None,
        baseline=median(known[1]) if known[1] else None,
        ratio=None,
        low=None,
        high=None,
        low_90=None,
        high_90=None,
        p=None,
        p_alone=None,
        outcome=NO_RATIO,
        within=False,
        beyond=False,
        more_pairs=None,
        reason="",
    )
    if metric == ERRORS:
        return _compared_failures(effect, sides, terms.error_rate)
    if not known[0] and not known[1]:
        return effect  # a server that counts no tokens has no tpot
    if len(known[0]) < len(mine) or len(known[1]) < len(its):
        return replace(effect, reason="not every run has a value")
    values = [*known[0], *known[1]]
    if math.inf in values:
        return replace(effect, reason="failed requests reach that percentile")
    if min(values) <= 0:
        return replace(effect, reason="a value is 0")
    return _with_ratio(effect, sides.ratio(known[0], known[1]), sides, terms.margin, tests)


def _with_ratio(effect: Effect, found: Ratio, sides: Sides, margin: float, tests: int) -> Effect:
    effect = replace(effect, ratio=found.ratio, low=found.low, high=found.high, p=found.p, p_alone=found.p)
    if found.low is None or found.high is None or found.low_90 is None or found.high_90 is None:
        reason = "one pair: no interval" if sides.paired else "a single run on one side: no interval"
        return replace(effect, outcome=ONE_PAIR, reason=reason)
    least, most = 1 / (1 + margin), 1 + margin
    effect = replace(
        effect,
        low_90=found.low_90,
        high_90=found.high_90,
        within=least < found.low_90 and found.high_90 < most,
        beyond=found.low > most or found.high < least,
        more_pairs=pairs_needed(found, sides.fewest, margin, tests) - sides.fewest,
    )
    return _decided(effect)


def _decided(effect: Effect) -> Effect:
    """Set the outcome by p: a difference comes first, for it may be one within the margin."""
    if effect.p is not None and effect.p < 1 - CONFIDENCE:
        lower = (effect.ratio or 1.0) < 1
        outcome = BETTER if lower == lower_is_better(effect.metric) else WORSE
        return replace(effect, outcome=outcome)
    if effect.within:
        return replace(effect, outcome=EQUIVALENT, beyond=False)
    return replace(effect, outcome=NO_DIFFERENCE, beyond=False)


def _compared_failures(effect: Effect, sides: Sides, allowed: float | None) -> Effect:
    """Compare the shares of failed requests: different where their bounds have nothing in common.

    No failures have no ratio, and few have no variance between blocks: counts are what there is. Each bound
    is one-sided at 95 %. A candidate that was shown to fail no more often than the SLA allows is within.
    """
    (low, high), (base_low, base_high) = map(_failure_bounds, (sides.candidate, sides.baseline))
    within = allowed is not None and high < allowed
    outcome = WORSE if low > base_high else BETTER if high < base_low else NO_DIFFERENCE
    if outcome == NO_DIFFERENCE and within:
        outcome = EQUIVALENT
    reason = ""
    if allowed is not None:
        reason = f"at most {percent(high)} of requests fail, {percent(allowed)} allowed"
    return replace(effect, outcome=outcome if sides.fewest > 1 else ONE_PAIR, within=within, reason=reason)


def _failure_bounds(readings: Sequence[Reading]) -> tuple[float, float]:
    n, failed, worth = (sum(getattr(one, name) for one in readings) for name in ("n", "failed", "worth"))
    if not n:
        return 0.0, 1.0
    return share_bounds(failed * worth / n, failed * worth / n, worth)


def _together(effects: list[Effect], terms: Terms) -> tuple[Effect, ...]:
    """Correct the outcomes of what the SLA limits for being several.

    Equivalence needs no correction: that nothing limited is worse is claimed only where each of them is shown
    (an intersection of tests: Berger 1982).
    """
    family = [i for i, effect in enumerate(effects) if effect.metric in terms.limits and effect.p is not None]
    adjusted = holm([effects[i].p or 0.0 for i in family])
    for i, p in zip(family, adjusted, strict=True):
        found = _decided(replace(effects[i], p=p))
        lost = found.outcome != effects[i].outcome
        reason = f"alone it would count, among {len(family)} limited metrics it does not" if lost else ""
        effects[i] = replace(found, reason=reason)
    return tuple(one if one.outcome == NO_DIFFERENCE else replace(one, more_pairs=None) for one in effects)
