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


class Unread(NamedTuple):
    """A row of a requests.csv that is none: what was found in the file's line, and what was expected."""

    line: int
    why: str

    def __str__(self) -> str:
        """Return both as one line."""
        return f"line {self.line}: {self.why}"


def read_records(file: IO[str]) -> Iterator[RequestRecord]:
    """Read what write_records wrote; a last line that was cut off by a crash is left out.

    Raises RecordError where a column is missing or a cell is not of its kind.
    """
    check_header(file)
    pending: Unread | None = None
    for found in read_rows(file, 1):
        if pending:
            raise RecordError(str(pending))
        if isinstance(found, Unread):  # fatal unless it is the last line: a crash cuts only there
            pending = found
        else:
            yield found


def check_header(file: IO[str]) -> None:
    """Read the first line; raises RecordError where it does not name the columns."""
    header = next(csv.reader(file), None)
    expected = ["run", *RequestRecord._fields]
    if header != expected:
        raise RecordError(f"line 1: found columns {header}, expected {expected}")


def read_rows(file: Iterable[str], lines: int) -> Iterator[RequestRecord | Unread]:
    """Read the rows that follow the first `lines` lines of a file; one that is none comes as what is wrong.

    A quote that is never closed makes one row of all lines up to the next quote. So where a row of several
    lines is none, each of its lines is looked at by itself: what is whole of them is not lost with it.
    """
    taken: list[str] = []

    def lines_of_a_row() -> Iterator[str]:
        for line in file:
            taken.append(line)
            yield line

    reader = csv.reader(lines_of_a_row())
    while True:
        taken.clear()
        first = lines + reader.line_num + 1
        try:
            row = next(reader, None)
            if row is None:
                return
            if row:  # an empty line is nobody's
                yield _parse(row)
        except (ValueError, csv.Error) as error:
            if len(taken) == 1:
                yield Unread(first, str(error))
            else:
                yield from (_alone(line, number) for number, line in enumerate(taken, first))


def _alone(line: str, number: int) -> RequestRecord | Unread:
    """Read a line that holds a whole row, or say that it does not: a quote must be closed in it."""
    try:
        return _parse(next(csv.reader([line], strict=True)))
    except (ValueError, csv.Error) as error:
        return Unread(number, str(error))


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
