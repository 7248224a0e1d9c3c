"""vegeta's results as `vegeta encode` writes them: JSON a line, or CSV without a header.

Fields as vegeta 12 writes them (lib/results.go): time, code, latency (ns), bytes, error, and more.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from analysis.record import RequestRecord

from .source import ImportFileError, Source, seconds
from .translation import NOT_STREAMED, WHY_FAILED, Imported, one_line, outcome_of, record

TOOL = "vegeta"
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
    lines = source.objects or ((source.value,) if isinstance(source.value, dict) else ())
    if lines:
        return all(line.keys() >= KEYS for line in lines)
    return bool(source.rows) and all(
        len(row) >= 9 and all(cell.isdigit() for cell in row[:5]) for row in source.rows
    )


def translate(source: Source) -> list[Imported]:
    """Return the run in a file; raises ImportFileError."""
    where = str(source.path)
    lines = source.objects or ((source.value,) if source.value else ())
    if lines:
        rows = [
            (
                _unix_ns(line["timestamp"], f"{where}: line {i}"),
                line["code"],
                line["latency"],
                line.get("error"),
            )
            for i, line in enumerate(lines, 1)
        ]
    else:
        rows = [(int(row[0]), int(row[1]), int(row[2]), row[5]) for row in source.rows]
    rows.sort(key=lambda row: row[0])
    return [
        Imported(
            tool=TOOL,
            version=None,
            name=TOOL,
            requests=[(_request(i, row, f"{where}: request {i}"), []) for i, row in enumerate(rows)],
            definitions=DEFINITIONS,
            unknown=(*NOT_STREAMED, "dispatch_lag"),
            loop="open",
            load={"arrivals": "paced by vegeta"},
        )
    ]


def _unix_ns(value: Any, where: str) -> int:
    """Return the nanoseconds of a time as Go writes it, with up to nine digits behind the point."""
    match = _TIME.fullmatch(str(value))
    try:
        whole, digits, zone = match.groups() if match else ("", "", "")
        at = datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    except ValueError:
        raise ImportFileError(f"{where}: found the time {value!r}, expected one by RFC 3339") from None
    if at.tzinfo is None:
        raise ImportFileError(f"{where}: found the time {value!r}, expected one by RFC 3339")
    return int(at.timestamp()) * 10**9 + int((digits or "0").ljust(9, "0"))


def _request(number: int, row: Sequence[Any], where: str) -> RequestRecord:
    at, code, latency, error = row
    ok = not error and 200 <= int(seconds(code, f"{where}: code")) < 400
    return record(
        number,
        TOOL,
        due_unix_ns=at,
        end_ns=round(seconds(latency, f"{where}: latency")),
        status=int(code) or None,
        outcome="ok" if ok else outcome_of(str(error), int(code) if code >= 400 else None),
        detail="" if ok else one_line(error or f"HTTP {code}"),
    )
