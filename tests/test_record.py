import io
from itertools import starmap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.record import OUTCOMES, RecordError, RequestRecord, read_records, write_records

NAME = st.text(st.characters(codec="utf-8"), max_size=12)
NS = st.integers(0, 10**14)
COUNT = st.integers(0, 10**6)
MAYBE = st.none() | NS

RECORDS = st.builds(
    RequestRecord,
    worker=NAME,
    scenario=NAME,
    request=COUNT,
    due_unix_ns=st.integers(0, 2**62),
    sent_ns=MAYBE,
    connect_ns=NS,
    first_ns=MAYBE,
    visible_ns=MAYBE,
    last_ns=MAYBE,
    end_ns=NS,
    prompt_tokens=st.none() | COUNT,
    output_tokens=st.none() | COUNT,
    chunks=COUNT,
    gaps=COUNT,
    gap_sum_ns=NS,
    gap_max_ns=NS,
    reads=COUNT,
    coalesced=COUNT,
    lag_max_ns=NS,
    body_bytes=COUNT,
    status=st.none() | st.integers(100, 599),
    connection=st.sampled_from(("new", "reused", "retried")),
    clock=st.sampled_from(("kernel", "user")),
    clock_jump_ns=st.integers(-(10**12), 10**12),
    outcome=st.sampled_from(OUTCOMES),
    detail=NAME,
)


def written(records: list[RequestRecord], run: str = "run-1") -> str:
    file = io.StringIO(newline="")
    write_records(file, run, records, header=True)
    return file.getvalue()


def read(text: str) -> list[RequestRecord]:
    return list(read_records(io.StringIO(text, newline="")))


@given(st.lists(RECORDS, max_size=5), NAME)
def test_what_was_written_is_read(records: list[RequestRecord], run: str) -> None:
    assert read(written(records, run)) == records


@given(st.lists(RECORDS, min_size=1, max_size=3))
@settings(max_examples=30)
def test_hostile_details_survive(records: list[RequestRecord]) -> None:
    hostile = 'a,"b"\r\nc\x00\t\N{SNOWMAN};=1+1'
    records = [record._replace(detail=hostile, scenario=hostile) for record in records]
    assert read(written(records)) == records


def plain_record(number: int = 0, **changes: Any) -> RequestRecord:
    texts = {
        "worker": "w1",
        "scenario": "chat",
        "connection": "new",
        "clock": "kernel",
        "outcome": "ok",
        "detail": "",
    }
    values = {name: texts.get(name, number) for name in RequestRecord._fields}
    return RequestRecord(**{**values, **changes})


def test_a_cut_off_last_line_is_left_out() -> None:
    records = list(starmap(plain_record, [(i,) for i in range(3)]))
    text = written(records)
    start_of_last = text[:-1].rindex("\n") + 1
    complete = len(text.rstrip("\n"))
    for end in range(start_of_last, len(text)):
        found = read(text[:end])
        assert found[:2] == records[:2]
        if end < complete - len(",ok,"):  # later cuts leave a line whose last two cells are in doubt
            assert len(found) == 2, text[start_of_last:end]


def test_a_line_cut_in_its_outcome_is_left_out() -> None:
    text = written([plain_record(), plain_record(outcome="first_token_timeout", detail="none in 10 s")])
    assert len(read(text[: text.rindex("_timeout") + 2])) == 1


def test_a_broken_line_before_the_last_is_an_error_with_its_line() -> None:
    lines = written([plain_record(i) for i in range(3)]).splitlines(keepends=True)
    lines[2] = "run-1,w1,chat\n"
    with pytest.raises(RecordError, match=r"^line 3: found 3 cells, expected 27$"):
        read("".join(lines))


def test_a_cell_of_the_wrong_kind_is_an_error() -> None:
    lines = written([plain_record(i) for i in range(3)]).splitlines(keepends=True)
    lines[1] = lines[1].replace("run-1,w1,chat,0", "run-1,w1,chat,zero")
    with pytest.raises(RecordError, match=r"^line 2: .*zero"):
        read("".join(lines))


@pytest.mark.parametrize("column", ["due_unix_ns", "end_ns", "chunks", "gaps"])
def test_a_figure_that_every_request_has_may_not_be_empty(column: str) -> None:
    text = written([plain_record()._replace(**{column: None}), plain_record(1)])
    with pytest.raises(RecordError, match=rf"^line 2: found no {column}"):
        read(text)


def test_an_unknown_outcome_is_an_error() -> None:
    with pytest.raises(RecordError, match=r"^line 2: found the outcome 'fine'"):
        read(written([plain_record(outcome="fine"), plain_record(1)]))


def test_other_columns_are_an_error() -> None:
    text = written([plain_record()]).replace("due_unix_ns", "due_ns", 1)
    with pytest.raises(RecordError, match=r"^line 1: found columns .*due_ns"):
        read(text)
    with pytest.raises(RecordError, match=r"^line 1: found columns None"):
        read("")
