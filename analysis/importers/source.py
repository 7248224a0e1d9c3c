"""The file of another tool, read and not yet understood: JSON, JSON a line, or CSV.

Whatever is wrong with it is one line that says where, what was found and what was expected. What was cut off
or damaged is read as far as it is whole, and says so.
"""

import codecs
import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import partial
from .partial import Way

NS = 10**9
CUT_LINE = "its last line is not whole"
LONGEST_CUT = len("-Infinit")
"""So much may follow, in a text that was cut off, behind its last place that is JSON: a part of a word."""

MOST_NS = 4 * 10**18
"""The year 2096: of two such times even the sum is an int64."""


class ImportFileError(ValueError):
    """A file that cannot be imported: says where, what was found and what was expected."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A file's content: `value` is the whole JSON, or None; `objects` one JSON by line; `rows` its CSV.

    `cut` says why not all of it could be read, as of what is written while a tool runs; None where all of it
    was. `damaged_at` is the place from which on more text follows that is no JSON; empty where the text just
    ends. `ends_in` is the way to where a `value` ends. `unread` has a line for each line that is none.
    """

    path: Path
    sha256: str
    value: Any = None
    objects: Mapping[int, Mapping[str, Any]] | None = None
    rows: tuple[tuple[str, ...], ...] = ()
    cut: str | None = None
    damaged_at: str = ""
    ends_in: Way = ()
    unread: tuple[str, ...] = ()

    @property
    def lines(self) -> Mapping[int, Mapping[str, Any]]:
        """Return one JSON object a line; a file with a single object has one line."""
        return self.objects or ({1: self.value} if isinstance(self.value, dict) else {})

    @property
    def broken(self) -> str:
        """What became of a file that is not whole: behind its name, or "it"."""
        return "was damaged" if self.damaged_at else "was cut off"

    @property
    def doubt(self) -> str:
        """Why not all of it could be read, for a file of which nothing can be used."""
        return f"{self.cut}: was it {'damaged' if self.damaged_at else 'cut off'}?"

    def without_last(self, depth: int) -> "Source":
        """Leave out the record in which a JSON ends; `depth` steps lead to a record of the tool's."""
        if not self.cut or self.value is None or len(self.ends_in) < depth:
            return self
        return replace(self, value=partial.without(self.value, self.ends_in[:depth]))


def read(path: Path) -> Source:
    """Read a file. Raises ImportFileError where it is missing, empty, not text or nothing that we know."""
    try:
        content = path.read_bytes()
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(content)  # of a cut character nothing
    except OSError as error:
        raise ImportFileError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ImportFileError(f"{path}: found bytes that are not UTF-8, expected JSON or CSV") from None
    if not text.strip():
        raise ImportFileError(f"{path}: found an empty file, expected another tool's results")
    sha256 = hashlib.sha256(content).hexdigest()
    if text.lstrip()[0] not in "{[":
        rows, cut = _rows(text), not text.endswith("\n")
        short = cut and len(rows[-1]) < len(rows[0])  # else only its last cell may be cut, which nobody reads
        return Source(path, sha256, rows=rows[:-1] if short else rows, cut=CUT_LINE if cut else None)
    try:
        return Source(path, sha256, json.loads(text))
    except (ValueError, RecursionError) as error:
        return _lines(path, sha256, text) or _broken(path, sha256, text, error)


def _rows(text: str) -> tuple[tuple[str, ...], ...]:
    """Read CSV. A cell may be a whole answer (vegeta's): the module's own limit is 128 KiB."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    return tuple(tuple(row) for row in csv.reader(io.StringIO(text, newline="")) if row)


def _lines(path: Path, sha256: str, text: str) -> Source | None:
    """Read one JSON object a line; None where most lines are none: then it is one JSON on many lines."""
    made: dict[int, Mapping[str, Any]] = {}
    unread: list[str] = []
    lines = text.rstrip().split("\n")  # not splitlines: JSON may hold U+2028 as it is
    cut = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            cut = number == len(lines) and not text.endswith("\n")
            unread += [] if cut else [f"line {number}: not JSON ({error})"]
            continue
        if isinstance(found, dict):
            made[number] = found
        else:
            unread.append(f"line {number}: found {_kind(found)}, expected an object")
    if len(made) <= len(unread):
        return None
    return Source(path, sha256, objects=made, cut=CUT_LINE if cut else None, unread=tuple(unread))


def _broken(path: Path, sha256: str, text: str, error: Exception) -> Source:
    """Read what is before the place where a text is no JSON any more, if there is such a place."""
    why = f"not JSON ({error})"
    if not isinstance(error, json.JSONDecodeError):  # nested too deeply
        raise ImportFileError(f"{path}: {why}")
    more = len(text[error.pos :].rstrip())
    damaged = more > LONGEST_CUT and not error.msg.startswith("Unterminated string")
    try:
        value, ends_in = partial.read(text[: error.pos] if damaged else text)
    except ValueError:
        raise ImportFileError(f"{path}: {why}: was it cut off?") from None
    if not damaged:
        return Source(path, sha256, value, cut=why, ends_in=ends_in)
    place = f"line {error.lineno} column {error.colno}"
    return Source(path, sha256, value, cut=f"{why}, and more text follows", damaged_at=place, ends_in=ends_in)


def seconds(value: Any, where: str) -> float:
    """Return a time or a duration, at least 0. Raises ImportFileError for NaN, text, or a negative one."""
    return float(_number(value, where, "a time"))


def ns(value: Any, where: str, unit_ns: float = NS) -> int:
    """Return a duration as whole nanoseconds; raises as `seconds` does, and beyond the year 2096."""
    found = round(_number(value, where, "a time") * unit_ns)
    if found > MOST_NS:
        raise ImportFileError(f"{where}: found {_shown(value)}, expected a time before the year 2096")
    return found


def maybe_count(value: Any, where: str) -> int | None:
    """Return a count of tokens, None where there is none; raises ImportFileError."""
    return None if value is None else round(_number(value, where, "a number"))


def maybe_level(value: Any) -> float | None:
    """Return a rate or a number of users; None for what is none."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MOST_NS
    return float(value) if known else None


def _number(value: Any, where: str, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ImportFileError(f"{where}: found {_shown(value)}, expected {what} of at least 0")
    if value > MOST_NS:
        raise ImportFileError(f"{where}: found {value:.3g}, expected {what} that a run can have")
    return value


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Return a JSON object; raises ImportFileError."""
    if not isinstance(value, dict):
        raise ImportFileError(f"{where}: found {_kind(value)}, expected an object")
    return value


def listed(value: Any, where: str) -> list[Any]:
    """Return a JSON list; raises ImportFileError."""
    if not isinstance(value, list):
        raise ImportFileError(f"{where}: found {_kind(value)}, expected a list")
    return value


def check_row(row: Sequence[str], width: int) -> None:
    """Raise ImportFileError for a row that is none, as where a disk was damaged."""
    if len(row) != width:
        raise ImportFileError(f"found {len(row)} cells, expected {width}")
    if any("\0" in cell for cell in row):
        raise ImportFileError("found a NUL byte, expected text")


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    return repr(value)[:80] if isinstance(value, int | float | str) else _kind(value)
