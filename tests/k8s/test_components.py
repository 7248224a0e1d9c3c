"""What may be added to an overlay changes what it says it does, and nothing else."""

import itertools
import shutil
from copy import deepcopy
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.k8s import hardening, references
from tests.k8s.checks import CHECKS, VERSIONS
from tests.k8s.fairness import ALLOWED, differences
from tests.k8s.flows import allowed
from tests.k8s.manifests import (
    K8S,
    Documents,
    all_containers,
    command,
    containers,
    documents,
    labels,
    matches,
    of,
    overlay,
    pod,
    workloads,
)
from tests.k8s.runs import experiment, master, server, workers
from tokenswarm import TokenswarmError, rendering
from tokenswarm.cli_running import run
from tokenswarm.uploading import UPLOAD_S, Destination

POD_MONITOR = {  # as far as we use it; Kubernetes' own schemas have no such kind
    "type": "object",
    "required": ["selector", "podMetricsEndpoints"],
    "additionalProperties": False,
    "properties": {
        "selector": {"type": "object"},
        "podMetricsEndpoints": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["port"],
                "additionalProperties": False,
                "properties": {
                    "port": {"type": "string"},
                    "path": {"type": "string"},
                    "interval": {"type": "string", "pattern": r"^\d+(ms|s|m)$"},
                },
            },
        },
    },
}


def with_component(folder: Path, *components: str, on: str = "baseline") -> Documents:
    """Render an overlay and components, as whoever has a cluster of their own would write it."""
    shutil.copytree(K8S, folder, dirs_exist_ok=True)
    mine = folder / "overlays" / "mine"
    mine.mkdir()
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": f"tokenswarm-{on}",
        "resources": [f"../{on}"],
        "components": [f"../../components/{name}" for name in components],
    }
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return documents(mine)


def test_all_components_together_are_valid(tmp_path: Path) -> None:
    found = with_component(tmp_path, "kueue", "monitoring", "s3-upload", "strict-rootfs")
    known = [one for one in found if one["kind"] != "PodMonitor"]
    for document in known:
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    for name, check in CHECKS.items():
        assert list(check(known)) == [], name


def test_gpu_is_asked_for_on_one_product() -> None:
    spec = pod(server(overlay("baseline")))
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert list(spec["nodeSelector"]) == ["nvidia.com/gpu.product"]
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "nvidia" not in yaml.safe_dump(pod(server(overlay("ci"))))


def test_the_token_reaches_the_download_alone() -> None:
    found = overlay("baseline")
    for workload in workloads(found):
        for container in containers(workload):
            named = [entry["name"] for entry in container.get("env", [])]
            assert ("HF_TOKEN" in named) == (container["name"] == "download")


def test_monitoring_finds_the_server_and_may_reach_it(tmp_path: Path) -> None:
    found = with_component(tmp_path, "monitoring")
    (monitor,) = of("PodMonitor", found)
    jsonschema.validate(monitor["spec"], POD_MONITOR)
    assert matches(monitor["spec"]["selector"], labels(server(found)))
    (port,) = pod(server(found))["containers"][0]["ports"]
    assert [end["port"] for end in monitor["spec"]["podMetricsEndpoints"]] == [port["name"]]
    assert monitor["metadata"]["namespace"] == server(found)["metadata"]["namespace"]
    assert list(references.ports(found)) == []
    assert "allow-prometheus" in [one["metadata"]["name"] for one in of("NetworkPolicy", found)]


def test_kueue_gets_both_jobs(tmp_path: Path) -> None:
    found = deepcopy(with_component(tmp_path, "kueue"))
    for job in (master(found), workers(found)):
        assert job["metadata"]["labels"].pop("kueue.x-k8s.io/queue-name") == "loadtest"
    assert found == overlay("baseline")


