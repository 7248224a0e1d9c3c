"""Counters that only grow, whatever the server behind them does."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.readings import Readings, read
from analysis.rundir import Run


def readings(**columns: list[float | None]) -> Readings | None:
    """Read a run that has these columns, a second apart."""
    frame = pd.DataFrame(columns, dtype="float64")
    frame.insert(0, "unix_s", np.arange(len(frame)))
    nothing = pd.DataFrame()
    return read(Run(Path(), {}, nothing, {}, nothing, frame, ()))


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=2, max_size=30))
def test_a_counter_is_followed_over_restarts(steps: list[tuple[int, bool]]) -> None:
    """What is lost is what a server had counted that came back with as much before it was read again."""
    shown, lost, restarts = [0], 0, 0
    for grown, restart in steps:
        shown.append(grown if restart else shown[-1] + grown)
        seen = restart and grown < shown[-2]
        restarts += seen
        lost += shown[-2] if restart and not seen else 0
    found = readings(finished=[float(value) for value in shown])
    assert found is not None
    assert found.restarts == restarts
    total = found.grown("finished", 0, len(shown) - 1)
    assert total == sum(grown for grown, _ in steps) - lost
    halves = [
        found.grown("finished", 0, len(steps) // 2),
        found.grown("finished", len(steps) // 2, len(steps)),
    ]
    assert sum(half or 0 for half in halves) == total


def test_readings_enclose_as_far_as_they_go() -> None:
    found = readings(finished=[0, 1, 2, 3])
    assert found is not None
    second = 10**9
    assert found.enclosing(second, 2 * second) == (1, 2)
    assert found.enclosing(second + 1, 2 * second - 1) == (1, 2)
    assert found.enclosing(second - 1, 2 * second + 1) == (0, 3)
    assert found.enclosing(-5 * second, 50 * second) == (0, 3)


def test_what_was_not_read_is_unknown_and_a_hole_is_no_restart() -> None:
    found = readings(finished=[None, 5, None, 7], running=[1, None, 2, 3], nothing=[None] * 4)
    assert found is not None
    assert found.restarts == 0
    assert found.grown("finished", 0, 3) == 7
    assert found.grown("finished", 1, 2) == 0
    assert found.grown("nothing", 0, 3) is None
    assert found.grown("running", 0, 3) is None
    np.testing.assert_array_equal(found.gauge("running"), [1, np.nan, 2, 3])
    assert np.isnan(found.gauge("waiting")).all()


def test_means_are_growth_over_growth() -> None:
    found = readings(ttft_sum_s=[1.0, 2.0, 2.0], ttft_count=[10, 30, 30])
    assert found is not None
    assert found.mean_ms("ttft", 0, 2) == pytest.approx(50)
    assert found.mean_ms("ttft", 1, 2) is None
    assert found.mean_ms("queue", 0, 2) is None


def test_one_reading_has_nothing_between() -> None:
    assert readings(finished=[3]) is None
