"""Plan an objective that must hold in every stretch of time: as many tests as stretches, each of its length.

A longer run does not help: it has more stretches, and none of them knows more. To PASS, all must; so each
must more probably, the more there are. To FAIL one is enough, and each is tested the more strictly
(`analysis.several`). Replications are counted by their verdicts (`pooling.failing_runs`). Stretches are taken
for independent, and for alike: bad events are spread over all of them.
"""

from collections.abc import Callable
from typing import NamedTuple

from .pooled_worth import MIN_RUNS
from .pooling import failing_runs
from .power import POWER, least
from .sla import Scope

MOST_RUNS = 100

Shows = Callable[[float, int], float]
"""The probability that a stretch of so many requests decides, if it is one of so many tests."""


class Stretched(NamedTuple):
    """What each stretch needs, whether a run of the asked length decides, and how many such runs do."""

    each: int | None  # requests
    decides: bool
    runs: int | None
    reason: str


def in_stretches(scope: Scope, rate_per_s: float, run_s: float, shows: Shows, *, passing: bool) -> Stretched:
    """Plan runs of `run_s` that PASS in every stretch, or FAIL in one."""
    every_s, start_s = (scope.every_ns or 0) / 1e9, scope.start_ns / 1e9
    span_s = (run_s if scope.end_ns is None else min(run_s, scope.end_ns / 1e9)) - start_s
    count = int(span_s / every_s)
    if count < 1:
        least_s = f"make them {start_s + every_s:g} s at least (--duration)"
        return Stretched(None, False, None, f"runs of {run_s:g} s have no whole stretch: {least_s}")

    def decide(requests: float, stretches: int, runs: int = 1) -> bool:
        power = asked(stretches, runs, passing=passing)
        return shows(requests, 1 if passing else stretches) >= power

    has = rate_per_s * every_s
    each = least(lambda requests: decide(requests, count))
    if each is None:
        return Stretched(None, False, None, "what is so near its limit is never told from it")
    told = f"each of {count} stretches of {every_s:g} s needs {each:,} requests and has {has:,.0f}"
    if each > has:
        enough_s = least(lambda seconds: decide(rate_per_s * seconds, max(1, int(span_s / seconds))))
        longer = (
            f"make stretches {enough_s:,} s at least" if enough_s and enough_s <= span_s else "no length does"
        )
        return Stretched(each, False, None, f"{told}: {longer}")
    several = range(
        MIN_RUNS, MIN_RUNS + 1 if passing else MOST_RUNS
    )  # that all PASS is less probable of more
    runs = next((runs for runs in several if decide(has, count, runs)), None)
    if runs is None:
        told += f"; of {MIN_RUNS} runs or more too many stretches would have to hold"
    return Stretched(each, True, runs, told)


def asked(stretches: int, runs: int, *, passing: bool) -> float:
    """Return how probably each stretch must decide for so many runs to do so with a probability of 80 %."""
    from scipy.special import betaincinv  # noqa: PLC0415 - costs 0.1 s that only a judge needs

    if passing:
        return float(POWER ** (1 / (stretches * runs)))
    failing = failing_runs(runs)
    one_run = float(betaincinv(failing, runs - failing + 1, POWER))  # P(Binomial(runs, it) >= failing) = 80 %
    return float(1 - (1 - one_run) ** (1 / stretches))
