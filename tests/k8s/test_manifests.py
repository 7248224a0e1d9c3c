"""k8s/: what it renders to is valid, and its parts fit together."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import pytest

from tests.k8s import hardening, references, runs
from tests.k8s.manifests import K8S, OVERLAYS, Documents, documents, overlay, rendered, tool

VERSIONS = ("1.29", "1.34", "1.37")  # the oldest that README.md promises, one between, the newest

Check = Callable[[Documents], Iterator[str]]
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        references.kinds,
        references.names,
        references.selectors,
        references.ports,
        references.references,
        references.addresses,
        references.images,
        hardening.restricted,
        hardening.resources,
        hardening.writable,
        runs.parsed,
        runs.worker_count,
        runs.deadlines,
        runs.once,
        runs.arguments,
    )
}


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("check", CHECKS)
def test_parts_fit_together(check: str, name: str) -> None:
    assert list(CHECKS[check](overlay(name))) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_kubernetes_knows_every_field(name: str, version: str) -> None:
    for document in overlay(name):
        kubernetes_validate.validate(document, version, strict=True)  # raises where it has no schema, too


def test_the_pod_that_reads_results_is_valid_and_restricted() -> None:
    (reader,) = documents(K8S / "reader")
    for version in VERSIONS:
        kubernetes_validate.validate(reader, version, strict=True)
    workload = {"kind": "Job", "metadata": reader["metadata"], "spec": {"template": reader}}
    for check in (hardening.restricted, hardening.resources, references.images):
        assert list(check([workload])) == []
    claim = reader["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim in [
        one["metadata"]["name"] for one in overlay("ci") if one["kind"] == "PersistentVolumeClaim"
    ]


def test_yaml_is_tidy() -> None:
    done = subprocess.run([tool("yamllint"), "--strict", K8S], capture_output=True, text=True, check=False)
    assert done.stdout == "", done.stdout
    assert done.returncode == 0


def test_the_containerfile_is_tidy() -> None:
    done = subprocess.run(
        [tool("hadolint"), "Containerfile"], cwd=K8S.parent, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")
