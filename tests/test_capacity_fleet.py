"""Replicas for a demand: the formula by hand, its laws, and a fleet that follows a trace."""

import math
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from analysis.demand import Step
from analysis.fleet import Assumptions, explain, follow, size

RATES = st.floats(0.01, 1e5)
BY = st.builds(
    Assumptions,
    growth=st.floats(0, 3),
    utilisation=st.floats(0.05, 1),
    spare=st.integers(0, 5),
    zones=st.integers(1, 7),
)


def test_the_formula_by_hand() -> None:
    found = size(120, 7.7779, Assumptions(growth=0.3, utilisation=0.7, spare=1, zones=3))
    assert found.goodput_low_per_s == 7.777, "rounded down"
    assert found.planned_per_s == pytest.approx(156)
    assert found.used_per_s == pytest.approx(5.4439)
    assert (found.for_load, found.with_spare) == (29, 30)  # 156 / 5.4439 = 28.66
    assert found.for_lost_zone == 32  # 156 / 7.777 = 20.06: 21 must be left, of 31.5 in three zones
    assert (found.replicas, found.per_zone) == (32, (11, 11, 10))


def test_a_lost_zone_may_need_nothing_more() -> None:
    found = size(10, 1, Assumptions(utilisation=0.5, spare=0, zones=4))
    assert (found.for_load, found.for_lost_zone, found.replicas) == (20, 14, 20)
    assert found.per_zone == (5, 5, 5, 5)


def test_binary_fractions_cost_no_replica() -> None:
    assert size(12, 10, Assumptions(utilisation=0.6, spare=0)).replicas == 2  # 12 / (10 * 0.6) = 2 + 4e-16
    assert size(0.3, 0.1, Assumptions(utilisation=1.0, spare=0)).replicas == 3


def test_nothing_asked_still_needs_one() -> None:
    assert size(0, 5, Assumptions(spare=0)).replicas == 1


@given(RATES, RATES, RATES, BY)
def test_more_demand_never_needs_fewer(one: float, other: float, goodput: float, by: Assumptions) -> None:
    assert size(min(one, other), goodput, by).replicas <= size(max(one, other), goodput, by).replicas


@given(RATES, RATES, RATES, BY)
def test_the_lower_bound_never_needs_fewer_than_the_upper(
    demand: float, one: float, other: float, by: Assumptions
) -> None:
    assert size(demand, min(one, other), by).replicas >= size(demand, max(one, other), by).replicas


@given(RATES, RATES, BY, st.floats(0, 1), st.integers(0, 3))
def test_growth_and_spare_never_need_fewer(
    demand: float, goodput: float, by: Assumptions, growth: float, spare: int
) -> None:
    changed = Assumptions(by.growth + growth, by.utilisation, by.spare + spare, by.zones)
    assert size(demand, goodput, changed).replicas >= size(demand, goodput, by).replicas


@given(RATES, RATES, BY)
def test_what_is_found_carries_what_is_asked(demand: float, goodput: float, by: Assumptions) -> None:
    found = size(demand, goodput, by)
    asked = demand * (1 + by.growth) * (1 - 1e-9)
    assert sum(found.per_zone) == found.replicas
    assert max(found.per_zone) - min(found.per_zone) <= 1
    assert (found.replicas - by.spare) * found.goodput_low_per_s * by.utilisation >= asked
    if by.zones > 1:
        assert (found.replicas - max(found.per_zone)) * found.goodput_low_per_s >= asked
        assume(found.for_lost_zone is not None and found.for_lost_zone > found.with_spare)
        fewer = found.replicas - 1
        left = fewer - math.ceil(fewer / by.zones)
        assert left < math.ceil(round(found.planned_per_s / found.goodput_low_per_s, 9)), (
            "and not one too many"
        )


@given(
    st.floats(0.1, 5000),
    st.floats(0.1, 500),
    st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    st.sampled_from([0.6, 0.75]),
)
def test_the_printed_lines_can_be_recomputed(
    demand: float, goodput: float, growth: float, utilisation: float
) -> None:
    by = Assumptions(growth=growth, utilisation=utilisation, spare=2, zones=3)
    found = size(demand, goodput, by)
    lines = explain(found, by, "the demand, as given", "8 arrivals/s")
    text = "\n".join(lines)
    asked = float(re.match(r"[\d.e+]+", lines[0])[0]) * (1 + growth)  # type: ignore[index]
    carried = float(re.search(r"at least ([\d.e+]+) good", text)[1])  # type: ignore[index]
    printed = int(re.search(r"rounded up: (\d+)", text)[1])  # type: ignore[index]
    assert printed == math.ceil(round(asked / (carried * utilisation), 9))
    assert f"+ 2 spare = {printed + 2}" in text
    assert "3 zones, " + " + ".join(map(str, found.per_zone)) in text


# Over a trace


def test_a_fleet_follows_one_reaction_time_behind() -> None:
    by = Assumptions(utilisation=0.5, spare=0, reaction_s=60)
    trace = [
        Step(60.0 * i, arrivals, peak)
        for i, (arrivals, peak) in enumerate([(60, 1.0), (300, 5.0), (60, 1.0)])
    ]
    found = follow(trace, 1.0, 1.0, by)
    assert [one.needed for one in found.moments] == [2, 10, 2]
    assert [one.ready for one in found.moments] == [2, 2, 10]
    assert [one.short for one in found.moments] == [False, True, False]
    assert found.short_share == pytest.approx(300 / 420)
    assert (found.highest, found.lowest, found.mean) == (10, 2, pytest.approx(14 / 3))
    assert found.replica_hours_per_day == pytest.approx(14 / 3 * 24)
    assert found.static_replica_hours_per_day == 240


def test_headroom_meets_a_rise_that_utilisation_leaves_room_for() -> None:
    by = Assumptions(utilisation=0.5, spare=0)
    found = follow([Step(0, 60, 10.0), Step(60, 60, 19.0)], 1.0, 1.0, by)
    assert [one.short for one in found.moments] == [False, False]


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 100)), min_size=1, max_size=40), RATES, BY)
def test_following_never_costs_more_than_the_peaks_fleet(
    cut: list[tuple[int, float]], goodput: float, by: Assumptions
) -> None:
    assume(sum(arrivals for arrivals, _ in cut))
    found = follow([Step(60.0 * i, *one) for i, one in enumerate(cut)], 1.0, goodput, by)
    assert found.replica_hours_per_day <= found.static_replica_hours_per_day + 1e-6
    assert found.lowest <= found.mean <= found.highest + 1e-9
    assert 0 <= found.short_share <= 1
    peak = size(max(peak for _, peak in cut), goodput, by).replicas
    assert found.static_replica_hours_per_day == 24 * peak
