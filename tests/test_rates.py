"""Rates: exact figures of requests that are written down, and how often the bounds hold."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.signal import lfilter

from analysis.objective import ObjectiveResult
from analysis.page import page
from analysis.rates import served
from analysis.rundir import Run, load
from analysis.sla import Sla, parse_objective
from analysis.statistics import FloatArray
from analysis.verdict import judge
from tests.run_directories import START_S, Load, Requests, make_record, write_run
from tokenswarm import tables

SECONDS, A_SECOND = 100, 20
NEEDED = 100  # independent bins


def at(times_s: FloatArray) -> Requests:
    """Return requests of four tokens each, due at these times after the start."""
    due = (START_S * 10**9 + np.sort(times_s) * 1e9).astype(np.int64).tolist()
    return [(make_record(time, 50.0, [5.0] * 3), [5_000_000] * 3) for time in due]


@pytest.fixture(scope="module")
def poisson(tmp_path_factory: pytest.TempPathFactory) -> Run:
    rng = np.random.default_rng(3)
    times = rng.uniform(0, SECONDS, rng.poisson(SECONDS * A_SECOND))
    load_of = Load(seconds=SECONDS, warmup_s=0, loop="closed")
    return load(write_run(tmp_path_factory.mktemp("poisson"), load_of, at(times)))


def changed(run: Run, outcome: str, every: int) -> Run:
    """Return the run as it had been if every so many requests had ended otherwise."""
    hit = np.arange(len(run.requests)) % every == 0
    return replace(run, requests=run.requests.assign(outcome=np.where(hit, outcome, "ok")))


def results(run: Run, *objectives: str) -> list[ObjectiveResult]:
    return list(judge(run, Sla("test", tuple(map(parse_objective, objectives)))).objectives)


def test_what_was_ok_and_due_in_the_window_is_counted(poisson: Run) -> None:
    run = changed(poisson, "http_5xx", 10)
    requests, tokens = results(run, "requests_per_s >= 15", "output_tokens_per_s <= 80")
    ok = int((run.requests.outcome == "ok").sum())
    assert requests.observed == pytest.approx(ok / SECONDS)
    assert tokens.observed == pytest.approx(4 * ok / SECONDS)
    assert (requests.n, requests.unit, tokens.unit) == (ok, "requests/s", "tokens/s")
    assert (requests.status, tokens.status) == ("PASS", "PASS")
    assert (requests.at_least, tokens.at_least) == (True, False)
    assert requests.bound_low is not None
    assert 15 < requests.bound_low < requests.observed < (requests.bound_high or 0)
    assert requests.margin == pytest.approx(ok / SECONDS / 15)
    assert (requests.bad, requests.n_eff, requests.budget_used) == (None, None, None)


def test_a_rate_is_judged_from_its_own_side(poisson: Run) -> None:
    served_per_s = len(poisson.requests) / SECONDS
    below_near_above = [f"{served_per_s * share:.3f}" for share in (0.8, 1.002, 1.2)]
    for comparison, expected in (
        (">=", ("PASS", "INCONCLUSIVE", "FAIL")),
        ("<", ("FAIL", "INCONCLUSIVE", "PASS")),
    ):
        found = results(poisson, *(f"requests_per_s {comparison} {limit}" for limit in below_near_above))
        assert tuple(result.status for result in found) == expected
        for result in found:
            assert result.reason.startswith("between ")
            assert ("; needs about" in result.reason) == (result.status == "INCONCLUSIVE")


def test_the_edges_of_the_window_are_worth_a_request(poisson: Run) -> None:
    due = START_S * 10**9 + np.arange(SECONDS * A_SECOND) * (10**9 // A_SECOND)
    regular = replace(
        poisson, requests=pd.concat([poisson.requests.iloc[:1]] * len(due)).assign(due_unix_ns=due)
    )
    at_limit, below = results(regular, "requests_per_s >= 20", "requests_per_s >= 19.9")
    assert (at_limit.status, below.status) == ("INCONCLUSIVE", "PASS")
    assert (at_limit.bound_low, at_limit.bound_high) == pytest.approx((20 - 1 / SECONDS, 20 + 1 / SECONDS))
    assert at_limit.resolution == pytest.approx(1 / SECONDS)


def test_in_an_open_loop_a_rate_is_what_was_offered(poisson: Run) -> None:
    run = replace(poisson, meta={**poisson.meta, "load": {**poisson.meta["load"], "loop": "open"}})
    (result,) = results(run, "requests_per_s >= 15")
    assert result.reason.endswith("; in an open loop that is what was offered")


def test_a_window_that_is_too_short_has_no_bounds(poisson: Run) -> None:
    short, longer = results(poisson, "requests_per_s >= 15 to 40 s", "requests_per_s >= 15 every 50 s")
    assert (short.status, short.bound_low) == ("INCONCLUSIVE", None)
    assert short.observed is not None
    assert "no valid interval: worth " in short.reason
    assert " independent half seconds, and the least is 100; needs a window of about " in short.reason
    assert longer.stretches == 2


def test_what_is_undecided_may_have_been_served(poisson: Run) -> None:
    limits = ("requests_per_s >= 17", "requests_per_s >= 25", "output_tokens_per_s >= 1000")
    few, many, tokens = results(changed(poisson, "cancelled", 4), *limits)
    assert (few.status, many.status) == ("INCONCLUSIVE", "FAIL")
    assert few.undecided == many.undecided == pytest.approx(len(poisson.requests) / 4, abs=1)
    assert (tokens.status, tokens.bound_high) == ("INCONCLUSIVE", float("inf"))
    unknown = replace(poisson, requests=poisson.requests.assign(output_tokens=np.nan))
    (tokens,) = results(unknown, "output_tokens_per_s < 1")
    assert (tokens.status, tokens.observed, tokens.undecided) == ("INCONCLUSIVE", 0.0, len(poisson.requests))


def test_nothing_served_is_a_rate_of_zero_and_nothing_asked_is_none(poisson: Run) -> None:
    (failed,) = results(changed(poisson, "connect", 1), "requests_per_s >= 1")
    assert (failed.status, failed.observed, failed.n) == ("FAIL", 0.0, 0)
    (empty,) = results(replace(poisson, requests=poisson.requests.iloc[:0]), "requests_per_s >= 1")
    assert (empty.status, empty.reason, empty.observed) == ("INCONCLUSIVE", "no data", None)


def test_a_rate_is_shown_in_its_own_unit(poisson: Run) -> None:
    verdict = judge(poisson, Sla("test", (parse_objective("output_tokens_per_s >= 50 in chat"),)))
    shown = io.StringIO()
    tables.verdict_table([verdict], Console(file=shown, width=120))
    assert f"{verdict.objectives[0].observed:.1f} tokens/s  PASS" in shown.getvalue()
    page([(poisson, verdict)])  # tests/test_report.py looks at what is on it


# How often the bounds hold


def open_loop(rng: np.random.Generator, seconds: int) -> tuple[FloatArray, float]:
    """Return due times of Poisson arrivals, and the rate that a longer run would show."""
    return rng.uniform(0, seconds, rng.poisson(seconds * 20)), 20.0


def closed_loop(tau_s: float) -> Callable[[np.random.Generator, int], tuple[FloatArray, float]]:
    """Return 8 users' loop of 1 s, on a server whose speed varies by a quarter over `tau_s`."""
    step_s, warmup_s, spread = 0.05, 20, 0.25

    def due(rng: np.random.Generator, seconds: int) -> tuple[FloatArray, float]:
        n, phi = int((seconds + warmup_s) / step_s), np.exp(-step_s / tau_s)
        noise = rng.standard_normal(n) * np.sqrt(1 - phi**2)
        state = lfilter([1.0], [1.0, -phi], noise, zi=[phi * rng.standard_normal()])[0]
        done = np.cumsum(np.exp(spread * state)) * step_s  # what the server has worked by then, in s at rest
        ends = np.cumsum(rng.lognormal(-0.08, 0.4, (8, int(2 * done[-1]) + 50)), axis=1)
        times = np.interp(ends[ends < done[-1]], done, np.arange(1, n + 1) * step_s) - warmup_s
        return times[times >= 0], 8 * float(np.exp(spread**2 / 2))

    return due


@pytest.mark.parametrize(
    ("draw", "seconds"),
    [
        (open_loop, 60),
        (open_loop, 300),
        (closed_loop(0.5), 120),
        (closed_loop(2), 120),
        (closed_loop(15), 120),
    ],
)
def test_the_bounds_hold_or_are_refused(
    draw: Callable[[np.random.Generator, int], tuple[FloatArray, float]], seconds: int
) -> None:
    rng, runs = np.random.default_rng(8), 300
    given, below, above = 0, 0, 0
    for _ in range(runs):
        times, rate = draw(rng, seconds)
        frame = pd.DataFrame({"due_unix_ns": (times * 1e9).astype(np.int64), "outcome": "ok"})
        found = served(frame, "requests_per_s", (0, seconds * 10**9))
        if found.independent >= NEEDED:
            low, high = found.bounds(1, upper=False)
            given, below, above = given + 1, below + (high < rate), above + (low > rate)
    print(f"given in {given / runs:.0%}, too low in {below / runs:.1%}, too high in {above / runs:.1%}")
    assert max(below, above) / runs <= 0.075  # 5 % and twice the error of 300 runs
