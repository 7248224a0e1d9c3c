"""Locust's CSVs alone (`locust --csv PREFIX`): a verdict at the resolution that they have.

How Locust 2 rounds (locust/stats.py, bucket_response_time and the CSV writer): below 100 ms to whole ms,
below 1 s to 10 ms, below 10 s to 100 ms, above to 1 s; then int(). Its percentile of rank p is the highest
rounded value that fewer than n - int(n p) values exceed. Minimum, maximum and average are exact. The
Aggregated row mixes whatever was logged; its latencies are never read.
"""

import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.coarse import Coarse, Point, Row, Worth
from analysis.gates import Gate

from . import locust_history
from .source import ImportFileError

TOOL = "Locust's CSVs"
SUFFIX = "_stats.csv"
NUMBERS = (
    "Request Count",
    "Failure Count",
    "Average Response Time",
    "Min Response Time",
    "Max Response Time",
)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
METRICS = {"TTFT": "ttft", "ITL": "itl", **dict.fromkeys(METHODS, "e2e")}
DEFINITIONS = (
    (
        "The response time of a request (GET, POST, ...) is taken for e2e; it runs from the send, not "
        "from when the request was due, and with stream=True it ends with the headers"
    ),
    "Rows of type TTFT and ITL are taken for ttft and itl, as the locustfile that wrote them means them",
    "A failed request's time is among the percentiles of its row; it counts as infinitely late here",
    "The ramp-up is part of the figures unless --reset-stats was given",
    (
        "A percentile says nothing of sampling error: what n requests are worth comes from the history "
        "file, a second's requests counting as one"
    ),
)
UNREAD = "Rows of type {types} are not read: nothing says what they measure"
FINER = "Values between its buckets: its rounding was replaced, so each is read as cut to a whole ms"
ROUNDED = "Locust's CSV rounds"
_HALF_MS = ((10_000, 500.0), (1000, 50.0), (100, 5.0), (-1, 0.5))
"""From which value on Locust rounds by how much to either side: 100 itself is 99.5 to 105 ms."""


def prefixes(folder: Path) -> list[str]:
    """Return the prefixes of the stats files in a folder."""
    return sorted(file.name.removesuffix(SUFFIX) for file in folder.glob(f"*{SUFFIX}"))


