"""Read a run directory: what the load side wrote, checked, in one frozen object.

A run that was cut off (no end in run.json, a half-written last line) still loads: what it holds is
evidence, and the verdict will be INVALID with the reason in `Run.damage`. So it is where a row in the middle
cannot be read: it is left out, counted and named. A warning would not do, for nobody knows what it said: a
disk that damages one row of a thousand may have damaged the one late request that decides.
"""

import csv
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import intervals, markers, table
from .histogram import Interval
from .intervals import IntervalLog
from .markers import Marker
from .record import SCHEMA, RecordError

LOGS = ("itl", "itl_token", "lag")
"""Interval logs that are judged, as `<name>.hlog`; TTFT and E2E are exact in requests.csv."""

TIMELINE = (
    "unix_s",
    "offered",
    "started",
    "ok",
    "failed",
    "in_flight",
    "tokens",
    "lag_max_ns",
    "cpu_share_max",
    "workers",
)

_SECTIONS = ("target", "load", "workload", "deadlines", "window", "workers", "accounting", "instrument")
_NUMBERS = {
    "accounting": ("started", "records", "unaccounted", "missing_reports"),
    "workers": ("expected",),
}


class RunError(ValueError):
    """Not a run directory that can be judged: says where, what was found and what was expected."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run as it was recorded.

    `requests` has the columns of RequestRecord, one row per request in due order: `due_unix_ns` is int64,
    times that may never have come are float64 ns with NaN (exact below 104 days).
    `logs` maps a metric to its interval log; `damage` lists, one line each, why the record is incomplete.
    """

    path: Path
    meta: Mapping[str, Any]
    requests: pd.DataFrame
    logs: Mapping[str, Sequence[Interval]]
    timeline: pd.DataFrame
    server_metrics: pd.DataFrame | None
    damage: tuple[str, ...]
    so_far: bool = False  # it goes on: what is missing is not lost

    @property
    def window_ns(self) -> tuple[int, int]:
        """Start and end (unix ns) of what is judged; without a window, from the start to the last due."""
        start, end = self.meta["window"].get("start_unix_ns"), self.meta["window"].get("end_unix_ns")
        if start is None:
            start = self.meta["started_unix_ns"]
        if end is None:
            end = int(self.requests.due_unix_ns.max()) + 1 if len(self.requests) else start
        return int(start), int(end)

    @property
    def markers(self) -> tuple[Marker, ...]:
        """What happened at a moment, in the order in which it was noted."""
        return markers.read(self.meta)

    @property
    def first_s(self) -> int:
        """The second (unix) at which a chart over time begins."""
        rows = self.timeline.unix_s
        return int(rows.min()) if len(rows) else int(self.meta["started_unix_ns"]) // 10**9

    @property
    def unknown(self) -> frozenset[str]:
        """Metrics that the file says nothing of which this run was imported from."""
        return frozenset((self.meta.get("imported") or {}).get("unknown", ()))

    @property
    def timed(self) -> bool:
        """Whether requests have times; some tools' files have none."""
        return bool((self.meta.get("imported") or {}).get("timed", True))


def load(path: Path | str) -> Run:
    """Read a run directory. Raises RunError, one line, where it is none."""
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"{path}: found no directory, expected a run directory with run.json and requests.csv")
    if not any(path.iterdir()):
        raise RunError(f"{path}: found an empty directory, expected run.json and requests.csv")
    damage: list[str] = []
    meta = _read_meta(path / "run.json")
    _check_kinds(path / "run.json", meta)
    if meta.get("ended_unix_ns") is not None:
        _check_ended(path / "run.json", meta)
    if meta.get("ended_unix_ns") is None:
        damage.append("run.json has no end: the run was cut off")
    if meta.get("interrupted"):
        damage.append(f"interrupted: {meta['interrupted']}")
    damage += (meta.get("imported") or {}).get("missing", ())
    run = _read(path, meta, damage)
    if len(run.requests) == meta["accounting"].get("records"):
        return run
    return replace(run, damage=(*run.damage, *_foreign(path / "requests.csv", meta["run"])))


