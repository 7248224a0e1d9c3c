"""What `*_stats_history.csv` tells second by second: how many requests, failures, and their mean time.

The percentiles in it are cumulative (or of ten overlapping seconds), but counts and means are running
totals, so that differences give each second's own count, failures and mean. How alike neighbouring seconds
are is thereby known; how alike the requests of one second are is not. So a second counts as one request.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from analysis.coarse import Worth
from analysis.statistics import (
    BATCH_TAU,
    LEAST,
    FloatArray,
    autocorrelation_time,
    cluster_effect,
    freedom,
    mean_of,
    small_sample_factor,
)

from .source import ImportFileError

COLUMNS = (
    "Timestamp",
    "Type",
    "Name",
    "Total Request Count",
    "Total Failure Count",
    "Total Average Response Time",
)


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Requests, failures and summed times (ms) of each second that had any, in order."""

    start_s: int
    end_s: int
    requests: FloatArray
    failures: FloatArray
    times_ms: FloatArray

    def worth(self) -> Worth:
        """Return how many independent seconds there were, as their mean times show it.

        From as few on as requests of our own (`LEAST` says why a higher least would choose the lucky runs: of
        M/M/1 queues whose runs are worth 100 seconds, those that looked good enough passed limits that they
        only just miss in up to 83 %, where few did; from 20 on, their number being an estimate, in 4 %).
        """
        tau = autocorrelation_time(self.times_ms / self.requests)
        independent = len(self.requests) / tau
        n = independent * small_sample_factor(freedom(independent))
        return Worth(n, "a second's requests count as one, and seconds are alike", independent, LEAST)

    def worth_failed(self) -> Worth:
        """Return what n requests are worth for the share of failed ones, seconds being clusters of them.

        Overload fails requests where it slows them, so failures come together at least as long as the mean
        times show slow moments to last: a run that met few failures knows least of that by them alone (upper
        bounds then cover 30 to 90 % instead of 95 %: tests/statistics). Two things are estimated, how many
        fail in one second together and for how many seconds, so a degree of freedom takes twice as many of
        those. Where few seconds had failures, or none, a second counts as one. That a server fails is shown
        by its failures alone.
        """
        by_times, requests = self.worth(), float(self.requests.sum())
        effect = cluster_effect(self.failures, self.requests)
        n_low = 0.0
        if effect.clusters >= LEAST:
            n_low = requests / effect.deff * small_sample_factor(freedom(effect.clusters))
        if np.count_nonzero(self.failures) < LEAST:
            return replace(by_times, n_low=n_low)
        independent = min(effect.clusters, by_times.independent)
        deff = effect.deff * effect.clusters / independent
        n = requests / deff * small_sample_factor(freedom(independent, 2 * BATCH_TAU))
        return Worth(n, "failures come together", independent, LEAST, n_low)

    def mean_bounds_ms(self) -> tuple[float, float] | None:
        """Return bounds on the mean time as of any run's, None where there are too few seconds."""
        mean = mean_of(self.times_ms, self.requests)
        return mean.bounds() if mean.independent >= LEAST else None


def read(path: Path, wanted: Callable[[str, str], bool], n: int) -> History | str:
    """Read the history of the rows that are `wanted` (type, name), or say why there is none to use.

    `n` is what the stats file counts: a history that counts more is another run's. Raises ImportFileError
    where the file is no history.
    """
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = list(csv.DictReader(file))
            if rows and not set(COLUMNS) <= rows[0].keys():
                missing = ", ".join(sorted(set(COLUMNS) - rows[0].keys()))
                raise ImportFileError(f"{path}: found no column {missing}, expected Locust's history")
    except FileNotFoundError:
        return f"there is no {path.name}, which would tell how alike neighbouring requests are"
    totals: dict[int, list[float]] = {}
    before = None
    for row in rows:
        found = _numbers(row) if wanted(row["Type"] or "", row["Name"] or "") else None
        if found is None:
            continue  # the last line of a run that was killed is cut off
        second = int(found[0])
        if before is not None and second < before:
            return f"{path.name}: its clock went back by {before - second} s"
        before = second
        sums = totals.setdefault(second, [0.0, 0.0, 0.0])
        for i, value in enumerate((found[1], found[2], found[1] * found[3])):
            sums[i] += value
    return _differences(path, totals, n)


def _numbers(row: Mapping[str, str | None]) -> tuple[float, ...] | None:
    try:
        found = tuple(float(row[name] or "") for name in (COLUMNS[0], *COLUMNS[3:]))
    except ValueError:
        return None
    return found if all(np.isfinite(found)) else None


def _differences(path: Path, totals: Mapping[int, Sequence[float]], n: int) -> History | str:
    if not totals:
        return f"{path.name} has no rows of these requests"
    seconds = np.array(list(totals))
    values = np.array(list(totals.values()))
    fell = np.flatnonzero(np.diff(values[:, 0]) < 0)  # statistics were reset, after the ramp-up usually
    if len(fell):
        seconds, values = seconds[fell[-1] + 1 :], values[fell[-1] + 1 :]
    if values[-1, 0] > n:
        return f"{path.name} counts {values[-1, 0]:,.0f} requests and the stats {n:,}: they are of two runs"
    steps = np.diff(values, axis=0, prepend=0.0)
    some = steps[:, 0] > 0
    if not some.any():
        return f"{path.name} has no requests in it"
    return History(int(seconds[0]), int(seconds[-1]) + 1, *steps[some].T)
