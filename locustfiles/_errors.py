"""The one way a stream goes wrong: an outcome from the table in analysis.record, and a line for a person."""


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


def shown(data: bytes | str, limit: int = 80) -> str:
    """Return the beginning of what was found, fit for one line of a log or a CSV cell."""
    text = data if isinstance(data, str) else data[: limit * 4].decode("utf-8", "replace")
    text = "".join(mark if mark.isprintable() else " " for mark in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
