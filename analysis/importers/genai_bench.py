"""genai-bench: one JSON for each concurrency, a row for each request, and no times at all.

Keys as genai-bench 0.0.5 writes them (genai_bench/metrics); `_time_unit` says s or ms.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.record import RequestRecord

from .source import NS, ImportFileError, Source, listed, mapping, maybe_count, maybe_level, ns
from .translation import FROM_THE_SEND, NO_DATE, NO_GAPS, Imported, each, one_line, outcome_of, record

TOOL = "genai-bench"
DEPTH = 2
SPEED = "output_inference_speed"
UNITS_NS = {"s": 10**9, "ms": 10**6}
INVENTED = {
    408: ("Request timed out: ",),
    500: ("Response ended prematurely", "('Connection broken: "),
    503: ("Connection error: ",),
}
"""How the messages begin of failures without an answer, which it files under a status that nobody sent."""

DEFINITIONS = (
    FROM_THE_SEND,
    "Each request opens a new connection, and that is in its ttft",
    (
        "The file has no times, so nobody can say how alike neighbours are: no interval; requests stand "
        "in the order in which they ended"
    ),
    "Answers of one token, and what was running when a level ended, are not in the file",
    "Its error_rate is always 0; ours is counted from the requests",
    "An error_code that no answer had (503, 408 or 500 for a lost connection) is told from its message",
    NO_DATE,
)


def is_detailed(source: Source) -> bool:
    """Say whether a file is genai-bench's JSON of one level."""
    found = source.value
    return isinstance(found, dict) and {"aggregated_metrics", "individual_request_metrics"} <= found.keys()


def translate(source: Source) -> list[Imported]:
    """Return the run in a file; raises ImportFileError."""
    where = str(source.path)
    total = mapping(source.value["aggregated_metrics"], f"{where}: aggregated_metrics")
    rows = listed(source.value["individual_request_metrics"], f"{where}: individual_request_metrics")
    unit = source.value.get("_time_unit", _unit(rows, where) if source.cut else "s")
    if unit not in UNITS_NS:
        raise ImportFileError(f"{where}: found _time_unit {unit!r}, expected s or ms")
    requests, unread = each(
        ((f"request {i}", (i, row)) for i, row in enumerate(rows)), lambda one: _request(*one, UNITS_NS[unit])
    )
    users = maybe_level(total.get("num_concurrency"))
    return [
        Imported(
            tool=TOOL,
            version=None,
            name=f"{TOOL} {total.get('scenario') or ''}".strip(),
            requests=requests,
            definitions=DEFINITIONS,
            unknown=("ttfo", "dispatch_lag", *NO_GAPS),
            loop="closed",
            level=users,
            load={"users": users},
            workload={"scenario": total.get("scenario")},
            timed=False,
            duration_ns=ns(total.get("run_duration"), f"{where}: run_duration", NS),
            unread=unread,
        )
    ]


def _unit(rows: Sequence[Any], where: str) -> str:
    """Tell the unit, which the file's end names, by a row's speed: tokens/s, whatever unit its times have."""
    for row in rows:
        tpot, speed = (row.get(name) if isinstance(row, dict) else None for name in ("tpot", SPEED))
        product = tpot * speed if isinstance(tpot, float) and isinstance(speed, float) else math.nan
        for unit, in_a_second in (("s", 1), ("ms", 1000)):
            if math.isclose(product, in_a_second, rel_tol=0.01):
                return unit
    raise ImportFileError(f"{where}: is not whole, and _time_unit, which stands last, is lost: s or ms?")


def _request(number: int, row: Any, unit_ns: int) -> tuple[RequestRecord, list[int]]:
    found: Mapping[str, Any] = mapping(row, "it")
    failed = found.get("error_code") is not None

    def at(name: str) -> int | None:
        return None if found.get(name) is None else ns(found[name], name, unit_ns)

    first, end = at("ttft"), at("e2e_latency")
    if not failed and (first is None or end is None):
        raise ImportFileError("found no ttft or e2e_latency, expected both where nothing failed")
    code = maybe_count(found.get("error_code"), "error_code")
    message = one_line(found.get("error_message"))
    if code and message.startswith(INVENTED.get(code, ())):
        code = 0
    made = record(
        number,
        TOOL,
        due_unix_ns=0,
        end_ns=max(end or 0, first or 0),
        first_ns=first,
        last_ns=None if failed else end,
        prompt_tokens=maybe_count(found.get("num_input_tokens"), "num_input_tokens"),
        output_tokens=maybe_count(found.get("num_output_tokens"), "num_output_tokens"),
        outcome=outcome_of(message, code or None) if failed else "ok",
        detail=message if failed else "",
        status=code if code and 100 <= code < 600 else None,
    )
    return made, []
