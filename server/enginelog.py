"""What an engine's log says: which kernels compute, and why it did not start. Pure: lines in, words out."""

import re
from collections.abc import Iterable, Sequence

_KERNEL = re.compile(r"\] (?:Using|Selected) (?P<kernel>\w+) (?:for \w+|(?:attention )?backend)")
_EXCEPTION = re.compile(r"^(?:\(.*?\) ERROR [^\]]*\] )?(?:\w+\.)*(\w+(?:Error|Exception)): (?P<text>.+)")
_LEVELS = re.compile(r"^\(.*?\) (?:INFO|WARNING|ERROR) [\d: -]+\[[^\]]*\] ")
LIMIT = 300  # letters of a reason: some list every architecture there is

_MEANINGS = {
    "wrong architecture": [r"architectures \[.*\] are not supported"],
    "out of memory": [
        r"out of memory",
        r"OutOfMemoryError",
        r"less than requested memory",
        r"available KV cache memory",
        r"No available memory for the cache",
        r"[Cc]an(?:not|'t) allocate memory",
    ],
    "port taken": [r"[Aa]ddress already in use"],
    "model missing": [
        r"LocalEntryNotFound",
        r"(?:Repository|Revision)NotFound",
        r"GatedRepo",
        r"not a valid model identifier",
        r"couldn't connect to",
    ],
    "wrong engine argument": [r"unrecognized arguments", r"error: argument "],
}


def kernels(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the kernels that the log names, in its order, each once; () where it names none."""
    found: dict[str, None] = {}
    for line in lines:
        match = _KERNEL.search(line)
        if match:
            found[match["kernel"]] = None
    return tuple(found)


def failure(lines: Sequence[str], code: int | None) -> str:
    """Return, in one line, why an engine ended before it was ready.

    The first exception is the cause; the later ones only say that something failed. `code` is the exit
    code, above 128 for a signal; None where it did not end.
    """
    text = _cause(lines)
    for meaning, patterns in _MEANINGS.items():
        if any(re.search(pattern, text) for pattern in patterns):
            return f"{meaning}: {_short(text)}"
    if code == 137:  # SIGKILL, and not by us
        return "killed (SIGKILL), as the system does when memory is out"
    ended = "did not become ready" if code is None else f"ended with code {code}"
    return f"{ended}: {_short(text)}"


def plain(line: str) -> str:
    """Return a log line without process, level and time."""
    return _LEVELS.sub("", line).strip()


def _cause(lines: Sequence[str]) -> str:
    for number, line in enumerate(lines):
        match = _EXCEPTION.match(line)
        if not match:
            if re.search(r"error: (unrecognized arguments|argument )|Address already in use", line):
                return line.strip()
            continue
        text = match["text"].strip()
        if "validation error" in text and number + 1 < len(lines):  # pydantic says what on the next line
            text = plain(lines[number + 1]).removeprefix("Value error, ")
        return f"{match[1]}: {text}" if match[1] not in text else text
    spoken = [plain(line) for line in lines if plain(line)]
    return spoken[-1] if spoken else "it printed nothing"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LIMIT else text[:LIMIT].rstrip() + " …"
