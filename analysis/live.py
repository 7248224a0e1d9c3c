"""The judge beside a run: a process that says while the run goes on what `tokenswarm verdict` will say.

It reads one JSON object a line from stdin, answers each with one on stdout, and ends when stdin does. It
gives way to everything else on the machine, for that is where the load comes from.

    {"do": "check", "sla": TEXT, "file": NAME, "scenarios": [NAME, ...], "window_s": NUMBER | null}
        -> {"name": TEXT, "objectives": [TEXT, ...], "limits_ns": {METRIC: NUMBER, ...}}
    {"do": "judge", "run": PATH, "known": {...} | null}
        -> {"sla", "status", "so_far", "as_of_unix_s", "reasons", "objectives", "took_s"}
    {"do": "report", "run": PATH, "known": {...} | null, "pdf": PATH}
        -> {"pdf": PATH}
    each -> {"error": LINE} where it cannot be done

`file` is how an error names the SLA. `known` is what run.json does not say before the run has ended (see
`rundir.load_so_far`), null once it has. A run is judged by the SLA that is kept in its directory, else by the
default one. Requests in flight are in no row yet, so that what is said of them comes when they have ended;
gaps are logged some seconds late, and `as_of_unix_s` of an objective says how late.
"""

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import sla as slas
from .record import SLA_FILE

if TYPE_CHECKING:  # a check must not wait for pandas
    from .objective import ObjectiveResult
    from .rundir import Run
    from .verdict import Verdict

PRIORITY = 10  # low: a tenth of a busy core, which still turns a light within seconds
SILENT_S = 3
"""So long without any token, while requests wait for one, nothing is called good."""

SHOWN = ("text", "metric", "statistic", "status", "reason", "observed", "limit", "unit", "n", "bad")


class NotAnsweredError(ValueError):
    """A question without an answer: says why in one line."""


def main() -> None:
    """Answer until stdin ends."""
    os.nice(PRIORITY)
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing but answers belongs there
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)), allow_nan=False), file=answers, flush=True)


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one question; whatever goes wrong is a line in `error`."""
    try:
        return {"check": check, "judge": judge, "report": report}[question["do"]](question)
    except (slas.SlaError, NotAnsweredError) as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{error.filename or question.get('run')}: {error.strerror or error}"}
    except Exception as error:  # noqa: BLE001 - one question that cannot be answered must not end the process
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def check(question: Mapping[str, Any]) -> dict[str, Any]:
    """Say what an SLA demands; raises SlaError where it is none, or none that this run can answer."""
    file, window_s = question["file"], question["window_s"]
    found = slas.parse(question["sla"], file)
    if found.quality:
        text = f"found {found.quality[0].text!r}, expected objectives alone: no load test measures quality"
        raise slas.SlaError(f"{file}: quality: {text} (tokenswarm quality does)")
    slas.refuse_unmeasured(found, file, question["scenarios"], math.inf if window_s is None else window_s)
    limits_ns: dict[str, int] = {}  # what one request must lie below to count as goodput
    for limit in found.limits():
        if limit.metric not in slas.POOLED_METRICS:
            below_ns = limit.limit_ns if limit.strict else limit.limit_ns + 1  # whole ns: that is "<="
            limits_ns[limit.metric] = min(below_ns, limits_ns.get(limit.metric, below_ns))
    objectives = [objective.text for objective in found.objectives]
    return {"name": found.name, "objectives": objectives, "limits_ns": limits_ns}


def judge(question: Mapping[str, Any]) -> dict[str, Any]:
    """Judge a run, or as much of it as there is; `took_s` is what that cost in CPU time."""
    from .verdict import plain  # noqa: PLC0415 - as above

    began_s = time.process_time()
    run, found = _judged(question)
    as_of_unix_s = _ended_unix_s(run)
    gaps_unix_s = {name: max(log.seconds.tolist(), default=None) for name, log in _logs(run).items()}
    return {
        "sla": found.sla,
        "status": found.status,
        "so_far": run.so_far,
        "as_of_unix_s": as_of_unix_s,
        "reasons": list(found.reasons),
        "objectives": [
            plain(_shown(result)) | {"as_of_unix_s": gaps_unix_s.get(result.metric, as_of_unix_s)}
            for result in found.objectives
        ],
        "took_s": time.process_time() - began_s,
    }


def report(question: Mapping[str, Any]) -> dict[str, Any]:
    """Write a run's page as a PDF; of a run that goes on it says so."""
    from .report import write_page  # noqa: PLC0415 - as above

    run, found = _judged(question)
    return {"pdf": str(write_page([(run, found)], Path(question["pdf"])))}


