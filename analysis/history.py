"""A history of judged runs in one SQLite file that is only ever appended to. `series` reads it over time."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA = 1
"""Version of the file, kept as its user_version. A reader refuses a file with a higher number."""

APPLICATION = 0x546B5377
"""SQLite's application_id: whose file it is."""

RATES = ("output tokens/s", "requests/s")
"""Figures of which more is better."""

ERRORS = "error share"
PERCENTILES = ("p50", "p95", "p99")
NOT_A_CONDITION = ("load.seed", "load.run_time_s", "load.stop_timeout_s")
"""What two points of a series may differ in: which prompts were drawn, and how long they were sent."""

WAIT_S = 30.0
"""So long a writer waits for another one."""

_TABLES = (
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, name TEXT NOT NULL, server TEXT NOT NULL, level REAL,
        block INTEGER, started_unix_ns INTEGER NOT NULL, added_unix_ns INTEGER NOT NULL, git_commit TEXT,
        labels TEXT NOT NULL, sla TEXT NOT NULL, judged_by TEXT NOT NULL, status TEXT NOT NULL,
        simulated INTEGER NOT NULL, loop TEXT NOT NULL, versions TEXT NOT NULL, conditions TEXT NOT NULL,
        conditions_hash TEXT NOT NULL, UNIQUE (run, name, judged_by))""",
    """CREATE TABLE objectives (
        run_id INTEGER NOT NULL REFERENCES runs (id), text TEXT NOT NULL, status TEXT NOT NULL,
        unit TEXT NOT NULL, observed REAL, limit_value REAL, bound_low REAL, bound_high REAL,
        n INTEGER NOT NULL, n_eff REAL)""",
    """CREATE TABLE figures (
        run_id INTEGER NOT NULL REFERENCES runs (id), scenario TEXT NOT NULL, metric TEXT NOT NULL,
        value REAL, n INTEGER NOT NULL)""",
    "CREATE INDEX figures_by_metric ON figures (metric, run_id)",
)
_INSERT_RUN = """INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (run, name, judged_by) DO NOTHING"""
_KEPT = """CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
    BEGIN SELECT RAISE(ABORT, 'a history is only appended to'); END"""


class HistoryError(ValueError):
    """A history, or a run for it, that cannot be read: says where, what was found and what was expected."""


class Figure(NamedTuple):
    """A value (ms, a rate or a share) of a run; infinite where failures reach it, None if there is none."""

    scenario: str
    metric: str
    value: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of a judged run."""

    run: str
    name: str
    server: str
    level: float | None
    block: int | None
    started_unix_ns: int
    commit: str | None
    labels: Mapping[str, str]
    sla: str
    status: str
    simulated: bool
    loop: str
    versions: Mapping[str, Any]
    conditions: Mapping[str, Any]
    objectives: tuple[Mapping[str, Any], ...]
    figures: tuple[Figure, ...]


