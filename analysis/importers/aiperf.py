"""AIPerf's profile_export.jsonl: a line for each request, with its metrics and their units.

Keys as AIPerf 0.13 writes them (aiperf/common/models/record_models.py); the loop is in the JSON beside it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.record import RequestRecord

from .source import ImportFileError, Source, mapping, maybe_count, ns, seconds
from .translation import FROM_THE_SEND, WHY_FAILED, Imported, one_line, outcome_of, record

TOOL = "aiperf"
BESIDE = "profile_export_aiperf.json"
OPEN = ("poisson", "gamma", "constant", "fixed_schedule")
"""Phases whose arrivals do not wait; the tool drops those for which it has no slot free."""

UNITS_NS = {"ns": 1, "us": 1e3, "ms": 1e6, "sec": 1e9, "s": 1e9}
DEFINITIONS = (
    FROM_THE_SEND,
    (
        "Its `inter_token_latency` is a mean for each request, our tpot; its `inter_chunk_latency` has "
        "one value for each gap between chunks with content, our itl"
    ),
    (
        "ttft and `request_latency` end with the first and the last chunk that has content; chunks of one"
        " read share a time, and those without text are not counted"
    ),
    "Tokens are those of the server's usage where the file has them, else its own tokenizer's",
    WHY_FAILED,
)
WARMUP = "{n} requests of its warm-up are left out"


def is_detailed(source: Source) -> bool:
    """Say whether a file is AIPerf's, with a line for each request."""
    lines = source.objects or ((source.value,) if isinstance(source.value, dict) else ())
    return bool(lines) and all(
        isinstance(line.get("metadata"), dict) and "request_start_ns" in line["metadata"] for line in lines
    )


def translate(source: Source) -> list[Imported]:
    """Return the run in a file; raises ImportFileError."""
    lines = source.objects or (source.value,)
    kept = [
        (number, line)
        for number, line in enumerate(lines, 1)
        if line["metadata"].get("benchmark_phase") != "warmup"
    ]
    requests = [_request(i, line, f"{source.path}: line {number}") for i, (number, line) in enumerate(kept)]
    gaps_known = any(gaps for _, gaps in requests) or not any(r.first_ns is not None for r, _ in requests)
    streamed = any(one.first_ns is not None for one, _ in requests)
    beside = _beside(source.path.parent / BESIDE)
    loop, level, load = _load(beside)
    unknown = ["itl_token", "dispatch_lag"]
    unknown += [] if any(one.visible_ns is not None for one, _ in requests) else ["ttfo"]
    unknown += [] if gaps_known and streamed else ["itl", "max_gap"]
    unknown += [] if streamed else ["ttft", "ttft_sent", "tpot"]
    left_out = len(lines) - len(kept)
    return [
        Imported(
            tool=TOOL,
            version=str(beside["aiperf_version"]) if beside.get("aiperf_version") else None,
            name=TOOL,
            requests=requests,
            definitions=(*DEFINITIONS, *([WARMUP.format(n=f"{left_out:,}")] if left_out else [])),
            unknown=tuple(unknown),
            loop=loop,
            level=level,
            load=load,
            target={},
            warmup=left_out,
        )
    ]


def _request(number: int, line: Mapping[str, Any], where: str) -> tuple[RequestRecord, list[int]]:
    metadata, metrics = line["metadata"], mapping(line.get("metrics"), f"{where}: metrics")
    start = ns(metadata["request_start_ns"], f"{where}: request_start_ns", 1)
    ended = ns(metadata.get("request_end_ns"), f"{where}: request_end_ns", 1)
    first, latency, visible = (
        _time(metrics, name, where)
        for name in ("time_to_first_token", "request_latency", "time_to_first_output_token")
    )
    error = line.get("error")
    failed = error is not None or bool(metadata.get("was_cancelled"))
    gaps = [
        round(gap * _unit(metrics["inter_chunk_latency"], where))
        for gap in _values(metrics.get("inter_chunk_latency"), where)
    ]
    end = latency if latency is not None and not failed else ended - start
    if end < 0:
        raise ImportFileError(f"{where}: found an end before the start, expected one after it")
    message = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    made = record(
        number,
        TOOL,
        due_unix_ns=start,
        end_ns=max(end, first or 0),
        first_ns=first,
        visible_ns=visible,
        last_ns=latency if first is not None else None,
        prompt_tokens=_count(metrics, ("usage_prompt_tokens", "input_sequence_length", "error_isl"), where),
        output_tokens=None
        if failed
        else _count(metrics, ("usage_completion_tokens", "output_sequence_length"), where),
        gaps=gaps if gaps or first is None else None,
        outcome=_outcome(message, code, cancelled=bool(metadata.get("was_cancelled"))) if failed else "ok",
        detail=one_line(message) if failed else "",
        status=code if isinstance(code, int) and 100 <= code < 600 else None,
    )
    return made, gaps


def _outcome(message: Any, code: Any, *, cancelled: bool) -> str:
    if cancelled:
        return "cancelled"
    return outcome_of(str(message), code if isinstance(code, int) and code >= 400 else None)


def _time(metrics: Mapping[str, Any], name: str, where: str) -> int | None:
    found = metrics.get(name)
    if found is None:
        return None
    value = mapping(found, f"{where}: {name}").get("value")
    return ns(value, f"{where}: {name}", _unit(found, where))


def _unit(found: Any, where: str) -> float:
    unit = found.get("unit") if isinstance(found, dict) else None
    if unit not in UNITS_NS:
        raise ImportFileError(f"{where}: found the unit {unit!r}, expected one of {', '.join(UNITS_NS)}")
    return UNITS_NS[unit]


def _values(found: Any, where: str) -> list[float]:
    values = found.get("value") if isinstance(found, dict) else None
    return [seconds(value, f"{where}: inter_chunk_latency") for value in values or ()]


def _count(metrics: Mapping[str, Any], names: tuple[str, ...], where: str) -> int | None:
    """Return the first of some counts that the file has: the server's own before the tool's."""
    name = next((name for name in names if isinstance(metrics.get(name), dict)), None)
    return None if name is None else maybe_count(metrics[name].get("value"), f"{where}: {name}")


def _beside(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _load(beside: Mapping[str, Any]) -> tuple[str | None, float | None, dict[str, Any]]:
    """Return (loop, level, load) by the configuration that the summary repeats; nothing where it does not."""
    config = beside.get("input_config")
    phases = config.get("phases") if isinstance(config, dict) else None
    named = [phase for phase in phases or () if isinstance(phase, dict) and phase.get("name") != "warmup"]
    if len(named) != 1:
        return None, None, {}
    kind, rate, users = (named[0].get(name) for name in ("type", "rate", "concurrency"))
    if kind in OPEN:
        level = float(rate) if isinstance(rate, int | float) else None
        return "open", level, {"rate_per_s": level, "arrivals": kind, "max_concurrency": users}
    level = float(users) if isinstance(users, int | float) else None
    return "closed", level, {"users": level}
