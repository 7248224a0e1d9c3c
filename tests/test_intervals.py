"""An interval log as arrays says what its intervals say one by one."""

import io

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.histogram import Histogram, Interval, bin_low, read_log
from analysis.intervals import IntervalLog, as_log, bin_number, read
from tests.test_histogram import INTERVALS, SAMPLES, VALUES, merged, of, written

HOURS = st.lists(
    st.builds(Interval, st.sampled_from(["chat", "a b"]), st.integers(1, 9), SAMPLES.map(of)), max_size=8
)


def plain(intervals: object) -> list[tuple[str, int, object]]:
    return [(one.scenario, one.second, one.histogram.to_plain()) for one in intervals]  # type: ignore[attr-defined]


def read_one_by_one(text: str) -> tuple[list[Interval], str | None]:
    found = []
    try:
        for interval in read_log(io.StringIO(text)):
            found.append(interval)  # noqa: PERF402 - those before an error are kept
    except ValueError as error:
        return found, str(error)
    return found, None


@given(INTERVALS)
@settings(max_examples=60)
def test_a_log_is_read_as_line_by_line(intervals: list[Interval]) -> None:
    log, wrong = read(io.StringIO(written(intervals)))
    assert wrong is None
    assert plain(log) == plain(read_one_by_one(written(intervals))[0])


def test_a_long_log_is_read_as_line_by_line() -> None:
    rng = np.random.default_rng(1)
    intervals = [
        Interval("chat", second, of(rng.integers(1, 10 ** rng.integers(1, 12), 30).tolist()))
        for second in range(1, 700)
    ]
    text = written(intervals)
    assert plain(read(io.StringIO(text))[0]) == plain(read_one_by_one(text)[0])


@given(st.lists(SAMPLES.map(of), min_size=1, max_size=3), st.data())
@settings(max_examples=100)
def test_a_damaged_log_is_read_as_far_as_line_by_line(
    histograms: list[Histogram], data: st.DataObject
) -> None:
    text = written([Interval("chat", i + 1, one) for i, one in enumerate(histograms)])
    at = data.draw(st.integers(0, len(text)))
    change = data.draw(st.sampled_from(["", "A", "\n", ",", "="]))
    damaged = text[:at] + change + text[at + data.draw(st.integers(0, 60)) :]
    expected, error = read_one_by_one(damaged)
    log, wrong = read(io.StringIO(damaged))
    assert plain(log) == plain(expected)
    assert (wrong is None) == (error is None)
    assert (wrong or "").split(" (")[0] == (error or "").split(" (")[0]


def test_a_log_in_another_resolution_is_read() -> None:
    theirs = HdrHistogram(1, 10**12, 2)
    for value in (900, 5_000_000, 5_000_000, 80_000_000):
        theirs.record_value(value)
    text = f"1790000000.500,1.000,80.0,{theirs.encode().decode()}\n"
    assert plain(read(io.StringIO(text))[0]) == plain(read_one_by_one(text)[0])


@given(VALUES)
def test_a_bins_number_is_hdrhistograms(value: int) -> None:
    theirs = HdrHistogram(1, 24 * 3600 * 10**9, 3)
    theirs.record_value(max(1, value))
    assert theirs.counts[bin_number(bin_low(max(1, value)))] == 1


@given(HOURS, VALUES)
def test_sums_and_counts_are_those_of_the_histograms(intervals: list[Interval], limit: int) -> None:
    log = as_log(intervals)
    assert plain(log) == plain(intervals)
    assert log.totals().tolist() == [one.histogram.count for one in intervals]
    assert log.pooled() == merged(*(one.histogram for one in intervals))
    certain, undecided = log.count_at_or_above(limit)
    expected = [one.histogram.count_at_or_above(limit) for one in intervals]
    assert list(zip(certain.tolist(), undecided.tolist(), strict=True)) == expected


@given(HOURS, st.data())
def test_a_part_of_a_log_is_that_of_the_list(intervals: list[Interval], data: st.DataObject) -> None:
    log = as_log(intervals)
    kept = data.draw(st.lists(st.booleans(), min_size=len(intervals), max_size=len(intervals)))
    part = log.select(np.array(kept, dtype=bool))
    assert plain(part) == plain([one for one, keep in zip(intervals, kept, strict=True) if keep])
    assert plain(log.of("a b")) == plain([one for one in intervals if one.scenario == "a b"])
    assert plain(log[1:3]) == plain(intervals[1:3])
    assert plain([log[-1]] if intervals else []) == plain(intervals[-1:])


def test_a_log_has_no_interval_behind_its_last() -> None:
    with pytest.raises(IndexError):
        as_log([])[0]
    assert isinstance(as_log(as_log([])), IntervalLog)
