"""Another experiment in an overlay's place: its files, and Jobs with as many workers and as much time."""

import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tokenswarm import EXIT_USAGE, TokenswarmError, cooling, experiment, judging, pace, searching
from tokenswarm.experiment import Experiment
from tokenswarm.rendering import MASTER, WORKERS, patch

FILE = "experiment.yaml"
DRAIN_S = 60  # of a run, beside its load: Locust starts, streams end
PATIENCE_S = 7200  # what the base gives the server and the workers to come, and the report


def read(path: Path) -> tuple[Experiment, dict[str, Path]]:
    """Read an experiment as the master will; returns it and the files that it is made of, by their names.

    Raises TokenswarmError.
    """
    plan = experiment.read(path)
    judging.experiment_sla(plan, path)
    ours = [server.name for server in plan.servers if not server.url]
    if ours:
        text = f"{path}: found server {ours[0]}, which the master would start, expected a url in the cluster"
        raise TokenswarmError(text, EXIT_USAGE)
    alone = [server for server in plan.servers if server.url and _is_loopback(server.url)]
    if alone:
        found = f"found server {alone[0].name} at {alone[0].url}, which in a pod is the pod itself"
        raise TokenswarmError(f"{path}: {found}, expected a url in the cluster", EXIT_USAGE)
    files = {FILE: path}
    if isinstance(plan.sla, str) and plan.sla:
        if Path(plan.sla).name != plan.sla or plan.sla == FILE:
            text = f"{path}: sla: found {plan.sla!r}, expected the name of a file beside it"
            raise TokenswarmError(text, EXIT_USAGE)
        files[plan.sla] = path.parent / plan.sla
    return plan, files


def _is_loopback(url: str) -> bool:
    host = (urlsplit(url).hostname or "").removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def sizes(plan: Experiment) -> list[dict[str, Any]]:
    """Return the patches that give an experiment as many workers, and as much time, as it needs."""
    workers, least_s = plan.load.workers, PATIENCE_S + longest_s(plan)
    deadline = {"op": "replace", "path": "/spec/activeDeadlineSeconds", "value": least_s}
    counts = [
        {"op": "replace", "path": f"/spec/{name}", "value": workers}
        for name in ("completions", "parallelism")
    ]
    guard = [{"op": "replace", "path": "/spec/minAvailable", "value": workers}]
    return [
        patch("Job", MASTER, [deadline]),
        patch("Job", WORKERS, [*counts, deadline]),
        patch("PodDisruptionBudget", WORKERS, guard),
    ]


def longest_s(plan: Experiment) -> int:
    """Return how long an experiment's runs may take; a search's, twice what is expected of it."""
    around_s = cooling.LONGEST_S + DRAIN_S
    if plan.search:
        searched = [searching.Searched(server) for server in plan.servers]
        loads_s = searching.loads_left_s(plan, searched) * 2
    else:
        loads_s = [pace.load_s(run, plan.load.warmup_s) for run in experiment.schedule(plan)]
    return round(sum(loads_s) + around_s * len(loads_s))
