"""inference-perf's per_request_lifecycle_metrics.json: a list of requests with the times of their chunks.

Keys as inference-perf 0.7 writes them (inference_perf/apis/base.py); times are seconds of
time.perf_counter. The load is in config.yaml beside the file.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from analysis.record import RequestRecord

from .source import ImportFileError, Source, listed, mapping, maybe_count, maybe_level, ns
from .translation import (
    FROM_THE_SEND,
    NO_DATE,
    NOT_STREAMED,
    WHY_FAILED,
    Imported,
    each,
    one_line,
    outcome_of,
    record,
)

TOOL = "inference-perf"
DEPTH = 1
DEFINITIONS = (
    FROM_THE_SEND,
    "The times that the schedule wanted are not in the file, only those at which it sent",
    (
        "Its inter-token latency gives each token of a chunk the chunk's time, so that gaps of 0 pull its"
        " percentiles down; our itl is the gap between chunks"
    ),
    "Only chunks with text count: a token whose character is not complete joins the next",
    (
        "Tokens are those of the server's usage where the file has them; its own time per output token "
        "divides by what its tokenizer counts in the text"
    ),
    WHY_FAILED,
    NO_DATE,
)


def is_detailed(source: Source) -> bool:
    """Say whether a file is inference-perf's, with an entry for each request."""
    found = source.value if isinstance(source.value, list) else []
    return any(isinstance(one, dict) and {"start_time", "end_time", "error"} <= one.keys() for one in found)


def translate(source: Source) -> list[Imported]:
    """Return the run in a file; raises ImportFileError."""
    made, unread = each(((f"request {i}", one) for i, one in enumerate(source.value)), _request)
    made.sort(key=lambda one: one[0].due_unix_ns)
    requests = [(one._replace(request=i), gaps) for i, (one, gaps) in enumerate(made)]
    streamed = any(one.first_ns is not None for one, _ in requests)
    loop, level, load = _load(source.path.parent / "config.yaml")
    return [
        Imported(
            tool=TOOL,
            version=None,
            name=TOOL,
            requests=requests,
            definitions=DEFINITIONS,
            unknown=("ttfo", "itl_token", "dispatch_lag") if streamed else (*NOT_STREAMED, "dispatch_lag"),
            loop=loop,
            level=level,
            load=load,
            unread=unread,
        )
    ]


def _request(found: Any) -> tuple[RequestRecord, list[int]]:
    entry = mapping(found, "it")
    start, end = (ns(entry.get(name), name) for name in ("start_time", "end_time"))
    info = mapping(entry.get("info") or {}, "info")
    response = mapping(info.get("response_metrics") or {}, "response_metrics")
    raw = response.get("chunk_times") or response.get("output_token_times") or []
    times = [ns(at, "chunk_times") for at in listed(raw, "chunk_times")]
    gaps = [after - before for before, after in pairwise(times)]
    if end < start or min(gaps, default=0) < 0 or (times and times[0] < start):
        raise ImportFileError("found a time before the one it follows, expected them in order")
    error = entry.get("error")
    usage = mapping(response.get("server_usage") or {}, "server_usage")
    tokens = usage.get("completion_tokens", response.get("output_tokens"))
    message = error.get("error_msg") if isinstance(error, dict) else None
    made = record(
        0,
        TOOL,
        due_unix_ns=start,
        end_ns=max(end, times[-1] if times else end) - start,
        first_ns=times[0] - start if times else None,
        last_ns=times[-1] - start if times else None,
        prompt_tokens=maybe_count(info.get("input_tokens"), "input_tokens"),
        output_tokens=None if error else maybe_count(tokens, "output_tokens"),
        gaps=gaps if times else None,
        outcome=outcome_of(f"{error.get('error_type')} {message}" if isinstance(error, dict) else str(error))
        if error
        else "ok",
        detail=one_line(message or error) if error else "",
    )
    return made, gaps


def _load(path: Path) -> tuple[str | None, float | None, dict[str, Any]]:
    """Return (loop, level, load) by the configuration beside the file; raises ImportFileError."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))["load"]
        kind, stages = str(found["type"]), list(found.get("stages") or [])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return None, None, {}
    if len(stages) > 1:
        raise ImportFileError(f"{path}: found {len(stages)} stages in one run, expected one load")
    stage = stages[0] if stages and isinstance(stages[0], dict) else {}
    closed = kind in {"concurrent", "trace_session_replay"}
    level = maybe_level(stage.get("concurrency_level" if closed else "rate"))
    load = {
        "users": level if closed else None,
        "rate_per_s": None if closed else level,
        "arrivals": None if closed else kind,
    }
    return "closed" if closed else "open", level, load
