"""What network policies let through, as Kubernetes defines it: both ends must allow a connection.

A pod that no policy selects for a direction may do all in it; one that is selected may do what any of those
policies names.
"""

from typing import Any

from tests.k8s.manifests import Document, Documents, containers, labels, matches, of


def allowed(found: Documents, source: Document, target: Document, port: int) -> bool:
    """Say whether the pods of one workload may open a TCP connection to another's, in the same namespace."""
    return _lets(found, "Egress", (source, target), (target, port)) and _lets(
        found, "Ingress", (target, source), (target, port)
    )


def _lets(
    found: Documents, direction: str, ends: tuple[Document, Document], where: tuple[Document, int]
) -> bool:
    """Say whether the policies of the first of two ends let the other through."""
    end, peer = ends
    target, port = where
    policies = [
        policy["spec"]
        for policy in of("NetworkPolicy", found)
        if direction in policy["spec"]["policyTypes"] and matches(policy["spec"]["podSelector"], labels(end))
    ]
    key, side = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    rules = [rule for spec in policies for rule in spec.get(key) or []]
    return not policies or any(
        any(_is_peer(one, peer) for one in rule[side])
        and any(_number(one["port"], target) == port for one in rule["ports"] if one["protocol"] == "TCP")
        for rule in rules
    )


def _is_peer(rule: dict[str, Any], peer: Document) -> bool:
    """Say whether a rule means a pod of our own namespace; addresses and other namespaces are none."""
    return (
        "namespaceSelector" not in rule
        and "ipBlock" not in rule
        and matches(rule["podSelector"], labels(peer))
    )


def _number(port: object, target: Document) -> object:
    named = {
        one["name"]: one["containerPort"] for each in containers(target) for one in each.get("ports", [])
    }
    return named.get(port, port)
