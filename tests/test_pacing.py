"""Schedules: seeded, endless, in absolute time, and what their distributions promise."""

import math
import statistics
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locustfiles._pacing import SECOND_NS, constant, poisson


@given(st.text(max_size=10))
def test_poisson_is_the_seeds_and_rises(seed: str) -> None:
    due = list(islice(poisson(seed), 200))
    assert due == list(islice(poisson(seed), 200))
    assert all(early <= late for early, late in pairwise(due))
    assert due[0] >= 0


def test_users_are_independent() -> None:
    schedules = [tuple(islice(poisson(f"1/{worker}/{user}"), 5)) for worker in range(3) for user in range(9)]
    assert len(set(schedules)) == len(schedules)


def test_merged_users_are_a_poisson_process() -> None:
    users, seconds = 40, 100
    end_ns = seconds * SECOND_NS
    due = sorted(
        at for user in range(users) for at in islice(poisson(f"7/0/{user}"), 3 * seconds) if at < end_ns
    )
    mean = users * seconds
    assert abs(len(due) - mean) < 4 * math.sqrt(mean)  # a count's deviation is the root of its mean
    gaps_s = [(late - early) / SECOND_NS for early, late in pairwise(due)]
    # Exponential gaps of mean 1/40: the share below x is 1 - exp(-40 x); Kolmogorov's distance at 1 in 1000.
    gaps_s.sort()
    distance = max(
        max(abs(i / len(gaps_s) - share), abs((i + 1) / len(gaps_s) - share))
        for i, share in enumerate(1 - math.exp(-users * gap_s) for gap_s in gaps_s)
    )
    assert distance < 1.95 / math.sqrt(len(gaps_s))
    per_second = [sum(1 for at in due if at // SECOND_NS == second) for second in range(seconds)]
    assert 0.6 < statistics.variance(per_second) / users < 1.6  # as large as the mean, as in Poisson's law


@pytest.mark.parametrize("users", [1, 2, 3, 7, 20, 36, 100])
def test_constant_arrivals_are_spread_evenly(users: int) -> None:
    due = sorted(at for user in range(users) for at in islice(constant(user), 10))
    assert len(due) == 10 * users
    gaps = [late - early for early, late in pairwise(due)]
    even_ns = SECOND_NS / users
    assert max(gaps, default=0) <= 2 * even_ns or users == 1  # the golden ratio's gaps are of three sizes
    assert all(late - early == SECOND_NS for early, late in pairwise(islice(constant(3), 10)))


@given(st.integers(0, 10**6))
def test_constant_phase_is_within_a_second(user: int) -> None:
    first, second = islice(constant(user), 2)
    assert 0 <= first < SECOND_NS
    assert second - first == SECOND_NS
