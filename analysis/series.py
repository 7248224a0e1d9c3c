"""Figures over time, out of the history: a series is one figure of one server at one load, run after run.

Its points are comparable: load, workload, deadlines, endpoint and model of all of them are equal. Where any
of these changes, another series begins, and says what differs. Runs that are INVALID or OVERSATURATED give no
points, for their figures would prove nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from .history import RATES, connected
from .verdict import INVALID, OVERSATURATED

_POINTS = """
    SELECT runs.server, runs.level, runs.loop, figures.scenario, figures.metric, runs.conditions, runs.run,
        runs.name, runs.started_unix_ns, runs.git_commit, figures.value, figures.n
    FROM figures JOIN runs ON runs.id = figures.run_id
    WHERE runs.id IN
            (SELECT min(id) FROM runs WHERE status NOT IN (:invalid, :oversaturated) GROUP BY run, name)
        AND figures.value IS NOT NULL
        AND (:server IS NULL OR runs.server = :server)
        AND (:scenario IS NULL OR figures.scenario = :scenario)
        AND (:metric IS NULL OR figures.metric = :metric)
    ORDER BY runs.server, runs.level, runs.loop, figures.scenario, figures.metric, runs.started_unix_ns,
        runs.id
"""


class Point(NamedTuple):
    """A run in a series; the value is in ms, a rate or a share, and infinite where failures reach it."""

    run: str
    name: str
    started_unix_ns: int
    commit: str | None
    value: float
    n: int

    @property
    def where(self) -> str:
        """Return what a person looks it up by."""
        day = f"{datetime.fromtimestamp(self.started_unix_ns / 1e9, UTC):%Y-%m-%d %H:%M}"
        return f"{day}, {f'commit {self.commit[:12]}, ' if self.commit else ''}run {self.run}"


class Place(NamedTuple):
    """What a series is about; `level` is in users or, in an open loop, in arrivals/s."""

    server: str
    level: float | None
    loop: str
    scenario: str
    metric: str

    @property
    def title(self) -> str:
        """Return what a person calls it."""
        unit = "arrivals/s" if self.loop == "open" else "users"
        level = "" if self.level is None else f" at {self.level:g} {unit}"
        return f"{self.server}{level}, {self.scenario}, {self.metric}"

    @property
    def lower_is_better(self) -> bool:
        """Say which way is good."""
        return self.metric not in RATES


@dataclass(frozen=True, slots=True)
class Series:
    """A figure over time, oldest first.

    `broke` says what differs from the series before it. `ended`: another one began after its last point.
    """

    place: Place
    conditions: Mapping[str, Any]
    points: tuple[Point, ...]
    broke: tuple[str, ...]
    ended: bool


def series(
    path: Path, *, server: str | None = None, scenario: str | None = None, metric: str | None = None
) -> list[Series]:
    """Return the series of a history, by place and then by their first point. Raises HistoryError."""
    asked = {"server": server, "scenario": scenario, "metric": metric}
    asked |= {"invalid": INVALID, "oversaturated": OVERSATURATED}
    with connected(path, write=False) as database:
        rows = database.execute(_POINTS, asked).fetchall()
    return [one for place, own in groupby(rows, lambda row: row[:5]) for one in _of_place(Place(*place), own)]


def _of_place(place: Place, rows: Iterator[Sequence[Any]]) -> Iterator[Series]:
    by_conditions: dict[str, list[Point]] = {}
    for row in rows:
        by_conditions.setdefault(row[5], []).append(Point(*row[6:]))
    before: Mapping[str, Any] | None = None
    for text, points in by_conditions.items():
        conditions = json.loads(text)
        last = points[-1].started_unix_ns
        ended = any(other[0].started_unix_ns > last for other in by_conditions.values())
        broke = () if before is None else tuple(_differences(before, conditions))
        yield Series(place, conditions, tuple(points), broke, ended)
        before = conditions


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            yield f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