def read_entry(directory: Path, commit: str | None, labels: Mapping[str, str]) -> Entry:
    """Read what is to be kept of a judged run; raises HistoryError where the directory holds none."""
    meta = _object(directory / "run.json", "a run directory")
    verdict = _object(directory / "verdict.json", "a judged run (tokenswarm verdict judges it)")
    try:
        return _entry(meta, verdict, commit, labels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HistoryError(
            f"{directory}: run.json or verdict.json lacks what a run has ({error!r})"
        ) from None


def _object(path: Path, expected: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HistoryError(f"{path.parent}: found no {path.name}, expected {expected}") from None
    except (OSError, ValueError) as error:
        raise HistoryError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise HistoryError(f"{path}: found a {type(found).__name__}, expected an object")
    return found


def _entry(
    meta: Mapping[str, Any], verdict: Mapping[str, Any], commit: str | None, labels: Mapping[str, str]
) -> Entry:
    if verdict["run"] != meta["run"]:
        raise ValueError(f"verdict.json is of run {verdict['run']}")
    place = meta.get("experiment") or {}
    target, load = meta["target"], meta["load"]
    level = place.get("level", load.get("users"))
    return Entry(
        run=str(meta["run"]),
        name=str(meta["name"]),
        server=str(place.get("server") or target.get("model") or meta["name"]),
        level=None if level is None else float(level),
        block=place.get("block"),
        started_unix_ns=int(meta["started_unix_ns"]),
        commit=commit,
        labels=dict(labels),
        sla=str(verdict["sla"]),
        status=str(verdict["status"]),
        simulated=bool(verdict["simulated"]),
        loop=str(load["loop"]),
        versions={**(meta.get("versions") or {}), "server": target.get("server")},
        conditions=_conditions(meta),
        objectives=tuple(verdict["objectives"]),
        figures=tuple(_figures(verdict["scenarios"])),
    )


def _conditions(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the points of a series share, by its name in run.json."""
    found = {
        f"{section}.{key}": value
        for section in ("load", "workload", "deadlines")
        for key, value in (meta.get(section) or {}).items()
    }
    found |= {f"target.{key}": meta["target"].get(key) for key in ("endpoint", "model")}
    found["simulated"] = bool(meta.get("simulated"))
    return {key: value for key, value in sorted(found.items()) if key not in NOT_A_CONDITION}


def _figures(scenarios: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    for one in scenarios:
        name, n = str(one["scenario"]), int(one["n"])
        yield Figure(name, RATES[0], _number(one["output_tokens_per_s"]), n)
        yield Figure(name, RATES[1], _number(one["requests_per_s"]), n)
        failed = sum(count for outcome, count in one["failed"].items() if outcome != "cancelled")
        yield Figure(name, ERRORS, failed / n if n else None, n)
        for metric, percentiles in (one["latencies"] or {}).items():
            for statistic in PERCENTILES:
                value = _number(percentiles["all"][statistic])
                yield Figure(name, f"{metric} {statistic}", value, int(percentiles["n"]))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)  # "inf" is a number, too


def append(path: Path, entries: Sequence[Entry]) -> int:
    """Append runs to a history, which is made if it is not there; return how many were new.

    A run that was judged by the same objectives is there once, however often it is added. Either all entries
    are added or none. Raises HistoryError.
    """
    with connected(path, write=True) as database:
        return sum(_insert(database, entry) for entry in entries)


def _insert(database: sqlite3.Connection, entry: Entry) -> bool:
    judged_by = _hash([entry.sla, [one["text"] for one in entry.objectives]])
    row: tuple[Any, ...] = (entry.run, entry.name, entry.server, entry.level, entry.block)
    row += (entry.started_unix_ns, time.time_ns(), entry.commit, _json(entry.labels), entry.sla, judged_by)
    row += (entry.status, entry.simulated, entry.loop, _json(entry.versions), _json(entry.conditions))
    done = database.execute(_INSERT_RUN, (*row, _hash(entry.conditions)))
    if done.rowcount != 1:
        return False
    objectives = [
        (
            done.lastrowid,
            one["text"],
            one["status"],
            one["unit"],
            *(_number(one[key]) for key in ("observed", "limit", "bound_low", "bound_high")),
            one["n"],
            one["n_eff"],
        )
        for one in entry.objectives
    ]
    database.executemany("INSERT INTO objectives VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", objectives)
    figures = [(done.lastrowid, *figure) for figure in entry.figures]
    database.executemany("INSERT INTO figures VALUES (?, ?, ?, ?, ?)", figures)
    return True


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _hash(value: Any) -> str:
    return hashlib.sha256(_json(value).encode("utf-8", "replace")).hexdigest()[:16]


@contextmanager
def connected(path: Path, *, write: bool) -> Iterator[sqlite3.Connection]:
    """Open a history; to write in one transaction, of which one goes on at a time."""
    if not write and not path.exists():
        expected = "one that `tokenswarm history add` made"
        raise HistoryError(f"{path}: found no history, expected {expected}")
    mode = "rwc" if write else "ro"
    try:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=WAIT_S, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            _check(database, path, make=write)
            yield database
            database.execute("COMMIT")  # an error on the way leaves it to closing, which rolls back
    except sqlite3.Error as error:
        raise HistoryError(f"{path}: {error}, expected a history of Tokenswarm (SQLite)") from None


def _check(database: sqlite3.Connection, path: Path, *, make: bool) -> None:
    """Refuse a file that is not ours or newer than we; make the tables of an empty one."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (schema,) = database.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION:
        if schema > SCHEMA:
            raise HistoryError(f"{path}: schema {schema}, this Tokenswarm reads up to {SCHEMA}")
        return
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or schema or tables or not make:
        raise HistoryError(f"{path}: found another program's database, expected a history of Tokenswarm")
    for statement in _TABLES:
        database.execute(statement)
    for table in ("runs", "objectives", "figures"):
        for verb in ("UPDATE", "DELETE"):
            database.execute(_KEPT.format(table=table, verb=verb))
    database.execute(f"PRAGMA application_id = {APPLICATION}")
    database.execute(f"PRAGMA user_version = {SCHEMA}")
