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
    load:
      loop: open              # open: `rate` arrivals a second; closed: `users` at a time
      rate: 20                # or several, [5, 10, 20], measured one after another
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
    sla: sla.yaml             # a file beside this one, or the SLA itself (name, objectives, quality)

An SLA with a `quality` list has each server asked for its answers, too, after its first run, and each but
the first is judged against the first.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import yaml
from msgspec import Meta

from server import profiles
from server.errors import UsageError
from server.sim.profiles import PROFILES
from tokenswarm import EXIT_USAGE, TokenswarmError

Positive = Annotated[float, Meta(gt=0, lt=1e7)]
Count = Annotated[int, Meta(ge=1)]
Levels = Annotated[list[Count], Meta(min_length=1)]


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
    rate: Count | Levels = 10
    users: Count | Levels = 10
    duration_s: Positive = 60
    warmup_s: Annotated[float, Meta(ge=0)] = 5
    workers: Count = 2
    arrivals: Literal["poisson", "constant"] = "poisson"
    seed: int = 1

    def levels(self) -> list[int]:
        """Return the rates or the numbers of users, as the loop has it."""
        found = self.rate if self.loop == "open" else self.users
        return [found] if isinstance(found, int) else found


class Workload(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked."""

    endpoint: Literal["chat", "completions"] = "chat"
    model: str = ""
    prompt_words: str | int = "40-160"
    max_tokens: str | int = 64
    options: list[str] = []


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
    load: Load = msgspec.field(default_factory=Load)
    workload: Workload = msgspec.field(default_factory=Workload)
    sla: str | InlineSla = ""


class Run(NamedTuple):
    """One run of an experiment: a server at a level of load, in a block."""

    server: Server
    level: int
    block: int  # counts from 1
    name: str  # of its directory


def read(path: Path) -> Experiment:
    """Read an experiment; raises TokenswarmError saying what was found, where, and what was expected."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        experiment = msgspec.convert(plain, Experiment)
    except (OSError, UnicodeDecodeError) as error:
        raise TokenswarmError(f"{path}: cannot be read ({error})", EXIT_USAGE) from None
    except yaml.YAMLError as error:
        raise TokenswarmError(f"{path}: not YAML ({' '.join(str(error).split())})", EXIT_USAGE) from None
    except msgspec.ValidationError as error:
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


def schedule(experiment: Experiment) -> Iterator[Run]:
    """Yield the runs in their order: every second block backwards (A B, B A, …), levels within a server."""
    levels = experiment.load.levels()
    unit = "rps" if experiment.load.loop == "open" else "users"
    for block in range(1, experiment.blocks + 1):
        for server in experiment.servers if block % 2 else reversed(experiment.servers):
            for level in levels if block % 2 else reversed(levels):
                parts = [server.name]
                parts += [f"{level}{unit}"] if len(levels) > 1 else []
                parts += [str(block)] if experiment.blocks > 1 else []
                yield Run(server, level, block, "-".join(parts))
