"""The file of another tool, read and not yet understood: JSON, JSON a line, or CSV.

Whatever is wrong with it is one line that says where, what was found and what was expected.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NS = 10**9


class ImportFileError(ValueError):
    """A file that cannot be imported: says where, what was found and what was expected."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A file's content: `value` is the whole JSON, or None; `objects` one JSON a line; `rows` its CSV.

    `cut`: the last line was cut off and is left out, as what is written while a tool runs may be.
    """

    path: Path
    sha256: str
    value: Any
    objects: tuple[Mapping[str, Any], ...]
    rows: tuple[tuple[str, ...], ...]
    cut: bool = False


def read(path: Path) -> Source:
    """Read a file. Raises ImportFileError where it is missing, empty, not text, or cut off."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ImportFileError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ImportFileError(f"{path}: found bytes that are not UTF-8, expected JSON or CSV") from None
    if not text.strip():
        raise ImportFileError(f"{path}: found an empty file, expected another tool's results")
    sha256 = hashlib.sha256(content).hexdigest()
    if text.lstrip()[0] not in "{[":
        rows = _rows(text)
        cut = not text.endswith("\n") and len(rows) > 1 and len(rows[-1]) < len(rows[0])
        return Source(path, sha256, None, (), rows[:-1] if cut else rows, cut)
    try:
        return Source(path, sha256, json.loads(text), (), ())
    except json.JSONDecodeError as error:
        objects, cut = _lines(path, text, error)
        return Source(path, sha256, None, objects, (), cut)


def _rows(text: str) -> tuple[tuple[str, ...], ...]:
    """Read CSV. A cell may be a whole answer (vegeta's): the module's own limit is 128 KiB."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    return tuple(tuple(row) for row in csv.reader(io.StringIO(text, newline="")) if row)


def _lines(path: Path, text: str, whole: json.JSONDecodeError) -> tuple[tuple[Mapping[str, Any], ...], bool]:
    """Read one JSON object a line, and say whether the last one was cut off; no other may be damaged."""
    made: list[Mapping[str, Any]] = []
    lines = text.rstrip().split("\n")  # not splitlines: JSON may hold U+2028 as it is
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            if not made:
                raise ImportFileError(f"{path}: not JSON ({whole}): was it cut off?") from None
            if number == len(lines) and not text.endswith("\n"):
                return tuple(made), True
            raise ImportFileError(f"{path}: line {number}: not JSON ({error})") from None
        if not isinstance(found, dict):
            raise ImportFileError(f"{path}: line {number}: found {_kind(found)}, expected an object")
        made.append(found)
    return tuple(made), False


def seconds(value: Any, where: str) -> float:
    """Return a time or a duration, at least 0. Raises ImportFileError for NaN, text, or a negative one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ImportFileError(f"{where}: found {_shown(value)}, expected a time of at least 0")
    return float(value)


def ns(value: Any, where: str, unit_ns: float = NS) -> int:
    """Return a duration as whole nanoseconds; raises as `seconds` does."""
    return round(seconds(value, where) * unit_ns)


def maybe_count(value: Any, where: str) -> int | None:
    """Return a count of tokens, None where there is none; raises ImportFileError."""
    return None if value is None else round(seconds(value, where))


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


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, int | float | str) else _kind(value)
