"""The bytes of an answer: server-sent events and JSON bodies in vLLM's shapes. Pure.

A token's event is a prefix that holds for the whole stream, the token's text, and a suffix; only a stream
that asks for more in every chunk (usage, token ids) gets its suffix made anew.
"""

import json
from typing import Any

from . import OWNER, VERSION
from .api import Generation
from .tokens import text_ids, token_id
from .toy import prompt_logprobs

_FINGERPRINT = f"{OWNER}-{VERSION}"


def quoted(text: str) -> bytes:
    """Return the inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="replace")


def compact(value: object) -> bytes:
    """Return JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


class Chunks:
    """Renders the events of one request."""

    def __init__(  # noqa: PLR0913 - all of it appears in every chunk
        self,
        generation: Generation,
        *,
        request_id: str,
        model: str,
        created: int,
        line_end: bytes = b"\n",
        usage: str = "end",
        reasoning_field: str = "reasoning",
        toy: tuple[int, float] = (0, 0.0),
    ) -> None:
        """Render the constant parts.

        `request_id` comes without its prefix, `created` in Unix seconds; `line_end` ends each line of an
        event; `usage` is "none", "end" or "every" (in each chunk, and at the end); `toy` are the seed and the
        noise of the model that prompt_logprobs are asked of.
        """
        self._toy = toy
        self._generation = generation
        self._usage = usage
        self._varies = usage == "every" or generation.return_token_ids
        self._head: dict[str, Any] = {
            "id": ("chatcmpl-" if generation.chat else "cmpl-") + request_id,
            "object": "chat.completion.chunk" if generation.chat else "text_completion",
            "created": created,
            "model": model,
        }
        self.end_of_event = line_end * 2
        choices = range(len(generation.prompts) * generation.n)
        text = 'delta":{"content' if generation.chat else "text"
        self._prefixes = [self._prefix(index, text) for index in choices]
        if generation.chat:
            text = f'delta":{{"{reasoning_field}'
        self._reasoning_prefixes = [self._prefix(index, text) for index in choices]
        self._suffix = self._make_suffix(b"", 0, 0, None, 1)

    def role(self, index: int) -> bytes:
        """Render the chunk that opens a chat's choice; it stands for no token."""
        delta = {"role": "assistant", "content": ""}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        event: dict[str, Any] = {**self._head, "choices": [choice]}
        if self._usage == "every":
            event["usage"] = self._usage_so_far(index, 0)
        event |= {"prompt_token_ids": self._prompt_ids(index), "prompt_text": None}
        return self.event(compact(event))

    def token(  # noqa: PLR0913 - all that a chunk tells
        self,
        index: int,
        text: bytes,
        generated: int,
        finish: str | None = None,
        tokens: int = 1,
        *,
        reasoning: bool = False,
    ) -> bytes:
        """Render a chunk of a choice.

        `text` is JSON-quoted; `generated` counts the choice's tokens so far, with the `tokens` of this chunk;
        `reasoning` (in a chat) is what the user does not see.
        """
        prefix = (self._reasoning_prefixes if reasoning else self._prefixes)[index]
        if finish is None and not self._varies:
            return prefix + text + self._suffix
        return prefix + text + self._make_suffix(text, index, generated, finish, tokens)

    def ending(self, completion_tokens: int) -> list[bytes]:
        """Render what follows the last token, without [DONE]: usage, where it is wanted."""
        if self._usage == "none":
            return []
        usage = _usage(sum(self._generation.prompt_tokens), completion_tokens)
        event = {**self._head, "choices": [], "usage": usage, "system_fingerprint": _FINGERPRINT}
        return [self.event(compact(event))]

    def done(self) -> bytes:
        """Render the last event of all."""
        return self.event(b"[DONE]")

    def event(self, data: bytes) -> bytes:
        """Render a server-sent event."""
        return b"data: " + data + self.end_of_event

    def comment(self, text: str) -> bytes:
        """Render a comment, which keeps a connection alive and says nothing."""
        return b": " + text.encode() + self.end_of_event

    def whole(self, texts: list[bytes], finishes: list[str], completion_tokens: int) -> bytes:
        """Render the JSON answer to a request that does not stream; `texts` are JSON-quoted."""
        choices = [
            self._whole_choice(index, json.loads(b'"%b"' % text), finish)
            for index, (text, finish) in enumerate(zip(texts, finishes, strict=True))
        ]
        kind = "chat.completion" if self._generation.chat else "text_completion"
        usage = _usage(sum(self._generation.prompt_tokens), completion_tokens)
        answer = {**self._head, "object": kind, "choices": choices}
        return compact({**answer, "system_fingerprint": _FINGERPRINT, "usage": usage})

    def _whole_choice(self, index: int, text: str, finish: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "reasoning": None}
        content = {"message": message} if self._generation.chat else {"text": text}
        choice: dict[str, Any] = {"index": index, **content, "logprobs": None, "finish_reason": finish}
        choice["stop_reason"] = None
        if not self._generation.chat:
            choice["prompt_logprobs"] = self._prompt_logprobs(index)
        return choice

    def _prompt_logprobs(self, index: int) -> list[Any] | None:
        wanted = self._generation.prompt_logprobs
        return None if wanted is None else prompt_logprobs(self._ids_of_prompt(index), wanted, *self._toy)

    def _prefix(self, index: int, field: str) -> bytes:
        # everything up to the text: the head's JSON without its closing brace, then the opened choice
        head = compact(self._head)[:-1]
        return b"data: " + head + f',"choices":[{{"index":{index},"{field}":"'.encode()

    def _make_suffix(self, text: bytes, index: int, generated: int, finish: str | None, tokens: int) -> bytes:
        generation = self._generation
        choice: dict[str, Any] = {"logprobs": None, "finish_reason": finish}
        if finish is not None or not generation.chat:
            choice["stop_reason"] = None
        if not generation.chat:
            choice["prompt_token_ids"] = self._prompt_ids(index) if generated == tokens else None
        first_id = token_id(text.decode())
        ids = [first_id + number for number in range(tokens)]
        choice["token_ids"] = ids if generation.return_token_ids else None
        event: dict[str, Any] = {}
        if finish is not None and self._usage == "none":
            event["system_fingerprint"] = _FINGERPRINT
        if self._usage == "every":
            event["usage"] = self._usage_so_far(index, generated)
        close_delta = b"}" if generation.chat else b""
        rest = b"," + compact(event)[1:] if event else b"}"
        return b'"' + close_delta + b"," + compact(choice)[1:] + b"]" + rest + self.end_of_event

    def _usage_so_far(self, index: int, generated: int) -> dict[str, Any]:
        usage = _usage(self._generation.prompt_tokens[index // self._generation.n], generated)
        return usage | ({"completion_tokens_details": None} if self._generation.chat else {})

    def _prompt_ids(self, index: int) -> list[int] | None:
        return self._ids_of_prompt(index) if self._generation.return_token_ids else None

    def _ids_of_prompt(self, index: int) -> list[int]:
        prompt = self._generation.prompts[index // self._generation.n]
        return text_ids(prompt) if isinstance(prompt, str) else list(prompt)


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }
