"""Runs whose stretches are as long as planned decide as often as promised: drawn, judged and counted."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.evidence import Evidence
from analysis.planning import Earlier, Need, Supposed, need
from analysis.pooling import pooled
from analysis.power import POWER
from analysis.record import RequestRecord
from analysis.rundir import Run
from analysis.scopes import judge_objective
from analysis.sla import parse_objective
from tests.marks import more
from tests.statistics.coverage import FloatArray, of_mean, of_share
from tests.statistics.queues import mm1, mm1_quantile

RATE_PER_S, RUNS = 20, 200
LEAST_DECIDED = POWER - 3 * (POWER * (1 - POWER) / RUNS) ** 0.5
ALLOWED, LONG = 0.05, 400_000


def evidence(ttft_ns: FloatArray) -> Evidence:
    """Return the window of a run with these TTFTs, in due order, evenly spaced."""
    n, each_ns = len(ttft_ns), 10**9 // RATE_PER_S
    frame = pd.DataFrame({name: np.zeros(n) for name in RequestRecord._fields})
    frame = frame.assign(due_unix_ns=np.arange(n) * each_ns, first_ns=ttft_ns, outcome="ok", scenario="chat")
    meta = {"window": {"start_unix_ns": 0, "end_unix_ns": n * each_ns}, "load": {"loop": "open"}}
    return Evidence(Run(Path(), meta, frame, {}, pd.DataFrame(), None, ()))


def decided(runs: Iterator[FloatArray], text: str) -> float:
    """Return how many of these runs (ms) are a PASS or a FAIL of the objective."""
    objective = parse_objective(text)
    results = [judge_objective(evidence(values * 1e6), objective) for values in runs]
    return float(np.mean([one.status in {"PASS", "FAIL"} for one in results]))


def least_s(plan: Need) -> int:
    """Return how long a stretch must be, as the plan says of stretches that are too short."""
    found = re.search(r"make stretches ([\d,]+) s at least", plan.reason)
    assert found, plan.reason
    return int(found[1].replace(",", ""))


def planned(text: str, earlier: Earlier, stretches: int, part: float) -> tuple[int, Need]:
    """Return the length of so many stretches that decide, and the plan of a run of them."""
    supposed = Supposed(RATE_PER_S, run_s=0, part=part, tau=1)
    length_s = 2
    while True:
        plan = need(
            parse_objective(f"{text} every {length_s} s"),
            replace(supposed, run_s=stretches * length_s),
            earlier,
        )
        if plan.requests is not None:
            return length_s, plan
        length_s += max(1, length_s // 50)


def check(what: str, stretches: int, length_s: int, share: float, shorter: float) -> None:
    print(
        f"\n  {what:<40} {stretches:2} stretches of {length_s:3} s decide in {share:.0%}, "
        f"of less in {shorter:.0%}",
        end="",
    )
    assert share >= LEAST_DECIDED
    assert shorter < POWER


@pytest.mark.parametrize(
    ("part", "rho", "stretches"),
    [
        more(0.5, 0.0, 10),
        (0.1, 0.5, 3),
        (2.0, 0.0, 10),
        more(0.5, 0.0, 3),
        more(0.5, 0.5, 1),
        more(0.5, 0.5, 3),
        more(0.5, 0.5, 10),
        more(0.1, 0.5, 10),
        more(0.1, 0.0, 10),
        more(2.0, 0.0, 3),
        more(2.0, 0.5, 3),
        more(2.0, 0.5, 10),
    ],
)
def test_a_percentile_in_every_stretch(part: float, rho: float, stretches: int) -> None:
    rng = np.random.default_rng(4)
    limit = mm1_quantile(rho, 1 - ALLOWED * part)

    def drawn(n: int, runs: int) -> Iterator[FloatArray]:
        return mm1(rho, n, runs, rng) if rho else iter(rng.exponential(1, (runs, n)))

    earlier = Earlier(of_share(next(drawn(LONG, 1)), limit, ALLOWED), LONG)
    length_s, plan = planned("ttft p95 < 1 ms", earlier, stretches, part)
    assert plan.minutes == pytest.approx(stretches * length_s / 60)

    def shown(each_s: int) -> float:
        runs = drawn(stretches * each_s * RATE_PER_S, RUNS)
        return decided(runs, f"ttft p95 < {limit:.6f} ms every {each_s} s")

    what = f"p95, {part} of what is allowed, rho {rho}"
    shorter_s = length_s // 2 if part > 1 else 2 * length_s // 3  # a FAIL is planned on the safe side
    check(what, stretches, length_s, shown(length_s), shown(shorter_s))


@pytest.mark.parametrize(("limit", "stretches"), [(90.0, 5), more(70.0, 5), more(84.0, 20)])
def test_a_mean_in_every_stretch(limit: float, stretches: int) -> None:
    rng, mean, sd = np.random.default_rng(3), 80.0, 40.0
    values = rng.normal(size=100_000)
    long = of_mean(mean + sd * (values - values.mean()) / values.std())
    earlier = Earlier(replace(long, limit=limit, allowed=limit), len(values))
    length_s, _ = planned("ttft mean < 1 ms", earlier, stretches, 0.5)

    def shown(each_s: int) -> float:
        runs = rng.normal(mean, sd, (RUNS, stretches * each_s * RATE_PER_S))
        return decided(iter(runs), f"ttft mean < {limit} ms every {each_s} s")

    check(f"mean, limit {limit}", stretches, length_s, shown(length_s), shown(length_s // 2))


def test_a_longer_run_has_more_stretches_and_asks_more_of_each() -> None:
    objective = parse_objective("ttft p95 < 100 ms every 60 s")
    supposed = Supposed(RATE_PER_S, run_s=60, part=0.5, tau=2)
    one, ten = (need(objective, replace(supposed, run_s=length_s), None) for length_s in (60, 600))
    assert one.requests == 60 * RATE_PER_S
    assert ten.requests is None
    assert (ten.independent or 0) > 1.5 * (one.independent or 0)
    assert "each of 10 stretches of 60 s needs" in ten.reason
    longer = parse_objective(f"ttft p95 < 100 ms every {least_s(ten)} s")
    assert need(longer, replace(supposed, run_s=600), None).requests is not None


@pytest.mark.parametrize(
    ("text", "run_s", "words"),
    [
        ("ttft p95 < 1 s every 90 s", 60, "runs of 60 s have no whole stretch: make them 90 s at least"),
        ("ttft p95 < 1 s from 30 s every 60 s", 60, "make them 90 s at least (--duration)"),
        ("ttft p99.99 < 1 s every 60 s", 120, "no length does"),
    ],
)
def test_what_no_stretch_can_show_is_told(text: str, run_s: float, words: str) -> None:
    found = need(parse_objective(text), Supposed(RATE_PER_S, run_s, 0.5, 10), None)
    assert (found.requests, found.runs) == (None, None)
    assert words in found.reason


@pytest.mark.parametrize("part", [0.1, 3.0])
def test_replications_of_stretches_are_counted_by_their_verdicts(part: float) -> None:
    rng, objective = np.random.default_rng(9), parse_objective("ttft p95 < 1 ms every 60 s")
    plan = need(objective, Supposed(RATE_PER_S, 180, part, 1), None)
    assert plan.runs is not None
    limit = mm1_quantile(0, 1 - ALLOWED * part)
    asked = parse_objective(f"ttft p95 < {limit:.6f} ms every 60 s")

    def together() -> str:
        values = rng.exponential(1, (plan.runs or 0, 180 * RATE_PER_S)) * 1e6
        return pooled([judge_objective(evidence(one), asked) for one in values])[0].status

    assert np.mean([together() in {"PASS", "FAIL"} for _ in range(20)]) >= 0.6
