"""What is asked: the texts and prompts shipped with us, cut into windows of token ids once and for all."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.errors import ServerError, UsageError
from server.quality.api import Api

FOLDER = Path(__file__).resolve().parents[1] / "texts" / "quality"
PROMPTS = "prompts.txt"

WINDOW = 2048
"""Tokens asked at once, at most. The server holds a float for each of them and each id of its vocabulary, and
more while it sorts them: 2,048 x 128,000 x 4 bytes are 1 GB that vLLM did not plan for."""

Tokenize = Callable[[str, bool], list[int]]


@dataclass(frozen=True, slots=True)
class Window:
    """Token ids to be asked in one request; the last `scored` of them are new."""

    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text; its kind is the first word of its file's name."""

    name: str
    kind: str
    text: str
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question or instruction that is answered freely."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Questions:
    """The same for every server. `start` are the special tokens that the tokenizer puts before a text."""

    texts: tuple[Text, ...]
    prompts: tuple[Prompt, ...]
    start: tuple[int, ...]
    window: int

    def windows(self, text: Text) -> tuple[Window, ...]:
        """Cut a text so that each token is scored once, each but a few after as much of it as fits.

        Windows overlap by a quarter and the last one reaches back as far as it can. A first token that
        nothing stands before, not even `start`, is not scored.
        """
        size = self.window - len(self.start)
        n, end = len(text.tokens), 0
        found = []
        while end < n:
            seen, end = end, min(end + size * 3 // 4 if end else size, n)
            ids = self.start + text.tokens[max(0, end - size) : end]
            found.append(Window(ids, min(end - seen, len(ids) - 1)))
        return tuple(found)


def texts(folder: Path = FOLDER) -> tuple[Text, ...]:
    """Read the texts, in the order of their names. Raises UsageError where there are none."""
    paths = sorted(path for path in folder.glob("*.txt") if path.name != PROMPTS)
    if not paths:
        raise UsageError(f"{folder}: found no *.txt, expected texts to compare servers on")
    return tuple(
        Text(path.stem, path.stem.partition("-")[0], path.read_text(encoding="utf-8").strip())
        for path in paths
    )


def prompts(path: Path = FOLDER / PROMPTS) -> tuple[Prompt, ...]:
    """Read one prompt a line; a line that begins with "# " names the kind of those below it."""
    kind, found = "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            kind = line[2:].strip()
        elif line.strip():
            found.append(Prompt(kind, line.strip()))
    return tuple(found)


def tokenizer(api: Api, model: str) -> Tokenize:
    """Return a function (text, with special tokens) -> ids that asks a server's /tokenize."""

    def tokenize(text: str, special: bool) -> list[int]:
        body = {"model": model, "prompt": text, "add_special_tokens": special}
        found = api.post("/tokenize", body)
        try:
            return [int(token) for token in found["tokens"]]
        except (KeyError, TypeError, ValueError):
            raise ServerError(f"{api.url}/tokenize: expected a list of token ids, found none") from None

    return tokenize


def make(tokenize: Tokenize, max_model_len: int, window: int = WINDOW) -> Questions:
    """Turn our texts into token ids with the baseline's tokenizer. Raises UsageError where nothing would fit.

    `max_model_len` is the smaller one of the servers that will be asked; one token is left for the answer.
    """
    size = min(max_model_len - 1, window)
    start = tuple(tokenize("", True))
    if size < len(start) + 2:
        raise UsageError(f"found room for {max_model_len} tokens, expected at least {len(start) + 3}")
    read = tuple(Text(one.name, one.kind, one.text, tuple(tokenize(one.text, False))) for one in texts())
    return Questions(read, prompts(), start, size)


def again(said: dict[str, Any]) -> Questions:
    """Return the questions that a server's saved answers were answers to."""
    read = tuple(Text(one["name"], one["kind"], one["text"], tuple(one["tokens"])) for one in said["texts"])
    asked = tuple(Prompt(one["kind"], one["prompt"]) for one in said["answers"])
    return Questions(read, asked, tuple(said["start"]), int(said["window"]))


def check_tokenizer(questions: Questions, tokenize: Tokenize, url: str) -> None:
    """Raise UsageError unless a server's tokenizer makes the same ids of the same texts."""
    for text in questions.texts:
        its = tokenize(text.text, False)
        for place, (one, other) in enumerate(zip(text.tokens, its, strict=False)):
            if one != other:
                raise UsageError(
                    f"{url}: its tokenizer is another: token {place} of {text.name} is {other}, expected "
                    f"{one}; probabilities can only be compared over one vocabulary"
                )
        if len(its) != len(text.tokens):
            raise UsageError(
                f"{url}: its tokenizer is another: {text.name} has {len(its)} tokens, "
                f"expected {len(text.tokens)}"
            )
