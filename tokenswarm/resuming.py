"""Go on with an experiment that was interrupted: what is whole is kept, the rest is measured.

A run that was cut off is moved into `cut-off/` and made again: half a run is no evidence, but nobody's to
throw away.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from server.making import Say
from tokenswarm import EXIT_USAGE, TokenswarmError
from tokenswarm.experiment import Experiment, Run

PLAN = "plan.json"
ASIDE = "cut-off"


def definition(plan: Experiment, path: Path) -> dict[str, Any]:
    """Return all that an experiment is made of as plain data, with the content of the files that it names."""
    found: dict[str, Any] = msgspec.to_builtins(plan)
    files = {"sla": path.parent / plan.sla if isinstance(plan.sla, str) and plan.sla else None}
    files["profiles"] = Path(plan.profiles) if plan.profiles else None
    found["profiles"] = files["profiles"].name if files["profiles"] else ""
    content = {name: yaml.safe_load(file.read_text(encoding="utf-8")) for name, file in files.items() if file}
    plain: dict[str, Any] = json.loads(json.dumps(found | {"files": content}, default=str))
    return plain


def check(plan: Experiment, path: Path, out: Path) -> None:
    """Raise TokenswarmError, which says what differs, unless `out` holds the runs of this very experiment."""
    file = out / PLAN
    try:
        before = dict(_flat(json.loads(file.read_text(encoding="utf-8"))["experiment"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"--resume: {file}: found no experiment that can be gone on with ({error!r})"
        raise TokenswarmError(text, EXIT_USAGE) from None
    now = dict(_flat(definition(plan, path)))
    differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differ:
        key = differ[0]
        more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
        text = (
            f"--resume: {path}: found {key} = {now.get(key)!r}, {out} was measured with {before.get(key)!r}"
        )
        raise TokenswarmError(f"{text}{more}; expected the same experiment, or a new --out", EXIT_USAGE)


def _flat(plain: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (load.rate, 20) for {"load": {"rate": 20}}; items of a list are counted from 1."""
    if isinstance(plain, dict | list) and plain:
        items = plain.items() if isinstance(plain, dict) else enumerate(plain, 1)
        for key, value in items:
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, plain


def is_whole(run: Run, out: Path) -> bool:
    """Say whether a run was measured to its end."""
    try:
        meta = json.loads((out / run.name / "run.json").read_text(encoding="utf-8"))
        where = meta["experiment"]
        same = (where["server"], where["level"], where["block"]) == (run.server.name, run.level, run.block)
        ended = meta["ended_unix_ns"] is not None and not meta["interrupted"]
        return bool(ended and same and meta["load"]["seed"] == run.seed)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def kept(runs: Sequence[Run], out: Path, say: Say, *, unasked: Collection[str] = ()) -> set[str]:
    """Return the names of the runs that are whole; what is left of others is moved aside.

    The last run of a server that is still to be asked for its answers is made again if all are whole: it is
    asked after a run.
    """
    names = {run.name for run in runs if is_whole(run, out)}
    for server in unasked:
        own = [run.name for run in runs if run.server.name == server]
        if own and set(own) <= names:
            names.remove(own[-1])
    for run in runs:
        if run.name not in names:
            move_aside(run, out, say)
    return names


def move_aside(run: Run, out: Path, say: Say) -> None:
    """Move what there is of a run out of its way."""
    directory = out / run.name
    if not directory.exists():
        return
    number, target = 1, out / ASIDE / run.name
    while target.exists():
        number += 1
        target = out / ASIDE / f"{run.name}-{number}"
    target.parent.mkdir(exist_ok=True)
    directory.rename(target)
    say(f"{run.name} was cut off: what there is of it is in {target}")
