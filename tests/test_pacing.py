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


def distance_from_exponential(gaps_s: list[float], rate: float) -> float:
    """Return Kolmogorov's distance, times the root of n: above 1.95 once in 1000 samples of the law."""
    n = len(gaps_s)
    shares = [1 - math.exp(-rate * gap_s) for gap_s in sorted(gaps_s)]
    return max(max(abs(i / n - share), abs((i + 1) / n - share)) for i, share in enumerate(shares)) * n**0.5


def gaps_s(due: list[int]) -> list[float]:
    return [(late - early) / SECOND_NS for early, late in pairwise(due)]


@pytest.mark.parametrize("seed", ["1/0/0", "1/0/1", "2/3/4"])
def test_one_user_is_a_poisson_process(seed: str) -> None:
    assert distance_from_exponential(gaps_s(list(islice(poisson(seed), 5000))), rate=1) < 1.95


def test_merged_users_are_a_poisson_process() -> None:
    users, seconds = 40, 100
    schedules = [islice(poisson(f"7/0/{user}"), 3 * seconds) for user in range(users)]
    due = sorted(at for schedule in schedules for at in schedule if at < seconds * SECOND_NS)
    mean = users * seconds
    assert abs(len(due) - mean) < 4 * math.sqrt(mean)  # a count's deviation is the root of its mean
    assert distance_from_exponential(gaps_s(due), rate=users) < 1.95
    per_second = [sum(1 for at in due if at // SECOND_NS == second) for second in range(seconds)]
    assert 0.6 < statistics.variance(per_second) / users < 1.6  # as large as the mean, as in Poisson's law


@pytest.mark.parametrize(("users", "rate"), [(3, 0.8), (1, 0.25), (38, 37.4 / 38)])
def test_users_may_be_part_of_an_arrival_a_second(users: int, rate: float) -> None:
    seconds = int(4000 / users / rate)
    schedules = [islice(poisson(f"7/0/{user}", rate), 3 * seconds) for user in range(users)]
    due = sorted(at for schedule in schedules for at in schedule if at < seconds * SECOND_NS)
    assert abs(len(due) - 4000) < 4 * math.sqrt(4000)
    assert distance_from_exponential(gaps_s(due), rate=users * rate) < 1.95
    even = sorted(at for user in range(users) for at in islice(constant(user, rate), 10))
    assert max(gaps_s(even)) <= 2.7 / (users * rate)
    assert all(gap == pytest.approx(1 / rate) for gap in gaps_s(list(islice(constant(3, rate), 10))))


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
