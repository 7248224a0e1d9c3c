"""How much is asked: a number of requests a second, or a trace of arrivals.

A trace is a CSV or JSON Lines file; its columns are found by name, since published traces order them
differently (case, blanks and underscores do not count):

    arrivals   timestamp, t_rel_s, arrival_time, or any of them ending in _s, _ms, _us, _ns
    prompt     ContextTokens, Request tokens, input_length, prompt_tokens, input_tokens, in_tok
    answer     GeneratedTokens, Response tokens, output_length, output_tokens, out_tok

An arrival is a date with a time (Azure's traces) or a number: seconds (BurstGPT), milliseconds in JSON Lines
(Mooncake), unless the column's name ends in another unit. Times must not go back. Where all lie on a
grid and share its points, arrivals are spread evenly over the step that begins there: how they lay within
it is lost, and at a finer scale there is no peak.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .statistics import FloatArray

SCALES_S = (1.0, 10.0, 60.0)
"""Peak over mean is told at these scales."""

GRID_S = 0.1
"""Times on a grid finer than this are as good as exact for a fleet that reacts in seconds."""

LARGEST_S = 1e10
"""Larger numbers (the year 2286, in seconds) are of a smaller unit than the name says."""

_ARRIVALS = ("timestamp", "trels", "arrivaltime", "time", "arrivedat")
_INPUT = ("contexttokens", "requesttokens", "inputlength", "prompttokens", "inputtokens", "intok")
_OUTPUT = ("generatedtokens", "responsetokens", "outputlength", "outputtokens", "outtok")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


class DemandError(ValueError):
    """A demand that cannot be read: says where, what was found and what was expected."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Arrivals in seconds from the first one, in order, and how many tokens a request has on average.

    `grid_s` is the step that the times were rounded to, None where they are exact; `failed` requests have no
    answer in the trace: they count as arrivals, not in the mean answer.
    """

    name: str
    at_s: FloatArray
    grid_s: float | None
    unit: str  # that times were read in
    input_tokens: float | None
    output_tokens: float | None
    failed: int

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last."""
        return float(self.at_s[-1])

    @property
    def mean_per_s(self) -> float:
        """Arrivals over the trace's whole length."""
        return len(self.at_s) / self.duration_s

    def rates(self, scale_s: float) -> FloatArray:
        """Return for each arrival the rate (1/s) over the `scale_s` seconds that end with it."""
        before = np.searchsorted(self.at_s, self.at_s - scale_s, side="right")
        rates: FloatArray = (np.arange(1, len(self.at_s) + 1) - before) / scale_s
        return rates

    def peak_per_s(self, scale_s: float) -> float | None:
        """Return the highest rate over any stretch of that length; None where the grid is coarser."""
        if scale_s < (self.grid_s or 0.0) or scale_s > self.duration_s:
            return None
        return float(self.rates(scale_s).max())


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of a trace: when it begins, its arrivals, and the highest rate within it."""

    start_s: float
    arrivals: int
    peak_per_s: float


def steps(trace: Trace, length_s: float) -> tuple[Step, ...]:
    """Cut a trace into stretches of a length; one's peak is the highest rate over so long that ends in it.

    Raises DemandError where the trace is shorter than one, or its grid is coarser.
    """
    if trace.duration_s < length_s:
        found = f"found {trace.duration_s:.3g} s, expected at least one reaction time of {length_s:g} s"
        raise DemandError(f"{trace.name}: {found}")
    if length_s < (trace.grid_s or 0.0):
        found = f"found times on a grid of {trace.grid_s:g} s"
        raise DemandError(f"{trace.name}: {found}, expected a reaction time that is no shorter")
    number = np.floor(trace.at_s / length_s).astype(int)
    count = int(max(number[-1] + 1, math.ceil(round(trace.duration_s / length_s, 9))))
    peaks = np.zeros(count)
    np.maximum.at(peaks, number, trace.rates(length_s))
    arrivals = np.bincount(number, minlength=count)
    return tuple(Step(i * length_s, int(arrivals[i]), float(peaks[i])) for i in range(count))


def read_trace(path: Path | str) -> Trace:
    """Read a trace. Raises DemandError, one line, where it is none."""
    path = Path(path)
    frame = _frame(path)
    if not len(frame):
        raise DemandError(f"{path}: found no requests, expected one a line")
    named = {_bare(str(column)): str(column) for column in frame.columns}
    column, unit = _arrival_column(path, named)
    at_s, unit = _seconds(path, frame[column], unit)
    back = np.flatnonzero(np.diff(at_s) < 0)
    if len(back):
        line = int(back[0]) + (2 if path.suffix in _LINES else 3)
        found = f"found {frame[column].iloc[back[0] + 1]} after {frame[column].iloc[back[0]]}"
        expected = f"expected times that never go back: sort the file by {column}"
        raise DemandError(f"{path}: line {line}: {found}, {expected}")
    relative = at_s - at_s[0]
    grid_s = _grid(relative)
    if relative[-1] <= 0:
        found = f"found all requests at {frame[column].iloc[0]}"
        raise DemandError(f"{path}: {found}, expected a stretch of time")
    outputs = _tokens(path, frame, named, _OUTPUT)
    answered = outputs[outputs > 0] if outputs is not None else None
    return Trace(
        name=path.name,
        at_s=_spread(relative, grid_s) if grid_s else relative,
        grid_s=grid_s,
        unit=unit,
        input_tokens=_mean(_tokens(path, frame, named, _INPUT)),
        output_tokens=_mean(answered),
        failed=0 if outputs is None or answered is None else len(outputs) - len(answered),
    )


_LINES = (".jsonl", ".ndjson")


def _frame(path: Path) -> pd.DataFrame:
    try:
        if path.suffix in _LINES:
            with path.open(encoding="utf-8") as file:
                return pd.DataFrame([json.loads(line) for line in file if line.strip()])
        return pd.read_csv(path, skipinitialspace=True)
    except OSError as error:
        raise DemandError(f"{path}: cannot be read ({error.strerror})") from None
    except pd.errors.EmptyDataError:
        raise DemandError(f"{path}: found an empty file, expected a line with names of columns") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise DemandError(f"{path}: not a table ({' '.join(str(error).split())})") from None


def _bare(name: str) -> str:
    return name.strip().lower().replace(" ", "").replace("_", "")


def _arrival_column(path: Path, named: dict[str, str]) -> tuple[str, str]:
    """Return the column of the arrivals and the unit that its name says, or nothing."""
    for name in _ARRIVALS:
        for unit in ("", *_UNITS_S):
            if name + unit in named:
                own = "s" if name == "trels" else unit
                return named[name + unit], own
    found = ", ".join(named.values()) or "no columns"
    raise DemandError(f"{path}: found {found}; expected a column timestamp")


def _seconds(path: Path, column: Any, unit: str) -> tuple[FloatArray, str]:
    """Return times in seconds and the unit they were read in."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    if np.isfinite(numbers).any():
        unit = unit or ("ms" if path.suffix in _LINES else "s")
        values = numbers * _UNITS_S[unit]
        _check_finite(path, column, np.isfinite(values))
        if values.max() > LARGEST_S:
            found = f"found a {column.name} of {column.max()} as {unit}"
            raise DemandError(f"{path}: {found}, expected less: name the column timestamp_ms, _us or _ns")
        return values, unit
    dates = pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
    _check_finite(path, column, dates.notna().to_numpy())
    first = dates.iloc[0]
    return ((dates - first) / pd.Timedelta(seconds=1)).to_numpy(dtype=np.float64), "date"