def load_so_far(path: Path | str, known: Mapping[str, Any]) -> Run:
    """Read a run that goes on, as far as its rows are whole: nothing that is still to come is damage.

    `known` takes the place of what run.json, written before the first request, cannot say: `window`,
    `workers` and `clock`. Where the window has no end yet, it ends behind the last request that has a row.
    Raises RunError.
    """
    path = Path(path)
    meta = _read_meta(path / "run.json") | dict(known)
    _check_kinds(path / "run.json", meta)
    run = _read(path, meta, [], so_far=True)
    start, end = run.window_ns
    meta["window"] = {**meta["window"], "end_unix_ns": max(start, end)}
    reported = np.flatnonzero(run.timeline.workers.to_numpy() > 0)  # the last rows may still come
    timeline = run.timeline.iloc[: reported[-1] + 1 if len(reported) else 0]
    return replace(run, timeline=timeline, damage=())


def _read(path: Path, meta: dict[str, Any], damage: list[str], *, so_far: bool = False) -> Run:
    requests = _read_requests(path / "requests.csv", damage, so_far=so_far)
    logs = {name: _read_log(path / f"{name}.hlog", damage) for name in LOGS}
    return Run(
        path=path,
        meta=meta,
        requests=requests,
        logs={name: log for name, log in logs.items() if log is not None},
        timeline=_read_timeline(path / "timeline.csv", damage),
        server_metrics=_read_server_metrics(path / "server_metrics.csv", damage),
        damage=tuple(damage),
        so_far=so_far,
    )


def window(run: Run) -> pd.DataFrame:
    """Return the requests that were due inside the window: start <= due < end, in due order."""
    return run.requests.iloc[slice(*np.searchsorted(run.requests.due_unix_ns.to_numpy(), run.window_ns))]


def window_intervals(run: Run, metric: str) -> IntervalLog:
    """Return the intervals of a log whose whole second lies inside the window."""
    start, end = run.window_ns
    log = intervals.as_log(run.logs.get(metric, ()))
    return log.select((start <= log.seconds * 10**9) & ((log.seconds + 1) * 10**9 <= end))


def window_timeline(run: Run) -> pd.DataFrame:
    """Return the timeline rows whose whole second lies inside the window."""
    start, end = run.window_ns
    seconds = run.timeline.unix_s
    return run.timeline[(seconds * 10**9 >= start) & ((seconds + 1) * 10**9 <= end)]


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path.parent}: found no run.json, expected a run directory") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: not JSON ({error})") from None
    if not isinstance(meta, dict):
        raise RunError(f"{path}: found a {type(meta).__name__}, expected an object")
    schema = meta.get("schema")
    if not isinstance(schema, int):
        raise RunError(f"{path}: found schema {schema!r}, expected a number up to {SCHEMA}")
    if schema > SCHEMA:
        raise RunError(f"{path}: schema {schema}, this Tokenswarm reads up to {SCHEMA}")
    return meta


def _check_kinds(path: Path, meta: dict[str, Any]) -> None:
    for key, kind in (("run", str), ("name", str), ("started_unix_ns", int)):
        if not isinstance(meta.get(key), kind):
            raise RunError(f"{path}: found {key} = {meta.get(key)!r}, expected a {kind.__name__}")
    for section in _SECTIONS:
        if not isinstance(meta.setdefault(section, {}), dict):
            raise RunError(f"{path}: found {section} = {meta[section]!r}, expected an object")
    try:
        markers.read(meta)
    except ValueError as error:
        raise RunError(f"{path}: {error}") from None


