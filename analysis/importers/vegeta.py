"""vegeta's results as `vegeta encode` writes them: JSON a line, or CSV without a header.

Fields as vegeta 12 writes them (lib/results.go): time, code, latency (ns), bytes, error, and more.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from analysis.record import RequestRecord

from .source import ImportFileError, Source, check_row, maybe_count, ns
from .translation import NOT_STREAMED, WHY_FAILED, Imported, each, one_line, outcome_of, record

TOOL = "vegeta"
DEPTH = 0
KEYS = {"timestamp", "latency", "code", "seq", "attack"}
DEFINITIONS = (
    (
        "Latency runs from the send to the end of the body: our e2e; it does not look into the stream, so"
        " there is no ttft, itl or tpot"
    ),
    "Latency counts from when its worker was free to send, not from when the request was due",
    WHY_FAILED,
)
_TIME = re.compile(r"(.*?)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)")


def is_detailed(source: Source) -> bool:
    """Say whether a file is vegeta's, with a row for each request."""
    return any(line.keys() >= KEYS for line in source.lines.values()) or any(map(_is_row, source.rows))


def _is_row(row: Sequence[str]) -> bool:
    return len(row) >= 9 and len(row[0]) == 19 and all(cell.isdecimal() for cell in row[:5])


def translate(source: Source) -> list[Imported]:
    """Return the run in a file."""
    lines = [(f"line {i}", line) for i, line in source.lines.items()]
    rows = [(f"line {i}", row) for i, row in enumerate(source.rows, 1)]
    width = statistics.mode(map(len, source.rows or [()]))
    made, unread = each(lines, _of_line) if lines else each(rows, lambda row: _of_row(row, width))
    made.sort(key=lambda one: one.due_unix_ns)
    return [
        Imported(
            tool=TOOL,
            version=None,
            name=TOOL,
            requests=[(one._replace(request=i), []) for i, one in enumerate(made)],
            definitions=DEFINITIONS,
            unknown=(*NOT_STREAMED, "dispatch_lag"),
            loop="open",
            load={"arrivals": "paced by vegeta"},
            unread=unread,
        )
    ]


def unix_ns(value: Any) -> int:
    """Return the nanoseconds of a time as Go writes it, with up to nine digits behind the point."""
    match = _TIME.fullmatch(str(value))
    try:
        whole, digits, zone = match.groups() if match else ("", "", "")
        at = datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    except ValueError:
        raise ImportFileError(f"found the time {value!r}, expected one by RFC 3339") from None
    if at.tzinfo is None:
        raise ImportFileError(f"found the time {value!r}, expected one by RFC 3339")
    return int(at.timestamp()) * 10**9 + int((digits or "0").ljust(9, "0"))


def _of_line(line: Mapping[str, Any]) -> RequestRecord:
    return _request(unix_ns(line.get("timestamp")), line.get("code"), line.get("latency"), line.get("error"))


def _of_row(row: Sequence[str], width: int) -> RequestRecord:
    check_row(row, width)
    if not _is_row(row):
        raise ImportFileError(f"found {','.join(row[:5])!r}, expected a time, a code, a latency and sizes")
    return _request(int(row[0]), int(row[1]), int(row[2]), row[5])


def _request(at_ns: int, code: Any, latency: Any, error: Any) -> RequestRecord:
    status = maybe_count(code, "code") or 0
    ok = not error and 200 <= status < 400
    return record(
        0,
        TOOL,
        due_unix_ns=at_ns,
        end_ns=ns(latency, "latency", 1),
        status=status or None,
        outcome="ok" if ok else outcome_of(str(error), status if status >= 400 else None),
        detail="" if ok else one_line(error or f"HTTP {status}"),
    )
