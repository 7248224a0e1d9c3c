"""What two variants differ in."""

from copy import deepcopy
from typing import Any

from tests.k8s.manifests import Document, Documents

ALLOWED = {
    ("Namespace", "metadata.name"),  # each variant has a namespace of its own, so all else may have one name
    ("ConfigMap model", "data.MODEL"),
    ("ConfigMap model", "data.REVISION"),
}


def differences(left: Documents, right: Documents) -> set[tuple[str, str]]:
    """Return where two overlays differ, as kind and name, and path within; namespaces are not looked at."""
    ones, others = (
        {_title(one): dict(_leaves(one)) for one in map(_without_hashes, deepcopy(found))}
        for found in (left, right)
    )
    found = {(title, "") for title in ones.keys() ^ others.keys()}
    for title in ones.keys() & others.keys():
        one, other = ones[title], others[title]
        paths = {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
        found |= {(title, path) for path in paths - {"metadata.namespace"}}
    return found


def _title(document: Document) -> str:
    kind, name = document["kind"], document["metadata"]["name"]
    return kind if kind == "Namespace" else f"{kind} {name}"


def _without_hashes(document: Document) -> Document:
    """Take away what follows from a ConfigMap's content, wherever it is named."""
    if document["kind"] == "ConfigMap":
        document["metadata"]["name"] = document["metadata"]["name"].rpartition("-")[0]
    for workload in [document] if "template" in document.get("spec", {}) else []:
        spec = workload["spec"]["template"]["spec"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            for source in container.get("envFrom", []):
                source["configMapRef"]["name"] = source["configMapRef"]["name"].rpartition("-")[0]
    return document


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{path}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [leaf for key, item in enumerate(value) for leaf in _leaves(item, f"{path}.{key}")]
    return [(path, value)]
