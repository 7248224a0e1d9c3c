"""A run in a cluster, from its manifests to its results on this machine: what `tokenswarm k8s` does.

Nothing is kept between two commands: an overlay and a run's id say which Jobs are meant, and the cluster the
rest.
"""

import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from tokenswarm import EXIT_INVALID, EXIT_NOT_STARTED, EXIT_USAGE, TokenswarmError, kubectl, sealing
from tokenswarm.rendering import Names, reader

MASTERS, WORKERS = (f"app.kubernetes.io/component={part}" for part in ("master", "worker"))
CONTAINER = "tokenswarm"
READER = "results-reader"
RESULTS = "/results"
OURS = range(1, 7)  # exit codes that `tokenswarm run` has; others are a signal's
LOOK_S = 0.2


def apply(text: str, run: Names) -> None:
    """Create what is not there yet, and begin the run. Raises TokenswarmError; a run is never begun twice."""
    for job in _items("jobs", run.namespace, MASTERS):
        name = job["metadata"]["name"]
        if name == run.master:
            found = f"RUN_ID: Job {name} is there already, expected another id (or: tokenswarm k8s clean)"
            raise TokenswarmError(found, EXIT_USAGE)
        if not _ended(job):
            found = f"Job {name} still runs in {run.namespace}: two runs would share a server"
            raise TokenswarmError(found, EXIT_NOT_STARTED)
    for job in _items("jobs", run.namespace, WORKERS):
        if not _ended(job):  # its master has; they look for another for a while, and would come to ours
            name = job["metadata"]["name"]
            kubectl.run("delete", "-n", run.namespace, "job", name, "--cascade=foreground")
    click.echo(kubectl.run("apply", "-f", "-", stdin=text), nl=False)


def wait(run: Names, limit_s: int) -> int:
    """Wait until a run has ended, one way or the other; returns its own exit code. Raises TokenswarmError.

    A run whose pod is gone, or was killed, is INVALID.
    """
    job = f"job/{run.master}"
    both = [
        kubectl.begin(
            "wait", "-n", run.namespace, job, f"--for=condition={condition}", f"--timeout={limit_s}s"
        )
        for condition in ("complete", "failed")
    ]
    try:
        won = _first(both)
    finally:
        for one in both:
            one.kill()
            one.communicate()
    if won is both[0]:
        return 0
    return _code_of_failed(run)


def _first(both: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """Return the first that ends well; raises TokenswarmError where one does not.

    (The other might wait for what never comes: its Job ended in the way that nobody looks for any more.)
    """
    while True:
        ended = [one for one in both if one.poll() is not None]
        for one in ended:
            if one.returncode == 0:
                return one
        for one in ended:
            said = one.stderr.read() if one.stderr else ""
            raise TokenswarmError(f"kubectl wait: {kubectl.mistake(said)}", EXIT_NOT_STARTED)
        time.sleep(LOOK_S)


def _code_of_failed(run: Names) -> int:
    statuses = []
    for pod in _items("pods", run.namespace, f"batch.kubernetes.io/job-name={run.master}"):
        found = pod.get("status", {})
        own = [one for one in found.get("containerStatuses", []) if one["name"] == CONTAINER]
        statuses += [*own, *found.get("initContainerStatuses", [])]
    ends = [end for one in statuses if (end := one.get("state", {}).get("terminated"))]
    for end in ends:
        if end["exitCode"]:
            click.echo(end.get("message", ""), nl=False)
            if end["exitCode"] in OURS:
                return int(end["exitCode"])
            click.echo(f"its exit code is {end['exitCode']}: it was killed, the run is INVALID", err=True)
            return EXIT_INVALID
    job = json.loads(kubectl.run("get", "-n", run.namespace, f"job/{run.master}", "-o", "json"))
    why = [one.get("message", "") for one in job["status"].get("conditions", []) if one["type"] == "Failed"]
    click.echo(f"its pod is gone ({'; '.join(why)}): the run is INVALID", err=True)
    return EXIT_INVALID


def logs(run: Names, *, workers: bool, follow: bool) -> int:
    """Show what the master said, or the workers; returns kubectl's exit code."""
    job = run.workers if workers else run.master
    kubectl.run("get", "-n", run.namespace, f"job/{job}", "-o", "name")
    options = ["-c", CONTAINER, "--tail=-1", *(["--follow"] if follow else [])]
    if not workers:
        return kubectl.show("logs", "-n", run.namespace, f"job/{job}", *options)
    selector = f"batch.kubernetes.io/job-name={job}"
    options += ["--prefix", "--max-log-requests=1000"]
    return kubectl.show("logs", "-n", run.namespace, "-l", selector, *options)


def fetch(run: Names, out: Path | None) -> tuple[Path, int]:
    """Copy a run's results here, and check that all is there; returns where, and the run's exit code.

    Raises TokenswarmError, INVALID where something is missing or changed.
    """
    where = ("-n", run.namespace)
    kubectl.run(
        "delete", *where, "pod", READER, "--ignore-not-found", "--grace-period=1"
    )  # one that has slept its time
    try:
        kubectl.run("apply", *where, "-f", "-", stdin=reader(run.image))
        kubectl.run("wait", *where, f"pod/{READER}", "--for=condition=Ready", "--timeout=300s")
        name = _latest_of(kubectl.run("exec", *where, READER, "--", "ls", "-t", RESULTS).split(), run.master)
        target = out or Path("out") / name
        if target.exists() and any(target.iterdir()):
            raise TokenswarmError(f"--out: found {target} with files in it, expected a new one", EXIT_USAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        kubectl.run("cp", *where, f"{READER}:{RESULTS}/{name}", str(target), "--retries=3")
    finally:
        with suppress(TokenswarmError):  # what failed before is what a person must hear of
            kubectl.run("delete", *where, "pod", READER, "--ignore-not-found", "--wait=false")
    damage = sealing.damage(target)
    if damage:
        more = f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""
        raise TokenswarmError(f"{target}: {damage[0]}{more}", EXIT_INVALID)
    return target, int((target / sealing.DONE).read_text(encoding="utf-8"))


def _latest_of(names: list[str], master: str) -> str:
    """Return a Job's results among all that a volume holds, latest first: folders named after pods.

    There are several where a run's id was used again after `clean`.
    """
    own = [name for name in names if name.rpartition("-")[0] == master]
    if not own:
        found = ", ".join(names) or "nothing"
        raise TokenswarmError(f"found {found} in {RESULTS}, expected {master}-*", EXIT_NOT_STARTED)
    if len(own) > 1:
        click.echo(f"found {', '.join(own)}: the first is the latest, and is fetched", err=True)
    return own[0]


def clean(run: Names, *, everything: bool) -> None:
    """Delete a run's Jobs, its results stay; or the whole namespace, with server and all results."""
    if everything:
        said = kubectl.run("delete", "namespace", run.namespace, "--ignore-not-found")
    else:
        jobs = (run.master, run.workers)
        said = kubectl.run("delete", "-n", run.namespace, "job", *jobs, "--ignore-not-found")
    click.echo(said, nl=False)


def _items(kind: str, namespace: str, selector: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        kubectl.run("get", "-n", namespace, kind, "-l", selector, "-o", "json")
    )["items"]
    return found


def _ended(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(one["type"] in {"Complete", "Failed"} and one["status"] == "True" for one in conditions)
