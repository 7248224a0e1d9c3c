"""The fast way through requests.csv gives what the slow one gives, and leaves out what it leaves out."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import table
from analysis.record import MAYBE, TEXT, RecordError, RequestRecord, Unread, check_header, read_rows
from tests.test_record import RECORDS, plain_record, written

Rows = list[tuple[object, ...]]
Found = tuple[Rows, str]
"""The rows in due order, and what was said of those that are none."""


def slowly(data: bytes) -> Found:
    """Read row by row what `table.read` reads, by the standard library's csv and int."""
    header, end, rest = (part.decode("utf-8", "replace") for part in data.partition(b"\n"))
    check_header(io.StringIO(header + end, newline=""))
    found = list(read_rows(io.StringIO(rest, newline=""), 1))
    if found and not data.endswith(b"\n") and isinstance(found[-1], Unread):
        found.pop()
    unread = [one for one in found if isinstance(one, Unread)]
    rows = [one for one in found if isinstance(one, RequestRecord)]
    if unread and not rows:
        raise RecordError(f"{unread[0]}; of {len(unread):,} rows none can be read")
    said = f"{len(unread)}, first {unread[0]}" if unread else ""
    return sorted(map(tuple, rows), key=lambda row: (row[3], row[0], row[2])), said


def quickly(path: Path, data: bytes) -> Found:
    path.write_bytes(data)
    frame, unread, first = table.read(path)
    for name in RequestRecord._fields:
        words = "str" if name == "detail" else "category"
        kind = words if name in TEXT else "float64" if name in MAYBE else "int64"
        assert str(frame[name].dtype) == kind
    columns = [frame[name].tolist() for name in RequestRecord._fields]
    rows = [tuple(None if cell != cell else cell for cell in row) for row in zip(*columns, strict=True)]  # noqa: PLR0124
    return rows, f"{unread}, first {first}" if unread else ""


def both(path: Path, data: bytes) -> str:
    """Read both ways; both give the same table, and say the same of what is none, which is returned."""
    expected, found = (_outcome(read) for read in (lambda: slowly(data), lambda: quickly(path, data)))
    assert found == expected
    return expected if isinstance(expected, str) else expected[1]


def _outcome(read: Callable[[], Found]) -> Found | str:
    try:
        return read()
    except RecordError as error:
        return str(error)


HOSTILE = st.sampled_from(
    [
        "",
        "chat",
        "007",
        "1e3",
        'a"b',
        '"',
        '""',
        "a,b",
        "a\nb",
        "x\r\ny",
        "\r",
        ",\n",
        "é",
        "\N{SNOWMAN}",
        "\x00",
        "\x01",
        "\x010",
    ]
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("table") / "requests.csv"


@given(
    st.lists(
        st.builds(lambda r, d, s: r._replace(detail=d, scenario=s), RECORDS, HOSTILE, HOSTILE), max_size=5
    )
)
@settings(max_examples=60)
def test_what_was_written_is_read_the_same_both_ways(file: Path, records: list[RequestRecord]) -> None:
    assert both(file, written(records).encode()) == ""


@given(st.lists(RECORDS, min_size=1, max_size=4), st.data())
@settings(max_examples=120)
def test_a_file_that_was_damaged_anywhere_is_the_same_both_ways(
    file: Path, records: list[RequestRecord], data: st.DataObject
) -> None:
    whole = written([record._replace(detail="a,b", worker="w") for record in records]).encode()
    at = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(at, min(len(whole), at + 40)))
    change = data.draw(
        st.sampled_from([b"", b"\n", b",", b'"', b"\r", b" ", b"x", b"1.5", b"1e3", b"\xff", b",,"])
    )
    both(file, whole[:at] + change + whole[end:])


