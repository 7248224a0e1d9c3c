"""Request bodies as vLLM's OpenAI server takes them, and the errors it answers with."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from .tokens import CHARACTERS_PER_TOKEN, count_text, render_chat, text_ids

MAX_CHOICES = 128
MAX_LOGPROBS = 20  # vLLM's --max-logprobs
_COMPLETION_DEFAULT_TOKENS = 16


class ApiError(Exception):
    """A request that is refused: status, message and the parameter at fault."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        """`status` is the HTTP status."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param

    def body(self) -> bytes:
        """Return the JSON body."""
        return error_body(self.status, self.message, self.param)


def error_body(status: int, message: str, param: str | None = None) -> bytes:
    """Render an error as vLLM does; it also stands alone as the data of an error event."""
    names = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}
    kind = names.get(status) or HTTPStatus(status).phrase
    error = {"message": message, "type": kind, "param": param, "code": status}
    return json.dumps({"error": error}, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Generation:
    """A checked completion or chat request. Token counts are exact."""

    chat: bool
    prompts: tuple[str | tuple[int, ...], ...]
    prompt_tokens: tuple[int, ...]  # one for each prompt
    n: int
    max_tokens: int
    min_tokens: int
    ignore_eos: bool
    seed: int | None
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    prompt_logprobs: int | None = None


def parse_object(body: bytes) -> dict[str, Any]:
    """Decode a JSON object. Raises ApiError."""
    try:
        value = json.loads(body)
    except ValueError as error:  # bad UTF-8 is one too
        raise ApiError(400, f"JSON decode error: {error}") from None
    except RecursionError:
        raise ApiError(400, "JSON decode error: nested too deeply") from None
    if not isinstance(value, dict):
        raise ApiError(400, f"found a JSON {type(value).__name__}, expected an object")
    return value


def parse_generation(body: dict[str, Any], *, chat: bool, model: str, max_model_len: int) -> Generation:
    """Check the body of /v1/completions or /v1/chat/completions. Raises ApiError."""
    check_model(body, model)
    prompts = (parse_messages(body),) if chat else _prompts(body)
    prompt_tokens = tuple(count_prompt(prompt) for prompt in prompts)
    longest = max(prompt_tokens)
    room = max_model_len - longest
    max_tokens = _max_tokens(body, chat=chat, room=room)
    if room < 1 or max_tokens > room:
        raise ApiError(
            400,
            f"This model's maximum context length is {max_model_len} tokens; found {longest} prompt tokens "
            f"and {max_tokens} output tokens.",
            "max_tokens" if room >= 1 else "prompt",
        )
    min_tokens = _integer(body, "min_tokens", 0, low=0)
    if min_tokens > max_tokens:
        raise ApiError(
            400, f"min_tokens: found {min_tokens}, expected at most max_tokens={max_tokens}", "min_tokens"
        )
    options = {} if body.get("stream_options") is None else body["stream_options"]
    if not isinstance(options, dict):
        raise ApiError(400, "stream_options: expected an object", "stream_options")
    include_usage = _boolean(options, "include_usage")
    stream = _boolean(body, "stream")
    return Generation(
        chat=chat,
        prompts=prompts,
        prompt_tokens=prompt_tokens,
        n=_integer(body, "n", 1, low=1, high=MAX_CHOICES),
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        ignore_eos=_boolean(body, "ignore_eos"),
        seed=body.get("seed") if isinstance(body.get("seed"), int) else None,
        stream=stream,
        include_usage=include_usage,
        continuous_usage=include_usage and _boolean(options, "continuous_usage_stats"),
        return_token_ids=_boolean(body, "return_token_ids"),
        prompt_logprobs=_prompt_logprobs(body, stream=stream),
    )


def check_model(body: dict[str, Any], model: str) -> None:
    """Refuse another model than the one served; none named is fine. Raises ApiError."""
    if body.get("model") not in (None, model):
        raise ApiError(404, f"The model `{body['model']}` does not exist.", "model")


def parse_messages(body: dict[str, Any]) -> str:
    """Return the chat as one text. Raises ApiError."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages: field required, a list that is not empty", "messages")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ApiError(400, "messages: expected objects with a role", "messages")
    return render_chat(messages)


def count_prompt(prompt: str | tuple[int, ...]) -> int:
    """Tokens of a prompt: exact for token ids."""
    return count_text(prompt) if isinstance(prompt, str) else len(prompt)


def prompt_ids(body: dict[str, Any]) -> list[int]:
    """Return the tokens for /tokenize, whose body has a prompt or messages. Raises ApiError."""
    if "messages" in body:
        return text_ids(parse_messages(body))
    if not isinstance(body.get("prompt"), str):
        raise ApiError(400, "prompt: field required, a string", "prompt")
    return text_ids(body["prompt"])


def unit(prompt: str | tuple[int, ...]) -> int:
    """Elements of the prompt that make one token."""
    return CHARACTERS_PER_TOKEN if isinstance(prompt, str) else 1


def _prompts(body: dict[str, Any]) -> tuple[str | tuple[int, ...], ...]:
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return (prompt,)
    if isinstance(prompt, list) and prompt:
        if _all_ids(prompt):
            return (tuple(prompt),)
        if all(
            isinstance(item, str) or (isinstance(item, list) and item and _all_ids(item)) for item in prompt
        ):
            return tuple(item if isinstance(item, str) else tuple(item) for item in prompt)
    raise ApiError(400, "prompt: field required, a string, token ids, or a list of either", "prompt")


def _all_ids(items: list[object]) -> bool:
    return all(type(item) is int and item >= 0 for item in items)


def _max_tokens(body: dict[str, Any], *, chat: bool, room: int) -> int:
    name = "max_completion_tokens" if chat and body.get("max_completion_tokens") is not None else "max_tokens"
    default = max(1, room) if chat else _COMPLETION_DEFAULT_TOKENS
    return _integer(body, name, default, low=1)


def _prompt_logprobs(body: dict[str, Any], *, stream: bool) -> int | None:
    name = "prompt_logprobs"
    if body.get(name) is None:
        return None
    wanted = _integer(body, name, 0, low=0)
    if wanted > MAX_LOGPROBS:
        text = f"Requested prompt logprobs of {wanted}, which is greater than max allowed: {MAX_LOGPROBS}"
        raise ApiError(400, text, name)
    if stream and wanted:
        raise ApiError(400, "`prompt_logprobs` are not available when `stream=True`.", name)
    return wanted


def _integer(body: dict[str, Any], name: str, default: int, *, low: int, high: int | None = None) -> int:
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int or value < low or (high is not None and value > high):
        limit = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise ApiError(400, f"{name}: found {value!r}, expected an integer {limit}", name)
    return value


def _boolean(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise ApiError(400, f"{name}: found {value!r}, expected true or false", name)
    return bool(value)