def _check_finite(path: Path, column: Any, known: Any) -> None:
    wrong = np.flatnonzero(~known)
    if len(wrong):
        line = int(wrong[0]) + (1 if path.suffix in _LINES else 2)
        found = f"found {column.name} = {column.iloc[wrong[0]]}"
        expected = "expected a number or a date such as 2023-11-16 18:15:46.68"
        raise DemandError(f"{path}: line {line}: {found}, {expected}")


def _grid(at_s: FloatArray) -> float | None:
    """Return the step that all times are multiples of, where it is coarse and arrivals share its points."""
    ticks = np.unique(np.round(at_s * 1e3).astype(np.int64))
    if len(ticks) == len(at_s) or len(ticks) < 2:
        return None
    step_s = float(np.gcd.reduce(np.diff(ticks))) / 1e3
    return step_s if step_s >= GRID_S else None


def _spread(at_s: FloatArray, grid_s: float) -> FloatArray:
    """Put the m arrivals of a grid's point at (k + 1/2) / m of the step that begins there."""
    _, first, count = np.unique(at_s, return_index=True, return_counts=True)
    within = (np.arange(len(at_s)) - np.repeat(first, count) + 0.5) / np.repeat(count, count)
    spread = np.round(at_s / grid_s) * grid_s + within * grid_s
    from_first: FloatArray = spread - spread[0]
    return from_first


def _tokens(
    path: Path, frame: pd.DataFrame, named: dict[str, str], names: tuple[str, ...]
) -> FloatArray | None:
    for name in names:
        if name in named:
            where, expected = f"{path}: {named[name]}", "expected numbers of tokens"
            try:
                values: FloatArray = frame[named[name]].to_numpy(dtype=np.float64)
            except (ValueError, TypeError):
                raise DemandError(f"{where}: found a text, {expected}") from None
            if np.any(values < 0):
                raise DemandError(f"{where}: found {np.nanmin(values):g}, {expected}")
            known: FloatArray = values[np.isfinite(values)]
            return known
    return None


def _mean(values: FloatArray | None) -> float | None:
    return float(values.mean()) if values is not None and len(values) else None
