"""Traces: read by name, their clocks checked, their peaks at the scale of an autoscaler."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.demand import DemandError, Trace, read_trace, steps


def write(tmp_path: Path, text: str, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def trace_of(at_s: list[float]) -> Trace:
    return Trace("t", np.array(at_s) - at_s[0], None, "s", None, None, 0)


AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2225670,879,55
"""
BURST = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,a,1.5,ChatGPT,472,18,490,Conversation log
45,b,0.0,ChatGPT,1087,0,1087,API log
118.5,c,9.5,GPT-4,417,276,693,Conversation log
"""


def test_azures_dates_with_seven_digits(tmp_path: Path) -> None:
    found = read_trace(write(tmp_path, AZURE))
    assert found.at_s.tolist() == pytest.approx([0.0, 4.314579, 4.541977], abs=1e-9)
    assert (found.unit, found.grid_s) == ("date", None)
    assert found.input_tokens == pytest.approx((374 + 396 + 879) / 3)
    assert found.output_tokens == pytest.approx((44 + 109 + 55) / 3)


def test_burstgpts_columns_are_found_by_name_and_a_failure_is_an_arrival(tmp_path: Path) -> None:
    found = read_trace(write(tmp_path, BURST))
    assert found.at_s.tolist() == [0.0, 40.0, 113.5]
    assert (found.unit, found.failed) == ("s", 1)
    assert found.input_tokens == pytest.approx((472 + 1087 + 417) / 3)
    assert found.output_tokens == pytest.approx((18 + 276) / 2)


def test_mooncakes_milliseconds_and_their_grid_of_three_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 40, 400)) * 3000
    rows = [
        f'{{"timestamp": {t}, "input_length": 700, "output_length": 50, "hash_ids": [1, 2]}}\n' for t in times
    ]
    found = read_trace(write(tmp_path, "".join(rows), "trace.jsonl"))
    assert (found.unit, found.grid_s) == ("ms", 3.0)
    assert (found.input_tokens, found.output_tokens) == (700.0, 50.0)
    assert len(np.unique(found.at_s)) == 400, "spread within their step"
    assert np.all(np.diff(found.at_s) > 0)
    assert found.peak_per_s(1.0) is None
    assert found.peak_per_s(10.0) is not None
    with pytest.raises(DemandError, match=r"grid of 3 s, expected a reaction time that is no shorter"):
        steps(found, 1.0)


def test_a_column_may_say_its_unit(tmp_path: Path) -> None:
    found = read_trace(write(tmp_path, "out_tok,Timestamp (ms),timestamp_ms\n1,x,1000\n3,x,2500\n"))
    assert found.at_s.tolist() == [0.0, 1.5]
    assert found.output_tokens == 2.0


def test_exact_times_are_no_grid(tmp_path: Path) -> None:
    found = read_trace(write(tmp_path, "timestamp\n" + "\n".join(str(i) for i in range(100))))
    assert found.grid_s is None, "one request a second, each at a time of its own"
    assert found.peak_per_s(10.0) == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found an empty file"),
        ("timestamp\n", "found no requests"),
        ("when,tokens\n1,2\n", "found when, tokens; expected a column timestamp"),
        ("timestamp\n1\n2\n1.5\n", "line 4: found 1.5 after 2.0, expected times that never go back"),
        (AZURE + AZURE.splitlines()[1] + "\n", "line 5: found 2023-11-16 18:15:46.6805900 after 2023-11-16"),
        ("timestamp\n1\nsoon\n", "line 3: found timestamp = soon, expected a number or a date"),
        ("timestamp\n1\n\n3,4\n", "not a table"),
        ("timestamp\n1\nnan\n3\n", "line 3: found timestamp = nan"),
        ("timestamp\n5\n5\n5\n", "found all requests at 5, expected a stretch of time"),
        ("timestamp\n1700000000000\n1700000001000\n", "as s, expected less: name the column timestamp_ms"),
        ("timestamp,output_tokens\n1,two\n2,3\n", "output_tokens: found a text, expected numbers of tokens"),
        ("timestamp,output_tokens\n1,-2\n2,3\n", "output_tokens: found -2, expected numbers of tokens"),
    ],
)
def test_what_is_no_trace_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DemandError) as refused:
        read_trace(write(tmp_path, text))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "trace.csv" in str(refused.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DemandError, match=r"none.csv: cannot be read \(No such file or directory\)"):
        read_trace(tmp_path / "none.csv")


def test_a_trace_shorter_than_the_reaction_time_is_refused() -> None:
    with pytest.raises(DemandError, match="found 2 s, expected at least one reaction time of 60 s"):
        steps(trace_of([0.0, 1.0, 2.0]), 60)


TIMES = st.lists(st.floats(0, 1000), min_size=3, max_size=200, unique=True).map(sorted)


@given(TIMES, st.floats(1, 100))
def test_the_peak_is_the_highest_count_in_any_window(times: list[float], scale_s: float) -> None:
    trace = trace_of(times)
    if trace.duration_s < scale_s:
        return
    by_hand = max(int(np.sum((trace.at_s > t - scale_s) & (trace.at_s <= t))) for t in trace.at_s) / scale_s
    assert trace.peak_per_s(scale_s) == pytest.approx(by_hand)
    cut = steps(trace, scale_s)
    assert max(step.peak_per_s for step in cut) == pytest.approx(by_hand), "none is lost between two steps"
    assert sum(step.arrivals for step in cut) == len(times)
    assert all(step.peak_per_s >= step.arrivals / scale_s - 1e-9 for step in cut)
