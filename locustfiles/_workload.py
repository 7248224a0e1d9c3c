"""What is asked: pure and seeded. The same seed, worker and number give the same request, on any machine.

Prompts are made of common English words in random order, so no two share a prefix by accident (a prefix
cache would fake the TTFT), unless they come from a file.
"""

import hashlib
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from locustfiles._reply import Request

WORDS = """
time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work government number night point
home water room mother area money story fact month lot right study book eye job word business issue
side kind head house service friend father power hour game line end member law car city community name
president team minute idea kid body information back parent face others level office door health person
art war history party result change morning reason research girl guy moment air teacher force education
""".split()


class WorkloadError(ValueError):
    """An option that describes no workload: says what was found and what was expected."""


@dataclass(frozen=True)
class Workload:
    """One scenario's requests. Ranges are inclusive (low, high); lengths are drawn uniformly."""

    endpoint: str  # chat | completions
    model: str
    prompt_words: tuple[int, int]
    max_tokens: tuple[int, int]
    choices: int
    seed: int
    ignore_eos: bool
    per_chunk_usage: bool
    extra: dict[str, Any] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Where requests go."""
        return "/v1/chat/completions" if self.endpoint == "chat" else "/v1/completions"

    def request(self, run: str, worker: int, number: int, headers: dict[str, str]) -> Request:
        """Build request `number` of `worker`; `headers` are added to its own."""
        draw = random.Random(f"{self.seed}/{worker}/{number}")
        words = draw.randint(*self.prompt_words)
        prompt = draw.choice(self.prompts) if self.prompts else " ".join(draw.choices(WORDS, k=words))
        body: dict[str, Any] = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": draw.randint(*self.max_tokens),
        }
        if self.endpoint == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        if self.per_chunk_usage:
            body["stream_options"]["continuous_usage_stats"] = True
        if self.choices > 1:
            body["n"] = self.choices
        if self.ignore_eos:
            body["ignore_eos"] = True
        body |= self.extra
        own = {
            "content-type": "application/json",
            "accept": "text/event-stream",
            "accept-encoding": "identity",
            "x-request-id": f"{run}-{worker}-{number}",
        }
        return Request(self.path, own | headers, msgspec.json.encode(body))


def parse_range(text: str, what: str) -> tuple[int, int]:
    """Read "64" or "16-128"; raises WorkloadError."""
    low, dash, high = str(text).partition("-")
    try:
        pair = int(low), int(high if dash else low)
    except ValueError:
        raise WorkloadError(f"{what}: found {text!r}, expected a number or LOW-HIGH such as 16-128") from None
    if not 1 <= pair[0] <= pair[1]:
        raise WorkloadError(f"{what}: found {text!r}, expected 1 <= LOW <= HIGH")
    return pair


def parse_extra(text: str) -> dict[str, Any]:
    """Read the JSON object that is merged into every request body; raises WorkloadError."""
    if not text:
        return {}
    try:
        extra = json.loads(text)
    except json.JSONDecodeError as error:
        raise WorkloadError(f"--extra-body: found {text!r}, expected a JSON object ({error})") from None
    if not isinstance(extra, dict):
        raise WorkloadError(f"--extra-body: found {text!r}, expected a JSON object")
    return extra


def read_prompts(path: str) -> tuple[str, ...]:
    """Read one prompt a line: plain text, or a JSON object with a `prompt`; raises WorkloadError."""
    if not path:
        return ()
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"--prompts: cannot read {path} ({error})") from None
    prompts = tuple(_prompt(line, f"{path} line {n}") for n, line in enumerate(lines, 1) if line.strip())
    if not prompts:
        raise WorkloadError(f"--prompts: {path} holds no prompt, expected one a line")
    return prompts


def digest(prompts: tuple[str, ...]) -> str:
    """Return what tells these prompts from others; empty where there are none."""
    return hashlib.sha256("\0".join(prompts).encode("utf-8", "replace")).hexdigest()[:12] if prompts else ""


def _prompt(line: str, where: str) -> str:
    if not line.lstrip().startswith("{"):
        return line
    try:
        prompt = json.loads(line)["prompt"]
    except (json.JSONDecodeError, KeyError, TypeError):
        found = repr(line[:60])
        raise WorkloadError(f"{where}: found {found}, expected text or a JSON object with a prompt") from None
    return str(prompt)
