"""Script mode: one request's behaviour, exactly as a test wants it.

A script is a JSON object, given with --script (an object, or a list that is gone through request by request
and begun again) or, for one request, in the header `x-sim-script`. Counts of tokens are per choice. "After k
tokens" means as soon as a choice has sent k or more; 0 is before the first.

| field | meaning | default |
|---|---|---|
| ttft_ms | from the request's last byte to the first token | 20 |
| itl_ms | between two writes: a number, or a list that is repeated | 10 |
| tokens | answer length, instead of the request's max_tokens; 0 is an empty answer | max_tokens |
| tokens_per_chunk | tokens in one event | 1 |
| events_per_write | events sent by one send() | 1 |
| token_text | texts of the tokens, repeated | [" token"] |
| empty_deltas | indexes of tokens without text | [] |
| reasoning | so many first tokens are reasoning (chat) | 0 |
| reasoning_field | their name: "reasoning" (vLLM 0.32) or "reasoning_content" | "reasoning" |
| role_chunk | a chat opens with a chunk that has only the role | true |
| role_chunk_early_ms | so long before the first token | 0 |
| usage | "end", "none" or "every" (chunk, and the end) | what the request asks |
| finish_reason | on the last token's chunk | "length" |
| status | answer with this status and a JSON error body; 429 has a retry-after | none |
| retry_after_s | what that says | 1 |
| slow_headers_ms | from the request's last byte to the head of the answer | 0 |
| html | status 200 and a page | false |
| json_not_stream | status 200 and one JSON body at the time of the last token | false |
| crlf | lines end with CR LF | false |
| comments_every_ms | a comment line so often, from the head on; 0 is never | 0 |
| comment | its text | "ping" |
| stall_at, stall_ms | after so many tokens the rest comes so much later | none, 0 |
| truncate_at | close the connection after so many tokens | none |
| reset_at | the same with a TCP reset, which may overtake what was sent | none |
| error_event_at | an error event and a proper end after so many tokens | none |
| invalid_json_at | one event that is no JSON after so many tokens | none |
| end_without_done | end properly, without the [DONE] event | false |
| endless | never end | false |
| long_line_bytes | the first token's line is padded to so many bytes; 0 is not | 0 |
| split_bytes | each write is cut into sends of so many bytes; 0 is not | 0 |
| close_connection | say `connection: close` and do it | false |
| http10 | an HTTP/1.0 answer: no chunks, the body ends with the connection | false |
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from http import HTTPStatus
from pathlib import Path
from typing import Any

from .api import ApiError

HEADER = "x-sim-script"
_LARGEST = 10**12
_ERRORS = {status.value for status in HTTPStatus if status >= 400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The fields of the table above."""

    ttft_ms: float = 20.0
    itl_ms: float | tuple[float, ...] = 10.0
    tokens: int | None = None
    tokens_per_chunk: int = 1
    events_per_write: int = 1
    token_text: tuple[str, ...] = (" token",)
    empty_deltas: tuple[int, ...] = ()
    reasoning: int = 0
    reasoning_field: str = "reasoning"
    role_chunk: bool = True
    role_chunk_early_ms: float = 0.0
    usage: str | None = None
    finish_reason: str = "length"
    status: int | None = None
    retry_after_s: int = 1
    slow_headers_ms: float = 0.0
    html: bool = False
    json_not_stream: bool = False
    crlf: bool = False
    comments_every_ms: float = 0.0
    comment: str = "ping"
    stall_at: int | None = None
    stall_ms: float = 0.0
    truncate_at: int | None = None
    reset_at: int | None = None
    error_event_at: int | None = None
    invalid_json_at: int | None = None
    end_without_done: bool = False
    endless: bool = False
    long_line_bytes: int = 0
    split_bytes: int = 0
    close_connection: bool = False
    http10: bool = False


class ScriptError(ValueError):
    """A script that cannot be played: says which field, what was found and what was expected."""


_CHOICES = {
    "reasoning_field": ("reasoning", "reasoning_content"),
    "usage": ("end", "none", "every"),
    "finish_reason": ("length", "stop", "abort", "content_filter", "tool_calls"),
}
_AT_LEAST_ONE = ("tokens_per_chunk", "events_per_write")


def parse_script(value: object) -> Script:
    """Check one script, as decoded from JSON. Raises ScriptError."""
    if not isinstance(value, dict):
        raise ScriptError(f"found {json.dumps(value)[:60]}, expected a JSON object")
    kinds = {field.name: field.type for field in fields(Script)}
    known: dict[str, Any] = {}
    for name, item in value.items():
        if name not in kinds:
            near = get_close_matches(name, kinds, n=1, cutoff=0.0)
            raise ScriptError(f"unknown field {name!r}; the nearest is {near[0]!r}")
        fits, expected = _check(name, kinds[name], item)
        if not fits:
            raise ScriptError(f"{name}: found {json.dumps(item)[:60]}, expected {expected}")
        known[name] = tuple(item) if isinstance(item, list) else item
    script = Script(**known)
    if script.stall_ms and script.stall_at is None:
        raise ScriptError("stall_ms needs stall_at, the number of tokens before it")
    return script


def parse_scripts(text: str) -> tuple[Script, ...]:
    """Check the value of --script: JSON itself or the name of a file with JSON. Raises ScriptError."""
    source = "--script"
    if not text.lstrip().startswith(("{", "[")):
        source = text
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ScriptError(f"{source}: {error}") from None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ScriptError(f"{source}: not JSON: {error}") from None
    if value == []:
        raise ScriptError(f"{source}: an empty list, expected at least one script")
    items = value if isinstance(value, list) else [value]
    scripts = []
    for number, item in enumerate(items):
        try:
            scripts.append(parse_script(item))
        except ScriptError as error:
            raise ScriptError(
                f"{source}[{number}]: {error}" if items is value else f"{source}: {error}"
            ) from None
    return tuple(scripts)


def script_of(headers: dict[str, str]) -> Script | None:
    """Return the script in a request's own header. Raises ApiError."""
    text = headers.get(HEADER)
    if text is None:
        return None
    try:
        return parse_script(json.loads(text.encode("latin-1")))
    except ValueError as error:
        raise ApiError(400, f"{HEADER}: {error}", HEADER) from None


def _check(name: str, kind: object, value: object) -> tuple[bool, str]:  # noqa: PLR0911 - one line a kind
    if name in _CHOICES:
        return value in _CHOICES[name], "one of " + ", ".join(_CHOICES[name])
    if kind is bool:
        return isinstance(value, bool), "true or false"
    if kind is float:
        return _is_ms(value), "milliseconds, a number of at least 0"
    if name == "itl_ms":
        return _is_ms(value) or _is_list(value, _is_ms), "milliseconds, or a list of them"
    if name == "token_text":
        return _is_list(value, lambda item: isinstance(item, str)), "a list of texts"
    if name == "empty_deltas":
        return value == [] or _is_list(value, _is_count), "a list of token indexes"
    if name == "comment":
        return isinstance(value, str) and value.isprintable(), "one line of text"
    if name == "status":
        return _is_count(value) and value in _ERRORS, "a known HTTP status from 400 on"
    if name in _AT_LEAST_ONE:
        return _is_count(value) and value != 0, "a whole number of at least 1"
    return _is_count(value), "a whole number of at least 0"


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_ms(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= _LARGEST  # type: ignore[operator]


def _is_list(value: object, item_fits: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and value != [] and all(item_fits(item) for item in value)
