"""genai-bench: one JSON for each concurrency, a row for each request, and no times at all.

Keys as genai-bench 0.0.5 writes them (genai_bench/metrics); `_time_unit` says s or ms.
"""

from collections.abc import Mapping
from typing import Any

from analysis.record import RequestRecord

from .source import NS, ImportFileError, Source, listed, mapping, maybe_count, ns
from .translation import FROM_THE_SEND, NO_DATE, NO_GAPS, Imported, one_line, outcome_of, record

TOOL = "genai-bench"
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
    unit = source.value.get("_time_unit", "s")
    if unit not in UNITS_NS:
        raise ImportFileError(f"{where}: found _time_unit {unit!r}, expected s or ms")
    rows = listed(source.value["individual_request_metrics"], f"{where}: individual_request_metrics")
    users = maybe_count(total.get("num_concurrency"), f"{where}: num_concurrency")
    return [
        Imported(
            tool=TOOL,
            version=None,
            name=f"{TOOL} {total.get('scenario') or ''}".strip(),
            requests=[
                _request(i, row, UNITS_NS[unit], f"{where}: request {i}") for i, row in enumerate(rows)
            ],
            definitions=DEFINITIONS,
            unknown=("ttfo", "dispatch_lag", *NO_GAPS),
            loop="closed",
            level=None if users is None else float(users),
            load={"users": users},
            workload={"scenario": total.get("scenario")},
            timed=False,
            duration_ns=ns(total.get("run_duration"), f"{where}: run_duration", NS),
        )
    ]


def _request(number: int, row: Any, unit_ns: int, where: str) -> tuple[RequestRecord, list[int]]:
    found: Mapping[str, Any] = mapping(row, where)
    failed = found.get("error_code") is not None

    def at(name: str) -> int | None:
        return None if found.get(name) is None else ns(found[name], f"{where}: {name}", unit_ns)

    first, end = at("ttft"), at("e2e_latency")
    if not failed and (first is None or end is None):
        raise ImportFileError(f"{where}: found no ttft or e2e_latency, expected both where nothing failed")
    code = maybe_count(found.get("error_code"), f"{where}: error_code")
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
        prompt_tokens=maybe_count(found.get("num_input_tokens"), f"{where}: num_input_tokens"),
        output_tokens=maybe_count(found.get("num_output_tokens"), f"{where}: num_output_tokens"),
        outcome=outcome_of(message, code or None) if failed else "ok",
        detail=message if failed else "",
        status=code if code and 100 <= code < 600 else None,
    )
    return made, []
