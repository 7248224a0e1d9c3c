"""What may talk to what; and what checkov, in an environment of its own, has to say."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.environments import install
from tests.k8s.flows import allowed
from tests.k8s.manifests import K8S, OVERLAYS, labels, overlay, workloads
from tests.k8s.test_components import with_component

CHECKOV = "checkov==3.3.30"
WANTED = {
    ("worker", "master", 5557),
    ("worker", "server", 8000),
    ("master", "server", 8000),
}


@pytest.mark.parametrize("name", OVERLAYS)
def test_who_must_talk_may_and_nobody_else(name: str) -> None:
    found = overlay(name)
    pods = {labels(one)["app.kubernetes.io/component"]: one for one in workloads(found)}
    assert set(pods) == {"server", "master", "worker"}
    ports = (5557, 8000, 22)
    flows = {
        (source, target, port)
        for source, one in pods.items()
        for target, other in pods.items()
        for port in ports
        if allowed(found, one, other, port)
    }
    assert flows == WANTED


@pytest.fixture(scope="module")
def checkov(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("checkov") / "venv", CHECKOV) / "checkov"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_checkov_finds_what_we_decline_and_nothing_else(checkov: Path, tmp_path: Path) -> None:
    s3 = with_component(tmp_path / "k8s", "s3-upload")
    for name, found in {"baseline": overlay("baseline"), "ci": overlay("ci"), "s3": s3}.items():
        (tmp_path / f"{name}.yaml").write_text(
            yaml.safe_dump_all(found)
        )  # awq is baseline with another model
    shutil.rmtree(tmp_path / "k8s")
    options = ["--framework", "kubernetes", "--skip-download", "--output", "json", "--soft-fail"]
    done = subprocess.run([checkov, "-d", tmp_path, *options], capture_output=True, check=True)
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 300
    failed = {check["check_id"] for check in report["results"]["failed_checks"]}
    text = (K8S / ".checkov.yaml").read_text(encoding="utf-8")
    assert failed == set(yaml.safe_load(text)["skip-check"])
    lines = text.splitlines()
    assert all(lines[at - 1].strip().startswith("# ") for at, line in enumerate(lines) if "- CKV" in line)
