"""k8s/ as kubectl renders it, and how its parts find each other."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("baseline", "awq", "ci")
OUR_IMAGE = "tokenswarm"
TOOLS = Path(sys.executable).parent

Document = dict[str, Any]
Documents = list[Document]


def tool(name: str) -> str:
    """Return a program of the dev group's; the environment's own comes before any on PATH."""
    found = shutil.which(name, path=str(TOOLS)) or shutil.which(name)
    assert found, f"{name} is not here: uv sync installs it"
    return found


@cache
def documents(folder: Path) -> Documents:
    """Return what `kubectl kustomize` makes of a folder; whoever changes it copies it first."""
    done = subprocess.run([tool("kubectl"), "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


def overlay(name: str) -> Documents:
    """Return an overlay's documents."""
    return documents(K8S / "overlays" / name)


def of(kind: str, found: Documents) -> Documents:
    """Return all of a kind."""
    return [document for document in found if document["kind"] == kind]


def one(kind: str, name: str, found: Documents) -> Document:
    """Return the one of this kind and name; a generated name may have its hash behind."""
    hits = [document for document in of(kind, found) if name_of(document) == name]
    assert len(hits) == 1, f"{kind} {name}: found {len(hits)}, expected one"
    return hits[0]


def name_of(document: Document) -> str:
    """Return a document's name without the hash of a generator."""
    name = str(document["metadata"]["name"])
    return re.sub(r"-[0-9a-z]{10}$", "", name) if document["kind"] == "ConfigMap" else name


def workloads(found: Documents) -> Documents:
    """Return all that makes pods."""
    return of("Deployment", found) + of("Job", found)


def pod(workload: Document) -> Any:
    """Return a workload's pod: its specification."""
    return workload["spec"]["template"]["spec"]


def labels(workload: Document) -> dict[str, str]:
    """Return the labels of a workload's pods."""
    return dict(workload["spec"]["template"]["metadata"]["labels"])


def containers(workload: Document) -> list[Any]:
    """Return a workload's containers, those that come first included."""
    spec = pod(workload)
    return [*(spec.get("initContainers") or []), *spec["containers"]]


def all_containers(found: Documents) -> Iterator[tuple[str, Any, Any]]:
    """Yield where each container is, the container, and its pod's specification."""
    for workload in workloads(found):
        for container in containers(workload):
            yield f"{workload['metadata']['name']}/{container['name']}", container, pod(workload)


def environment(container: Any, found: Documents, pod_name: str) -> dict[str, str]:
    """Return the variables that a container gets; a Secret's are left out."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        name = source["configMapRef"]["name"]
        variables |= next(map_["data"] for map_ in of("ConfigMap", found) if map_["metadata"]["name"] == name)
    for entry in container.get("env", []):
        if "value" in entry:
            variables[entry["name"]] = entry["value"]
        elif "fieldRef" in entry["valueFrom"]:
            assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name", entry
            variables[entry["name"]] = pod_name
    return variables


def expanded(words: list[str], variables: dict[str, str]) -> list[str]:
    """Return arguments with $(NAME) replaced, as the kubelet does: an unknown name stays as it is."""
    return [re.sub(r"\$\((\w+)\)", lambda hit: variables.get(hit[1], hit[0]), word) for word in words]


def command(container: Any, found: Documents, pod_name: str = "pod") -> list[str]:
    """Return a container's whole command line; our image's entry point is `tokenswarm`."""
    variables = environment(container, found, pod_name)
    return expanded([*container.get("command", [OUR_IMAGE]), *container.get("args", [])], variables)


def matches(selector: dict[str, Any] | None, wanted: dict[str, str]) -> bool:
    """Say whether a label selector finds these labels; an empty one finds all."""
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        if wanted.get(key) != value:
            return False
    for rule in (selector or {}).get("matchExpressions") or []:
        assert rule["operator"] == "In", rule
        if wanted.get(rule["key"]) not in rule["values"]:
            return False
    return True
