"""A comparison in plain words: a paragraph for each candidate, and what the SLA says of all."""

from collections.abc import Mapping, Sequence
from typing import Any

from .compare import MISSING, Comparison, Contrast, LeftOut, Server
from .conditions import OF_AN_EXPERIMENT, written
from .effects import EQUIVALENT, NO_DIFFERENCE, NO_RATIO, ONE_PAIR, Effect
from .objective import FAIL, INCONCLUSIVE, PASS, percent
from .reading import ERRORS, TOKENS
from .verdict import INVALID, OVERSATURATED
from .weighing import Quality, needed, weigh

FIRST, GAP = "ttft p95", "itl p50"
_NAMES = {FIRST: "first token", GAP: "gaps", "e2e p50": "whole answer", TOKENS: "tokens/s"}


def sentences(comparison: Comparison, quality: Quality | None = None) -> list[str]:
    """Return a paragraph for each candidate, then one on the SLA: what a planner reads first."""
    told = [f"{head}: {rest}" for head, rest in paragraphs(comparison, quality)]
    return [f"SIMULATED: {text}" if comparison.simulated else text for text in told]


def paragraphs(comparison: Comparison, quality: Quality | None = None) -> list[tuple[str, str]]:
    """Return the same with each paragraph's first words apart: (what is claimed, what it stands on)."""
    quality = quality or {}
    made = []
    for server in comparison.servers[1:]:
        contrasts = comparison.of(server.name)
        parts = [
            _figures(comparison, contrasts, FIRST),
            _shift(comparison, contrasts),
            _crossover(comparison, server.name),
            _left_out(comparison, contrasts),
            _quality(quality.get(server.name)),
            _declared(comparison, server.name),
            *(_figures(comparison, contrasts, metric) for metric in (GAP, TOKENS)),
            _failures(comparison, contrasts),
            _kernel(server),
        ]
        rest = " ".join(part for part in parts if part)
        made.append((_headline(comparison, contrasts), rest[:1].lower() + rest[1:]))
    return [
        *made,
        (f"SLA {comparison.sla}", f"{_holds(comparison, quality)} {_weighed(comparison, quality)}"),
    ]


def level(comparison: Comparison, value: float) -> str:
    """Return a level with its unit: 1 user, 4 users, 20 arrivals/s."""
    return comparison.named(value)


def number(value: float) -> str:
    """Write a figure with three digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def ratio(effect: Effect) -> str:
    """Write a ratio with its interval, or why there is none."""
    if effect.ratio is None:
        return effect.reason or "no ratio"
    if effect.low is None or effect.high is None:
        return f"{effect.ratio:.2f} x"
    return f"{effect.ratio:.2f} x, {effect.low:.2f}-{effect.high:.2f}"


def effect_of(contrast: Contrast, metric: str) -> Effect | None:
    """Return a contrast's effect on a metric, if it has one."""
    return next((effect for effect in contrast.effects if effect.metric == metric), None)


def _headline(comparison: Comparison, contrasts: Sequence[Contrast]) -> str:
    """Say when the first token comes, at which levels."""
    name, base = contrasts[0].candidate, comparison.baseline
    groups: dict[tuple[str, str], list[float]] = {}
    for contrast in contrasts:
        groups.setdefault(_claim(contrast, base, comparison.margin), []).append(contrast.level)
    claims = [
        f"{again if i else claim} at {_levels(comparison, levels)}"
        for i, ((claim, again), levels) in enumerate(groups.items())
    ]
    return f"{name} {', '.join(claims)}"


def _claim(contrast: Contrast, base: str, margin: float) -> tuple[str, str]:
    """Return a claim in full, and as it follows another one."""
    saturated = {one.server for one in contrast.left_out if one.what == OVERSATURATED}
    if saturated:
        return _saturation(contrast, base, saturated)
    effect = effect_of(contrast, FIRST)
    if effect is None or effect.outcome == NO_RATIO:
        return f"has no ratio to {base}", "no ratio"
    if effect.outcome == NO_DIFFERENCE:
        return f"is not shown to differ from {base}", "no difference shown"
    if effect.outcome == EQUIVALENT:
        return f"answers as soon as {base} (within {margin * 100:g} %)", "equally soon"
    word = {1: "later", -1: "earlier", 0: "equally soon"}[effect.sign]
    verb = "answered" if effect.outcome == ONE_PAIR else "answers"
    small = f" (by less than {margin * 100:g} %)" if effect.within else ""
    return f"{verb} {word} {'than' if effect.sign else 'as'} {base}{small}", f"{word}{small}"


