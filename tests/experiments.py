"""Experiments from the seeded generator: servers in mirrored blocks, at levels of load, judged."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.charts import Judged
from analysis.rundir import load
from analysis.sla import Sla, default
from analysis.verdict import judge
from tests.run_directories import Load, write_run

SMALL = {"seconds": 14, "warmup_s": 2, "rate": 25.0, "tokens": 8, "loop": "closed"}
"""Knobs of a run that takes a moment to write."""

Servers = Mapping[str, Mapping[str, Any]]
"""A server's name -> its knobs (see Load); the first server is the baseline."""


def measured(
    folder: Path, server: str, *, baseline: str, level: float = 4, block: int = 1, **knobs: Any
) -> Path:
    """Write one run of an experiment, of drawn requests or of given ones."""
    meta, requests = dict(knobs.pop("meta", {})), knobs.pop("requests", None)
    meta["load"] = {"users": level, "seed": block, **meta.get("load", {})}
    where = {"server": server, "baseline": baseline, "level": level, "block": block}
    path = folder / f"{server}-{level:g}-{block}"
    own = {**SMALL, "name": path.name, "seed": block, **knobs, "meta": {"experiment": where, **meta}}
    return write_run(path, Load(**own), requests)


def experiment(
    folder: Path,
    servers: Servers,
    levels: Mapping[int, Mapping[str, float]] | Sequence[int] = (4,),
    blocks: int = 2,
    sla: Sla | None = None,
) -> list[Judged]:
    """Write and judge all runs; `levels` may say by what each server's times are multiplied there."""
    baseline = next(iter(servers))
    made = []
    for block in range(1, blocks + 1):
        for server in servers if block % 2 else reversed(list(servers)):
            for level in levels:
                knobs = dict(servers[server])
                if isinstance(levels, Mapping):
                    factor = levels[level].get(server, 1.0)
                    knobs["ttft_ms"] = knobs.get("ttft_ms", 45.0) * factor
                    knobs["itl_ms"] = knobs.get("itl_ms", 8.0) * factor
                knobs.setdefault("seed", 100 * block + list(servers).index(server))  # noise of its own
                path = measured(folder, server, baseline=baseline, level=level, block=block, **knobs)
                run = load(path)
                made.append((run, judge(run, sla or default())))
    return made
