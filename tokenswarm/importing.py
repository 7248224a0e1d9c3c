"""Other tools' results: as run directories where they hold requests, and judged at once where they do not.

An experiment's directory is made of imports too: the first server that is imported into it is the baseline.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis import coarse, importers, junit, rundir, verdict
from analysis.importers import Imported, ImportFileError, Source, directory, locust, vllm
from tokenswarm import EXIT_USAGE, TokenswarmError, judging
from tokenswarm.judging import Conclusion
from tokenswarm.rejudging import planned
from tokenswarm.resuming import PLAN

SERVER = re.compile(r"\w[\w.-]*")
"""A server's name is part of its runs' folders: as in an experiment's file, it names no other place."""


def bring(
    path: Path, out: Path, *, tool: str | None, loop: str | None, place: dict[str, Any] | None
) -> list[tuple[Path, tuple[str, ...]]]:
    """Write the runs in a file as run directories; raises TokenswarmError.

    Returns each with a line for each thing that the file lacks: such a run is judged, and INVALID.
    Without a `place` one run is `out` itself, several are folders in it. With one (server, and level and
    block where they are known better than from the file) they are runs of the experiment in `out`.
    """
    try:
        source = importers.find(path)
        translated = enumerate(importers.translate(source, tool), 1)
        runs = [replace(_with_loop(run, loop, source), number=number) for number, run in translated]
        if place:
            _refuse_what_does_not_belong(runs, source, out, str(place["server"]))
            return [(_into_experiment(run, source, out, place), run.missing) for run in runs]
        folders = [out] if len(runs) == 1 else [out / _folder(run, i) for i, run in enumerate(runs, 1)]
        for folder in folders:
            _refuse_to_overwrite(folder)
        made = zip(runs, folders, strict=True)
        return [(directory.write(run, source, at, None), run.missing) for run, at in made]
    except ImportFileError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None


def _with_loop(run: Imported, loop: str | None, source: Source) -> Imported:
    if run.loop is None and loop is None:
        text = "the file does not say whether arrivals waited for answers: give --loop open or closed"
        raise ImportFileError(f"{source.path}: {text}")
    if run.loop and loop and run.loop != loop:
        raise ImportFileError(f"{source.path}: found --loop {loop}, expected {run.loop} as the file says")
    return replace(run, loop=run.loop or loop)


def _folder(run: Imported, number: int) -> str:
    level = "" if run.level is None else f"-{run.level:g}"
    return re.sub(r"[^\w.-]+", "-", f"{number}-{run.name}{level}")


def _refuse_to_overwrite(folder: Path) -> None:
    if (folder / "run.json").exists() or (folder / PLAN).exists():
        text = f"--out: {folder} already holds a run, expected a new directory"
        raise TokenswarmError(text, EXIT_USAGE)


def _refuse_what_does_not_belong(runs: Sequence[Imported], source: Source, out: Path, server: str) -> None:
    """Raise TokenswarmError, before anything is written, for runs that an experiment cannot take.

    The same requests twice would count as two replications; two kinds of loop have no level in common.
    """
    if not SERVER.fullmatch(server):
        text = f"--server: found {server!r}, expected a name of letters, digits, '_', '.' and '-'"
        raise TokenswarmError(text, EXIT_USAGE)
    held = {name: _meta(out / name) for name in (planned(out)[1] if (out / PLAN).exists() else [])}
    known = {
        (imported.get("sha256"), imported.get("number", 1)): name
        for name, meta in held.items()
        if (imported := meta.get("imported"))
    }
    loops = {meta["load"]["loop"]: f"{out / name}" for name, meta in held.items() if meta}
    for run in runs:
        if (source.sha256, run.number) in known:
            twice = known[source.sha256, run.number]
            text = f"already imported as {out / twice}, expected a run of its own: it would count twice"
            raise ImportFileError(f"{source.path}: {text}")
        loops.setdefault(str(run.loop), str(source.path))
    if len(loops) > 1:
        where = " and ".join(f"{loop} in {path}" for loop, path in sorted(loops.items()))
        text = "expected one in an experiment: they have no load in common"
        raise TokenswarmError(f"found loops of two kinds ({where}), {text}", EXIT_USAGE)


