"""The quality gate of an experiment: its servers run one after another, so what each says is kept in files.

    quality/SERVER.json.gz              what a server said, after its first run
    quality/floor/restarted.json.gz     the baseline once more, started anew, as each block does: its noise
    quality/floor/again.json.gz         … or the same process, in one block or where it is not ours to start
    quality/SERVER/quality.json         a candidate's verdict, which also says how the noise was found

Judging needs these files alone.
"""

from pathlib import Path

from analysis import sla as slas
from analysis.quality import QualityVerdict
from tokenswarm import TokenswarmError, quality
from tokenswarm.experiment import Experiment, Run
from tokenswarm.measuring import Show, Up
from tokenswarm.tables import Progress

FOLDER = "quality"  # in an experiment's directory
FLOORS = {"restarted": quality.RESTARTED, "again": quality.SAME_PROCESS}
"""How a noise floor's file is called, and how its answers came about."""


class Gate:
    """Asks the servers of one experiment as they come up."""

    def __init__(self, plan: Experiment, folder: Path, show: Show) -> None:
        """Keep everything in `folder`."""
        self._servers = plan.servers
        self._base = plan.servers[0].name
        self._blocks = plan.blocks
        self._folder = folder
        self._show = show
        self._asked: dict[str, Up | None] = {  # None: before an interruption
            server.name: None for server in plan.servers if self._file(server.name).exists()
        }
        self._floored = any(self._file(f"floor/{word}").exists() for word in FLOORS)
        self.unasked: dict[str, str] = {}  # servers whose quality stays unknown, and why

    def __call__(self, run: Run, up: Up) -> None:
        """Ask a server that is up, if it was not asked before; one that cannot answer is noted, no more."""
        name = run.server.name
        if name in self.unasked or self._base in self.unasked:
            return
        try:
            if name not in self._asked:
                self._ask(up, name)
                self._asked[name] = up
        except TokenswarmError as error:
            self.unasked[name] = str(error)
            return
        if name == self._base and not self._floored:
            if self._blocks == 1 or up.facts is None:
                self._ask_again(up, "again")
            elif self._asked[name] is not up:
                self._ask_again(up, "restarted")

    def to_ask(self, asked: bool) -> list[str]:
        """Return the servers that are still to be asked, if they are asked at all."""
        return [server.name for server in self._servers if asked and server.name not in self._asked]

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json.gz"

    def _ask_again(self, up: Up, how: str) -> None:
        """Ask the baseline for its noise floor; without one the verdict says "not measured"."""
        try:
            self._ask(up, f"floor/{how}")
            self._floored = True
        except TokenswarmError as error:
            self._show(Progress("", 0, 1, {}, f"{self._base}: no noise floor: {error}", last=True))

    def _ask(self, up: Up, name: str) -> None:
        like = None if name == self._base else self._file(self._base)

        def say(line: str) -> None:
            self._show(Progress("", 0, 1, {}, f"{name}: quality: {line}"))

        quality.ask(up.url, self._file(name), say, like=like)


def judge(
    folder: Path, servers: list[str], sla: slas.Sla, unasked: dict[str, str]
) -> dict[str, QualityVerdict]:
    """Judge all servers but the first against it by what is in `folder`; add to `unasked` who cannot be."""
    base, *candidates = (folder / f"{name}.json.gz" for name in servers)
    floor = next(
        (
            (path, how)
            for word, how in FLOORS.items()
            if (path := folder / "floor" / f"{word}.json.gz").exists()
        ),
        None,
    )
    found = {}
    for name, said in zip(servers[1:], candidates, strict=True):
        if name in unasked:
            continue
        try:
            (folder / name).mkdir(parents=True, exist_ok=True)
            found[name] = quality.judge(base, said, sla, folder / name, floor=floor)
        except TokenswarmError as error:
            unasked[name] = unasked.get(servers[0]) or str(error)
    return found
