"""The fast way through requests.csv gives what the slow one gives, and fails where it fails."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import table
from analysis.record import MAYBE, TEXT, RecordError, RequestRecord, read_records
from tests.test_record import RECORDS, plain_record, written

Rows = list[tuple[object, ...]]


def slowly(data: bytes) -> Rows:
    """Read row by row what `table.read` reads, by the standard library's csv and int; in due order."""
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="replace", newline="")
    return sorted(map(tuple, read_records(text)), key=lambda row: (row[3], row[0], row[2]))


def quickly(path: Path, data: bytes) -> Rows:
    path.write_bytes(data)
    frame = table.read(path)
    for name in RequestRecord._fields:
        words = "str" if name == "detail" else "category"
        kind = words if name in TEXT else "float64" if name in MAYBE else "int64"
        assert str(frame[name].dtype) == kind
    columns = [frame[name].tolist() for name in RequestRecord._fields]
    return [tuple(None if cell != cell else cell for cell in row) for row in zip(*columns, strict=True)]  # noqa: PLR0124


def both(path: Path, data: bytes) -> str:
    """Read both ways; both give the same table, or the same error, which is returned."""
    expected, found = (_outcome(read) for read in (lambda: slowly(data), lambda: quickly(path, data)))
    assert found == expected
    return expected if isinstance(expected, str) else ""


def _outcome(read: Callable[[], Rows]) -> Rows | str:
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
def test_a_number_beyond_64_bits_is_an_error_with_its_line(file: Path, number: int) -> None:
    text = written([plain_record(), plain_record(1, chunks=number), plain_record(2)])
    assert both(file, text.encode()) == f"line 3: found chunks = {number}, expected a number of 64 bits"


def test_blocks_end_between_records(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    details = ["", "plain", 'a "quoted", text', "two\nlines\n", "x" * 700]
    records = [plain_record(i, detail=details[i % 5], worker=f"w{i % 3}") for i in range(160)]
    data = written(records).encode()
    for size in (256, 4096):
        monkeypatch.setattr(table, "_BLOCK_BYTES", size)
        assert both(file, data) == ""
        assert both(file, data[:-5]) == ""
        broken = data.replace(b"\nrun-1,w1,chat,121,", b"\nrun-1,w1,chat,three,")
        assert both(file, broken).startswith("line ")


def test_plain_files_never_take_the_slow_way(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> None:
        raise AssertionError("row by row")

    records = [
        plain_record(i, detail=['{"code": 503, "message": "no"}', "", "é\nb"][i % 3]) for i in range(50)
    ]
    monkeypatch.setattr(table, "read_rows", slow)
    assert [row[-1] for row in quickly(file, written(records).encode())] == [
        record.detail for record in records
    ]


def test_requests_are_in_due_order_whatever_the_files(file: Path) -> None:
    rng = np.random.default_rng(4)
    records = [
        plain_record(
            i, due_unix_ns=int(rng.integers(20)), worker=f"w{rng.integers(3)}", request=int(rng.integers(9))
        )
        for i in range(300)
    ]
    assert both(file, written(records).encode()) == ""