def _check_ended(path: Path, meta: dict[str, Any]) -> None:
    """Demand the accounts of a run that ended: a gate without its figure is a gate that cannot close."""
    for section, keys in _NUMBERS.items():
        for key in keys:
            if not isinstance(meta[section].get(key), int):
                found = meta[section].get(key)
                raise RunError(f"{path}: found {section}.{key} = {found!r}, expected a whole number")
    start, end = meta["window"].get("start_unix_ns"), meta["window"].get("end_unix_ns")
    if not (isinstance(start, int) and isinstance(end, int)):
        raise RunError(f"{path}: found a window from {start!r} to {end!r}, expected two whole numbers")
    if meta["load"].get("loop") not in {"open", "closed"}:
        raise RunError(f"{path}: found load.loop = {meta['load'].get('loop')!r}, expected open or closed")


def _read_requests(path: Path, damage: list[str], *, so_far: bool) -> pd.DataFrame:
    try:
        frame, unread, first = table.read(path)
        cut = not _ends_with_newline(path)
    except FileNotFoundError:
        raise RunError(f"{path.parent}: found no requests.csv, expected one row per request") from None
    except RecordError as error:
        raise RunError(f"{path}: {error}") from None
    if cut:
        damage.append("the last line of requests.csv was cut off")
    if unread and so_far:  # rows are written whole: this is no run's file, and no light may say PASS
        raise RunError(f"{path}: {first}")
    if unread:
        rows = "1 row" if unread == 1 else f"{unread:,} rows"
        damage.append(f"requests.csv: {rows} left out that cannot be read, the first {first}")
    return frame


def _foreign(path: Path, run: str) -> list[str]:
    """Say which rows are of other runs, where a file holds some."""
    count: Counter[str] = Counter()
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = csv.reader(file)
        width = len(next(lines))
        while True:
            try:
                row = next(lines, None)
            except csv.Error:
                continue  # no row, which is said elsewhere
            if row is None:
                break
            count[row[0]] += len(row) == width  # the last one may have been cut off
    del count[run]
    return [
        f"{many:,} rows of requests.csv are of the run {name}, expected {run}"
        for name, many in count.items()
        if many
    ]


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _read_log(path: Path, damage: list[str]) -> IntervalLog | None:
    """Read an interval log, or as much of it as a crash left; None where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            log, wrong = intervals.read(file)
    except FileNotFoundError:
        return None
    if wrong:
        damage.append(f"{path.name}: {wrong}")
    return log


def _read_timeline(path: Path, damage: list[str]) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        damage.append("there is no timeline.csv")
        return pd.DataFrame(columns=list(TIMELINE), dtype="float64")
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: not a table ({error})") from None
    if tuple(frame.columns) != TIMELINE:
        raise RunError(f"{path}: found columns {list(frame.columns)}, expected {list(TIMELINE)}")
    numbers = frame.apply(pd.to_numeric, errors="coerce")
    complete = numbers.dropna(subset=["unix_s", "in_flight"])  # a crash cuts the last line
    if len(complete) < len(frame):
        damage.append(f"timeline.csv: {len(frame) - len(complete)} of {len(frame)} lines are incomplete")
    timeline: pd.DataFrame = complete.astype({"unix_s": "int64"})
    return timeline.sort_values("unix_s", ignore_index=True)


def _read_server_metrics(path: Path, damage: list[str]) -> pd.DataFrame | None:
    try:
        frame = pd.read_csv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        damage.append(f"server_metrics.csv: not a table ({error})")
        return None
    if not len(frame.columns) or frame.columns[0] != "unix_s":
        raise RunError(f"{path}: found columns {list(frame.columns)[:3]}, expected unix_s as the first")
    numbers: pd.DataFrame = frame.apply(pd.to_numeric, errors="coerce")
    odd = (numbers.isna() & frame.notna()).to_numpy()
    if odd.any():
        row, column = np.argwhere(odd)[0]
        found = f"found {frame.columns[column]} = {str(frame.iloc[row, column])[:40]!r}, expected a number"
        damage.append(
            f"server_metrics.csv: {odd.sum()} cells cannot be read, the first line {row + 2}: {found}"
        )
    return numbers