def test_s3_upload_adds_an_option_that_run_takes(tmp_path: Path) -> None:
    found = with_component(tmp_path, "s3-upload", on="ci")
    for before, after in zip(containers(master(overlay("ci"))), containers(master(found)), strict=True):
        words, more = (
            command(before, overlay("ci"), "loadtest-master-x"),
            command(after, found, "loadtest-master-x"),
        )
        place = "s3://tokenswarm-results/runs/loadtest-master-x"
        assert more == [*words, *(["--upload", place] if after["name"] == "tokenswarm" else [])]
    options = run.make_context("run", more[2:]).params
    assert options["seal"]
    assert Destination(options["upload"]).at == place
    grace_s = [pod(master(one))["terminationGracePeriodSeconds"] for one in (overlay("ci"), found)]
    assert grace_s[1] >= grace_s[0] + UPLOAD_S  # what is left of an evicted run is judged, then uploaded


def test_s3_upload_gives_its_key_to_the_master_alone(tmp_path: Path) -> None:
    found = with_component(tmp_path, "s3-upload")
    for where, container, spec in all_containers(found):
        keys = {one["name"]: one["valueFrom"] for one in container.get("env", []) if "AWS" in one["name"]}
        is_master = where == "loadtest-master/tokenswarm"
        assert sorted(keys) == (
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] if is_master else []
        )
        for name, value in keys.items():
            assert value == {"secretKeyRef": {"name": "s3-key", "key": name, "optional": True}}
        assert ("serviceAccountName" in spec) == where.startswith("loadtest-master/")
    (account,) = of("ServiceAccount", found)
    assert account["automountServiceAccountToken"] is False


def test_s3_upload_lets_the_master_out_and_nobody_in(tmp_path: Path) -> None:
    found = with_component(tmp_path, "s3-upload", on="ci")
    before = [one["spec"] for one in of("NetworkPolicy", overlay("ci"))]
    (new,) = [one["spec"] for one in of("NetworkPolicy", found) if one["spec"] not in before]
    assert [
        matches(new["podSelector"], labels(one)) for one in (master(found), workers(found), server(found))
    ] == [
        True,
        False,
        False,
    ]
    assert new["policyTypes"] == ["Egress"]
    (rule,) = new["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 443}]
    assert [list(peer) for peer in rule["to"]] == [["ipBlock"]]
    pods = workloads(found)
    for source, target, port in itertools.product(pods, pods, (443, 5557, 8000)):
        assert allowed(found, source, target, port) == allowed(overlay("ci"), source, target, port)


def test_s3_upload_keeps_the_comparison_fair(tmp_path: Path) -> None:
    found = [with_component(tmp_path / on, "s3-upload", on=on) for on in ("baseline", "awq")]
    assert differences(*found) == ALLOWED


@pytest.mark.parametrize("on", ["baseline", "awq"])
def test_strict_rootfs_closes_every_root(tmp_path: Path, on: str) -> None:
    found = with_component(tmp_path, "strict-rootfs", on=on)
    for workload in workloads(found):
        for container in containers(workload):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert list(hardening.writable(found)) == []


def test_another_experiment_is_given_what_it_needs(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(
        'servers: [{name: server, url: "http://llm-server:8000"}]\n'
        "load: {rate: [1, 2, 3], duration_s: 1800, workers: 7}\n"
        "sla: {name: mine, objectives: [ttft p99 < 1 s]}\n",
        encoding="utf-8",
    )
    text, _ = rendering.render("baseline", own=own)
    found: Documents = list(yaml.safe_load_all(text))
    assert experiment(found)[0].load.workers == 7
    for name, check in CHECKS.items():
        assert list(check(found)) == [], name


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "http://localhost:8000",
        "http://[::1]:8000",
        "http://0.0.0.0",
        "http://a.localhost",
    ],
)
def test_a_server_on_loopback_is_in_no_pod(tmp_path: Path, url: str) -> None:
    own = tmp_path / "mine.yaml"
    servers = f'servers: [{{name: far, url: "http://llm-server:8000"}}, {{name: near, url: "{url}"}}]\n'
    own.write_text(f"{servers}load: {{rate: 1, duration_s: 60}}\n", encoding="utf-8")
    with pytest.raises(TokenswarmError) as refused:
        rendering.render("baseline", own=own)
    expected = f"found server near at {url}, which in a pod is the pod itself, expected a url in the cluster"
    assert str(refused.value) == f"{own}: {expected}"
    assert refused.value.exit_code == 2
