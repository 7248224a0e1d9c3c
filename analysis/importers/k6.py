"""k6's points, of `k6 run --out json=FILE` or `--out csv=FILE`: one for each request and metric.

Fields as k6 writes them (output/json, output/csv); durations are ms, a point's time is when the request
ended.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from analysis.record import RequestRecord

from .source import MOST_NS, NS, ImportFileError, Source, check_row, mapping, ns
from .translation import NOT_STREAMED, WHY_FAILED, Imported, each, one_line, outcome_of, record
from .vegeta import unix_ns

TOOL = "k6"
DEPTH = 0
METRIC = "http_req_duration"
DEFINITIONS = (
    (
        "http_req_duration runs from the first byte sent to the last received: our e2e, less what "
        "connecting took; it does not look into the stream, so there is no ttft, itl or tpot"
    ),
    "http_req_waiting ends with the response's first byte, which is its headers and no token: not imported",
    "A request is due when it was sent; iterations that k6 dropped are not in the file",
    WHY_FAILED,
)
SECONDS_ONLY = "This CSV has whole seconds, so that the order within a second is that in which requests ended"


class _Point(NamedTuple):
    ended_ns: int
    duration_ns: int
    tags: Mapping[str, Any]


def is_detailed(source: Source) -> bool:
    """Say whether a file is k6's, with a point for each request."""
    if source.rows:
        return source.rows[0][:3] == ("metric_name", "timestamp", "metric_value")
    return any({"type", "data", "metric"} <= line.keys() for line in source.lines.values())


def translate(source: Source) -> list[Imported]:
    """Return the run in a file."""
    if source.rows:
        rows = [(f"line {i}", row) for i, row in enumerate(source.rows[1:], 2)]
        found, unread = each(rows, lambda row: _of_row(row, source.rows[0]))
    else:
        found, unread = each(((f"line {i}", line) for i, line in source.lines.items()), _of_line)
    points = [point for point in found if point]
    coarse = bool(source.rows) and all(one.ended_ns % NS == 0 for one in points)
    made = [_request(one, NS if coarse else 1) for one in points]
    made.sort(key=lambda one: one.due_unix_ns)
    return [
        Imported(
            tool=TOOL,
            version=None,
            name=TOOL,
            requests=[(one._replace(request=i), []) for i, one in enumerate(made)],
            definitions=(*DEFINITIONS, *([SECONDS_ONLY] if coarse else [])),
            unknown=(*NOT_STREAMED, "dispatch_lag"),
            loop=None,
            unread=unread,
        )
    ]


def _of_line(line: Mapping[str, Any]) -> _Point | None:
    """Return the point of a request; None for one of another metric."""
    if not {"type", "data", "metric"} <= line.keys():
        raise ImportFileError(
            f"found {', '.join(line)[:80] or 'nothing'}, expected a type, a metric and data"
        )
    if line["type"] != "Point" or line["metric"] != METRIC:
        return None
    data = mapping(line["data"], "data")
    return _point(unix_ns(data.get("time")), data.get("value"), mapping(data.get("tags") or {}, "tags"))


def _of_row(row: Sequence[str], header: Sequence[str]) -> _Point | None:
    check_row(row, len(header))
    if row[0] != METRIC:
        return None
    try:
        value = float(row[2])
    except ValueError:
        raise ImportFileError(f"found the value {row[2]!r}, expected a number") from None
    return _point(_csv_time_ns(row[1]), value, dict(zip(header, row, strict=True)))


def _point(ended_ns: int, value: Any, tags: Mapping[str, Any]) -> _Point:
    duration_ns = ns(value, METRIC, 10**6)
    if not duration_ns <= ended_ns <= MOST_NS:
        raise ImportFileError(f"found an end at {ended_ns} ns, expected a time after its start")
    return _Point(ended_ns, duration_ns, tags)


def _csv_time_ns(cell: str) -> int:
    """Return a CSV's time, which k6 writes as Unix s, ms, us or ns, or by RFC 3339, as it was told to."""
    if not cell.isdecimal():
        return unix_ns(cell)
    unit_ns: int = {10: 10**9, 13: 10**6, 16: 10**3}.get(len(cell), 1)  # by its digits
    return int(cell) * unit_ns


def _request(point: _Point, unit_ns: int) -> RequestRecord:
    status = str(point.tags.get("status") or "0")
    code = int(status) if status.isdecimal() and len(status) < 4 else 0
    error = str(point.tags.get("error") or "")
    ok = not error and 200 <= code < 400
    return record(
        0,
        str(point.tags.get("scenario") or TOOL),
        due_unix_ns=(point.ended_ns - point.duration_ns) // unit_ns * unit_ns,
        end_ns=point.duration_ns,
        status=code or None,
        outcome="ok" if ok else outcome_of(error, code or None),
        detail="" if ok else one_line(error or f"HTTP {status}"),
    )