def _saturation(contrast: Contrast, base: str, saturated: set[str]) -> tuple[str, str]:
    if saturated == {contrast.candidate}:
        return f"is oversaturated, unlike {base},", "oversaturated"
    if saturated == {base}:
        return f"is not oversaturated, unlike {base},", f"not oversaturated, unlike {base},"
    return f"is oversaturated, like {base},", f"oversaturated, like {base},"


def _levels(comparison: Comparison, levels: Sequence[float]) -> str:
    return _listed([f"{one:g}" for one in levels[:-1]] + [level(comparison, levels[-1])])


def _figures(comparison: Comparison, contrasts: Sequence[Contrast], metric: str) -> str:
    """Tell a metric at the highest level that has a ratio; the first token at the lowest one, too."""
    if metric == TOKENS and comparison.unit != "users":
        return ""  # what is asked for in an open loop is what is answered
    found = [(one, effect) for one in contrasts if (effect := effect_of(one, metric)) and effect.ratio]
    told = []
    told_of = [found[0], found[-1]] if metric == FIRST and len(found) > 1 else found[-1:]
    for contrast, effect in told_of:
        at = f" at {level(comparison, contrast.level)}" if len(contrasts) > 1 else ""
        values = f"{number(effect.candidate or 0)} {effect.unit} against {number(effect.baseline or 0)}"
        values += " ms" if effect.unit == "ms" else ""
        worth = f", {_pairs(contrast)}" if metric == FIRST else ""
        size = _size(effect, contrast, comparison.margin) if metric == FIRST else ""
        told.append(f"{values}{at} ({ratio(effect)}{worth}{size})")
    name = {FIRST: "First token at p95 ", GAP: "Gap between tokens at p50 ", TOKENS: "Output "}[metric]
    return f"{name}{', '.join(told)}." if told else ""


def _pairs(contrast: Contrast) -> str:
    if not contrast.paired:
        alone = ": no interval" if min(contrast.runs) < 2 else ""
        return f"no pairs: {contrast.runs[0]} against {contrast.runs[1]} runs{alone}"
    return f"{contrast.runs[0]} pairs" if contrast.runs[0] > 1 else "one pair: no interval"


def _size(effect: Effect, contrast: Contrast, margin: float) -> str:
    """Say how a difference stands to the margin, or why none was shown and what would show it."""
    if effect.outcome == NO_DIFFERENCE:
        told = [part for part in (effect.reason, needed(effect, contrast, margin)) if part]
        return "".join(f"; {part}" for part in told)
    return f"; by more than {margin * 100:g} %" if effect.beyond else ""


def _shift(comparison: Comparison, contrasts: Sequence[Contrast]) -> str:
    """Say where in the distribution of the first token a difference was shown, at the highest level."""
    for contrast in reversed(contrasts):
        found = next((one for one in contrast.shifts if one.metric == "ttft"), None)
        if found and found.where:
            at = f" at {level(comparison, contrast.level)}" if len(contrasts) > 1 else ""
            return f"First token{at} {found.where}."
        if found:
            break
    return ""


def _declared(comparison: Comparison, candidate: str) -> str:
    """Say what was declared to differ and does; an experiment's servers say it by their names."""
    found = [one for one in comparison.differences.get(candidate, ()) if one.name != "load.seed"]
    if comparison.declared == OF_AN_EXPERIMENT or not found:
        return ""
    told = [f"{one.name} {written(one.found)} against {written(one.expected)}" for one in found]
    return f"Declared to differ: {'; '.join(told)}."


def _failures(comparison: Comparison, contrasts: Sequence[Contrast]) -> str:
    """Tell the failures at the level that has most of them."""
    found = [(one, effect) for one in contrasts if (effect := effect_of(one, ERRORS))]
    if not any(effect.candidate or effect.baseline for _, effect in found):
        return ""
    contrast, effect = max(found, key=lambda item: max(item[1].candidate or 0, item[1].baseline or 0))
    shares = f"{_share(effect.candidate)} against {_share(effect.baseline)}"
    return f"Failed requests {shares} at {level(comparison, contrast.level)} ({effect.outcome})."


def _share(value: float | None) -> str:
    return percent(value) if value else "none"


