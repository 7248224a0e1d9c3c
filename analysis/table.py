"""requests.csv as a table: a million rows in seconds, with the checks and the errors of `record`.

The file is read in blocks of whole records. A block in which every cell is plain goes through pandas' parser
at once; from the first block that holds anything else, `record` reads the rest row by row, and says what is
wrong with it.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from .record import MAYBE, OUTCOMES, TEXT, RequestRecord, read_records, read_rows

COLUMNS = RequestRecord._fields
_NUMBERS = tuple(name for name in COLUMNS if name not in TEXT)
_WORDS = tuple(name for name in TEXT if name != "detail")
_BLOCK_BYTES = 1 << 23
_SLOW_ROWS = 50_000

_HEADER = ",".join(("run", *COLUMNS)).encode() + b"\n"
_QUOTED = re.compile(rb'"((?:[^"]++|"")*+)"')
_SPECIAL = re.compile(rb'[,"\r\n]')
_MARK = b"\x01"  # stands for a quoted cell while the others are parsed
_LINE = b"," * len(COLUMNS) + b"\n"  # what is left of a line without its cells
_CELLS = bytes(set(range(256)) - set(b",\n"))
_NEVER = -(2**63)
_NONE = str(_NEVER).encode()  # stands for an empty cell meanwhile

_Columns = dict[str, Any]
"""A block's columns by name: int64, float64 with NaN, categories, or texts."""


def read(path: Path) -> pd.DataFrame:
    """Read what `record.write_records` wrote, in due order; a last line that was cut off is left out.

    Numbers are int64; those that may be missing are float64 with NaN; texts are categories, all but `detail`.
    Raises OSError, and RecordError where a column is missing or a cell is not of its kind.
    """
    with path.open("rb") as file:
        blocks = list(_blocks(file))
    columns: _Columns = {name: _joined(name, [block.pop(name) for block in blocks]) for name in COLUMNS}
    order = _due_order(columns)
    for name in COLUMNS:
        columns[name] = columns[name][order]
    return pd.DataFrame(columns, copy=False)


def _joined(name: str, parts: list[Any]) -> Any:
    if name in _WORDS:
        return union_categoricals(parts, sort_categories=True)
    whole = np.concatenate(parts)
    return pd.array(whole, dtype="str") if name in TEXT else whole


def _due_order(columns: _Columns) -> Any:
    due = columns["due_unix_ns"]
    order = np.argsort(due, kind="stable")
    if len(due) and (np.diff(due[order]) == 0).any():
        order = np.lexsort((columns["request"], columns["worker"].codes, due))
    return order


def _blocks(file: IO[bytes]) -> Iterator[_Columns]:
    """Yield the columns of block after block, at least one."""
    if file.readline() != _HEADER:
        file.seek(0)
        yield from _slow(read_records(_text(file)))
        return
    lines, rest, at = 1, b"", file.tell()
    yield _columns([])
    while chunk := file.read(_BLOCK_BYTES):
        rest += chunk
        end = _last_end(rest)
        block = _fast(rest[:end]) if end else None
        if end and block is None:
            break
        if block is not None:
            yield block
            lines, at, rest = lines + rest.count(b"\n", 0, end), at + end, rest[end:]
    if rest:
        file.seek(at)
        yield from _slow(read_rows(_text(file), lines))


def _text(file: IO[bytes]) -> IO[str]:
    return io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")


def _last_end(data: bytes) -> int:
    """Return where the last record ends that is whole: behind a line's end that is in no quoted cell."""
    end = data.rfind(b"\n") + 1
    inside = data.count(b'"', 0, end) % 2
    while end and inside:
        earlier = data.rfind(b"\n", 0, end - 1) + 1
        inside ^= data.count(b'"', earlier, end) % 2
        end = earlier
    return end


def _slow(records: Iterator[RequestRecord]) -> Iterator[_Columns]:
    found = list(islice(records, _SLOW_ROWS))
    yield _columns(found)
    while found := list(islice(records, _SLOW_ROWS)):
        yield _columns(found)


