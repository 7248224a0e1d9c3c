"""The one way a stream goes wrong: an outcome from the table in analysis.record, and a line for a person."""

import re
from typing import Any


class StreamError(Exception):
    """`outcome` is one of analysis.record.OUTCOMES; `detail` says what was found and what was expected."""

    def __init__(self, outcome: str, detail: str) -> None:
        """Keep both apart: the outcome is counted, the detail is read."""
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


def accounted(error: Exception) -> StreamError:
    """Return how a request ended that met this error; what is no StreamError is our own fault."""
    if isinstance(error, StreamError):
        return error
    return StreamError("client", f"{type(error).__name__}: {shown(str(error), 160)}")


def reason(error: Exception) -> str:
    """Return what is behind an error of requests or urllib3, which wrap each other, in one line."""
    cause: Any = error.args[0] if error.args else error
    cause = getattr(cause, "reason", None) or cause
    said = cause.args[-1] if isinstance(cause, Exception) and cause.args else cause
    text = str(said).rpartition(": ")[2]
    return shown(re.sub(r"^\[Errno -?\d+\] ", "", text) or type(error).__name__, 160)


def shown(data: bytes | str, limit: int = 80) -> str:
    """Return the beginning of what was found, fit for one line of a log or a CSV cell."""
    text = data if isinstance(data, str) else data[: limit * 4].decode("utf-8", "replace")
    text = "".join(mark if mark.isprintable() else " " for mark in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
