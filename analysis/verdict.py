"""The verdict on a run: INVALID > OVERSATURATED > FAIL > INCONCLUSIVE > PASS."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from .evidence import Evidence
from .gates import Gate, check
from .gates_server import check_server
from .gates_workers import check_clocks
from .objective import FAIL, INCONCLUSIVE, PASS, ObjectiveResult
from .record import SCHEMA
from .remedies import REMEDIES
from .rundir import Run, window_timeline
from .scopes import judge_objective
from .server_side import ServerSide, join
from .sla import Sla
from .statistics import Trend, trend
from .steady import Steady, steady
from .summary import ScenarioSummary, summarise

INVALID, OVERSATURATED = "INVALID", "OVERSATURATED"

EXIT_CODES = {PASS: 0, FAIL: 3, OVERSATURATED: 3, INCONCLUSIVE: 4, INVALID: 5}

SEVERITY = (INVALID, OVERSATURATED, FAIL, INCONCLUSIVE, PASS)
"""Of several verdicts the first of these is the whole's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says about an SLA, and why it may be believed or not."""

    status: str
    reasons: tuple[str, ...]
    run: str
    name: str
    simulated: bool
    sla: str
    loop: str
    window_start_unix_ns: int
    window_end_unix_ns: int
    objectives: tuple[ObjectiveResult, ...]
    gates: tuple[Gate, ...]
    in_flight_trend: Trend | None
    ttft_ms_trend: Trend | None
    server_side: ServerSide | None  # None where another tool measured, and before the end
    steady: Steady | None
    scenarios: tuple[ScenarioSummary, ...]
    imported: Mapping[str, Any] | None = None  # tool, version, definitions: where another tool measured

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this verdict."""
        return EXIT_CODES[self.status]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite latency is the text "inf", since JSON has no such number."""
        fields = {"schema": SCHEMA, "exit_code": self.exit_code, **asdict(self)}
        return {key: plain(value) for key, value in fields.items()}


def judge(run: Run, sla: Sla) -> Verdict:
    """Judge a run by an SLA."""
    evidence = Evidence(run)
    gates, side = check(run, evidence, sla), None
    if not (run.so_far or run.meta.get("imported")):  # before the end, or where the server told us nothing
        side = join(run)
        gates += (*check_clocks(run), *check_server(run, side))
    objectives = tuple(judge_objective(evidence, objective) for objective in sla.objectives)
    in_flight, ttft_ms = trends(by_second(run, evidence))
    rising = oversaturated(in_flight, ttft_ms)
    status, reasons = overall(gates, objectives, in_flight if rising else None)
    imported = run.meta.get("imported")
    if imported:
        by = f"IMPORTED from {imported['tool']}: what its instrument was worth is not known"
        reasons = (*reasons, by)
    if rising:
        objectives = tuple(without_percentile(result) for result in objectives)
    start, end = run.window_ns
    return Verdict(
        status=status,
        reasons=reasons,
        run=run.meta["run"],
        name=run.meta["name"],
        simulated=bool(run.meta.get("simulated", False)),
        sla=sla.name,
        loop=str(run.meta["load"].get("loop")),
        window_start_unix_ns=start,
        window_end_unix_ns=end,
        objectives=objectives,
        gates=gates,
        in_flight_trend=in_flight,
        ttft_ms_trend=ttft_ms,
        server_side=side,
        steady=steady(run, evidence),
        scenarios=summarise(run, evidence, percentiles=not rising),
        imported=imported and {key: imported.get(key) for key in ("tool", "version", "definitions")},
    )


def by_second(run: Run, evidence: Evidence) -> pd.DataFrame | None:
    """Return the columns in_flight and ttft_ms (mean) by second (unix) of the window; None in a closed loop.

    N users never have more than N requests in flight: there is nothing that could rise.
    """
    if run.meta["load"].get("loop") != "open":
        return None
    timeline = window_timeline(run)
    seen = evidence.frame[["first_ns", "due_unix_ns"]].dropna()
    ttft_ms = (seen.first_ns / 1e6).groupby(seen.due_unix_ns // 10**9).mean()
    return pd.DataFrame({"in_flight": timeline.set_index("unix_s").in_flight, "ttft_ms": ttft_ms})


def trends(seconds: pd.DataFrame | None) -> tuple[Trend | None, Trend | None]:
    """Return the trends of requests in flight and of TTFT (ms); None where there is none to be told."""
    if seconds is None:
        return None, None
    in_flight, ttft_ms = seconds.in_flight.dropna(), seconds.ttft_ms.dropna()
    return (
        trend(in_flight.index.to_numpy(), in_flight.to_numpy()),
        trend(ttft_ms.index.to_numpy(), ttft_ms.to_numpy()),
    )


def oversaturated(in_flight: Trend | None, ttft_ms: Trend | None) -> bool:
    """Say whether both rise: then percentiles would depend on how long one looks."""
    return bool(in_flight and ttft_ms and in_flight.rising and ttft_ms.rising)


def overall(
    gates: tuple[Gate, ...], objectives: tuple[ObjectiveResult, ...], rise: Trend | None
) -> tuple[str, tuple[str, ...]]:
    """Return the status and its reasons; `rise` is the trend of requests in flight where it is too much."""
    broken = [gate for gate in gates if not gate.ok and gate.severity == "invalid"]
    if broken:
        return INVALID, tuple(_broken(gate) for gate in broken)
    if rise:
        found = f"in flight rose from {max(rise.start, 0):.0f} to {rise.end:.0f} and TTFT rose with it"
        return OVERSATURATED, (f"{found}: percentiles would depend on the length of the run",)
    for status in (FAIL, INCONCLUSIVE):
        concerned = [result for result in objectives if result.status == status]
        if concerned:
            return status, tuple(f"{result.text}: {result.reason}" for result in concerned)
    if not objectives:
        return INCONCLUSIVE, ("the SLA has no objectives, only limits of quality",)
    return PASS, (f"all {len(objectives)} objectives hold",)


def _broken(gate: Gate) -> str:
    remedy = REMEDIES.get(gate.name)
    return f"{gate.name}: found {gate.found}, limit {gate.limit}" + (f"; {remedy}" if remedy else "")


def without_percentile(result: ObjectiveResult) -> ObjectiveResult:
    """Return what is left of an objective where the load was too much."""
    return replace(
        result,
        status=INCONCLUSIVE,
        reason="oversaturated: the figure would depend on the length of the run",
        observed=None,
        observed_ok_only=None,
        margin=None,
        bad=None,
        n_eff=None,
        n_eff_low=None,
        bound_low=None,
        bound_high=None,
        more_requests=None,
        more_minutes=None,
        budget_used=None,
        budget_low=None,
        budget_high=None,
        budget_lasts_h=None,
    )


def plain(value: Any) -> Any:
    """Return a value as JSON has it: lists for tuples, "inf" for infinity."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else None
    return value


def write_verdict(verdict: Verdict, path: Path) -> Path:
    """Write verdict.json, whole or not at all."""
    text = json.dumps(verdict.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return write_atomically(path, text.encode("utf-8", "replace"))


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file beside its place and move it there, so that no reader finds half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)
    return path
