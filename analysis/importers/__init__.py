"""Other tools' results, translated: a file in, runs in our own words out.

A tool is recognised by what its file holds, never by the file's name.
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

from . import aiperf, genai_bench, guidellm, inference_perf, k6, vegeta, vllm
from .source import ImportFileError, Source, read
from .translation import Imported

__all__ = ["ImportFileError", "Imported", "Source", "find", "read", "recognise", "translate"]

TOOLS: tuple[ModuleType, ...] = (vllm, guidellm, aiperf, genai_bench, inference_perf, vegeta, k6)


def recognise(source: Source) -> str | None:
    """Return the name of the tool whose requests a file holds; None where it is none that we read."""
    return next((module.TOOL for module in TOOLS if module.is_detailed(source)), None)


def translate(source: Source, tool: str | None = None) -> list[Imported]:
    """Return the runs in a file. Raises ImportFileError: not that tool's, no tool's, or without requests."""
    found = recognise(source)
    if found is None and source.cut and not source.rows:
        raise ImportFileError(f"{source.path}: {source.doubt} No request in it is whole")
    if found is None:
        raise ImportFileError(f"{source.path}: {looks_like(source)}")
    if tool and tool != found:
        raise ImportFileError(f"{source.path}: looks like a file of {found}, expected one of {tool}")
    module = next(module for module in TOOLS if found == module.TOOL)
    runs: list[Imported] = module.translate(source.without_last(module.DEPTH))
    return _with_what_is_missing(runs, source)


def _with_what_is_missing(runs: list[Imported], source: Source) -> list[Imported]:
    """Let each run say what the file lacks. Raises ImportFileError where nothing is whole."""
    kept = [run for run in runs if run.requests]
    unread = [*source.unread, *(line for run in runs for line in run.unread)]
    if not kept and unread:
        raise ImportFileError(f"{source.path}: {unread[0]}; of {len(unread):,} requests none can be read")
    if not kept and source.cut:
        raise ImportFileError(f"{source.path}: {source.doubt} No request in it is whole")
    last = sum(len(run.requests) + run.warmup for run in runs) + len(unread)
    lines = []
    if source.cut:
        where = f"its request {last:,}" + (f", at {source.damaged_at}" if source.damaged_at else "")
        lines.append(f"{source.path.name} {source.broken} behind {where}: import the whole file")
    if unread:
        count = "1 request" if len(unread) == 1 else f"{len(unread):,} requests"
        lines.append(f"{source.path.name}: {count} left out that cannot be read, the first {unread[0]}")
    return [replace(run, missing=tuple(lines)) for run in kept or runs]


def find(path: Path) -> Source:
    """Read the file, or the one file in a folder that a tool's requests are in; raises ImportFileError."""
    if not path.is_dir():
        return read(path)
    found: list[Source] = []
    for file in sorted(path.iterdir()):
        if file.suffix in {".json", ".jsonl", ".csv"} and file.is_file():
            try:
                source = read(file)
            except ImportFileError:
                continue  # the folder may hold anything
            found += [source] if recognise(source) else []
    if len(found) != 1:
        names = ", ".join(one.path.name for one in found) or "none"
        raise ImportFileError(f"{path}: found {names}, expected one file with a tool's requests: name it")
    return found[0]


def looks_like(source: Source) -> str:
    """Say what a file without requests seems to be, and what would hold them."""
    keys = source.value.keys() if isinstance(source.value, dict) else set()
    head = source.rows[0] if source.rows else ()
    known = (
        (vllm.runs(source), "vllm bench's percentiles", "vllm bench serve --save-result --save-detailed"),
        ({"latencies", "success", "status_codes"} <= keys, "vegeta's report", "vegeta encode"),
        ({"root_group", "metrics"} <= keys, "k6's summary", "k6 run --out json=FILE"),
        (
            "aiperf_version" in keys or head[:2] == ("Metric", "avg"),
            "aiperf's summary",
            "profile_export.jsonl",
        ),
        (head[:1] == ("Run Info",), "guidellm's CSV", "guidellm's JSON"),
        ("aggregated_metrics" in keys, "genai-bench's summary", "the JSON of one level"),
        (
            {"load_summary", "successes"} <= keys,
            "inference-perf's summary",
            "per_request_lifecycle_metrics.json (report.request_lifecycle.per_request: true)",
        ),
        (head[:2] == ("Type", "Name"), "Locust's CSV, which has none", "`tokenswarm verdict` on its folder"),
        ("schema" in keys and "objectives" in keys, "our own verdict", "a run directory"),
    )
    for found, what, instead in known:
        if found:
            return f"looks like {what}, expected a file with a value for each request: {instead}"
    names = ", ".join(module.TOOL for module in TOOLS)
    return f"found nothing that a known tool writes, expected requests of one of {names}"
