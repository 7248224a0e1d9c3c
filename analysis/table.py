"""requests.csv as a table: a million rows in a second or two, with the checks of `record`.

The file is read in blocks of whole records. A block in which every cell is plain is parsed at once
(`plain_cells`); one that holds anything else, row by row, by `record`. A row that is none is left out, and
counted: what is whole is evidence, and whoever judges it must know that there was more.
"""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .plain_cells import Cells, find, integers, words
from .record import MAYBE, OUTCOMES, TEXT, RecordError, RequestRecord, Unread, check_header, read_rows

COLUMNS = RequestRecord._fields
_NUMBERS = tuple(name for name in COLUMNS if name not in TEXT)
_WORDS = tuple(name for name in TEXT if name != "detail")
_PLACE = {name: place for place, name in enumerate(COLUMNS, 1)}  # behind the run's id
_BLOCK_BYTES = 1 << 19
_KEPT_BYTES = 31 << 20
"""glibc keeps freed memory for itself in pieces up to the largest that was ever freed, below 32 MiB. Else the
arrays of each block would go back to the kernel and come again page by page, over a gigabyte in all."""

_KINDS = {name: np.int32 if name in TEXT else np.float64 if name in MAYBE else np.int64 for name in COLUMNS}
_SHORTEST_ROW = len(COLUMNS) + len(_NUMBERS) - len(MAYBE) + 1  # commas, digits, and the line's end
_QUOTED = re.compile(rb'"((?:[^"]++|"")*+)"')
_SPECIAL = re.compile(rb'[,"\r\n]')
_MARK = b"\x01"  # stands for a quoted cell while the others are parsed

_Columns = dict[str, NDArray[Any]]
"""A block's columns by name: int64, float64 with NaN, or the numbers of texts."""

_Known = dict[str, dict[str, int]]
"""The texts of each column, numbered in the order in which they were met."""


class Table(NamedTuple):
    """The rows that are whole, in due order, and how many more are none, with the first of those."""

    frame: pd.DataFrame
    unread: int
    first_unread: Unread | None


def read(path: Path) -> Table:
    """Read what `record.write_records` wrote; a last line that was cut off is left out and not counted.

    Numbers are int64; those that may be missing are float64 with NaN; texts are categories, all but `detail`.
    Raises OSError, and RecordError where a column is missing or not one row is whole.
    """
    unread: list[Unread] = []
    known: _Known = {name: {} for name in TEXT}
    np.empty(_KEPT_BYTES, np.uint8)  # and freed at once
    most = path.stat().st_size // _SHORTEST_ROW + 1  # memory that nobody writes to costs nothing
    columns: _Columns = {name: np.empty(most, _KINDS[name]) for name in COLUMNS}
    rows = 0
    with path.open("rb") as file:
        for block in _blocks(file, known, unread):
            begin, rows = rows, rows + len(block["due_unix_ns"])
            for name in COLUMNS:
                columns[name][begin:rows] = block[name]
    if unread and not rows:
        raise RecordError(f"{unread[0]}; of {len(unread):,} rows none can be read")
    whole: dict[str, Any] = {name: columns.pop(name)[:rows] for name in COLUMNS}
    whole |= {name: _renumbered(whole[name], known[name]) for name in TEXT}
    order = _due_order(whole)
    for name in COLUMNS:
        own = whole[name][order]
        whole[name] = _texts(name, own, sorted(known[name])) if name in TEXT else own
    return Table(pd.DataFrame(whole, copy=False), len(unread), unread[0] if unread else None)


def _renumbered(codes: NDArray[Any], known: dict[str, int]) -> NDArray[Any]:
    """Return what numbers the texts have in their order."""
    place = np.empty(len(known), dtype=codes.dtype)
    place[[known[text] for text in sorted(known)]] = np.arange(len(known))
    renumbered: NDArray[Any] = place[codes]
    return renumbered


def _texts(name: str, codes: NDArray[Any], texts: list[str]) -> Any:
    if name in _WORDS:
        return pd.Categorical.from_codes(codes, pd.Index(texts, dtype="str"))
    return pd.array(np.array([*texts, None], dtype=object)[codes], dtype="str")


def _due_order(columns: _Columns) -> NDArray[Any]:
    """Return the places of the rows in due order."""
    due = columns["due_unix_ns"]
    order = np.argsort(due, kind="stable")
    if len(due) and (np.diff(due[order]) == 0).any():
        order = np.lexsort((columns["request"], columns["worker"], due))
    return order


