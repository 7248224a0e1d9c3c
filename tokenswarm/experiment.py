"""An experiment: one or more servers under the same load, one after another, judged by one SLA.

The file (YAML; every key but `servers` may be left out):

    name: baseline vs awq
    servers:                  # the first is the baseline that the others are compared with
      - name: baseline
        profile: baseline     # started and ended by us (`tokenswarm serve --help` lists the profiles) …
        model: smollm2        # … with another model, revision, options or variables than the profile's
        options: {max-model-len: 2048}
      - name: production
        url: http://host:8000 # … or a server that is running
      - sim: awq              # … or a profile of the built-in simulator
    profiles: mine.yaml       # more profiles, in a file beside this one
    blocks: 1                 # 2 measures A B B A: drift of the machine hits both alike; from 5 on a verdict
                              # knows how runs differ (`tokenswarm plan` says how many decide)
    order: mirrored           # or random: servers, and the levels of each, shuffled within a block by `seed`
    load:
      loop: open              # open: `rate` arrivals a second; closed: `users` at a time
      rate: 20                # or several, [0.5, 10, 20], measured one after another
      duration_s: 60          # measured at least, after warm-up
      warmup_s: 5
      workers: 2              # processes that send; 1 does without a master
      arrivals: poisson       # or constant
      seed: 1                 # of the first run; each block and level has its own, all servers the same
    workload:
      endpoint: chat          # or completions
      model: ""               # the first that the server lists
      prompt_words: 40-160
      max_tokens: 64
      options: []             # further options of the locustfile, such as [--ignore-eos]
    margin: 5 %               # a difference from the baseline that is smaller is none
    sla: sla.yaml             # a file beside this one, or the SLA itself (name, objectives, quality)
    search:                   # instead of rate, users, duration_s and blocks: the highest load within the SLA
      from: 1                 # where it begins: arrivals a second, or users
      to: 200                 # never more than this
      within: 5 %             # how near the two ends of the answer must be
      confirm: 5              # fresh runs that must PASS together at the lower end
      probe_s: 30             # a run's length; one that decides nothing is extended by more of them …
      longest_s: 240          # … up to so many seconds, which is also the least that a confirmation takes

An SLA with a `quality` list has each server asked for its answers, too, after its first run, and each but
the first is judged against the first.

All runs of a server in a block stay together, shuffled or not, because a start can cost a minute; a search
starts each server once. Between two runs nothing may be left at the server (`tokenswarm/cooling.py`).
"""

import random
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import yaml
from msgspec import Meta

from server import profiles
from server.errors import UsageError
from server.sim.profiles import PROFILES
from tokenswarm import EXIT_USAGE, TokenswarmError

Positive = Annotated[float, Meta(gt=0, lt=1e7)]
Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(ge=0.01, le=1e6)]


class Server(msgspec.Struct, forbid_unknown_fields=True):
    """What is measured: a profile with changes, a profile of the simulator, or a URL."""

    name: Annotated[str, Meta(pattern=r"^(\w[\w.-]*)?$")] = ""
    profile: str = ""
    sim: str = ""
    url: str = ""
    model: str = ""
    revision: str = ""
    options: dict[str, Any] = {}
    variables: dict[str, str] = {}


class Load(msgspec.Struct, forbid_unknown_fields=True):
    """How much is asked."""

    loop: Literal["open", "closed"] = "open"
    rate: Rate | Annotated[list[Rate], Meta(min_length=1)] = 10
    users: Count | Annotated[list[Count], Meta(min_length=1)] = 10
    duration_s: Positive = 60
    warmup_s: Annotated[float, Meta(ge=0)] = 5
    workers: Count = 2
    arrivals: Literal["poisson", "constant"] = "poisson"
    seed: int = 1

    def levels(self) -> list[float]:
        """Return the rates or the numbers of users, as the loop has it; whole ones as integers."""
        found = self.rate if self.loop == "open" else self.users
        levels = found if isinstance(found, list) else [found]
        return [int(level) if float(level).is_integer() else level for level in levels]

    @property
    def unit(self) -> str:
        """What a level counts, as the names of runs have it."""
        return "rps" if self.loop == "open" else "users"


