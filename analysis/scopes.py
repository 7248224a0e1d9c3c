"""Judge an objective on what it is about: all, one scenario, a part of the window, or each stretch of it.

With `every`, all stretches must hold and the result is that of the worst. Each is tested at 95 % for a PASS,
and for a FAIL at 1 - 5 % / stretches (`analysis.several` says why that keeps both errors below 5 %).
Gaps are logged by whole seconds: of a part that begins or ends within one, that second's gaps are left out.
"""

from collections import Counter
from dataclasses import replace

from .evidence import Evidence, Part
from .histogram import tag_of
from .means import judge_mean
from .objective import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    ObjectiveResult,
    judge_error_rate,
    judge_gaps,
    judge_goodput,
    judge_rate,
    judge_requests,
)
from .sla import POOLED_METRICS, WHOLE, ErrorRate, Goodput, Latency, Objective, Rate, Scope
from .sla_words import expected

_SEVERITY = (PASS, INCONCLUSIVE, FAIL)


def judge_objective(evidence: Evidence, objective: Objective) -> ObjectiveResult:
    """Judge one objective on the part of the window's evidence that it is about."""
    scope = objective.scope
    if scope == WHOLE:
        return judge_whole(evidence, objective)
    window_start, window_end = evidence.window_ns
    start = window_start + scope.start_ns
    asked = window_end if scope.end_ns is None else window_start + scope.end_ns
    end = min(asked, window_end)
    nothing = _nothing(evidence, objective, end - start)
    if nothing:
        result = judge_whole(evidence.part(Part(start, start, scope.scenario)), objective)
        result = replace(result, reason=f"no data: {nothing}")
    elif scope.every_ns is not None:
        result = _worst(evidence, objective, scope, range(start, end - scope.every_ns + 1, scope.every_ns))
    else:
        fixed = scope.end_ns is not None
        result = judge_whole(evidence.part(Part(start, end, scope.scenario, fixed)), objective)
        if start > window_start or fixed:
            result = replace(result, start_s=_s(start - window_start), end_s=_s(end - window_start))
    if asked > end and not nothing:  # what was not measured may be bad, and cannot mend what is
        status = FAIL if result.status == FAIL else INCONCLUSIVE
        reason = f"{result.reason}; the window ends after {_s(window_end - window_start):.4g} s"
        result = replace(result, status=status, reason=reason, unmeasured=True)
    return replace(result, scope=_words(scope))


def judge_whole(evidence: Evidence, objective: Objective) -> ObjectiveResult:
    """Judge one objective on all of the evidence, whatever its scope."""
    unknown = [name for name in _metrics(objective) if name in evidence.unknown]
    return _not_known(evidence, objective, unknown) if unknown else _judge(evidence, objective)


def _judge(evidence: Evidence, objective: Objective) -> ObjectiveResult:
    if isinstance(objective, Rate):
        return judge_rate(evidence, objective)
    if isinstance(objective, ErrorRate):
        return judge_error_rate(evidence, objective)
    if isinstance(objective, Goodput):
        return judge_goodput(evidence, objective)
    if objective.percentile is None:
        return judge_mean(evidence, objective)
    if objective.limit.metric in POOLED_METRICS:
        return judge_gaps(evidence, objective, objective.percentile)
    return judge_requests(evidence, objective, objective.percentile)


def _metrics(objective: Objective) -> tuple[str, ...]:
    if isinstance(objective, Latency):
        return (objective.limit.metric,)
    if isinstance(objective, Rate):  # tokens, of which a file may know nothing
        return (objective.metric,)
    return tuple(limit.metric for limit in objective.limits) if isinstance(objective, Goodput) else ()


def _not_known(evidence: Evidence, objective: Objective, names: list[str]) -> ObjectiveResult:
    """Return the result on what the imported file says nothing of: no figure, whatever failed beside it."""
    start, _ = evidence.window_ns
    reason = f"not known: the imported file has no {' and no '.join(names)}"
    return replace(_judge(evidence.part(Part(start, start)), objective), reason=reason)


def _worst(evidence: Evidence, objective: Objective, scope: Scope, starts: range) -> ObjectiveResult:
    """Return the result of the worst stretch, with its place."""
    tests = len(starts)
    parts = [Part(at, at + starts.step, scope.scenario, fixed=True, tests=tests) for at in starts]
    results = [judge_whole(evidence.part(part), objective) for part in parts]
    worst = max(range(tests), key=lambda i: _badness(results[i]))
    first_s = _s(starts[worst] - evidence.window_ns[0])
    last_s = first_s + _s(starts.step)
    counts = Counter(result.status for result in results)
    told = ", ".join(f"{counts[status]} {status}" for status in reversed(_SEVERITY) if counts[status])
    place = f"from {first_s:g} s to {last_s:g} s, the worst of {tests} stretches ({told})"
    result = results[worst]
    reason = f"{place}: {result.reason}" if tests > 1 else result.reason
    return replace(result, reason=reason, start_s=first_s, end_s=last_s, stretches=tests)


def _badness(result: ObjectiveResult) -> tuple[int, float]:
    """Order results from good to bad: by status, then by how much of what is allowed was used."""
    used = result.budget_used
    if used is None and result.margin is not None:
        used = 1 / max(result.margin, 1e-12) if result.at_least else result.margin
    return _SEVERITY.index(result.status), -1.0 if used is None else used


def _nothing(evidence: Evidence, objective: Objective, length_ns: int) -> str:
    """Say why there is nothing to judge; empty where there is."""
    scope = objective.scope
    window_s = _s(evidence.window_ns[1] - evidence.window_ns[0])
    if length_ns <= 0:
        return f"the window ends after {window_s:.4g} s"
    if scope.every_ns is not None and length_ns < scope.every_ns:
        return f"found {_s(length_ns):.4g} s, expected at least one whole stretch of {_s(scope.every_ns):g} s"
    if scope.scenario is None:
        return ""
    names = sorted(evidence.frame.scenario.unique())
    if scope.scenario not in names:
        return (
            f"found no scenario {scope.scenario!r}, {expected(scope.scenario, names)}"
            if names
            else "no requests"
        )
    alike = [name for name in names if tag_of(name) == tag_of(scope.scenario) and name != scope.scenario]
    if alike and isinstance(objective, Latency) and objective.limit.metric in POOLED_METRICS:
        return f"the gaps of {scope.scenario!r} and {alike[0]!r} are logged under one name"
    return ""


def _words(scope: Scope) -> str:
    """Write the clauses in their order, times in seconds."""
    times = (("from", scope.start_ns or None), ("to", scope.end_ns), ("every", scope.every_ns))
    parts = [] if scope.scenario is None else [f'in "{scope.scenario}"']
    return " ".join(parts + [f"{clause} {_s(ns):g} s" for clause, ns in times if ns is not None])


def _s(nanoseconds: int) -> float:
    return nanoseconds / 1e9