@pytest.mark.parametrize(
    "cell",
    [
        "1.0",
        "1e3",
        "nan",
        "inf",
        "True",
        "0x10",
        "x",
        "1_000",
        " 7",
        "+7",
        "\N{ARABIC-INDIC DIGIT SEVEN}",
        "-0",
    ],
)
@pytest.mark.parametrize("column", ["chunks", "sent_ns"])
def test_a_cell_that_looks_like_a_number_is_the_same_both_ways(file: Path, column: str, cell: str) -> None:
    text = written([plain_record()._replace(**{column: "@@"}), plain_record(1)])
    both(file, text.replace("@@", cell).encode())


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_a_number_beyond_64_bits_is_no_row(file: Path, number: int) -> None:
    text = written([plain_record(), plain_record(1, chunks=number), plain_record(2)])
    expected = f"1, first line 3: found chunks = {number}, expected a number of 64 bits"
    assert both(file, text.encode()) == expected


def test_blocks_end_between_records(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    details = ["", "plain", 'a "quoted", text', "two\nlines\n", "x" * 700]
    records = [plain_record(i, detail=details[i % 5], worker=f"w{i % 3}") for i in range(160)]
    data = written(records).encode()
    for size in (256, 4096):
        monkeypatch.setattr(table, "_BLOCK_BYTES", size)
        assert both(file, data) == ""
        assert both(file, data[:-5]) == ""
        broken = data.replace(b"\nrun-1,w1,chat,121,", b"\nrun-1,w1,chat,three,")
        assert both(file, broken).startswith("1, first line ")


def test_plain_files_never_take_the_slow_way(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> None:
        raise AssertionError("row by row")

    records = [
        plain_record(i, detail=['{"code": 503, "message": "no"}', "", "é\nb"][i % 3]) for i in range(50)
    ]
    monkeypatch.setattr(table, "read_rows", slow)
    rows, _ = quickly(file, written(records).encode())
    assert [row[-1] for row in rows] == [record.detail for record in records]


def test_requests_are_in_due_order_whatever_the_files(file: Path) -> None:
    rng = np.random.default_rng(4)
    records = [
        plain_record(
            i, due_unix_ns=int(rng.integers(20)), worker=f"w{rng.integers(3)}", request=int(rng.integers(9))
        )
        for i in range(300)
    ]
    assert both(file, written(records).encode()) == ""


def test_a_row_that_is_none_costs_no_other_its_place_on_the_fast_way(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_BLOCK_BYTES", 1024)
    records = [plain_record(i) for i in range(200)]
    lines = written(records).splitlines(keepends=True)
    lines[50] = lines[50].replace(",49,", ",nan,")
    lines[150] = lines[150].replace(",ok,", ",fine,")
    slow: list[str] = []
    read = table.read_rows
    monkeypatch.setattr(
        table, "read_rows", lambda text, at: read((slow.append(line) or line for line in text), at)
    )
    rows, said = quickly(file, "".join(lines).encode())
    assert len(rows) == 198
    assert said == "2, first line 51: found request = 'nan', expected a whole number"
    assert 0 < len(slow) < 40, "two blocks of a dozen rows"


@pytest.mark.parametrize("size", [512, 1 << 19])
def test_a_quote_that_is_never_closed_costs_its_own_row_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(table, "_BLOCK_BYTES", size)
    lines = written([plain_record(i) for i in range(1500)]).splitlines(keepends=True)
    lines[7] = lines[7].replace("chat", '"chat')
    rows, said = quickly(file, "".join(lines).encode())
    assert [row[2] for row in rows] == [i for i in range(1500) if i != 6]
    assert said.startswith("1, first line 8: ")


def test_a_file_of_which_nothing_can_be_read_is_an_error(file: Path) -> None:
    text = written([plain_record(), plain_record(1)]).replace("chat", "chat,chat")
    assert both(file, text.encode()) == "line 2: found 28 cells, expected 27; of 2 rows none can be read"


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8))
def test_whole_numbers_of_any_length_are_read(file: Path, numbers: list[int]) -> None:
    rows, said = quickly(
        file, written([plain_record(i, clock_jump_ns=n) for i, n in enumerate(numbers)]).encode()
    )
    assert [row[23] for row in rows] == numbers
    assert not said
