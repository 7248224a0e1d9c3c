"""The search as a pure function: against servers whose limit is known, exact ones and noisy ones."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.searching import (
    CONFIRM,
    PROBE,
    Done,
    Settings,
    Step,
    Trial,
    contradictions,
    left,
    next_step,
    outcome,
)
from analysis.statistics import share_bounds

SETTINGS = Settings(start=1, top=200, within=0.05, confirm=5, longest=8)

Judge = Callable[[Step, int], str]
"""A step and the number of valid runs there -> the verdict on them together."""


def searched(judge: Judge, settings: Settings = SETTINGS, runs: int = 400) -> tuple[Done, list[Trial]]:
    """Search to the end; each step is checked to follow from the history alone."""
    history: list[Trial] = []
    while isinstance(step := next_step(history, settings), Step):
        assert len(history) < runs, "the search does not end"
        assert next_step(list(history), settings) == step
        made = sum((t.level, t.phase) == step and t.status != "INVALID" for t in history)
        found = judge(step, made + 1)
        history.append(Trial(step.level, step.phase, found, found, "told so"))
    return step, history


def exact(limit: float) -> Judge:
    return lambda step, _: "PASS" if step.level <= limit else "FAIL"


@given(st.floats(0.1, 500), st.floats(0.01, 0.5), st.floats(0.5, 100))
def test_an_exact_server_is_found_within_the_precision(limit: float, within: float, start: float) -> None:
    settings = Settings(start, 200, within, 1, 4)
    done, history = searched(exact(limit), settings)
    if done.low is None:
        assert done.status == "FAIL"
        assert limit < start  # and it was not found a sixteenth below either
        assert done.high is not None
        assert limit < done.high <= start / 16 * 1.01 * (1 + within)
    elif done.high is None:
        assert done.status == "PASS"
        assert 200 / (1 + within) <= done.low <= 200
        assert limit >= done.low
    else:
        assert done.status == "PASS"
        assert done.low <= limit < done.high
        assert done.high / done.low <= 1 + within + 1e-9
        assert done.fails_from == done.high
    assert contradictions(history, settings) == []


@given(st.integers(1, 300), st.integers(1, 50))
def test_users_are_whole_and_neighbours_at_the_end(limit: int, start: int) -> None:
    settings = Settings(start, 200, 0.01, 1, 1, whole=True)
    done, history = searched(exact(limit), settings)
    assert all(isinstance(trial.level, int) for trial in history)
    if done.low is None:
        assert limit < start / 8
    else:
        assert done.low <= limit
        assert done.high is None or (limit < done.high and done.high <= max(done.low + 1, done.low * 1.01))


def test_the_way_is_bracket_bisection_confirmation() -> None:
    _, history = searched(exact(10), Settings(1, 200, 0.2, 2, 4))
    probes = [trial.level for trial in history if trial.phase == PROBE]
    assert probes == [1, 2, 4, 8, 16, 11.3, 9.51]
    assert [trial.level for trial in history if trial.phase == CONFIRM] == [9.51, 9.51]


def test_what_is_undecided_is_extended_in_few_looks_and_then_counts_as_not_passed() -> None:
    def judge(step: Step, _runs: int) -> str:
        return "PASS" if step.level < 8 else "INCONCLUSIVE" if step.level < 12 else "FAIL"

    done, history = searched(judge)
    assert sum(trial.level == 8 for trial in history) == 8
    assert done.low is not None
    assert done.high is not None
    assert done.low < 8 <= done.high <= done.low * 1.05
    assert done.fails_from is None  # nothing was shown to be beyond the SLA, and nothing is guessed
    assert done.reason.endswith("; 8 stays undecided")


@pytest.mark.parametrize(("decides", "runs"), [(1, 1), (2, 2), (3, 4), (5, 8), (9, 8)])
def test_looks_are_at_one_two_four_eight_runs(decides: int, runs: int) -> None:
    made = 0
    history: list[Trial] = []
    while next_step(history, SETTINGS) == Step(1, PROBE):
        made += 1
        found = "PASS" if made >= decides else "INCONCLUSIVE"
        history.append(Trial(1, PROBE, "INCONCLUSIVE", found))
    assert made == runs


def test_nothing_is_decided_by_a_look_between() -> None:
    history = [Trial(1, PROBE, "FAIL", found) for found in ("INCONCLUSIVE", "INCONCLUSIVE", "FAIL")]
    assert outcome(history, SETTINGS, 1, PROBE) is None


def test_a_server_that_bears_all_is_confirmed_at_the_top() -> None:
    done, history = searched(exact(math.inf))
    assert (done.status, done.low, done.high) == ("PASS", 200, None)
    assert done.reason == "5 fresh runs PASS at 200, the highest that was allowed"
    assert [trial.level for trial in history[:9]] == [1, 2, 4, 8, 16, 32, 64, 128, 200]


@pytest.mark.parametrize("found", ["FAIL", "OVERSATURATED", "INCONCLUSIVE"])
def test_a_server_that_bears_nothing(found: str) -> None:
    done, _ = searched(lambda _step, _runs: found, Settings(8, 200, 0.05, 5, 4))
    assert (done.low, done.high) == (None, 0.5)
    assert done.status == ("INCONCLUSIVE" if found == "INCONCLUSIVE" else "FAIL")
    assert done.reason == "nothing passes down to 0.5: told so"


def test_an_invalid_run_is_made_again_once() -> None:
    first = [Trial(1, PROBE, "INVALID", "INVALID", "late")]
    assert next_step(first, SETTINGS) == Step(1, PROBE)
    assert next_step([*first, Trial(1, PROBE, "PASS", "PASS")], SETTINGS) == Step(2, PROBE)
    done = next_step(first * 2, SETTINGS)
    assert isinstance(done, Done)
    assert (done.status, done.low) == ("INVALID", None)
    assert done.reason == "two INVALID runs in a row at 1 (the generator is the limit): late"


def test_where_the_generator_is_the_limit_what_passed_is_confirmed_all_the_same() -> None:
    done, history = searched(lambda step, _: "PASS" if step.level < 60 else "INVALID")
    assert (done.status, done.low, done.high) == ("INVALID", 32, None)
    assert [trial.level for trial in history if trial.phase == CONFIRM] == [32] * 5
    assert "at 64" in done.reason


def test_an_unconfirmed_level_is_stepped_down_from_and_named() -> None:
    def judge(step: Step, _runs: int) -> str:
        return "PASS" if step.level <= (10 if step.phase == PROBE else 9.6) else "FAIL"

    done, history = searched(judge)
    assert done.status == "PASS"
    assert done.low is not None
    assert done.high is not None
    assert done.low <= 9.6 < done.high <= 10
    assert done.high / done.low <= 1.06  # a step of 5 %, rounded to three digits
    (named,) = contradictions(history, SETTINGS)
    assert [(trial.phase, trial.level) for trial in named] == [(PROBE, done.high), (CONFIRM, done.high)]


def test_confirmations_end() -> None:
    done, history = searched(lambda step, _: "PASS" if step.phase == PROBE and step.level < 9 else "FAIL")
    assert (done.status, done.low) == ("INCONCLUSIVE", None)
    assert len({trial.level for trial in history if trial.phase == CONFIRM}) == 4
    assert "was confirmed" in done.reason


@given(st.randoms(use_true_random=False))
def test_whatever_a_server_says_the_search_ends(chance: random.Random) -> None:
    verdicts = ["PASS", "FAIL", "OVERSATURATED", "INCONCLUSIVE", "INVALID"]
    done, history = searched(lambda _step, _runs: chance.choice(verdicts))
    if done.low is not None:
        confirmed = outcome(history, SETTINGS, done.low, CONFIRM)
        assert confirmed is not None
        assert confirmed.pooled == "PASS"
        assert done.high is None or done.low < done.high
    assert (done.status == "PASS") <= (done.low is not None)


@given(st.floats(1, 150))
def test_runs_left_are_never_fewer_than_there_come_once_the_bracket_is_known(limit: float) -> None:
    _, history = searched(exact(limit))
    for made in range(len(history)):
        found = left(history[:made], SETTINGS)
        bracketed = any(trial.pooled == "FAIL" for trial in history[:made])
        still = len(history) - made
        assert found.probes + found.confirmations > 0
        if bracketed:
            assert still <= sum(found) <= still + 1
    assert left(history, SETTINGS) == (0, 0)


# A noisy server: the share of late requests grows with the load, and each run only samples it


ALLOWED = 0.05


class Noisy:
    """Late requests are ALLOWED at `limit`, and grow with the load by a power of `steep`.

    A run of `run_s` has load * run_s requests, which come in lumps: worth `deff` times fewer. Runs differ,
    too: each has a limit of its own, by `spread`.
    """

    def __init__(
        self, seed: int, *, limit: float, steep: float, run_s: float = 30, spread: float = 0.01
    ) -> None:
        self.draw = np.random.default_rng(seed)
        self.limit, self.steep, self.run_s, self.spread = limit, steep, run_s, spread
        self.key: Step | None = None
        self.seen = (0.0, 0.0)

    def __call__(self, step: Step, _runs: int) -> str:
        deff = 2.0
        long = self.run_s if step.phase == PROBE else 48
        n_eff = self.draw.poisson(step.level * long) / deff
        limit = self.limit * math.exp(self.draw.normal(0, self.spread))
        share = min(1.0, ALLOWED * (step.level / limit) ** self.steep)
        bad = self.draw.binomial(max(1, round(n_eff)), share)
        before = self.seen if step == self.key else (0.0, 0.0)
        self.key, self.seen = step, (before[0] + bad, before[1] + n_eff)
        total_bad, total = self.seen
        if total < 100:
            return "INCONCLUSIVE"
        low, high = share_bounds(min(total_bad, total), min(total_bad, total), total)
        return "PASS" if high < ALLOWED else "FAIL" if low >= ALLOWED else "INCONCLUSIVE"


@pytest.mark.parametrize(("limit", "steep"), [(8.0, 6.0), (40.0, 6.0), (40.0, 12.0), (120.0, 12.0)])
def test_repeated_searches_of_a_noisy_server_agree(limit: float, steep: float) -> None:
    lows, runs, statuses = [], [], []
    for seed in range(100):
        done, history = searched(Noisy(seed, limit=limit, steep=steep))
        statuses.append(done.status)
        runs.append(len(history))
        if done.low is not None:
            lows.append(done.low)
    found = np.array(lows) / limit
    centre = float(np.median(found))
    near = float(np.mean(np.abs(found / centre - 1) <= 0.05))
    above = float(np.mean(found > 1))
    print(
        f"limit {limit:g}, power {steep:g}: {len(lows)} of {len(statuses)} confirmed, "
        f"median {centre:.3f} of the limit, {near:.0%} within 5 % of it, {above:.1%} above the limit, "
        f"runs {np.median(runs):.0f} (p95 {np.quantile(runs, 0.95):.0f})"
    )
    assert len(lows) >= 0.97 * len(statuses)
    assert above <= 0.05
    assert near >= 0.9
