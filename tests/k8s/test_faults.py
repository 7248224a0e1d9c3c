"""Mistakes that somebody could make in k8s/: each must turn a test red, or the tests are worth nothing."""

import shutil
from pathlib import Path
from typing import NamedTuple

import kubernetes_validate
import pytest

from tests.k8s.checks import CHECKS, VERSIONS
from tests.k8s.fairness import ALLOWED, differences
from tests.k8s.manifests import K8S, OVERLAYS, documents
from tokenswarm import TokenswarmError


class Fault(NamedTuple):
    """A mistake: in which file, what stood there, what stands there now, and the test that must see it."""

    file: str
    was: str
    now: str
    seen_by: str


MASTER, WORKERS, SERVER = (
    "base/loadtest/master.yaml",
    "base/loadtest/workers.yaml",
    "base/server/deployment.yaml",
)
LATER = "\n---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: more}\n"
FAULTS = {
    "a field misspelt": Fault(MASTER, "backoffLimit: 0", "backOffLimit: 0", "schema"),
    "a Service that finds nobody": Fault(
        "base/loadtest/service.yaml", "component: master", "component: main", "selectors"
    ),
    "a port's name that nobody has": Fault(
        "base/server/service.yaml", "targetPort: http", "targetPort: web", "ports"
    ),
    "a Service that vLLM trips over": Fault(
        "base/server/service.yaml", "name: llm-server # not", "name: vllm # not", "names"
    ),
    "a host that is none": Fault(WORKERS, "loadtest-master:5557", "master:5557", "addresses"),
    "a claim that is not there": Fault(MASTER, "claimName: results", "claimName: result", "references"),
    "a worker more than the experiment has": Fault(
        WORKERS, "parallelism: 4", "parallelism: 5", "worker_count"
    ),
    "a deadline before the end": Fault(
        MASTER, "activeDeadlineSeconds: 10800", "activeDeadlineSeconds: 3600", "deadlines"
    ),
    "an eviction that runs again": Fault(
        MASTER, "action: FailJob\n        onPod", "action: Ignore\n        onPod", "once"
    ),
    "a Job that tries again": Fault(MASTER, "backoffLimit: 0", "backoffLimit: 6", "once"),
    "an image that is another tomorrow": Fault(SERVER, "vllm-openai:v0.32.0", "vllm-openai:latest", "images"),
    "a user who is root": Fault(MASTER, "runAsUser: 10001", "runAsUser: 0", "restricted"),
    "results that end with the pod": Fault(MASTER, "/results/$(RUN_ID)", "/data/$(RUN_ID)", "writable"),
    "a worker that shares its CPU": Fault(WORKERS, 'limits: {cpu: "1"', 'limits: {cpu: "2"', "resources"),
    "a key that the experiment has not": Fault(
        "base/loadtest/experiment.yaml", "duration_s", "duration", "parsed"
    ),
    "an SLA that cannot be read": Fault("base/loadtest/sla.yaml", "ttft p95", "ttf p95", "parsed"),
    "an autoscaler": Fault(
        "base/server/disruption.yaml", "component: server\n", f"component: server{LATER}", "kinds"
    ),
    "a flag that `serve` would not set": Fault(SERVER, "- bfloat16", "- float16", "arguments"),
    "a flag of one variant": Fault(
        "overlays/awq/kustomization.yaml",
        "components:",
        "patches:\n  - {path: flag.yaml, target: {kind: Deployment}}\ncomponents:",
        "fairness",
    ),
}
FLAG = """\
- op: replace
  path: /spec/template/spec/containers/0/args/13
  value: "4096"
"""


def is_red(test: str, k8s: Path) -> bool:
    """Say whether a test fails on a folder of manifests."""
    baseline, awq, ci = (k8s / "overlays" / name for name in OVERLAYS)
    if test == "fairness":
        return differences(documents(baseline), documents(awq)) != ALLOWED
    try:
        if test == "schema":
            for document in documents(ci):
                kubernetes_validate.validate(document, VERSIONS[0], strict=True)
            return False
        return any(list(CHECKS[test](documents(tree))) for tree in (awq, ci))
    except (kubernetes_validate.ValidationError, TokenswarmError):  # a parser of ours
        return True


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_turns_a_test_red(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    shutil.copytree(K8S, tmp_path, dirs_exist_ok=True)
    (tmp_path / "overlays" / "awq" / "flag.yaml").write_text(FLAG, encoding="utf-8")
    file = tmp_path / fault.file
    text = file.read_text(encoding="utf-8")
    assert fault.was in text
    file.write_text(text.replace(fault.was, fault.now), encoding="utf-8")
    assert is_red(fault.seen_by, tmp_path)
    assert not is_red(fault.seen_by, K8S)