def _meta(run: Path) -> dict[str, Any]:
    """Return what a run says of itself; nothing where it was planned and is not there."""
    try:
        return dict(rundir.load(run).meta) if (run / "run.json").exists() else {}
    except rundir.RunError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None


def _into_experiment(run: Imported, source: Source, out: Path, given: dict[str, Any]) -> Path:
    """Write a run as one of an experiment, and name it in the plan."""
    servers, names = planned(out) if (out / PLAN).exists() else ([], [])
    server = str(given["server"])
    level = given.get("level") or run.level
    if level is None:
        raise ImportFileError(f"{source.path}: the file does not say its rate or its users: give --level")
    block = given.get("block")
    if block is None:
        block = 1 + sum(name.startswith(f"{server}-{level:g}-") for name in names)
    name = f"{server}-{level:g}-{block}"
    folder = out / name
    _refuse_to_overwrite(folder)
    servers = servers or [server]
    place = {"server": server, "baseline": servers[0], "level": float(level), "block": block}
    directory.write(replace(run, name=name), source, folder, place)
    plan = {"servers": list(dict.fromkeys([*servers, server])), "runs": [*names, name]}
    (out / PLAN).write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
    return folder


def percentiles(path: Path, by: Path | None) -> Conclusion | None:
    """Judge a file, or a folder of Locust's CSVs, that holds percentiles only; None where `path` is none.

    Writes verdict and JUnit beside it. Raises TokenswarmError where it is one, and broken.
    """
    try:
        found = _percentiles(path)
    except ImportFileError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None
    if found is None:
        return None
    run, where, before = found
    result = coarse.judge(run, judging.sla(by))
    verdict.write_verdict(result, where / f"{before}verdict.json")
    junit.write_junit(result, where / f"{before}junit.xml")
    return Conclusion([result], [], None, {}, {}, [])


def refuse_percentiles(path: Path) -> None:
    """Raise TokenswarmError where a path holds percentiles only: a report draws requests."""
    if path.is_file() or (
        not (path / "run.json").exists() and not (path / PLAN).exists() and _prefixes(path)
    ):
        text = "holds percentiles only, which `tokenswarm verdict` judges; expected requests to draw"
        raise TokenswarmError(f"{path}: {text}", EXIT_USAGE)


def _prefixes(path: Path) -> list[str]:
    """Return the runs of Locust that a path names: FOLDER/PREFIX names one, FOLDER all in it."""
    if path.is_dir():
        return locust.prefixes(path)
    return [path.name] if (path.parent / f"{path.name}{locust.SUFFIX}").exists() else []


def _percentiles(path: Path) -> tuple[coarse.Coarse, Path, str] | None:
    """Return what a path holds of percentiles, the folder of its verdict, and how that one's name begins."""
    if path.is_file():
        source = importers.read(path)
        if importers.recognise(source):
            raise ImportFileError(
                f"{path}: holds requests: `tokenswarm import {path} --out DIR`, then judge DIR"
            )
        if source.cut and source.value:  # its percentiles stand last
            raise ImportFileError(f"{path}: {source.doubt} Expected the whole file")
        if not vllm.runs(source):
            raise ImportFileError(f"{path}: {importers.looks_like(source)}")
        return vllm.percentiles(source), path.parent, f"{path.stem}_"
    if (path / "run.json").exists() or (path / PLAN).exists():
        return None
    names = _prefixes(path)
    if names and not path.is_dir():
        return locust.read(path.parent, path.name), path.parent, f"{path.name}_"
    if len(names) > 1:
        ways = ", ".join(str(path / name) for name in names)
        raise ImportFileError(f"{path}: found {len(names)} runs of Locust, expected one: name it ({ways})")
    return (locust.read(path, names[0]), path, "") if names else None
