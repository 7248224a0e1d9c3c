"""Ask one server all questions, a few at a time, and keep what it said."""

import math
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from server.errors import ServerError, UsageError
from server.making import Say
from server.quality.api import Api, RefusalError
from server.quality.questions import (
    Prompt,
    Questions,
    Text,
    Tokenize,
    Window,
    check_tokenizer,
    tokenizer,
)
from server.sim import OWNER

SCHEMA = 1
TOP_K = 20
MAX_TOKENS = 96
READ_AT_ONCE = 4
"""Texts: for each, the server holds its probabilities of a whole window (`questions.WINDOW`)."""
WRITE_AT_ONCE = 16
"""Answers need no such room, and most of a small batch's time goes by beside the computing: 16 at once take
half of the processor's time that 4 take, or less (SmolLM2 on two cores)."""
SAY_EVERY = 10
NO_LIMIT = 1 << 30  # tokens, where a server does not say
NOT_A_NUMBER = "float values are not JSON compliant"  # how vLLM refuses to write NaN, as broken weights give
IMPOSSIBLE = -1000.0  # kept for a log probability that is none; `analysis.answers` says what it means

_Asked = TypeVar("_Asked")
_Said = TypeVar("_Said")


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers, and what it serves first."""

    api: Api
    model: str
    version: str
    max_model_len: int
    simulated: bool

    @property
    def tokenize(self) -> Tokenize:
        """Its tokenizer."""
        return tokenizer(self.api, self.model)


def look(url: str) -> Served:
    """Ask what is served. Raises UsageError or ServerError, one line."""
    api = Api(url)
    found = api.get("/v1/models")
    try:
        first = found["data"][0]
        model, room = str(first["id"]), int(first.get("max_model_len") or NO_LIMIT)
        owner = str(first.get("owned_by"))
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        raise ServerError(f"{api.url}/v1/models: expected a list of models, found none") from None
    return Served(api, model, _version(api), room, owner == OWNER)


def _version(api: Api) -> str:
    try:
        return str(api.get("/version")["version"])
    except (ServerError, KeyError, TypeError):  # only vLLM tells
        return ""


def ask(served: Served, questions: Questions, say: Say, *, top_k: int = TOP_K) -> dict[str, Any]:
    """Return what a server says to all questions: the JSON object that `analysis.answers` describes.

    `top_k` alternatives are asked for each token, or as many as the server allows. Raises UsageError where
    its tokenizer or its room does not fit the questions, ServerError where it refuses or does not answer.
    """
    if served.max_model_len <= questions.window:
        raise UsageError(
            f"{served.api.url}: found room for {served.max_model_len} tokens, expected more than "
            f"{questions.window}, as the first server has: start them with the same --max-model-len"
        )
    check_tokenizer(questions, served.tokenize, served.api.url)
    k = _allowed(served, questions, top_k)
    began = time.time()
    texts = _at_once(READ_AT_ONCE, partial(_score, served, questions, k), questions.texts, "texts read", say)
    answers = _at_once(WRITE_AT_ONCE, partial(_write, served), questions.prompts, "answers written", say)
    return {
        "schema": SCHEMA,
        "url": served.api.url,
        "model": served.model,
        "version": served.version,
        "simulated": served.simulated,
        "max_model_len": served.max_model_len,
        "top_k": k,
        "window": questions.window,
        "start": list(questions.start),
        "asked_unix_s": round(began),
        "texts": texts,
        "answers": answers,
    }


def _at_once(
    most: int, do: Callable[[_Asked], _Said], items: Sequence[_Asked], what: str, say: Say
) -> list[_Said]:
    """Do so many at a time and return them in order; the first error ends it."""
    pool = ThreadPoolExecutor(most)
    try:
        found = []
        for said in pool.map(do, items):
            found.append(said)
            if len(found) % SAY_EVERY == 0 or len(found) == len(items):
                say(f"{len(found)} of {len(items)} {what}")
    finally:  # after Ctrl-C an experiment goes on to end its server, which ends the requests that hang
        pool.shutdown(wait=False, cancel_futures=True)
    return found


def _allowed(served: Served, questions: Questions, top_k: int) -> int:
    """Return how many alternatives the server gives: as many as wanted, or the number that it names."""
    ids = questions.texts[0].tokens[:2]
    try:
        _logprobs(served, ids, top_k)
    except RefusalError as error:
        if NOT_A_NUMBER in error.reason:
            return top_k
        named = re.search(r"logprobs?\b.*max\w* allowed: (\d+)", error.reason)
        if not named or not 0 < int(named[1]) < top_k:
            raise
        return int(named[1])
    return top_k


def _logprobs(served: Served, ids: tuple[int, ...], k: int) -> list[dict[str, Any]]:
    """Return what the server says of each token but the first: id -> {logprob, ...}."""
    body = {
        "model": served.model,
        "prompt": list(ids),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": k,
    }
    where = f"{served.api.url}/v1/completions"
    found = served.api.post("/v1/completions", body)
    try:
        said = found["choices"][0].get("prompt_logprobs")
    except (KeyError, TypeError, IndexError, AttributeError):
        raise ServerError(f"{where}: expected an answer with choices, found none") from None
    if not isinstance(said, list) or len(said) != len(ids):
        raise ServerError(
            f"{where}: expected prompt_logprobs for {len(ids)} tokens, found none: the quality gate needs a "
            "server that gives them, as vLLM does"
        )
    return said[1:]


def _score(served: Served, questions: Questions, k: int, text: Text) -> dict[str, Any]:
    """Read a text to the server, token by token."""
    scored = [pair for window in questions.windows(text) for pair in _window(served, k, window)]
    best = [sorted(found.items(), key=lambda pair: -pair[1])[:k] for _, found in scored]
    return {
        "name": text.name,
        "kind": text.kind,
        "text": text.text,
        "tokens": list(text.tokens),
        "logprobs": [found[token] for token, found in scored],
        "top_ids": [[one for one, _ in alternatives] for alternatives in best],
        "top_logprobs": [[log for _, log in alternatives] for alternatives in best],
    }


def _window(served: Served, k: int, window: Window) -> list[tuple[int, dict[int, float]]]:
    """Return each scored token with what the server said of it: id -> log probability, its own among them."""
    first = len(window.ids) - window.scored
    try:
        said = _logprobs(served, window.ids, k)[first - 1 :]
    except RefusalError as error:
        if NOT_A_NUMBER not in error.reason:
            raise
        nothing = dict.fromkeys(range(k + 1), IMPOSSIBLE)
        return [(token, nothing | {token: IMPOSSIBLE}) for token in window.ids[first:]]
    try:
        read = [{int(one): _rounded(more["logprob"]) for one, more in found.items()} for found in said]
    except (KeyError, TypeError, ValueError, AttributeError):
        read = []
    scored = list(zip(window.ids[first:], read, strict=False))
    if len(scored) < window.scored or any(token not in found or len(found) < k for token, found in scored):
        raise ServerError(
            f"{served.api.url}/v1/completions: expected {k} log probabilities at each token, its own among "
            "them, found others"
        )
    return scored


def _write(served: Served, prompt: Prompt) -> dict[str, Any]:
    """Let the server write by itself, taking the likeliest token each time."""
    body = {
        "model": served.model,
        "messages": [{"role": "user", "content": prompt.text}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "return_token_ids": True,
    }
    found = served.api.post("/v1/chat/completions", body)
    try:
        choice = found["choices"][0]
        message = choice["message"]
        text = message.get("content") or message.get("reasoning") or ""
        finish = str(choice["finish_reason"])
    except (KeyError, TypeError, IndexError, AttributeError):
        where = f"{served.api.url}/v1/chat/completions"
        raise ServerError(f"{where}: expected a chat's answer, found none") from None
    ids = choice.get("token_ids")
    return {
        "kind": prompt.kind,
        "prompt": prompt.text,
        "prompt_ids": found.get("prompt_token_ids"),
        "token_ids": served.tokenize(text, False) if ids is None else ids,  # not every server tells
        "text": text,
        "finish": finish,
    }


def _rounded(logprob: float | None) -> float:
    """Write a 32-bit float with as many digits as it has; NaN and null are as good as never."""
    return IMPOSSIBLE if logprob is None or not math.isfinite(logprob) else float(f"{logprob:.7g}")
