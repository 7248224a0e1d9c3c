"""One verdict on a candidate against the baseline: whether anything that the SLA limits is worse.

PASS: each limited metric was shown not to be worse by the margin, at every load. FAIL: one was shown to be
worse, or the quality FAILs. INCONCLUSIVE: one was shown to be neither. INVALID: no run of a load counts,
since the instrument failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .blocks import CONFIDENCE, holm
from .compare import Comparison, Contrast
from .effects import BETTER, NO_DIFFERENCE, NO_RATIO, ONE_PAIR, WORSE, Effect
from .objective import FAIL, INCONCLUSIVE, PASS
from .reading import ERRORS, lower_is_better
from .verdict import EXIT_CODES, INVALID, OVERSATURATED, SEVERITY

Quality = Mapping[str, Mapping[str, Any]]
"""A candidate's name -> its quality verdict as JSON, of which `status` and `reasons` are told."""

Finding = tuple[str, str]
"""A status, and why."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A candidate's verdict and what decides it."""

    status: str
    reasons: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this verdict."""
        return EXIT_CODES[self.status]


def weigh(comparison: Comparison, quality: Quality | None = None) -> dict[str, Weighed]:
    """Return each candidate's verdict."""
    return {name: _weighed(comparison, name, (quality or {}).get(name)) for name in comparison.candidates}


def _weighed(comparison: Comparison, candidate: str, quality: Mapping[str, Any] | None) -> Weighed:
    contrasts = comparison.of(candidate)
    sure = _sure(contrasts)
    findings: list[Finding] = []
    for i, contrast in enumerate(contrasts):
        at = f"at {comparison.named(contrast.level)}: " if len(contrasts) > 1 else ""
        found = _of_level(contrast, comparison, sure[i])
        findings += [(status, f"{at}{why}") for status, why in found]
    if quality and quality.get("status") in (FAIL, INCONCLUSIVE):
        reasons = "; ".join(str(reason) for reason in quality.get("reasons") or ())
        findings.append((str(quality["status"]), f"quality {quality['status']}: {reasons}"))
    if not findings:
        return Weighed(PASS, (f"nothing that the SLA limits is worse by {comparison.margin * 100:g} %",))
    status = next(one for one in SEVERITY if one in {found for found, _ in findings})
    return Weighed(status, tuple(why for found, why in findings if found == status))


def _sure(contrasts: Sequence[Contrast]) -> list[set[str]]:
    """Return, for each level, the metrics whose difference still counts among those of all levels (Holm)."""
    tested = [
        (i, effect.metric, effect.p_alone)
        for i, contrast in enumerate(contrasts)
        for effect in contrast.effects
        if effect.limited and effect.p_alone is not None
    ]
    sure: list[set[str]] = [set() for _ in contrasts]
    for (i, metric, _), p in zip(tested, holm([p for _, _, p in tested]), strict=True):
        if p < 1 - CONFIDENCE:
            sure[i].add(metric)
    return sure


def _of_level(contrast: Contrast, comparison: Comparison, sure: set[str]) -> list[Finding]:
    saturated = {one.server for one in contrast.left_out if one.what == OVERSATURATED}
    if saturated:
        return _of_saturated(contrast, comparison)
    if not contrast.effects:
        invalid = [f"{one.server}: {one.reason}" for one in contrast.left_out if one.what == INVALID]
        missing = (INCONCLUSIVE, "nothing to compare: the runs of one side are missing")
        return [(INVALID, f"no run counts: {invalid[0]}") if invalid else missing]
    limited = [effect for effect in contrast.effects if effect.limited]
    if not limited:
        return [(INCONCLUSIVE, "the SLA limits no percentile and no failures: nothing to weigh")]
    return [found for effect in limited for found in _of_effect(effect, contrast, comparison.margin, sure)]


def _of_saturated(contrast: Contrast, comparison: Comparison) -> list[Finding]:
    """Weigh a level at which a run was oversaturated, by the verdicts over all runs: one may be chance."""
    mine = comparison.status(contrast.candidate, contrast.level)
    its = comparison.status(comparison.baseline, contrast.level)
    if mine == OVERSATURATED and its not in {OVERSATURATED, INVALID}:
        return [(FAIL, f"oversaturated, unlike {comparison.baseline}")]
    if its == OVERSATURATED and mine not in {OVERSATURATED, INVALID, ""}:
        return []  # by what the baseline alone cannot hold a candidate is no worse
    return [(INCONCLUSIVE, "some runs are oversaturated: nothing can be paired")]


def _of_effect(effect: Effect, contrast: Contrast, margin: float, sure: set[str]) -> list[Finding]:
    if effect.within or effect.outcome == BETTER or _is_no_worse(effect, margin):
        return []
    name = "failed requests" if effect.metric == ERRORS else effect.metric
    name += "" if effect.ratio is None else f" ({effect.ratio:.3g} x)"
    if effect.outcome == WORSE and (effect.p_alone is None or effect.metric in sure):
        return [(FAIL, f"{name} worse{f', by more than {margin * 100:g} %' if effect.beyond else ''}")]
    more = needed(effect, contrast, margin) or effect.reason
    doubt = {
        ONE_PAIR: "one pair proves nothing" if contrast.paired else "one run proves nothing",
        NO_RATIO: effect.reason,
        NO_DIFFERENCE: f"no difference shown{more and f'; {more}'}",
        WORSE: "worse at this load alone, not among those of all loads",
    }
    return [(INCONCLUSIVE, f"{name}: {doubt[effect.outcome]}")]


def _is_no_worse(effect: Effect, margin: float) -> bool:
    """Say whether the metric was shown not to be worse by the margin (one-sided, 5 %)."""
    if effect.low_90 is None or effect.high_90 is None:
        return False
    if lower_is_better(effect.metric):
        return effect.high_90 < 1 + margin
    return effect.low_90 > 1 / (1 + margin)


def needed(effect: Effect, contrast: Contrast, margin: float) -> str:
    """Say how many more pairs would decide, where that is known."""
    if effect.more_pairs is None:
        return ""
    what = "pair" if contrast.paired else "run of each side"
    plural = what if effect.more_pairs == 1 else what.replace("pair", "pairs").replace("run ", "runs ")
    return f"about {effect.more_pairs:,} more {plural} would show {margin * 100:g} % or rule it out"
