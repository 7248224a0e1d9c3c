"""The history from the front door: which directories are added, what is shown, what has changed."""

import csv
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import yaml
from rich.console import Console
from rich.text import Text

from analysis import changes, history
from analysis.changes import Change, OtavaMissingError
from analysis.history import HistoryError
from analysis.series import Point, Series, series
from tokenswarm import EXIT_USAGE, TokenswarmError, rejudging, resuming

SHARES = (history.ERRORS,)


class Asked(NamedTuple):
    """Which series are meant; None is all."""

    server: str | None = None
    scenario: str | None = None
    metric: str | None = None


class Found(NamedTuple):
    """A series with its changes; `newest` is the last of them, if it made the newest points worse."""

    series: Series
    changes: Sequence[Change]
    newest: Change | None


def add(
    db: Path, directories: Sequence[Path], commit: str | None, labels: Mapping[str, str]
) -> tuple[int, int]:
    """Append runs, or all runs of experiments; return how many were new and how many there were."""
    runs = [run for directory in directories for run in _runs(directory)]
    try:
        entries = [history.read_entry(run, commit, labels) for run in runs]
        db.parent.mkdir(parents=True, exist_ok=True)
        return history.append(db, entries), len(entries)
    except HistoryError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None


def _runs(directory: Path) -> list[Path]:
    if not (directory / resuming.PLAN).exists():
        return [directory]
    _, names = rejudging.planned(directory)
    return [directory / name for name in names if (directory / name / "run.json").exists()]


def read(db: Path, asked: Asked) -> list[Series]:
    """Return the series that are meant; raises TokenswarmError where there is none."""
    try:
        found = series(db, **asked._asdict())
    except HistoryError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None
    if not found:
        wanted = (
            ", ".join(f"{key} {value!r}" for key, value in asked._asdict().items() if value) or "any metric"
        )
        raise TokenswarmError(f"{db}: found no series of {wanted}", EXIT_USAGE)
    return found


def check(found: Sequence[Series], newest: int, smallest: float) -> list[Found]:
    """Look for changes; the last of a series that goes on is its newest if among its `newest` points."""
    made = []
    tests = sum(len(one.points) >= changes.FEWEST for one in found)
    try:
        for one in found:
            own = changes.changes(one, smallest, max(1, tests))
            recent = [change for change in own[-1:] if change.index >= len(one.points) - newest]
            worse = bool(recent) and recent[0].worse and not one.ended
            made.append(Found(one, own, recent[0] if worse else None))
    except OtavaMissingError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None
    return made


def judged(found: Sequence[Found]) -> int:
    """Count the series that were long enough to be looked at."""
    return sum(len(one.series.points) >= changes.FEWEST for one in found)


def show(found: Sequence[Series], console: Console) -> None:
    """Print a line for each series; the points, too, where there is one series only."""
    for one in found:
        if one.broke:
            console.print(Text(_break(one)), style="dim")
        n, newest = len(one.points), one.points[-1]
        median = statistics.median(point.value for point in one.points)
        figures = f"median {_value(median, one)}, newest {_value(newest.value, one)} ({newest.where})"
        console.print(Text(f"{one.place.title}: {n} point{'' if n == 1 else 's'}, {figures}"))
    if len(found) == 1:
        for point in found[0].points:
            console.print(Text(f"{_value(point.value, found[0]):>14}  {point.where}"))


def _break(one: Series) -> str:
    return f"{one.place.title}: begins anew on {one.points[0].where}: {'; '.join(one.broke)}"


def tell(found: Sequence[Found], console: Console) -> None:
    """Print every change, the regressions among the newest points last."""
    for one in sorted(found, key=lambda one: one.newest is not None):
        for change in one.changes:
            console.print(Text(_change(one.series, change)), style="bold red" if change is one.newest else "")
    short = len(found) - judged(found)
    if short:
        console.print(Text(f"{short} series have fewer than {changes.FEWEST} points: nothing to be said yet"))
    if not any(one.changes for one in found) and judged(found):
        console.print(Text(f"no change in {judged(found)} series"))


def _change(one: Series, change: Change) -> str:
    at: Point = one.points[change.index]
    word = "worse" if change.worse else "better"
    relative = "" if math.isinf(change.relative) else f", {change.relative:+.1%}"
    values = f"{_value(change.before, one)} -> {_value(change.after, one)}{relative}"
    return f"{one.place.title}: {word} since {at.where}: {values} (p {change.p_value:.1g})"


def to_json(found: Sequence[Found]) -> list[dict[str, object]]:
    """Return every change as plain JSON values, whether it is a regression of the newest points with it."""
    return [
        {
            **one.series.place._asdict(),
            **one.series.points[change.index]._asdict(),
            "before": change.before,
            "after": change.after,
            "p_value": change.p_value,
            "worse": change.worse,
            "regression": change is one.newest,
        }
        for one in found
        for change in one.changes
    ]


def _value(value: float, of: Series) -> str:
    if math.isinf(value):
        return "∞ (failures)"
    if of.place.metric in SHARES:
        return f"{value:.3%}"
    unit = "/s" if not of.place.lower_is_better else " ms"
    return f"{value:,.4g}{unit}"


def export(found: Sequence[Series], out: Path) -> list[Path]:
    """Write a CSV file for each server, load and scenario, and otava.yaml, which names them to Apache Otava.

    A metric that is missing or infinite at some point is left out, since Otava wants a number in every cell.
    """
    out.mkdir(parents=True, exist_ok=True)
    groups: dict[tuple[str, str], list[Series]] = {}
    for one in found:
        title = one.place._replace(metric="").title.rstrip(", ")
        groups.setdefault((title, json.dumps(one.conditions, sort_keys=True)), []).append(one)
    files, tests = [], {}
    for number, ((title, _), own) in enumerate(groups.items(), 1):
        file = out / f"{number:02}-{re.sub(r'[^A-Za-z0-9.]+', '-', title).strip('-')}.csv"
        tests[file.stem] = _write(file, own)
        files.append(file)
    (out / "otava.yaml").write_text(yaml.safe_dump({"tests": tests}, sort_keys=False), encoding="utf-8")
    return [*files, out / "otava.yaml"]


def _write(file: Path, own: Sequence[Series]) -> dict[str, object]:
    runs = {(point.run, point.name): point for one in own for point in one.points}
    columns = {
        one.place.metric: {(point.run, point.name): point.value for point in one.points} for one in own
    }
    whole = {
        metric: values
        for metric, values in columns.items()
        if len(values) == len(runs) and all(map(math.isfinite, values.values()))
    }
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(("time", "commit", "run", *whole))
        for key, point in sorted(runs.items(), key=lambda item: item[1].started_unix_ns):
            time = datetime.fromtimestamp(point.started_unix_ns // 10**9, UTC).isoformat()
            writer.writerow(
                (time, point.commit or "", point.run, *(values[key] for values in whole.values()))
            )
    directions = {one.place.metric: -1 if one.place.lower_is_better else 1 for one in own}
    return {
        "type": "csv",
        "file": str(file.resolve()),
        "time_column": "time",
        "attributes": ["commit", "run"],
        "metrics": {
            metric.replace(" ", "_").replace("/", "_per_"): {
                "column": metric,
                "direction": directions[metric],
            }
            for metric in whole
        },
    }
