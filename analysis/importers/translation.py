"""What every importer hands over: one run in our own words, and what its file cannot say.

`unknown` lists metrics that the file says nothing of; the judge then says so instead of guessing. The
definitions are sentences for a person: where the tool's word and ours differ.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

from analysis.record import RequestRecord

from .source import MOST_NS, ImportFileError

Entry = TypeVar("Entry")
Made = TypeVar("Made")

NOT_STREAMED = ("ttft", "ttft_sent", "ttfo", "itl", "itl_token", "tpot", "max_gap")
"""What a tool that does not look into the stream cannot say."""

NO_GAPS = ("itl", "itl_token", "max_gap")
"""What a file without single gaps cannot say."""

FROM_THE_SEND = (
    "Latency runs from the send, not from when the request was due: ttft here is ttft_sent, and what the "
    "load generator was late by is not in it"
)
NO_DATE = "The file knows no date: its own clock's zero is shown as 1970-01-01"
WHY_FAILED = "Why a request failed is told from its message alone"


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """One run out of a file: its records with the gaps (ns) between their chunks, in due order.

    `loop` is open, closed or, where the file does not say, None. `load` is what was asked for, and must be
    the same in two runs that are compared; `level` is its rate (requests/s) or its users. `timed` is False
    where the file has no times: requests are then in its own order, all due at the start. `warmup` counts the
    requests of the tool's own warm-up, which are left out. `number` is the run's among those of its file.
    `unread` has a line for each request that cannot be read; `missing`, what of the run is not here at all.
    """

    tool: str
    version: str | None
    name: str
    requests: Sequence[tuple[RequestRecord, list[int]]]
    definitions: tuple[str, ...]
    unknown: tuple[str, ...]
    loop: str | None
    level: float | None = None
    load: dict[str, Any] = field(default_factory=dict)
    workload: dict[str, Any] = field(default_factory=dict)
    target: dict[str, Any] = field(default_factory=dict)
    timed: bool = True
    duration_ns: int | None = None  # by the tool's own account, where there are no times
    warmup: int = 0
    number: int = 1
    unread: Sequence[str] = ()
    missing: tuple[str, ...] = ()


def each(entries: Iterable[tuple[str, Entry]], make: Callable[[Entry], Made]) -> tuple[list[Made], list[str]]:
    """Make something of each entry; one that cannot be read is left out, and a line says where and why."""
    made: list[Made] = []
    unread: list[str] = []
    for where, entry in entries:
        try:
            made.append(make(entry))
        except ImportFileError as error:
            unread.append(f"{where}: {error}")
    return made, unread


def record(number: int, scenario: str, *, due_unix_ns: int, end_ns: int, **known: Any) -> RequestRecord:
    """Return a record of what an import knows; all else is what the contract has for "not known".

    `gaps` (ns) may be among what is known: the counts follow from it. Raises ImportFileError for a time that
    no run can have.
    """
    gaps = known.pop("gaps", None)
    base: dict[str, Any] = {
        "sent_ns": 0,
        "connect_ns": 0,
        "first_ns": None,
        "visible_ns": None,
        "last_ns": None,
        "prompt_tokens": None,
        "output_tokens": None,
        "chunks": 0 if gaps is None else len(gaps) + (known.get("first_ns") is not None),
        "gaps": len(gaps or ()),
        "gap_sum_ns": sum(gaps or ()),
        "gap_max_ns": max(gaps or (0,)),
        "reads": 0,
        "coalesced": 0,
        "lag_max_ns": 0,
        "body_bytes": 0,
        "status": None,
        "connection": "unknown",
        "clock": "imported",
        "clock_jump_ns": 0,
        "outcome": "ok",
        "detail": "",
    }
    if not 0 <= due_unix_ns <= MOST_NS or end_ns > MOST_NS or base["gap_sum_ns"] > MOST_NS:
        raise ImportFileError("found times before 1970 or after 2096, expected those of a run")
    return RequestRecord(
        worker="imported",
        scenario=scenario,
        request=number,
        due_unix_ns=due_unix_ns,
        end_ns=end_ns,
        **{**base, **known},
    )


_PHRASES = {status.phrase.lower(): int(status) for status in HTTPStatus}
_STATUS = re.compile(r"(?:client|server) error '(\d{3}) |http error (\d{3})\b")
"""How httpx (GuideLLM) and inference-perf put a status into their message."""

_KINDS = (
    ("cancelled", ("cancel",)),
    ("total_timeout", ("timeout", "timed out", "deadline exceeded")),
    ("connect", ("refused", "no such host", "name or service")),
    (
        "truncated",
        ("incomplete", "prematurely", "broken", "payload", "closed", "eof", "disconnected", "reset by peer"),
    ),
    ("connect", ("connect",)),
)
"""Words that tell an outcome, the first found: that of a cut answer has a "connection" in it, too."""


def outcome_of(message: str, status: int | None = None) -> str:
    """Return the outcome that a failure's message, or its HTTP status, speaks of."""
    text = message.lower()
    status = _status(text) if status is None else status
    if status >= 400:
        return "http_429" if status == 429 else "http_4xx" if status < 500 else "http_5xx"
    found = (outcome for outcome, words in _KINDS if any(word in text for word in words))
    return next(found, "server_error")


def _status(text: str) -> int:
    """Return the HTTP status that a message is about, 0 where it is about none."""
    match = _STATUS.search(text)
    return int(match[1] or match[2]) if match else _PHRASES.get(text.strip(), 0)


def one_line(message: Any) -> str:
    """Return a failure's message as one short line; of a traceback the last line is the reason."""
    lines = [line.strip() for line in str(message or "").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"
