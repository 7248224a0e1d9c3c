"""What a run needs to be one: each check returns what is wrong, in words."""

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from analysis.sla import Sla
from server import argv, models
from tests.k8s.manifests import (
    ROOT,
    Document,
    Documents,
    command,
    containers,
    environment,
    of,
    one,
    pod,
)
from tokenswarm import cooling, judging, pace
from tokenswarm.experiment import Experiment, profile_of, read, schedule

EXPERIMENT = ROOT / "experiments" / "gpu-8b-awq.yaml"
DRAIN_S = 60  # how long the last streams of a run may take, and Locust to start and to end
REPORT_S = 120


def master(found: Documents) -> Document:
    """Return the master's Job."""
    return one("Job", "loadtest-master", found)


def workers(found: Documents) -> Document:
    """Return the workers' Job."""
    return one("Job", "loadtest-workers", found)


def server(found: Documents) -> Document:
    """Return the server's Deployment."""
    return one("Deployment", "llm-server", found)


def experiment(found: Documents) -> tuple[Experiment, Sla]:
    """Return what the master will read, by its own parsers; what these refuse is raised."""
    files = tuple(sorted(one("ConfigMap", "experiment", found)["data"].items()))
    return _parsed(files)


@cache
def _parsed(files: tuple[tuple[str, str], ...]) -> tuple[Experiment, Sla]:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files:
            (Path(folder) / name).write_text(text, encoding="utf-8")
        path = Path(folder) / "experiment.yaml"
        plan = read(path)
        return plan, judging.experiment_sla(plan, path)


def parsed(found: Documents) -> Iterator[str]:
    """The experiment and its SLA are what their parsers expect, and the master mounts both."""
    plan, sla = experiment(found)
    if not sla.objectives:
        yield "sla.yaml: no objectives"
    if [server.name for server in plan.servers if server.url] != ["server"]:
        yield "experiment.yaml: expected one server, by its URL"
    container = containers(master(found))[-1]
    words = command(container, found)
    folder = str(Path(words[words.index("run") + 1]).parent)
    if folder not in [mount["mountPath"] for mount in container["volumeMounts"]]:
        yield f"loadtest-master: {folder} is not mounted"


def worker_count(found: Documents) -> Iterator[str]:
    """The number of workers is the same wherever it stands."""
    job = workers(found)["spec"]
    guard = one("PodDisruptionBudget", "loadtest-workers", found)["spec"]
    counts = {
        "experiment.yaml": experiment(found)[0].load.workers,
        "completions": job["completions"],
        "parallelism": job["parallelism"],
        "PodDisruptionBudget": guard["minAvailable"],
    }
    if len(set(counts.values())) != 1:
        yield f"workers: {counts}"


def deadlines(found: Documents) -> Iterator[str]:
    """Whoever waits for another waits longer than the other may take."""
    plan = experiment(found)[0]
    runs_s = sum(pace.load_s(run, plan.load.warmup_s) + cooling.LONGEST_S + DRAIN_S for run in schedule(plan))
    deployment, patient, job = server(found), containers(master(found))[0], containers(master(found))[1]
    startup = pod(deployment)["containers"][0]["startupProbe"]
    startup_s = startup["periodSeconds"] * startup["failureThreshold"]
    wait_s = int(environment(patient, found, "")["WAIT_S"])
    words = command(job, found)
    workers_wait_s = int(words[words.index("--workers-wait") + 1])
    (worker,) = containers(workers(found))
    worker_wait_s = int(environment(worker, found, "")["WAIT_S"])
    master_s = master(found)["spec"]["activeDeadlineSeconds"]
    least = {
        "progressDeadlineSeconds": (deployment["spec"]["progressDeadlineSeconds"], startup_s),
        "wait-for-server": (wait_s, deployment["spec"]["progressDeadlineSeconds"]),
        "the workers' --wait": (worker_wait_s, wait_s),
        "the master's deadline": (master_s, wait_s + workers_wait_s + runs_s + REPORT_S),
        "the workers' deadline": (workers(found)["spec"]["activeDeadlineSeconds"], wait_s + runs_s),
        "the server's grace": (pod(deployment)["terminationGracePeriodSeconds"], argv.DRAIN_S + 5),
        "the master's grace": (pod(master(found))["terminationGracePeriodSeconds"], DRAIN_S + REPORT_S),
    }
    for name, (found_s, least_s) in least.items():
        if found_s < least_s:
            yield f"{name}: found {found_s} s, expected {least_s:.0f} s at least"


def once(found: Documents) -> Iterator[str]:
    """A Job runs once, whatever ends it, and is there for a while to be looked at."""
    for job in of("Job", found):
        name, spec = job["metadata"]["name"], job["spec"]
        if spec["backoffLimit"] != 0 or pod(job)["restartPolicy"] != "Never":
            yield f"{name}: would be run again"
        if spec.get("ttlSecondsAfterFinished", 0) < 3600:
            yield f"{name}: is gone before anybody can look"
        ends = {f"exit code {code}": action(spec, code) for code in range(1, 8)}
        for end, found_action in (ends | {"an eviction": action(spec, disrupted=True)}).items():
            if found_action != "FailJob":
                yield f"{name}: {end}: {found_action}, expected FailJob"


def action(spec: Any, exit_code: int = 0, *, disrupted: bool = False) -> str:
    """Return what a Job's podFailurePolicy does of a pod that failed: the first rule that fits decides."""
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        if "onExitCodes" in rule:
            codes = rule["onExitCodes"]
            fits = exit_code != 0 and (exit_code in codes["values"]) == (codes["operator"] == "In")
        else:
            fits = disrupted and {"type": "DisruptionTarget", "status": "True"} in rule["onPodConditions"]
        if fits:
            return str(rule["action"])
    return "Count"


def arguments(found: Documents) -> Iterator[str]:
    """The server is started as `tokenswarm serve` would: the same flags, in the same order."""
    container = pod(server(found))["containers"][0]
    if "vllm" not in container["image"]:
        return
    variables = environment(container, found, "")
    wanted = _served(variables["MODEL"])
    if command(container, found) != list(wanted.argv):
        yield f"llm-server: found {command(container, found)}, expected {list(wanted.argv)}"
    for name, value in (wanted.variables | {"HF_HUB_OFFLINE": "1"}).items():  # all was downloaded before
        if variables.get(name) != value:
            yield f"llm-server: found {name}={variables.get(name)}, expected {value}"
    fetched = command(containers(server(found))[0], found)
    revision = wanted.argv[wanted.argv.index("--revision") + 1]
    if fetched != ["hf", "download", variables["MODEL"], "--revision", revision]:
        yield f"llm-server: downloads {fetched}"


def _served(model: str) -> argv.Command:
    """Return how the experiment of this checkout that has the same model would start it on a GPU."""
    plan = read(EXPERIMENT)
    chosen = next(server for server in plan.servers if server.model == model)
    profile = profile_of(chosen, plan)
    found = models.resolve(profile.model, profile.revision)
    place = argv.Place("python3", found.hub, found.name, 8000, "0.0.0.0", "cuda")  # noqa: S104 - as in the pod
    return argv.command(profile, place)
