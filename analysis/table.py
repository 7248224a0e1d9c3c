"""requests.csv as a table: a million rows in a second or two, with the checks of `record`.

The file is read in blocks of whole records. pandas parses a block at once, but lets through what is no row of
ours (" 7", "1e3", a quote that closes within a cell); so its bytes are counted, too. A block that holds such
is read again in pieces, and a piece that does, row by row, by `record`. A row that is none is left out, and
counted: what is whole is evidence, and whoever judges it must know that there was more.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .record import MAYBE, OUTCOMES, TEXT, RecordError, RequestRecord, Unread, check_header, read_rows

COLUMNS = RequestRecord._fields
_NUMBERS = tuple(name for name in COLUMNS if name not in TEXT)
_WORDS = tuple(name for name in TEXT if name != "detail")
_BLOCK_BYTES, _PIECE_BYTES = 1 << 24, 1 << 19
_CACHED_BYTES = 1 << 18
_KEPT_BYTES = 31 << 20
"""glibc keeps freed memory for itself in pieces up to the largest that was ever freed, below 32 MiB. Else the
arrays of each block would go back to the kernel and come again page by page, over a gigabyte in all."""

_KINDS = {name: np.int32 if name in TEXT else np.float64 if name in MAYBE else np.int64 for name in COLUMNS}
_TEXTS = ("run", *TEXT)
_SHORTEST_ROW = len(COLUMNS) + len(_NUMBERS) - len(MAYBE) + 1  # commas, digits, and the line's end
_EXACT = 2**53  # floats below hold any whole number

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
    lines = 1
    for block in _whole(file, _BLOCK_BYTES):
        parsed = _fast(block, known)
        if parsed:
            yield parsed
            lines += block.lines
            continue
        for piece in _whole(io.BytesIO(block.data), _PIECE_BYTES):
            yield _fast(piece, known) or _slow(piece.data, known, lines, unread)
            lines += piece.lines


class _Block(NamedTuple):
    """Whole records, how many of their bytes are of which kind, and where the quotes are."""

    data: bytes
    digits: int
    commas: int
    lines: int
    quotes: NDArray[np.intp]


def _whole(file: IO[bytes], size: int) -> Iterator[_Block]:
    """Yield whole records, at least so many bytes at a time."""
    while data := file.read(size):
        block = _counted(data + file.readline())
        if len(block.quotes) % 2:
            block = _counted(block.data + _closing(file, size))
        yield block


def _closing(file: IO[bytes], most: int) -> bytes:
    """Read the lines up to the next quote's end; no record is so long where a quote is never closed."""
    lines = []
    inside = 1
    while inside and most > 0 and (line := file.readline()):
        lines.append(line)
        inside, most = inside ^ line.count(b'"') % 2, most - len(line)
    return b"".join(lines)


def _counted(data: bytes) -> _Block:
    """Count bytes, in parts that stay in the processor's cache."""
    array = np.frombuffer(data, dtype=np.uint8)
    digits = commas = lines = 0
    quotes = []
    for at in range(0, len(array), _CACHED_BYTES):
        part = array[at : at + _CACHED_BYTES]
        digits += int(np.count_nonzero(part - np.uint8(ord("0")) < 10))
        commas += int(np.count_nonzero(part == ord(",")))
        lines += int(np.count_nonzero(part == ord("\n")))
        quotes.append(np.flatnonzero(part == ord('"')) + at)
    return _Block(data, digits, commas, lines, np.concatenate(quotes))


def _text(data: bytes) -> IO[str]:
    return io.StringIO(data.decode("utf-8", "replace"), newline="")


def _slow(block: bytes, known: _Known, lines: int, unread: list[Unread]) -> _Columns:
    """Read rows one by one; what is behind the last line's end was cut off, or is not written yet."""
    found = list(read_rows(_text(block), lines))
    if found and not block.endswith(b"\n") and isinstance(found[-1], Unread):
        found.pop()
    unread += [one for one in found if isinstance(one, Unread)]
    return _columns([one for one in found if isinstance(one, RequestRecord)], known)


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


def _fast(block: _Block, known: _Known) -> _Columns | None:
    """Parse whole records; None where not all is as plain as it should be."""
    if b"\r" in block.data or not block.data.endswith(b"\n"):
        return None
    try:
        frame = _parsed(block.data, "category")
        if not all(isinstance(text, str) for name in _TEXTS for text in frame[name].cat.categories):
            frame = _parsed(block.data, object).astype(dict.fromkeys(_TEXTS, "category"))  # "007" became 7
    except (ValueError, OverflowError):
        return None
    if not isinstance(frame.index, pd.RangeIndex):  # the first row has more cells than there are columns
        return None
    if not set(frame.outcome.cat.categories) <= set(OUTCOMES) or not _plain(block, frame):
        return None
    made = {name: frame[name].to_numpy() for name in _NUMBERS}
    for name in TEXT:
        own = frame[name].cat
        made[name] = _numbered(own.categories.tolist(), known[name])[own.codes]
    return made


def _parsed(block: bytes, texts: Any) -> pd.DataFrame:
    with np.errstate(invalid="ignore"):  # "inf" where a whole number should be, which is noticed
        return pd.read_csv(
            io.BytesIO(block),
            names=["run", *COLUMNS],
            dtype=_KINDS | dict.fromkeys(_TEXTS, texts),
            keep_default_na=False,
            na_values={name: [""] for name in MAYBE},
            skip_blank_lines=False,
        )


def _plain(block: _Block, frame: pd.DataFrame) -> bool:
    """Say whether a block holds what was parsed and nothing else: every byte is accounted for by its kind.

    No row has too many cells, or it would not have been parsed; so by the commas none has too few.
    """
    commas = len(frame) * len(COLUMNS)
    others = commas + len(frame) + len(block.quotes)
    for name in _TEXTS:
        own = frame[name].cat
        for text, times in zip(own.categories, np.bincount(own.codes).tolist(), strict=True):
            written = text.encode()
            commas += times * written.count(b",")
            others += times * len(written.translate(None, b'0123456789"'))
    for name in _NUMBERS:
        numbers = frame[name].to_numpy()
        others += int(np.count_nonzero(numbers < 0))
        if name in MAYBE and (np.abs(numbers) >= _EXACT).any():
            return False
    found = block.commas, len(block.data) - block.digits
    return found == (commas, others) and _closed(block)


def _closed(block: _Block) -> bool:
    """Say whether quotes stand around cells and, doubled, within them only."""
    array = np.frombuffer(block.data, dtype=np.uint8)
    opening, closing = block.quotes[::2], block.quotes[1::2]
    beside = np.concatenate((array[opening[opening > 0] - 1], array[closing + 1]))
    return bool(np.isin(beside, np.frombuffer(b',\n"', dtype=np.uint8)).all())
