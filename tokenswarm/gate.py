"""The quality gate of an experiment: its servers run one after another, so what each says is kept in files.

    quality/SERVER.json.gz             what a server said, after its first run
    quality/SERVER-again.json.gz       the baseline once more: the noise that means nothing
    quality/SERVER/quality.json        a candidate's verdict

The baseline is asked again when it was started again, which is what mirrored blocks do; in an experiment of
one block, the same process is asked twice, and the verdict says so.
"""

from pathlib import Path

from analysis import sla as slas
from analysis.quality import QualityVerdict
from server.making import Say
from tokenswarm import TokenswarmError, quality
from tokenswarm.experiment import Experiment, Run
from tokenswarm.measuring import Up


class Gate:
    """Asks the servers of one experiment as they come up, and judges them at its end."""

    def __init__(self, plan: Experiment, folder: Path, say: Say) -> None:
        """Keep everything in `folder`."""
        self._base, *self._candidates = [server.name for server in plan.servers]
        self._blocks = plan.blocks
        self._folder = folder
        self._say = say
        self._asked: dict[str, Up] = {}
        self._floor: tuple[Path, str] | None = None
        self.unasked: dict[str, str] = {}  # servers whose quality stays unknown, and why

    def __call__(self, run: Run, up: Up) -> None:
        """Ask a server that is up, if it was not asked before; one that cannot answer is noted, no more."""
        try:
            self._ask_once(run.server.name, up)
        except TokenswarmError as error:
            self.unasked[run.server.name] = str(error)

    def _ask_once(self, name: str, up: Up) -> None:
        if name in self.unasked or self._base in self.unasked:
            return
        if name not in self._asked:
            self._ask(up, name)
            self._asked[name] = up
            if name == self._base and self._blocks == 1:
                self._ask_again(up, quality.SAME_PROCESS)
        elif name == self._base and self._floor is None and self._asked[name] is not up:
            self._ask_again(up, quality.SAME_PROCESS if up.facts is None else quality.RESTARTED)

    def _ask_again(self, up: Up, how: str) -> None:
        self._floor = (self._ask(up, f"{self._base}-again"), how)

    def _ask(self, up: Up, name: str) -> Path:
        path = self._folder / f"{name}.json.gz"
        like = None if name == self._base else self._folder / f"{self._base}.json.gz"
        quality.ask(up.url, path, lambda line: self._say(f"{name}: quality: {line}"), like=like)
        return path

    def judge(self, sla: slas.Sla) -> dict[str, QualityVerdict]:
        """Judge the candidates that were asked; what cannot be judged is noted as not asked."""
        base = self._folder / f"{self._base}.json.gz"
        found = {}
        for name in self._candidates:
            if name in self._asked and self._base in self._asked:
                said, folder = self._folder / f"{name}.json.gz", self._folder / name
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    found[name] = quality.judge(base, said, sla, folder, floor=self._floor)
                except TokenswarmError as error:
                    self.unasked[name] = str(error)
        return found
