import io
import math
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given
from hypothesis import strategies as st

from analysis.histogram import (
    HIGHEST_NS,
    Histogram,
    Interval,
    bin_high,
    bin_low,
    read_log,
    tag_of,
    write_interval,
    write_log_header,
)

VALUES = st.one_of(st.integers(0, 5000), st.integers(0, 10**9), st.integers(0, HIGHEST_NS))
SAMPLES = st.lists(VALUES, max_size=60)


def of(values: list[int]) -> Histogram:
    made = Histogram()
    made.record(values)
    return made


def merged(*histograms: Histogram) -> Histogram:
    made = Histogram()
    for histogram in histograms:
        made.merge(histogram)
    return made


@given(st.integers(0, 2**80))
def test_a_value_lies_in_its_bin_whose_width_is_a_thousandth_of_it_at_most(value: int) -> None:
    low = bin_low(value)
    assert low <= value <= bin_high(low)
    assert bin_low(low) == low
    assert bin_low(bin_high(low)) == low
    assert bin_low(bin_high(low) + 1) == bin_high(low) + 1
    assert bin_high(low) - low <= value / 1024


@given(SAMPLES, SAMPLES, SAMPLES)
def test_merging_is_associative_commutative_and_equal_to_one_histogram(
    a: list[int], b: list[int], c: list[int]
) -> None:
    whole = of(a + b + c)
    assert merged(of(a), of(b), of(c)) == whole
    assert merged(of(c), of(a), of(b)) == whole
    assert merged(of(a), merged(of(b), of(c))) == merged(merged(of(a), of(b)), of(c)) == whole


@given(SAMPLES)
def test_merging_with_an_empty_one_changes_nothing(values: list[int]) -> None:
    assert merged(of(values), Histogram()) == merged(Histogram(), of(values)) == of(values)


@given(st.lists(VALUES, min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_lies_in_the_bin_of_the_value_of_that_rank(values: list[int], q: float) -> None:
    exact = sorted(values)[max(1, math.ceil(round(q * len(values), 6))) - 1]
    found = of(values).quantile(q)
    assert exact <= found <= bin_high(bin_low(exact))


@given(st.lists(VALUES, min_size=1, max_size=50))
def test_the_highest_quantile_is_the_maximum(values: list[int]) -> None:
    histogram = of(values)
    assert histogram.quantile(1.0) == histogram.max == max(values)
    assert histogram.min == min(values)
    assert histogram.sum == sum(values)


def test_an_empty_histogram_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="no quantiles"):
        Histogram().quantile(0.5)


@given(SAMPLES, VALUES)
def test_counts_beyond_a_limit_bracket_the_exact_count(values: list[int], limit: int) -> None:
    certain, undecided = of(values).count_at_or_above(limit)
    exact = sum(value >= limit for value in values)
    assert certain <= exact <= certain + undecided
    assert undecided <= sum(bin_low(value) == bin_low(limit) for value in values)
    if bin_low(limit) == limit:
        assert (certain, undecided) == (exact, 0)


@given(SAMPLES)
def test_plain_form_round_trip(values: list[int]) -> None:
    assert Histogram.from_plain(of(values).to_plain()) == of(values)


def test_a_plain_form_whose_count_is_wrong_is_refused() -> None:
    plain = of([1, 2, 3]).to_plain()
    plain[0] = 4
    with pytest.raises(ValueError, match="found 3 values in the bins, expected 4"):
        Histogram.from_plain(plain)


@given(SAMPLES)
def test_encoding_keeps_every_bin(values: list[int]) -> None:
    back = Histogram.decode(of(values).encode())
    assert back.bins == of(values).bins
    assert back.count == len(values)


def test_a_negative_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="found the duration -1 ns"):
        of([5, -1])


def written(intervals: list[Interval]) -> str:
    file = io.StringIO()
    write_log_header(file, "itl", 1_790_000_000.25)
    for interval in intervals:
        write_interval(file, interval)
    return file.getvalue()


INTERVALS = st.lists(
    st.builds(
        Interval,
        st.text(st.characters(codec="utf-8"), max_size=8),
        st.integers(1, 2 * 10**9),
        SAMPLES.map(of),
    ),
    max_size=4,
)


@given(INTERVALS)
def test_an_interval_log_keeps_scenario_second_and_bins(intervals: list[Interval]) -> None:
    back = list(read_log(io.StringIO(written(intervals))))
    assert [(one.scenario, one.second, one.histogram.bins) for one in back] == [
        (tag_of(one.scenario), one.second, one.histogram.bins) for one in intervals
    ]


def test_the_log_is_read_by_hdrhistograms_own_reader(tmp_path: Path) -> None:
    intervals = [
        Interval("chat, long", 1_790_000_000, of([8_000_000, 8_000_001, 25_000_000])),
        Interval("short", 1_790_000_001, of([1, 2047, 2048, 3_600 * 10**9])),
    ]
    path = tmp_path / "itl.hlog"
    path.write_text(written(intervals), encoding="utf-8")
    reader = HistogramLogReader(str(path), HdrHistogram(1, HIGHEST_NS, 3))
    for interval in intervals:
        theirs = reader.get_next_interval_histogram()
        assert theirs.get_tag() == tag_of(interval.scenario)
        assert theirs.get_start_time_stamp() == interval.second * 1000
        assert theirs.get_total_count() == interval.histogram.count
        for percentile in (10, 50, 99, 100):
            ours = interval.histogram.quantile(percentile / 100)
            assert bin_low(int(theirs.get_value_at_percentile(percentile))) == bin_low(ours)
    assert reader.get_next_interval_histogram() is None
    reader.input_file.close()


def test_a_log_that_another_program_wrote_is_read() -> None:
    theirs = HdrHistogram(1, HIGHEST_NS, 3)
    for value in (900, 5_000_000, 5_000_000, 80_000_000):
        theirs.record_value(value)
    line = f"1790000000.500,1.000,80.0,{theirs.encode().decode()}\n"
    (interval,) = read_log(io.StringIO('#comment\n"StartTimestamp"\n\n' + line))
    assert interval.scenario == ""
    assert interval.second == 1_790_000_000
    assert interval.histogram.bins == of([900, 5_000_000, 5_000_000, 80_000_000]).bins


def test_a_line_that_is_no_interval_is_named() -> None:
    text = written([Interval("chat", 5, of([1]))]) + "Tag=chat,6.000,1.000,0.1,HISTFnonsense\n"
    with pytest.raises(ValueError, match=r"^line 6: not an HdrHistogram interval"):
        list(read_log(io.StringIO(text)))