class Workload(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked."""

    endpoint: Literal["chat", "completions"] = "chat"
    model: str = ""
    prompt_words: str | int = "40-160"
    max_tokens: str | int = 64
    options: list[str] = []


class Search(msgspec.Struct, forbid_unknown_fields=True, rename={"start": "from", "top": "to"}):
    """How the highest load within the SLA is looked for."""

    start: Rate = 1
    top: Rate = 200
    within: Annotated[str, Meta(pattern=r"^\d+(\.\d+)? ?%$")] = "5 %"
    confirm: Count = 5
    probe_s: Positive = 30
    longest_s: Positive = 240

    @property
    def share(self) -> float:
        """`within` as a share."""
        return float(self.within.removesuffix("%")) / 100

    @property
    def longest(self) -> int:
        """The runs that a probe takes at most."""
        return max(1, int(self.longest_s / self.probe_s))

    @property
    def confirm_s(self) -> float:
        """The length of a run that confirms: together they are as long as the longest probe at least."""
        return max(self.probe_s, self.longest_s / self.confirm)


class InlineSla(msgspec.Struct, forbid_unknown_fields=True):
    """An SLA written into the experiment."""

    name: str
    objectives: list[str] = []
    quality: list[str] = []


class Experiment(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    servers: Annotated[list[Server], Meta(min_length=1)]
    name: str = ""  # for whoever reads the file
    profiles: str = ""
    blocks: Annotated[int, Meta(ge=1, le=100)] = 1
    order: Literal["mirrored", "random"] = "mirrored"
    load: Load = msgspec.field(default_factory=Load)
    workload: Workload = msgspec.field(default_factory=Workload)
    sla: str | InlineSla = ""
    search: Search | None = None
    margin: str = ""  # 5 % where it is not given

    def margin_share(self) -> float | None:
        """Return the margin as a share, if there is one of its own; raises TokenswarmError."""
        return percentage(self.margin, "margin") if self.margin else None


class Run(NamedTuple):
    """One run of an experiment: a server at a level of load, in a block."""

    server: Server
    level: float
    block: int  # counts from 1; in a search, the runs of this server at this level
    name: str  # of its directory
    seed: int = 1
    duration_s: float = 60
    start: int = 1  # runs of a server that have the same number here may share one start of it


def read(path: Path) -> Experiment:
    """Read an experiment; raises TokenswarmError saying what was found, where, and what was expected."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        experiment = msgspec.convert(plain, Experiment)
        _check_search(plain, experiment)
    except (OSError, UnicodeDecodeError) as error:
        raise TokenswarmError(f"{path}: cannot be read ({error})", EXIT_USAGE) from None
    except yaml.YAMLError as error:
        raise TokenswarmError(f"{path}: not YAML ({' '.join(str(error).split())})", EXIT_USAGE) from None
    except (msgspec.ValidationError, UsageError) as error:
        raise TokenswarmError(f"{path}: {error}", EXIT_USAGE) from None
    try:
        experiment.margin_share()
    except TokenswarmError as error:
        raise TokenswarmError(f"{path}: {error}", EXIT_USAGE) from None
    if experiment.profiles:
        experiment.profiles = str(path.parent / experiment.profiles)
    for number, server in enumerate(experiment.servers, 1):
        try:
            _check(server, experiment)
        except UsageError as error:
            raise TokenswarmError(f"{path}: server {number}: {error}", EXIT_USAGE) from None
        server.name = server.name or server.profile or server.sim or f"server-{number}"
    for what, found in (
        ("servers: found a name", [server.name for server in experiment.servers]),
        ("load: found a level", experiment.load.levels()),
    ):
        if len(set(found)) < len(found):
            raise TokenswarmError(f"{path}: {what} twice in {found}", EXIT_USAGE)
    return experiment


def _check_search(plain: dict[str, Any], experiment: Experiment) -> None:
    search = experiment.search
    if not search:
        return
    chosen = [name for name in ("rate", "users", "duration_s") if name in (plain.get("load") or {})]
    chosen += [name for name in ("blocks", "order") if name in plain]
    if chosen:
        raise UsageError(f"{chosen[0]}: found it beside a search, which chooses the loads and their order")
    if search.start > search.top:
        raise UsageError(f"search: found from {search.start:g} to {search.top:g}, expected a rising range")
    if experiment.load.loop == "closed" and (search.start % 1 or search.top % 1):
        raise UsageError(f"search: found from {search.start:g} to {search.top:g}, expected whole users")
    if not 0.01 <= search.share <= 0.5:
        raise UsageError(f"search: within: found {search.within}, expected 1 % to 50 %")
    if search.longest_s < search.probe_s:
        found = f"longest_s {search.longest_s:g} and probe_s {search.probe_s:g}"
        raise UsageError(f"search: found {found}, expected a longest probe that holds one")


def percentage(text: str, name: str) -> float:
    """Return what "5 %" means as a share between 0 and 1; raises TokenswarmError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share < 1:
        raise TokenswarmError(f"{name}: found {text!r}, expected a percentage such as 5 %", EXIT_USAGE)
    return share


def _check(server: Server, experiment: Experiment) -> None:
    kinds = [kind for kind in ("profile", "sim", "url") if getattr(server, kind)]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none"
        raise UsageError(f"expected one of profile, sim and url, found {found}")
    if server.sim and server.sim not in PROFILES:
        raise UsageError(f"sim: found {server.sim!r}, expected one of {', '.join(sorted(PROFILES))}")
    changes = [name for name in ("model", "revision", "options", "variables") if getattr(server, name)]
    if changes and not server.profile:
        raise UsageError(f"{changes[0]}: expected it with a profile only, found it with {kinds[0]}")
    if server.profile:
        profile_of(server, experiment)


def profile_of(server: Server, experiment: Experiment) -> profiles.Profile:
    """Return what to start for a server that is no URL; raises UsageError."""
    if server.sim:
        return profiles.changed(profiles.find("sim"), model=server.sim)
    file = Path(experiment.profiles) if experiment.profiles else None
    found = profiles.find(server.profile, file)
    other = {name: getattr(server, name) for name in ("model", "revision") if getattr(server, name)}
    return profiles.changed(found, options=server.options, variables=server.variables, **other)


def scenarios(experiment: Experiment) -> list[str]:
    """Return the names of the scenarios that each run will have."""
    words = [part for option in experiment.workload.options for part in option.split("=", 1)]
    named = [name for option, name in pairwise(words) if option == "--scenario"]
    return [(named or [""])[-1] or experiment.workload.endpoint]


def schedule(experiment: Experiment) -> Iterator[Run]:
    """Yield the runs in their order; a search has none, for each of its runs follows from those before.

    Mirrored, every second block goes backwards (A B, B A, …), levels within a server. In random order each
    block shuffles its servers, and for each of them the levels.
    """
    load = experiment.load
    levels = load.levels()
    for block in range(1, experiment.blocks + 1 if not experiment.search else 1):
        draw = random.Random(f"{load.seed}/{block}") if experiment.order == "random" else None
        for server in _turned(experiment.servers, block, draw):
            for level in _turned(levels, block, draw):
                parts = [server.name]
                parts += [f"{level:g}{load.unit}"] if len(levels) > 1 else []
                parts += [str(block)] if experiment.blocks > 1 else []
                seed = load.seed + (block - 1) * len(levels) + levels.index(level)
                yield Run(server, level, block, "-".join(parts), seed, load.duration_s, block)


Item = TypeVar("Item")


def _turned(items: list[Item], block: int, draw: random.Random | None) -> list[Item]:
    if draw:
        return draw.sample(items, len(items))
    return items if block % 2 else items[::-1]
