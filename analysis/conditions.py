"""What two runs must have in common to be compared, and what they differ in.

A difference between two runs is the server's only if nothing else differed: the load, the work, the machine.
What differs by its nature (ports, folders, run ids, seeds of runs that are no pairs, loopback's names) is no
condition; everything else must be the same or be declared.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .rundir import Run

SECTIONS = ("load", "workload", "deadlines")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NATURAL = ("--host", "--port")
"""Arguments of a server that say where it listens."""

FOLLOWS = {"server.profile": ("server.argv", "server.variables", "target.model", "target.server")}
"""Who declares the first declares what follows from it."""

SOMETIMES = ("window.warmup_s", "versions.cpu", "server.gpu")
"""What runs that were cut off, or older ones, do not know: compared where both do."""

OF_AN_EXPERIMENT = ("server", "target.model", "target.server", "simulated")
"""What the servers of one experiment declare by being its servers."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A condition that two runs do not share."""

    name: str
    found: Any  # in the candidate's run
    expected: Any  # in the baseline's

    def __str__(self) -> str:
        """Return the difference in words."""
        return f"{self.name}: found {written(self.found)}, the baseline has {written(self.expected)}"


def conditions(run: Run) -> dict[str, Any]:
    """Return a run's conditions by their dotted names in run.json."""
    meta = run.meta
    found = {f"{name}.{key}": value for name in SECTIONS for key, value in meta[name].items()}
    url = urlsplit(str(meta["target"].get("url")))
    host = "loopback" if url.hostname in LOOPBACK else url.hostname
    found |= {f"target.{key}": meta["target"].get(key) for key in ("endpoint", "model", "server")}
    found |= {"target.host": host, "target.scheme": url.scheme}
    found |= {"transport": meta.get("transport"), "simulated": bool(meta.get("simulated"))}
    found["workers.expected"] = meta["workers"].get("expected")
    found["window.warmup_s"] = meta["window"].get("warmup_s")
    versions = meta.get("versions") or {}
    found |= {f"versions.{key}": versions.get(key) for key in ("system", "cpu")}
    found |= _server(meta.get("server"))
    return found


def _server(server: Any) -> dict[str, Any]:
    """Return what was asked of a server that we started; what came of it (kernels, memory) is a result."""
    if not isinstance(server, Mapping):
        return {"server": None}
    found: dict[str, Any] = {"server": "started by us", "server.gpu": server.get("gpu")}
    for section in ("profile", "variables", "inherited"):
        found |= dict(_flat(f"server.{section}", server.get(section) or {}))
    words = [str(word) for word in server.get("argv") or ()][1:]  # the first is our own Python's path
    return found | _arguments(words)


def _arguments(words: Sequence[str]) -> dict[str, Any]:
    """Return a command line as options and their values; an option that comes again keeps all of them."""
    found: dict[str, Any] = {}
    option = ""
    for word in words:
        if word.startswith("--"):
            option, _, value = word.partition("=")
            found.setdefault(f"server.argv.{option}", "")
        else:
            value = word
        if value:
            name = f"server.argv.{option}" if option else "server.argv"
            found[name] = " ".join([*str(found.get(name, "")).split(), _bare(value)])
    return {name: value for name, value in found.items() if name.rpartition(".")[2] not in NATURAL}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}", item)
    else:
        yield name, _bare(value) if isinstance(value, str) else value


def _bare(text: str) -> str:
    """Return a path, or several with colons between them, without folders: those are each machine's own."""
    parts = text.split(":")
    if not all(part.startswith("/") and not part.startswith("//") for part in parts):
        return text
    return ":".join(part.rstrip("/").rpartition("/")[2] for part in parts)


def differences(run: Run, baseline: Run) -> list[Difference]:
    """Return what a run and the baseline's do not share, in the order of the baseline's conditions."""
    mine, its = conditions(run), conditions(baseline)
    found = []
    for name in dict.fromkeys((*its, *mine)):
        pair = mine.get(name), its.get(name)
        if pair[0] != pair[1] and not (name in SOMETIMES and None in pair):
            found.append(Difference(name, *pair))
    return found


def is_declared(name: str, declared: Sequence[str]) -> bool:
    """Say whether a condition, or what it belongs to or follows from, is declared to differ."""
    whole = [*declared]
    for first, others in FOLLOWS.items():
        if is_part(first, declared):
            whole += others
    return is_part(name, whole)


def is_part(name: str, of: Sequence[str]) -> bool:
    """Say whether a dotted name is one of these, or lies within one: server.argv.--dtype in server."""
    return any(name == one or name.startswith(f"{one}.") for one in of)


def written(value: Any) -> str:
    """Write a condition for a person."""
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
