"""What every pod must be: each check returns what is wrong, in words."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from tests.k8s.manifests import (
    OUR_IMAGE,
    Documents,
    all_containers,
    command,
    environment,
    of,
    pod,
    workloads,
)

UNITS = {"": 1.0, "m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30}


def restricted(found: Documents) -> Iterator[str]:
    """Pod security `restricted`, and more than it asks: no token, no service links, users as numbers."""
    for namespace in of("Namespace", found):
        if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield "Namespace: does not enforce restricted pods"
    for workload in workloads(found):
        where, spec = workload["metadata"]["name"], pod(workload)
        for key in ("automountServiceAccountToken", "enableServiceLinks"):
            if spec.get(key) is not False:
                yield f"{where}: {key} is not false"
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser", 0) > 0:
            yield f"{where}: may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{where}: without a seccomp profile"
    for where, container, _ in all_containers(found):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{where}: may escalate its privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{where}: keeps capabilities"
        if (
            container["image"].startswith(f"{OUR_IMAGE}:")
            and context.get("readOnlyRootFilesystem") is not True
        ):
            yield f"{where}: its root file system is not read-only"


def resources(found: Documents) -> Iterator[str]:
    """Everyone asks for what it uses; a worker gets whole CPUs of its own."""
    for where, container, _ in all_containers(found):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        if not {"cpu", "memory"} <= set(requests) or "memory" not in limits:
            yield f"{where}: asks for no CPU or memory, or has no limit of memory"
        for name, limit in limits.items():
            if quantity(requests.get(name, limit)) > quantity(limit):
                yield f"{where}: {name}: requests {requests[name]} of at most {limit}"
        if requests["memory"] != limits["memory"]:
            yield f"{where}: its memory may be taken by others"
        if where.startswith("loadtest-"):
            cpu = requests.get("cpu"), limits.get("cpu")
            if cpu[0] != cpu[1] or not str(cpu[0]).isdecimal():
                yield f"{where}: its CPUs are {cpu}, expected whole ones of its own"


def writable(found: Documents) -> Iterator[str]:
    """What programs write to is a volume that can be written."""
    for where, container, spec in all_containers(found):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        places = [
            PurePosixPath(mount["mountPath"])
            for mount in container["volumeMounts"]
            if not mount.get("readOnly") and "configMap" not in volumes[mount["name"]]
        ]
        for path in _written(container, found):
            if not any(PurePosixPath(path).is_relative_to(place) for place in places):
                yield f"{where}: {path} is on no volume that can be written"


def _written(container: Any, found: Documents) -> Iterator[str]:
    yield "/tmp"  # noqa: S108 - our image's HOME, and where Python's tempfile looks first
    words = command(container, found)
    yield from (words[at + 1] for at, word in enumerate(words) if word == "--out")
    for name, value in environment(container, found, "pod").items():
        if name in {"HOME", "HF_HOME"} or name.endswith(("_DIR", "_CACHE_HOME", "_CACHE_ROOT")):
            if value == "/models" and OUR_IMAGE in container["image"]:
                continue  # the simulator has no model
            yield value


def quantity(text: object) -> float:
    """Return what an amount of Kubernetes' comes to."""
    digits = str(text).rstrip("mMGi")
    return float(digits) * UNITS[str(text)[len(digits) :]]
