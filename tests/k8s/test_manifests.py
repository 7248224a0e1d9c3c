"""k8s/: what it renders to is valid, and its parts fit together."""

import subprocess

import kubernetes_validate
import pytest

from tests.k8s import hardening, references
from tests.k8s.checks import CHECKS, VERSIONS
from tests.k8s.manifests import K8S, OVERLAYS, documents, overlay, tool


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
    command = [tool("yamllint"), "--strict", "."]
    done = subprocess.run(command, cwd=K8S, capture_output=True, text=True, check=False)
    assert done.stdout == "", done.stdout
    assert done.returncode == 0


def test_the_containerfile_is_tidy() -> None:
    done = subprocess.run(
        [tool("hadolint"), "Containerfile"], cwd=K8S.parent, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")
