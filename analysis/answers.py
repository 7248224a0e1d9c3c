"""What one server said in a quality check: the contract between asking (`server.quality`) and judging.

A gzipped JSON object, so that judging can be repeated without servers:

    schema, url, model, version, simulated, max_model_len, top_k, window, start, asked_unix_s
    texts      name, kind, text, tokens [n]; for each scored token, which are the last m of them:
               logprobs [m], top_ids [m][K], top_logprobs [m][K], likeliest first;
               -1000 where the server gave NaN, infinity or null, or could not write it
    answers    kind, prompt, prompt_ids or null, token_ids, text, finish ("stop", "length", ...)
"""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCHEMA = 1
IMPOSSIBLE = -1000.0
"""The log probability kept where a server gave no number, as one with broken weights does."""

Ids = NDArray[np.int64]
Logs = NDArray[np.float64]


class AnswersError(ValueError):
    """A file that is none, or two that cannot be compared: says what was found and what was expected."""


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text as one server saw it; m scored tokens, K alternatives at each. Logarithms are natural."""

    name: str
    kind: str
    tokens: tuple[int, ...]
    logprobs: Logs  # [m]: of the text's own tokens
    top_ids: Ids  # [m, K]
    top_logprobs: Logs  # [m, K]

    @property
    def scored(self) -> Ids:
        """The tokens that `logprobs` belong to."""
        return np.array(self.tokens[len(self.tokens) - len(self.logprobs) :], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server wrote by itself, always taking the likeliest token."""

    kind: str
    prompt: str
    prompt_ids: tuple[int, ...] | None
    token_ids: tuple[int, ...]
    text: str
    finish: str


@dataclass(frozen=True, slots=True)
class Answers:
    """All that one server said."""

    url: str
    model: str
    version: str
    simulated: bool
    texts: tuple[Text, ...]
    answers: tuple[Answer, ...]


def load(path: Path) -> Answers:
    """Read a saved file. Raises AnswersError."""
    try:
        found = json.loads(gzip.decompress(path.read_bytes()))
    except OSError as error:
        raise AnswersError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (EOFError, zlib.error, ValueError) as error:
        raise AnswersError(f"{path}: expected gzipped JSON ({error})") from None
    try:
        return decode(found)
    except AnswersError as error:
        raise AnswersError(f"{path}: {error}") from None


def decode(found: Any) -> Answers:
    """Decode the JSON object. Raises AnswersError."""
    try:
        if found["schema"] != SCHEMA:
            raise AnswersError(f"found the schema {found['schema']!r}, expected {SCHEMA}")
        return Answers(
            url=str(found["url"]),
            model=str(found["model"]),
            version=str(found["version"]),
            simulated=bool(found["simulated"]),
            texts=tuple(_text(one) for one in found["texts"]),
            answers=tuple(_answer(one) for one in found["answers"]),
        )
    except (KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, AnswersError):
            raise
        raise AnswersError(f"holds what no quality check writes ({error!r})") from None


def _text(found: Any) -> Text:
    tokens = tuple(int(token) for token in found["tokens"])
    logprobs = np.array(found["logprobs"], dtype=np.float64)
    top_ids = np.array(found["top_ids"], dtype=np.int64)
    top_logprobs = np.array(found["top_logprobs"], dtype=np.float64)
    scored = len(logprobs)
    name = str(found["name"])
    if not 0 < scored <= len(tokens):
        raise AnswersError(f"{name}: found {scored} scored of {len(tokens)} tokens")
    if top_ids.ndim != 2 or top_ids.shape != top_logprobs.shape or len(top_ids) != scored:
        raise AnswersError(f"{name}: found alternatives of shape {top_ids.shape}, expected ({scored}, K)")
    if not (np.isfinite(logprobs).all() and np.isfinite(top_logprobs).all()):
        raise AnswersError(f"{name}: found a log probability that is no number")
    return Text(name, str(found["kind"]), tokens, logprobs, top_ids, top_logprobs)


def _answer(found: Any) -> Answer:
    prompt_ids = found["prompt_ids"]
    return Answer(
        kind=str(found["kind"]),
        prompt=str(found["prompt"]),
        prompt_ids=None if prompt_ids is None else tuple(prompt_ids),
        token_ids=tuple(found["token_ids"]),
        text=str(found["text"]),
        finish=str(found["finish"]),
    )


def check_same_questions(base: Answers, other: Answers) -> None:
    """Raise AnswersError unless both were asked the very same tokens, and the base said anything at all."""
    if not base.texts or not any(one.token_ids for one in base.answers):
        raise AnswersError(f"{base.url} scored {len(base.texts)} texts and wrote nothing: no baseline")
    broken = [text.name for text in base.texts if (text.logprobs <= IMPOSSIBLE).any()]
    if broken:
        raise AnswersError(f"{base.url} gave log probabilities that are none ({broken[0]}): no baseline")
    names, others = [text.name for text in base.texts], [text.name for text in other.texts]
    if names != others:
        raise AnswersError(f"found the texts {', '.join(others)}, expected {', '.join(names)}")
    for mine, its in zip(base.texts, other.texts, strict=True):
        if mine.tokens != its.tokens or len(mine.logprobs) != len(its.logprobs):
            raise AnswersError(f"{mine.name}: the two servers were not asked the same tokens")
    if [one.prompt for one in base.answers] != [one.prompt for one in other.answers]:
        raise AnswersError("the two servers were not asked the same prompts")
    for asked, again in zip(base.answers, other.answers, strict=True):
        if None not in (asked.prompt_ids, again.prompt_ids) and asked.prompt_ids != again.prompt_ids:
            raise AnswersError(
                f"the chat templates of {base.url} and {other.url} differ: "
                f"they make other tokens of the prompt {asked.prompt!r}"
            )
