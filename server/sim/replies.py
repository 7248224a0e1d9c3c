"""How an answer's tokens reach the client: one by one, or all in one JSON body at the end."""

from time import perf_counter_ns

from .api import Generation
from .chunks import Chunks
from .connection import Connection
from .sendlog import SendLog, SendRecord


class StreamedReply:
    """Each token is its own event, its own HTTP chunk and its own send, as with vLLM."""

    def __init__(
        self,
        connection: Connection,
        generation: Generation,
        chunks: Chunks,
        log: SendLog | None,
        record: SendRecord,
    ) -> None:
        """`record` is filled, and logged at the end, where there is a log."""
        self._connection = connection
        self._generation = generation
        self._chunks = chunks
        self._log = log
        self._record = record
        self._roles_due = generation.chat
        self._token = chunks.token
        self._write = connection.transport.write
        self._sends = record.sends if log else None

    def start(self) -> None:
        """Send the head."""
        if self._log:
            self._log.begin(self._record)
        self._record.headers_sent_ns = perf_counter_ns()
        self._connection.open_stream()

    def token(self, index: int, text: bytes, generated: int, finish: str | None) -> None:
        """Send a token of a choice; `text` is JSON-quoted, `generated` counts it."""
        if self._roles_due:
            self._roles_due = False
            for choice in range(self._generation.n):
                self._write(self._connection.framed(self._chunks.role(choice)))
        event = self._connection.framed(self._token(index, text, generated, finish))
        if self._sends is not None:
            self._sends.append(perf_counter_ns())
        self._write(event)

    def finish(self, completion_tokens: int) -> None:
        """Send usage where it was asked for, then the end."""
        framed = self._connection.framed
        events = [*self._chunks.ending(completion_tokens), self._chunks.done()]
        self._write(b"".join(framed(event) for event in events))
        self._end(completion_tokens, "done")
        self._connection.end_stream()

    def abort(self, completion_tokens: int) -> None:
        """Log that the client left."""
        self._end(completion_tokens, "aborted")

    def _end(self, tokens: int, end: str) -> None:
        self._record.tokens = tokens
        if self._log:
            self._log.end(self._record, end)


class WholeReply:
    """Nothing is sent before the last token."""

    def __init__(self, connection: Connection, generation: Generation, chunks: Chunks) -> None:
        """Start with empty texts."""
        self._connection = connection
        self._chunks = chunks
        choices = len(generation.prompts) * generation.n
        self._texts: list[list[bytes]] = [[] for _ in range(choices)]
        self._finishes = ["length"] * choices

    def start(self) -> None:
        """Send nothing yet."""

    def token(self, index: int, text: bytes, generated: int, finish: str | None) -> None:  # noqa: ARG002 - as above
        """Keep a token."""
        self._texts[index].append(text)
        if finish is not None:
            self._finishes[index] = finish

    def finish(self, completion_tokens: int) -> None:
        """Send the answer."""
        texts = [b"".join(texts) for texts in self._texts]
        self._connection.respond(200, self._chunks.whole(texts, self._finishes, completion_tokens))

    def abort(self, completion_tokens: int) -> None:
        """There is nothing to undo."""