def _columns(records: Sequence[RequestRecord]) -> _Columns:
    cells = zip(*records, strict=True) if records else iter([()] * len(COLUMNS))
    made: _Columns = {}
    for name, own in zip(COLUMNS, cells, strict=True):
        if name in _WORDS:
            made[name] = pd.Categorical(pd.array(own, dtype="str"))
        elif name in TEXT:
            made[name] = np.array(own, dtype=object)
        elif name in MAYBE:
            made[name] = np.array([np.nan if cell is None else cell for cell in own], dtype=np.float64)
        else:
            made[name] = np.array(own, dtype=np.int64)
    return made


def _fast(block: bytes) -> _Columns | None:
    """Parse whole records; None where a cell is not as plain as it should be."""
    if b"\x00" in block or _MARK in block or _NONE in block:
        return None
    if not block.isascii():
        block = block.decode("utf-8", "replace").encode()
    cells = {_NONE.decode(): ""}
    if b'"' in block:
        block = _without_quotes(block, cells)
    if b'"' in block or b"\r" in block:
        return None
    if not _is_square(block):
        return None
    try:
        frame = pd.read_csv(
            io.BytesIO(_without_empty(block)),
            names=["run", *COLUMNS],
            usecols=list(COLUMNS),
            index_col=False,
            dtype=dict.fromkeys(TEXT, object),  # numbers are not asked for: for int64 it would take 1.0 as 1
            low_memory=False,
            na_filter=False,
            quoting=csv.QUOTE_NONE,  # none are left
            skip_blank_lines=False,
            engine="c",
        )
    except (ValueError, OverflowError):
        return None
    return _checked(frame, cells)


def _is_square(block: bytes) -> bool:
    """Say whether every line has as many cells as there are columns, and the last one its end."""
    marks = block.translate(None, _CELLS)
    lines, rest = divmod(len(marks), len(_LINE))
    return not rest and block.endswith(b"\n") and marks == _LINE * lines


def _without_empty(block: bytes) -> bytes:
    """Fill the empty cells between two commas."""
    comma = np.frombuffer(block, dtype=np.uint8) == ord(",")
    places = np.flatnonzero(comma[:-1] & comma[1:]) + 1
    ends = [*places.tolist(), len(block)]
    return _NONE.join(block[start:end] for start, end in zip([0, *ends], ends, strict=False))


def _without_quotes(block: bytes, cells: dict[str, str]) -> bytes:
    """Take the quotes off cells that do without; put marks in place of the others, which go into `cells`."""
    known: dict[bytes, bytes] = {}

    def plain(found: re.Match[bytes]) -> bytes:
        before, behind = found.start() - 1, found.end()
        if (before >= 0 and block[before] not in b",\n") or block[behind] not in b",\n":
            return found[0]  # no cell, so it stays and is noticed
        text = found[1]
        if not _SPECIAL.search(text):
            return text
        if text not in known:
            known[text] = _MARK + str(len(known)).encode()
            cells[known[text].decode()] = text.replace(b'""', b'"').decode()
        return known[text]

    return _QUOTED.sub(plain, block)


def _checked(frame: pd.DataFrame, cells: dict[str, str]) -> _Columns | None:
    if any(frame[name].dtype != np.int64 for name in _NUMBERS):
        return None
    made: _Columns = {name: frame[name].to_numpy() for name in _NUMBERS}
    for name in _WORDS:
        codes, words = pd.factorize(frame[name].to_numpy())
        words = pd.Index([cells.get(word, word) for word in words], dtype="str")
        made[name] = pd.Categorical.from_codes(codes, words)
    made["detail"] = frame.detail.to_numpy(copy=True)
    marked = np.flatnonzero(frame.detail.isin(list(cells)))
    made["detail"][marked] = [cells[text] for text in made["detail"][marked]]
    if not set(made["outcome"].categories) <= set(OUTCOMES):
        return None
    for name in _NUMBERS:
        missing = made[name] == _NEVER
        if name in MAYBE:
            made[name] = np.where(missing, np.nan, made[name].astype(np.float64))
        elif missing.any():
            return None
    return made
