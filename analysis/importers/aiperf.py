"""AIPerf's profile_export.jsonl: a line for each request, with its metrics and their units.

Keys as AIPerf 0.13 writes them (aiperf/common/models/record_models.py); the loop is in the JSON beside it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.record import RequestRecord

from .source import ImportFileError, Source, listed, mapping, maybe_count, maybe_level, ns
from .translation import FROM_THE_SEND, WHY_FAILED, Imported, each, one_line, outcome_of, record

TOOL = "aiperf"
DEPTH = 0
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
    return any(
        isinstance(line.get("metadata"), dict) and "request_start_ns" in line["metadata"]
        for line in source.lines.values()
    )


def translate(source: Source) -> list[Imported]:
    """Return the run in a file; raises ImportFileError."""
    found, unread = each(((f"line {i}", line) for i, line in source.lines.items()), _request)
    kept = [one for one in found if one]
    requests = [(one._replace(request=i), gaps) for i, (one, gaps) in enumerate(kept)]
    gaps_known = any(gaps for _, gaps in requests) or not any(r.first_ns is not None for r, _ in requests)
    streamed = any(one.first_ns is not None for one, _ in requests)
    beside = _beside(source.path.parent / BESIDE)
    loop, level, load = _load(beside)
    unknown = ["itl_token", "dispatch_lag"]
    unknown += [] if any(one.visible_ns is not None for one, _ in requests) else ["ttfo"]
    unknown += [] if gaps_known and streamed else ["itl", "max_gap"]
    unknown += [] if streamed else ["ttft", "ttft_sent", "tpot"]
    left_out = len(found) - len(kept)
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
            unread=unread,
        )
    ]


def _request(line: Mapping[str, Any]) -> tuple[RequestRecord, list[int]] | None:
    """Return what a line says of its request; None for one of the warm-up."""
    metadata = mapping(line.get("metadata"), "metadata")
    if metadata.get("benchmark_phase") == "warmup":
        return None
    metrics = mapping(line.get("metrics"), "metrics")
    start, ended = (ns(metadata.get(name), name, 1) for name in ("request_start_ns", "request_end_ns"))
    first, latency, visible = (
        _time(metrics, name)
        for name in ("time_to_first_token", "request_latency", "time_to_first_output_token")
    )
    error = line.get("error")
    failed = error is not None or bool(metadata.get("was_cancelled"))
    gaps = _gaps(metrics.get("inter_chunk_latency"))
    end = latency if latency is not None and not failed else ended - start
    if end < 0:
        raise ImportFileError("found an end before the start, expected one after it")
    message = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    made = record(
        0,
        TOOL,
        due_unix_ns=start,
        end_ns=max(end, first or 0),
        first_ns=first,
        visible_ns=visible,
        last_ns=latency if first is not None else None,
        prompt_tokens=_count(metrics, ("usage_prompt_tokens", "input_sequence_length", "error_isl")),
        output_tokens=None
        if failed
        else _count(metrics, ("usage_completion_tokens", "output_sequence_length")),
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


def _time(metrics: Mapping[str, Any], name: str) -> int | None:
    found = metrics.get(name)
    return None if found is None else ns(mapping(found, name).get("value"), name, _unit(found))


def _unit(found: Mapping[str, Any]) -> float:
    unit = found.get("unit")
    if not isinstance(unit, str) or unit not in UNITS_NS:
        raise ImportFileError(f"found the unit {unit!r}, expected one of {', '.join(UNITS_NS)}")
    return UNITS_NS[unit]


def _gaps(found: Any) -> list[int]:
    name = "inter_chunk_latency"
    if found is None or mapping(found, name).get("value") is None:
        return []
    return [ns(value, name, _unit(found)) for value in listed(found["value"], name)]


def _count(metrics: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """Return the first of some counts that the file has: the server's own before the tool's."""
    name = next((name for name in names if isinstance(metrics.get(name), dict)), None)
    return None if name is None else maybe_count(metrics[name].get("value"), name)


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
    kind = named[0].get("type")
    rate, users = (maybe_level(named[0].get(name)) for name in ("rate", "concurrency"))
    if kind in OPEN:
        return "open", rate, {"rate_per_s": rate, "arrivals": kind, "max_concurrency": users}
    return "closed", users, {"users": users}