def _crossover(comparison: Comparison, candidate: str) -> str:
    """Say between which neighbouring levels what turns, or that nothing does."""
    own = [one for one in comparison.crossovers if one.candidate == candidate]
    if not own:
        return "" if len(comparison.levels) > 1 else "One load only: a crossover cannot be seen."
    once = any(len(one.blocks) == 1 for one in comparison.of(candidate))
    turns = []
    for one in own:
        places = [f"{below:g} and {level(comparison, above)}" for below, above in one.between]
        if places:
            side = "better" if one.better_below else "worse"
            turns.append(f"{_NAMES[one.metric]} between {', between '.join(places)} ({side} below)")
    if turns:
        return f"Crossover{' (one pair: not confirmed)' if once else ''}: {'; '.join(turns)}."
    first, last = min(one.levels[0] for one in own), max(one.levels[-1] for one in own)
    decided = [one for one in own if len(one.undecided) < len(one.levels)]
    shown = " shown" if not decided or any(one.undecided for one in decided) else ""
    return f"No crossover{' seen' if once else shown} between {first:g} and {level(comparison, last)}."


def _left_out(comparison: Comparison, contrasts: Sequence[Contrast]) -> str:
    """Say which runs do not count, and the first reason of each kind."""
    kinds: dict[tuple[str, str], list[tuple[float, LeftOut]]] = {}
    for contrast in contrasts:
        for one in contrast.left_out:
            kinds.setdefault((one.server, one.what), []).append((contrast.level, one))
    told = []
    for (server, what), found in kinds.items():
        blocks = sorted({one.block for _, one in found})
        where = f"block{'s' if len(blocks) > 1 else ''} {_listed([str(block) for block in blocks])}"
        levels = _levels(comparison, sorted({at for at, _ in found}))
        reason = f" ({found[0][1].reason})" if what != MISSING else ""
        told.append(f"{server} {what} in {where} at {levels}{reason}")
    return f"Not counted: {'; '.join(told)}." if told else ""


def _kernel(server: Server) -> str:
    if not server.kernels:
        expected = server.kernel_expected
        return f"Its log names no kernel; {expected} was expected." if expected else ""
    names = _listed(list(server.kernels))
    if server.kernel_ok is False:
        return f"Its kernel is {names}, not the expected {server.kernel_expected}."
    return f"Its kernel is {names}." if len(server.kernels) == 1 else f"Its kernels are {names}."


def _quality(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    reasons = list(found.get("reasons") or ())
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"Quality {found.get('status')}{f': {reasons[0]}{more}' if reasons else ''}."


def holds_up_to(comparison: Comparison, server: str) -> float | None:
    """Return the highest level up to which a server PASSed at every level, if there is one."""
    highest = None
    for one in comparison.levels:
        if comparison.status(server, one) != PASS:
            break
        highest = one
    return highest


_WEIGHED = {PASS: "no worse", FAIL: "worse", INCONCLUSIVE: "undecided", INVALID: "not judged"}


def _weighed(comparison: Comparison, quality: Quality) -> str:
    """Say of each candidate whether anything that the SLA limits is worse, and why where they are few."""
    told = []
    for name, found in weigh(comparison, quality).items():
        why = f" ({found.reasons[0]})" if found.status != PASS and len(comparison.candidates) < 3 else ""
        told.append(f"{name} {_WEIGHED[found.status]}{why}")
    return f"By these limits, against {comparison.baseline}: {'; '.join(told)}."


def _holds(comparison: Comparison, quality: Quality) -> str:
    """Say up to which level the SLA was shown to hold for each server; speed without quality is said, too."""
    told, others = [], []
    for server in comparison.servers:
        status = str(quality.get(server.name, {}).get("status"))
        highest = holds_up_to(comparison, server.name)
        if highest is None:
            others.append(f"{server.name}{' (FAILs on quality, too)' if status == FAIL else ''}")
            continue
        reach = "at" if len(comparison.levels) == 1 else "up to"
        text = f"{server.name} holds it {reach} {level(comparison, highest)}"
        told.append(
            text + {FAIL: ", but FAILs on quality", INCONCLUSIVE: ", quality undecided"}.get(status, "")
        )
    if others:
        told.append(f"{_listed(others)} {'is' if len(others) == 1 else 'are'} not shown to hold it")
    return f"{'; '.join(told)}."


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
