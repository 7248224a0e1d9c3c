"""What manifests say of each other: each check returns what is wrong, in words."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.k8s.manifests import (
    OUR_IMAGE,
    ROOT,
    Document,
    Documents,
    all_containers,
    command,
    containers,
    labels,
    matches,
    name_of,
    of,
    pod,
    workloads,
)

KINDS = {
    "Namespace",
    "ConfigMap",
    "Service",
    "Deployment",
    "Job",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "ServiceAccount",
}
SECRETS = {"hf-token", "s3-key"}  # made by hand, README.md says how
DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
ADDRESS = re.compile(r"\b((?:llm|loadtest)[\w.-]*):(\d+)")


def kinds(found: Documents) -> Iterator[str]:
    """No autoscaler: the number of replicas is what is measured. And nothing that a cluster may not know."""
    for document in found:
        if document["kind"] not in KINDS:
            yield f"{document['kind']} {document['metadata']['name']}: not a kind that belongs here"


def names(found: Documents) -> Iterator[str]:
    """Names are DNS labels, all in one namespace, and no Service is one that vLLM would trip over."""
    spaces = {document["metadata"].get("namespace") for document in found if document["kind"] != "Namespace"}
    made = {document["metadata"]["name"] for document in of("Namespace", found)}
    if spaces != made:
        yield f"namespaces: used {spaces}, made {made}"
    for document in found:
        if not DNS_LABEL.fullmatch(document["metadata"]["name"]):
            yield f"{document['kind']}: {document['metadata']['name']!r} is no DNS label"
    if any(name_of(service) == "vllm" for service in of("Service", found)):
        yield "Service vllm: VLLM_PORT would be set in every pod, and vLLM takes it for its own port"


def selectors(found: Documents) -> Iterator[str]:
    """Every selector finds the pods that it is for."""
    for workload in workloads(found):
        wanted = workload["spec"].get("selector")
        if wanted and not matches(wanted, labels(workload)):
            yield f"{workload['metadata']['name']}: its selector does not find its own pods"
    for service in of("Service", found):
        if len(_behind(service, found)) != 1:
            yield f"Service {service['metadata']['name']}: finds {len(_behind(service, found))} workloads"
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for document in of(kind, found):
            if not any(matches(document["spec"][key], labels(workload)) for workload in workloads(found)):
                yield f"{kind} {document['metadata']['name']}: finds no pods"


def ports(found: Documents) -> Iterator[str]:
    """Services, probes and policies name ports that the containers have."""
    for service in of("Service", found):
        for port in service["spec"]["ports"]:
            for workload in _behind(service, found):
                if port["targetPort"] not in _ports(workload):
                    yield f"Service {service['metadata']['name']}: no port {port['targetPort']} behind it"
    for where, container, _ in all_containers(found):
        there = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in container and container[probe]["httpGet"]["port"] not in there:
                yield f"{where}: {probe}: no port {container[probe]['httpGet']['port']}"
    for policy in of("NetworkPolicy", found):
        targets = [one for one in workloads(found) if matches(policy["spec"]["podSelector"], labels(one))]
        for rule in policy["spec"].get("ingress") or []:
            for port in rule["ports"]:
                if not all(port["port"] in _ports(target) for target in targets):
                    yield f"NetworkPolicy {policy['metadata']['name']}: no port {port['port']} there"


def references(found: Documents) -> Iterator[str]:
    """ConfigMaps, Secrets, claims, accounts and volumes that are named exist, and each is used."""
    maps = {document["metadata"]["name"] for document in of("ConfigMap", found)}
    claims = {document["metadata"]["name"] for document in of("PersistentVolumeClaim", found)}
    claims |= {document["metadata"]["name"] for document in of("ServiceAccount", found)}
    used = set(SECRETS)
    for workload in workloads(found):
        volumes = {volume["name"] for volume in pod(workload).get("volumes", [])}
        mounted = {mount["name"] for one in containers(workload) for mount in one.get("volumeMounts", [])}
        if volumes != mounted:
            yield f"{workload['metadata']['name']}: volumes {volumes}, mounted {mounted}"
        used |= set(_named(pod(workload)))
    for name in sorted(used - maps - claims - SECRETS):
        yield f"{name}: named, but not there"
    for name in sorted((maps | claims) - used):
        yield f"{name}: there, but never named"


def addresses(found: Documents) -> Iterator[str]:
    """Whoever is spoken to is a Service, at a port that it has; policies let both sides through."""
    known = {
        (service["metadata"]["name"], str(port["port"]))
        for service in of("Service", found)
        for port in service["spec"]["ports"]
    }
    texts = [(where, " ".join(command(container, found))) for where, container, _ in all_containers(found)]
    texts += [(name_of(one), yaml.safe_dump(one["data"])) for one in of("ConfigMap", found)]
    said = {(where, hit) for where, text in texts for hit in ADDRESS.findall(text)}
    if len({hit for _, hit in said}) < 2:
        yield f"found only {said}, expected the server's and the master's address"
    for where, hit in sorted(said):
        if hit not in known:
            yield f"{where}: {':'.join(hit)} is no Service's address"


def images(found: Documents) -> Iterator[str]:
    """Images are named by the version that this checkout has, never by `latest`."""
    pins = (ROOT / "server" / "requirements" / "vllm.txt").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = {
        "vllm/vllm-openai": "v" + _only(r"^vllm==(\S+)$", pins),
        OUR_IMAGE: _only(r'^version = "(\S+)"$', project),
    }
    for where, container, _ in all_containers(found):
        image, _, tag = container["image"].partition(":")
        if wanted.get(image) != tag:
            yield f"{where}: found {container['image']}, expected {wanted}"


def _only(pattern: str, text: str) -> str:
    (hit,) = re.findall(pattern, text, re.MULTILINE)
    return str(hit)


def _behind(service: Document, found: Documents) -> Documents:
    selector = {"matchLabels": service["spec"]["selector"]}
    return [workload for workload in workloads(found) if matches(selector, labels(workload))]


def _ports(workload: Document) -> set[Any]:
    ports = [port for container in containers(workload) for port in container.get("ports", [])]
    return {port["name"] for port in ports} | {port["containerPort"] for port in ports}


def _named(spec: Any) -> Iterator[str]:
    """Yield the names of ConfigMaps, Secrets, claims and accounts anywhere in a pod."""
    if isinstance(spec, list):
        for item in spec:
            yield from _named(item)
    elif isinstance(spec, dict):
        for key, value in spec.items():
            if key in {"configMap", "configMapRef", "configMapKeyRef", "secretKeyRef"}:
                yield value["name"]
            elif key == "persistentVolumeClaim":
                yield value["claimName"]
            elif key == "serviceAccountName":
                yield value
            else:
                yield from _named(value)