def _judged(question: Mapping[str, Any]) -> tuple["Run", "Verdict"]:
    from . import rundir, verdict  # noqa: PLC0415 - as above

    directory, known = Path(question["run"]), question["known"]
    try:
        run = rundir.load(directory) if known is None else rundir.load_so_far(directory, known)
    except rundir.RunError as error:
        raise NotAnsweredError(str(error)) from None
    kept = directory / SLA_FILE
    by = slas.load(kept) if kept.exists() else slas.default()
    found = verdict.judge(run, by)
    return run, _as_it_stands(run, by, found) if run.so_far else found


def _as_it_stands(run: "Run", by: slas.Sla, found: "Verdict") -> "Verdict":
    """Return what is said of a run that goes on: the verdict so far, unless the last seconds say worse."""
    from .evidence import Evidence  # noqa: PLC0415 - as above
    from .now import failing_now  # noqa: PLC0415 - as above

    evidence, objectives, failing = Evidence(run), [], []
    for objective, result in zip(by.objectives, found.objectives, strict=True):
        why = failing_now(evidence, objective)
        if not why:
            objectives.append(result)
            continue
        failing.append(f"{objective.text}: {why}")
        why += f"; all so far {result.status}: {result.reason}"
        objectives.append(replace(result, status="FAIL", reason=why))
    status, reasons = found.status, found.reasons
    if failing and status in {"PASS", "INCONCLUSIVE"}:
        status, reasons = "FAIL", ()
    reasons = (*reasons, *failing)
    silent = _silence(run, by)
    if silent:
        reasons = (silent, *reasons)
        status = "INCONCLUSIVE" if status == "PASS" else status
    return replace(found, status=status, reasons=reasons, objectives=tuple(objectives))


def _shown(result: "ObjectiveResult") -> dict[str, Any]:
    """Return what a light shows of an objective, and its figures in words."""
    from . import wording  # noqa: PLC0415 - as above

    fields = {name: value for name, value in asdict(result).items() if name in SHOWN}
    return fields | {"observed_words": wording.observed(result), "limit_words": wording.limit(result)}


def _ended_unix_s(run: "Run") -> int | None:
    """Return when the latest request ended of which there is a row."""
    if not len(run.requests):
        return None
    return int((run.requests.due_unix_ns + run.requests.end_ns).max() // 10**9)


def _logs(run: "Run") -> dict[str, Any]:
    from .intervals import as_log  # noqa: PLC0415 - as above

    return {name: as_log(run.logs.get(name, ())) for name in slas.POOLED_METRICS} if run.so_far else {}


def _silence(run: "Run", by: slas.Sla) -> str:
    """Say for how long no token has come although requests wait for one; a stream that hangs has no row."""
    waiting = run.timeline.in_flight.to_numpy() > 0
    heard = (run.timeline.tokens.to_numpy() > 0) | ~waiting
    silent_s = int(heard[::-1].argmax()) if heard.any() else len(heard)
    tightest_ns = min((limit.limit_ns for limit in by.limits()), default=0)
    if silent_s < SILENT_S or silent_s * 10**9 <= tightest_ns:
        return ""
    count = int(run.timeline.in_flight.iloc[-1])
    return f"no token has come for {silent_s} s, and {count:,} requests wait for one"


if __name__ == "__main__":
    main()
