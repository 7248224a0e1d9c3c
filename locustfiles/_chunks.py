"""One event of an OpenAI-style stream, sans-IO: JSON in, a typed chunk out.

Only the fields that timing needs are decoded; msgspec still parses the whole event, so that broken JSON
never passes for a token. What is decoded is a tree and soon gone: the garbage collector need not see it.
"""

from typing import Any

import msgspec
from msgspec.json import encode

from locustfiles._errors import StreamError, shown

DONE = b"[DONE]"


class Delta(msgspec.Struct, gc=False):
    """What a chat chunk adds. vLLM writes `reasoning`, others `reasoning_content`."""

    content: str | None = None
    role: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class Choice(msgspec.Struct, gc=False):
    """One answer's part of a chunk: `text` in completions, `delta` in chat."""

    index: int = 0
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct, gc=False):
    """The server's own count of tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Chunk(msgspec.Struct, gc=False):
    """One event. A usage chunk has no choices; an error has nothing else."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None  # an object, a text; a union with Raw would admit null alone


_decode = msgspec.json.Decoder(Chunk).decode


def parse(data: bytes) -> Chunk:
    """Decode one event's data; raises StreamError on broken JSON, a foreign shape or an error event."""
    try:
        chunk = _decode(data)
    except msgspec.DecodeError as error:
        raise StreamError("protocol", f"expected a JSON chunk, found {shown(data)!r} ({error})") from None
    except UnicodeDecodeError:
        raise StreamError("protocol", f"expected UTF-8, found {shown(data)!r}") from None
    if chunk.error is not None:
        raise StreamError("server_error", f"the stream carried an error: {shown(encode(chunk.error), 160)}")
    if chunk.choices is None and chunk.usage is None:
        raise StreamError("protocol", f"expected choices, found {shown(data)!r}")
    return chunk