def read(folder: Path, prefix: str) -> Coarse:
    """Read the CSVs of one run; raises ImportFileError, one line, where they are none."""
    path = folder / f"{prefix}{SUFFIX}"
    table = _table(path)
    aggregated = next((row for row in table if row["Name"] == "Aggregated" and not row["Type"]), None)
    own = [row for row in table if row is not aggregated]
    requests = [row for row in own if row["Type"] in METHODS]
    n, failed = (sum(_count(row, name, path) for row in requests) for name in NUMBERS[:2])
    if not n:
        raise ImportFileError(f"{path}: found no requests, expected at least one row of {', '.join(METHODS)}")
    clean = aggregated is not None and _count(aggregated, NUMBERS[0], path) == n

    def wanted(kind: str, name: str) -> bool:
        return (not kind and name == "Aggregated") if clean else kind in METHODS

    history = locust_history.read(folder / f"{prefix}_stats_history.csv", wanted, n)
    finer = _is_finer(own)
    errors, gate = _failures(folder / f"{prefix}_failures.csv", failed)
    rows = [
        _row(row, path, failed, finer=finer)
        for row in own
        if METRICS.get(row["Type"]) and row[NUMBERS[0]] != "0"
    ]
    other = sorted({row["Type"] for row in own} - METRICS.keys())
    return Coarse(
        tool=TOOL,
        version=None,
        run=f"locust-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}",
        name=prefix or folder.name,
        rows=tuple(rows),
        n=n,
        failed=failed,
        errors=errors,
        worth=Worth.unknown(history) if isinstance(history, str) else history.worth(),
        worth_failed=Worth.unknown(history) if isinstance(history, str) else history.worth_failed(),
        mean_bounds_ms=None if isinstance(history, str) else history.mean_bounds_ms(),
        window_ns=(0, 0) if isinstance(history, str) else (history.start_s * 10**9, history.end_s * 10**9),
        definitions=(
            *DEFINITIONS,
            *([UNREAD.format(types=", ".join(other))] if other else []),
            *([FINER] if finer else []),
        ),
        gates=(_history_gate(history), gate, _instrument()),
        rounding=ROUNDED,
    )


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", errors="strict", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            header = reader.fieldnames or ()
    except FileNotFoundError:
        raise ImportFileError(f"{path}: found no such file, expected Locust's --csv {path.stem}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImportFileError(f"{path}: not a table ({error})") from None
    missing = [name for name in ("Type", "Name", *NUMBERS, "50%", "100%") if name not in header]
    if missing:
        found = f"found no column {', '.join(missing)}" if header else "found an empty file"
        raise ImportFileError(f"{path}: {found}, expected the stats that Locust 2 writes")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise ImportFileError(
                f"{path}: line {number}: found fewer or more cells than columns: was it cut off?"
            )
    return rows


def _count(row: Mapping[str, str], name: str, path: Path) -> int:
    return round(_number(row, name, path))


def _number(row: Mapping[str, str], name: str, path: Path) -> float:
    try:
        found = float(row[name])
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or found < 0:
        where = f"{path}: {row['Type']} {row['Name']}: {name}"
        raise ImportFileError(f"{where}: found {row[name]!r}, expected a number of at least 0")
    return found


def _row(row: Mapping[str, str], path: Path, failed: int, *, finer: bool) -> Row:
    n, own_failed, mean, least, most = (_number(row, name, path) for name in NUMBERS)
    count = round(n)
    points = [
        Point(0, least, least * 1e6, least * 1e6, 1, count),
        Point(100, most, most * 1e6, most * 1e6, count, 1),
    ]
    for column in row:
        if not column.endswith("%") or column == "100%" or row[column] == "N/A":
            continue
        percentile, shown = float(column[:-1]), _number(row, column, path)
        low, high = bucket_ms(shown, finer=finer)
        below = int(count * (percentile / 100))
        points.append(
            Point(percentile, shown, low * 1e6, high * 1e6, min(count, below + 1), max(1, count - below))
        )
    metric = METRICS[row["Type"]]
    inside = metric == "e2e"
    return Row(
        metric, row["Name"], count, round(own_failed) if inside else failed, inside, tuple(points), mean
    )


def bucket_ms(shown: float, *, finer: bool) -> tuple[float, float]:
    """Return between which values (ms) a printed percentile lies; both ends may be the value itself.

    `finer` is for a Locust whose rounding was replaced: then only the CSV's own int() is known.
    """
    if finer:
        return max(0.0, shown - 0.5), shown + 1
    below = next(half for edge, half in _HALF_MS if shown > edge)
    above = next(half for edge, half in _HALF_MS if shown >= edge)
    return max(0.0, shown - below), shown + above


def _is_finer(rows: Sequence[Mapping[str, str]]) -> bool:
    """Say whether a percentile lies between the buckets of Locust's own rounding."""
    for row in rows:
        for column, cell in row.items():
            if column.endswith("%") and cell.isdigit():
                value = int(cell)
                step = 1000 if value > 10_000 else 100 if value > 1000 else 10 if value > 100 else 1
                if value % step:
                    return True
    return False


def _failures(path: Path, failed: int) -> tuple[dict[str, dict[str, int]], Gate]:
    """Return what failed, by scenario and message, and whether it is as many as the stats count."""
    errors: dict[str, dict[str, int]] = {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(file):
                if row.get("Method") in METHODS and str(row.get("Occurrences")).isdigit():
                    own = errors.setdefault(str(row["Name"]), {})
                    message = " ".join(str(row["Error"]).split())[:200]
                    own[message] = own.get(message, 0) + int(row["Occurrences"])
    except FileNotFoundError:
        found = "there is no such file"
        return {}, Gate(path.name, found, f"{failed:,} failures", ok=not failed, severity="note")
    listed = sum(sum(own.values()) for own in errors.values())
    found = f"{listed:,} failures"
    return errors, Gate(
        path.name, found, f"{failed:,} as in the stats", ok=listed == failed, severity="warning"
    )


def _history_gate(history: locust_history.History | str) -> Gate:
    if isinstance(history, str):
        return Gate("history", history, "usable", ok=False, severity="note")
    return Gate(
        "history", f"{len(history.requests):,} seconds with requests", "usable", ok=True, severity="note"
    )


def _instrument() -> Gate:
    return Gate("instrument", "not known: imported", "known", ok=False, severity="note")