def _blocks(file: IO[bytes], known: _Known, unread: list[Unread]) -> Iterator[_Columns]:
    """Yield the columns of block after block; rows that are none go into `unread`."""
    check_header(_text(file.readline()))
    lines, rest = 1, b""
    while chunk := file.read(_BLOCK_BYTES):
        rest += chunk
        end = _last_end(rest)
        if not end and len(rest) > _BLOCK_BYTES:  # no record is so long: a quote that is never closed
            end = rest.rfind(b"\n") + 1
        if end:
            yield _fast(rest[:end], known) or _slow(rest[:end], known, lines, unread)
            lines, rest = lines + _count(b"\n", rest[:end]), rest[end:]
    if rest:
        yield _slow(rest, known, lines, unread)


def _text(data: bytes) -> IO[str]:
    return io.StringIO(data.decode("utf-8", "replace"), newline="")


def _slow(block: bytes, known: _Known, lines: int, unread: list[Unread]) -> _Columns:
    """Read rows one by one; what is behind the last line's end was cut off, or is not written yet."""
    found = list(read_rows(_text(block), lines))
    if found and not block.endswith(b"\n") and isinstance(found[-1], Unread):
        found.pop()
    unread += [one for one in found if isinstance(one, Unread)]
    return _columns([one for one in found if isinstance(one, RequestRecord)], known)


def _count(byte: bytes, data: bytes) -> int:
    """Return how often a byte is in it: `bytes.count` takes ten times as long where there are many."""
    return int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == ord(byte)))


def _last_end(data: bytes) -> int:
    """Return where the last record ends that is whole: behind a line's end that is in no quoted cell."""
    end = data.rfind(b"\n") + 1
    inside = _count(b'"', data[:end]) % 2
    while end and inside:
        earlier = data.rfind(b"\n", 0, end - 1) + 1
        inside ^= data.count(b'"', earlier, end) % 2
        end = earlier
    return end


def _columns(records: Sequence[RequestRecord], known: _Known) -> _Columns:
    cells = zip(*records, strict=True) if records else iter([()] * len(COLUMNS))
    made: _Columns = {}
    for name, own in zip(COLUMNS, cells, strict=True):
        if name in TEXT:
            made[name] = _numbered(own, known[name])
        elif name in MAYBE:
            made[name] = np.array([np.nan if cell is None else cell for cell in own], dtype=np.float64)
        else:
            made[name] = np.array(own, dtype=np.int64)
    return made


def _numbered(texts: Sequence[str], known: dict[str, int]) -> NDArray[Any]:
    """Return the texts' numbers; those that are new get one."""
    return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int32)


def _fast(block: bytes, known: _Known) -> _Columns | None:
    """Parse whole records; None where a cell is not as plain as it should be."""
    if b"\x00" in block or _MARK in block:
        return None
    if not block.isascii():
        block = block.decode("utf-8", "replace").encode()
    quoted: dict[bytes, str] = {}
    if b'"' in block:
        block = _without_quotes(block, quoted)
    if b'"' in block or b"\r" in block:
        return None
    found = find(block, len(COLUMNS) + 1)
    return found and _checked(found, quoted, known)


def _without_quotes(block: bytes, quoted: dict[bytes, str]) -> bytes:
    """Take the quotes off cells that do without; put marks in place of the others, which go into `quoted`."""
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
            quoted[known[text]] = text.replace(b'""', b'"').decode()
        return known[text]

    return _QUOTED.sub(plain, block)


def _checked(cells: Cells, quoted: dict[bytes, str], known: _Known) -> _Columns | None:
    made: _Columns = {}
    for name in _NUMBERS:
        found = integers(cells, _PLACE[name])
        if not found or (name not in MAYBE and found[1].any()):
            return None
        made[name] = np.where(found[1], np.nan, found[0]) if name in MAYBE else found[0]
    coded = {name: words(cells, _PLACE[name]) for name in TEXT}
    texts = {name: [quoted.get(word) or word.decode() for word in own] for name, (_, own) in coded.items()}
    if not set(texts["outcome"]) <= set(OUTCOMES):
        return None
    return made | {name: _numbered(texts[name], known[name])[coded[name][0]] for name in TEXT}
