"""One request = one record. The contract between the load side and the judging side.

Times are integers of nanoseconds. `due_unix_ns` is wall-clock time; every other `*_ns` is a duration,
counted from the moment the request was *due* unless its comment says otherwise, so `first_ns` is the
TTFT that an SLA is about and `first_ns - sent_ns` is the one that other tools print.
A time that never came is None (an empty cell in the CSV), never zero.
"""

import csv
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

SCHEMA = 1
"""Version of the run directory. A reader refuses a directory with a higher number."""

SLA_FILE = "sla.yaml"
"""In a run directory: what the run was made for, and is judged by unless somebody asks otherwise."""

OUTCOMES = (
    "ok",
    "connect",  # no connection: name, refusal, reset before the request was sent
    "tls",
    "http_4xx",
    "http_429",
    "http_5xx",
    "first_token_timeout",
    "stall_timeout",  # too long between two chunks
    "total_timeout",
    "truncated",  # the stream ended before its end was announced
    "protocol",  # not HTTP, not SSE, not JSON, or no stream at all
    "server_error",  # an error event inside a 200 stream
    "empty",  # a complete stream without a single token
    "cancelled",  # the run ended first
    "client",  # our own fault
)


class RequestRecord(NamedTuple):
    """What is known of one request when it has ended, however it ended."""

    worker: str
    scenario: str
    request: int  # number within the worker, from 0
    due_unix_ns: int
    sent_ns: int | None  # last byte handed to the kernel
    connect_ns: int  # a duration within `sent_ns`: opening the connection; 0 on a reused one
    first_ns: int | None  # first token-bearing chunk
    visible_ns: int | None  # first chunk with answer text (TTFO)
    last_ns: int | None  # last token-bearing chunk
    end_ns: int  # stream closed, or the request was given up
    prompt_tokens: int | None  # from the server's usage
    output_tokens: int | None  # from the server's usage
    chunks: int  # token-bearing chunks over all choices
    gaps: int  # gaps between them, per choice, pooled
    gap_sum_ns: int
    gap_max_ns: int
    reads: int  # socket reads that carried body bytes
    coalesced: int  # token-bearing chunks that shared their read, and so their time, with an earlier one
    lag_max_ns: int  # worst delay from the kernel's receive time to our read; 0 where clock is "user"
    body_bytes: int
    status: int | None  # HTTP status
    connection: str  # new | reused | retried (a reused one was dead before any byte came back)
    clock: str  # kernel | user
    clock_jump_ns: int  # change of wall minus monotonic clock during the request; times are off by up to this
    outcome: str
    detail: str  # one line for a person; empty when ok


TEXT = ("worker", "scenario", "connection", "clock", "outcome", "detail")
"""Columns of text; all others hold whole numbers of 64 bits."""

MAYBE = ("sent_ns", "first_ns", "visible_ns", "last_ns", "prompt_tokens", "output_tokens", "status")
"""Numbers that may be missing."""


class RecordError(ValueError):
    """A requests.csv that is not one: says the file's line, what was found and what was expected."""


def write_records(file: IO[str], run: str, records: Iterable[RequestRecord], *, header: bool) -> None:
    """Append records as CSV rows; the first column is the run's id."""
    writer = csv.writer(file, lineterminator="\n")
    quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    if header:
        writer.writerow(("run", *RequestRecord._fields))
    for record in records:
        texts = (run, record.worker, record.scenario, record.detail)
        # csv quotes a lone carriage return by itself only from Python 3.13 on; bare, it would end the line
        (quoting if any("\r" in text for text in texts) else writer).writerow((run, *record))


def read_records(file: IO[str]) -> Iterator[RequestRecord]:
    """Read what write_records wrote; a last line that was cut off by a crash is left out.

    Raises RecordError where a column is missing or a cell is not of its kind.
    """
    reader = csv.reader(file)
    header = next(reader, None)
    expected = ["run", *RequestRecord._fields]
    if header != expected:
        raise RecordError(f"line 1: found columns {header}, expected {expected}")
    yield from read_rows(file, reader.line_num)


def read_rows(file: IO[str], lines: int) -> Iterator[RequestRecord]:
    """Read the rows that follow the first `lines` lines of a file; otherwise as read_records."""
    reader = csv.reader(file)
    pending: RecordError | None = None
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise RecordError(f"line {lines + reader.line_num}: {error}") from None
        if row is None:
            return
        if pending:
            raise pending
        try:
            yield _parse(row)
        except ValueError as error:  # fatal unless it is the last line: a crash cuts only there
            pending = RecordError(f"line {lines + reader.line_num}: {error}")


def _parse(row: list[str]) -> RequestRecord:
    if len(row) != len(RequestRecord._fields) + 1:
        raise ValueError(f"found {len(row)} cells, expected {len(RequestRecord._fields) + 1}")
    cells = zip(RequestRecord._fields, row[1:], strict=True)
    record = RequestRecord(*(cell if name in TEXT else _number(name, cell) for name, cell in cells))  # type: ignore[arg-type]
    if record.outcome not in OUTCOMES:
        raise ValueError(f"found the outcome {record.outcome!r}, expected one of {', '.join(OUTCOMES)}")
    return record


def _number(name: str, cell: str) -> int | None:
    if cell:
        try:
            number = int(cell)
        except ValueError:
            raise ValueError(f"found {name} = {cell!r}, expected a whole number") from None
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"found {name} = {number}, expected a number of 64 bits")
        return number
    if name in MAYBE:
        return None
    raise ValueError(f"found no {name}, expected a whole number")
