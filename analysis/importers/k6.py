"""k6's points, of `k6 run --out json=FILE` or `--out csv=FILE`: one for each request and metric.

Fields as k6 writes them (output/json, output/csv); durations are ms, a point's time is when the request
ended.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from analysis.record import RequestRecord

from .source import NS, ImportFileError, Source, seconds
from .translation import NOT_STREAMED, WHY_FAILED, Imported, one_line, outcome_of, record
from .vegeta import _unix_ns

TOOL = "k6"
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
    duration_ms: Any
    tags: Mapping[str, Any]


def is_detailed(source: Source) -> bool:
    """Say whether a file is k6's, with a point for each request."""
    if source.objects:
        return all({"type", "data", "metric"} <= line.keys() for line in source.objects)
    return bool(source.rows) and source.rows[0][:3] == ("metric_name", "timestamp", "metric_value")


def translate(source: Source) -> list[Imported]:
    """Return the run in a file; raises ImportFileError."""
    where = str(source.path)
    points = list(_of_csv(source, where) if source.rows else _of_json(source, where))
    coarse = bool(source.rows) and all(one.ended_ns % NS == 0 for one in points)
    unit_ns = NS if coarse else 1
    made = sorted((_request(one, unit_ns, where) for one in points), key=lambda one: one.due_unix_ns)
    return [
        Imported(
            tool=TOOL,
            version=None,
            name=TOOL,
            requests=[(one._replace(request=i), []) for i, one in enumerate(made)],
            definitions=(*DEFINITIONS, *([SECONDS_ONLY] if coarse else [])),
            unknown=(*NOT_STREAMED, "dispatch_lag"),
            loop=None,
        )
    ]


def _of_json(source: Source, where: str) -> Iterator[_Point]:
    for number, line in enumerate(source.objects, 1):
        if line["type"] == "Point" and line["metric"] == METRIC:
            data = line["data"]
            if not isinstance(data, dict):
                raise ImportFileError(f"{where}: line {number}: found no data, expected an object")
            yield _Point(
                _unix_ns(data.get("time"), f"{where}: line {number}"),
                data.get("value"),
                data.get("tags") or {},
            )


def _of_csv(source: Source, where: str) -> Iterator[_Point]:
    header = source.rows[0]
    for number, row in enumerate(source.rows[1:], 2):
        if row[0] != METRIC:
            continue
        if len(row) != len(header):
            found = f"found {len(row)} cells, expected {len(header)}: was it cut off?"
            raise ImportFileError(f"{where}: line {number}: {found}")
        try:
            value = float(row[2])
        except ValueError:
            found = f"found the value {row[2]!r}, expected a number"
            raise ImportFileError(f"{where}: line {number}: {found}") from None
        yield _Point(
            _csv_time_ns(row[1], f"{where}: line {number}"), value, dict(zip(header, row, strict=True))
        )


def _csv_time_ns(cell: str, where: str) -> int:
    """Return a CSV's time, which k6 writes as Unix s, ms, us or ns, or by RFC 3339, as it was told to."""
    if not cell.isdigit():
        return _unix_ns(cell, where)
    unit_ns: int = {10: 10**9, 13: 10**6, 16: 10**3}.get(len(cell), 1)  # by its digits
    return int(cell) * unit_ns


def _request(point: _Point, unit_ns: int, where: str) -> RequestRecord:
    duration = round(seconds(point.duration_ms, f"{where}: {METRIC}") * 10**6)
    status = str(point.tags.get("status") or "0")
    code = int(status) if status.isdigit() else 0
    error = str(point.tags.get("error") or "")
    ok = not error and 200 <= code < 400
    return record(
        0,
        str(point.tags.get("scenario") or TOOL),
        due_unix_ns=max(0, point.ended_ns - duration) // unit_ns * unit_ns,
        end_ns=duration,
        status=code or None,
        outcome="ok" if ok else outcome_of(error, code or None),
        detail="" if ok else one_line(error or f"HTTP {status}"),
    )
