"""An experiment's first page in words: why, whether it may be believed, and where it comes from."""

import math

from .capacity import Capacity
from .compare import Comparison
from .effects import ONE_PAIR
from .objective import INCONCLUSIVE, PASS
from .overview import Overview
from .replications import Replications
from .sentences import FIRST, effect_of, ratio
from .verdict import INVALID, SEVERITY

WORDS = {
    "INVALID": "invalid",
    "OVERSATURATED": "oversaturated",
    "FAIL": "fail",
    "INCONCLUSIVE": "undecided",
    "PASS": "pass",
}

UNSIZED = "to have them here: tokenswarm capacity DIR --demand N [--prices FILE], then tokenswarm verdict DIR"
"""How replicas and their cost come onto the page; N is in requests/s."""


def target_words(overview: Overview) -> str:
    """Say what was measured: model, server, the size of a request, and the kind of load."""
    targets = [run.meta["target"] for run, _ in overview.judged]
    named = [" on ".join(str(one[name]) for name in ("model", "server") if one.get(name)) for one in targets]
    levels = [level for one in overview.capacities for level in one.levels]
    sizes = [(level.input_tokens, level.output_tokens) for level in levels]
    prompt, output = next(((i, o) for i, o in sizes if i is not None and o is not None), (None, None))
    parts = [
        " and ".join(dict.fromkeys(named)),
        f"{prompt:,.0f} prompt and {output:,.0f} output tokens a request" if prompt and output else "",
        f"{overview.judged[0][0].meta['load'].get('loop')} loop",
    ]
    head = "Simulated as: " if any(verdict.simulated for _, verdict in overview.judged) else "Tested: "
    return head + "; ".join(part for part in parts if part)


def asked(overview: Overview) -> str:
    """Write out the SLA."""
    texts = (one.text for _, verdict in overview.judged for one in verdict.objectives)
    return f"SLA: {', '.join(dict.fromkeys(texts))}"


def holds_up_to(capacity: Capacity) -> str:
    """Return the interval that a server's capacity lies in."""
    low, high = capacity.highest, capacity.refuted
    told = [f"{one:g} ?" for one in capacity.undecided if low is not None]
    told += [] if high is None else [f"breaks at {high:g}"]
    told += ["but not above" for _ in capacity.contradicting[:1]]
    if low is not None and high is None and not told:
        return f"{low:g} or more"
    up_to = "not known" if low is None else f"{low:g}"
    return f"{up_to} ({', '.join(told)})" if told else up_to


def lacking(found: Replications) -> str:
    """Return what would probably decide an undecided verdict: runs or minutes; empty where none is known."""
    open_ = [i for i, one in enumerate(found.objectives) if one.status == INCONCLUSIVE]
    if not open_:
        return ""
    if any(found.objectives[i].bound_high is None for i in open_):
        return ""  # what lacks an interval gets one, and may be undecided still
    runs = [found.spread[i].more_runs for i in open_] if found.spread else []
    if runs and None not in runs:
        count = max(one for one in runs if one is not None)
        return f"+{count:,} run{'s' if count > 1 else ''}"
    minutes = [found.objectives[i].more_minutes for i in open_]
    if None in minutes:
        return ""
    return f"+{max(1, math.ceil(max(one for one in minutes if one is not None))):,} min"


def tally(overview: Overview) -> str:
    """Count the verdicts, the worst first."""
    found = [one.status for one in overview.together]
    return ", ".join(f"{found.count(one)} {WORDS[one]}" for one in SEVERITY if one in found)


def because(overview: Overview) -> str:
    """Return the first reason of the worst verdict."""
    worst = next((one for one in overview.together if one.status == overview.status), None)
    if overview.missing and overview.status == INCONCLUSIVE:
        return f"not measured: {', '.join(overview.missing)}"
    if worst is None or overview.status == PASS:
        return ""
    return f"{_name(overview, worst)}: {worst.reasons[0]}"


def _name(overview: Overview, one: Replications) -> str:
    if one.level is None or len(overview.levels()) < 2:
        return one.server
    return f"{one.server} at {overview.capacities[0].words(one.level)}"


def against(comparison: Comparison, candidate: str, level: float) -> str:
    """Write a candidate's ratio to the baseline at a level, else at the highest that has one."""
    having = [one for one in comparison.of(candidate) if (e := effect_of(one, FIRST)) and e.ratio]
    at = next((one for one in having if one.level == level), having[-1] if having else None)
    effect = effect_of(at, FIRST) if at else None
    if not (at and effect):
        return ""
    alone = " (one pair)" if effect.outcome == ONE_PAIR else ""
    return f"{ratio(effect)}{alone} at {comparison.named(at.level)}"


def believed(overview: Overview) -> str:
    """Say how much was measured, and which gates of which runs did not hold."""
    count = len(overview.judged)
    broken: dict[str, list[str]] = {}
    for _, verdict in overview.judged:
        for gate in verdict.gates:
            if not gate.ok and gate.severity != "note":
                broken.setdefault(f"{gate.severity}: {gate.name}", []).append(verdict.name)
    invalid = sum(verdict.status == INVALID for _, verdict in overview.judged)
    requests = sum(scenario.n for _, verdict in overview.judged for scenario in verdict.scenarios)
    blocks = {run.meta["experiment"]["block"] for run, _ in overview.judged}
    each = f" in {len(blocks)} blocks" if len(blocks) > 1 else ""
    head = f"{count} run{'s' if count > 1 else ''}{each}, {requests:,} requests judged, {invalid} INVALID. "
    if any(verdict.simulated for _, verdict in overview.judged):
        head += "What was measured is a simulator. "
    tools = sorted({str(one["tool"]) for run, _ in overview.judged if (one := run.meta.get("imported"))})
    if tools:
        head += f"What the instrument was worth is not known: imported from {', '.join(tools)}. "
    if broken:
        head += "Gates that did not hold: "
    elif not tools:
        head += "All gates of the instrument held."
    told = [
        f"{name} ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})" for name, names in broken.items()
    ]
    return head + "; ".join(told)


def origin(overview: Overview) -> str:
    """Say where the figures come from, as far as the first run knows."""
    first = overview.judged[0][0].meta
    names = sorted({verdict.run for _, verdict in overview.judged})
    known = {
        "seed": first["load"].get("seed"),
        "clock": first.get("clock"),
        "tokenswarm": first.get("tokenswarm"),
        "system": (first.get("versions") or {}).get("system"),
    }
    parts = [
        f"runs {names[0]} to {names[-1]}" if len(names) > 1 else f"run {names[0]}",
        *(f"{key} {value}" for key, value in known.items() if value is not None),
        "every figure is in verdict.json, here or in the runs' folders, replicas and cost in capacity.json",
    ]
    return "; ".join(parts)
