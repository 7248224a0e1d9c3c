"""The ci overlay, as it is rendered, on hosts of our own: it measures, and its Jobs end as its verdicts."""

import json
import signal
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests import netns
from tests.k8s import runs
from tests.k8s.manifests import Documents, containers, of, one, overlay, pod
from tests.k8s.pods import Cluster, running
from tokenswarm import sealing

pytestmark = pytest.mark.slow
BUSY = ("dispatch lag", "read lag", "coalesced chunks")  # how reasons begin that are this machine's alone
MASTER, SERVER = "loadtest-master-0", "llm-server-0"


@pytest.fixture(autouse=True)
def hosts() -> None:
    """Ask for what hosts need."""
    netns.require()


def changed(duration_s: int = 0, objective: str = "") -> Documents:
    """Return the overlay with a shorter run, or another SLA; nothing else is changed."""
    found = deepcopy(overlay("ci"))
    data = one("ConfigMap", "experiment", found)["data"]
    if duration_s:
        data["experiment.yaml"] = data["experiment.yaml"].replace(
            "duration_s: 10", f"duration_s: {duration_s}"
        )
    if objective:
        data["sla.yaml"] = f"name: other\nobjectives: [{objective}]\n"
    return found


def results(cluster: Cluster) -> Path:
    """Return the results that a master left; its pod's name is the run's."""
    return cluster.folder / "claim-results" / MASTER


def verdict(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (results(cluster) / "server" / "verdict.json").read_text(encoding="utf-8")
    )
    return found


def is_(status: str, found: dict[str, Any]) -> bool:
    """Say whether a verdict is this one, or INVALID for no other reason than a machine that was too busy."""
    busy = found["status"] == "INVALID" and all(reason.startswith(BUSY) for reason in found["reasons"])
    return found["status"] == status or busy


def shown(cluster: Cluster) -> str:
    return "\n".join(f"--- {name} {pod.code}\n{pod.log()[-3000:]}" for name, pod in cluster.pods.items())


def test_what_is_rendered_measures(tmp_path: Path) -> None:
    with running(overlay("ci"), tmp_path) as cluster:
        assert cluster.passes(SERVER, "startupProbe"), shown(cluster)
        assert cluster.passes(SERVER, "readinessProbe"), shown(cluster)
        outcome = cluster.outcome(runs.master(cluster.found))
        workers = cluster.outcome(runs.workers(cluster.found))
        assert cluster.probe(SERVER, "livenessProbe")
    out, found = results(cluster), verdict(cluster)
    assert is_("PASS", found), found
    assert cluster.pods[MASTER].code == found["exit_code"], shown(cluster)
    assert outcome == ("Complete" if found["exit_code"] == 0 else "Failed: PodFailurePolicy")
    assert workers == "Complete", shown(cluster)
    assert sealing.damage(out) == []
    assert (out / sealing.DONE).read_text(encoding="utf-8") == f"{found['exit_code']}\n"
    meta = json.loads((out / "server" / "run.json").read_text(encoding="utf-8"))
    assert len(meta["workers"]["seen"]) == 2
    assert meta["accounting"]["records"] > 150
    assert out.stat().st_uid == 10001
    assert found["status"] in cluster.pods[MASTER].message.read_text(encoding="utf-8")


def test_a_missed_sla_is_a_failed_job(tmp_path: Path) -> None:
    with running(changed(5, "e2e p50 < 100 ms"), tmp_path) as cluster:
        outcome = cluster.outcome(runs.master(cluster.found))
    assert is_("FAIL", verdict(cluster)), shown(cluster)
    assert cluster.pods[MASTER].code == verdict(cluster)["exit_code"] != 0
    assert outcome == "Failed: PodFailurePolicy"
    assert sealing.damage(results(cluster)) == []


def test_an_evicted_run_is_invalid_and_keeps_what_it_measured(tmp_path: Path) -> None:
    with running(overlay("ci"), tmp_path) as cluster:
        timeline = results(cluster) / "server" / "timeline.csv"
        deadline = time.monotonic() + 90
        while not (timeline.exists() and len(timeline.read_text().splitlines()) > 6):
            assert time.monotonic() < deadline, shown(cluster)
            time.sleep(0.2)
        cluster.pods[MASTER].send(signal.SIGTERM)
        outcome = cluster.outcome(runs.master(cluster.found))
    assert cluster.pods[MASTER].code == 5, shown(cluster)
    assert outcome == "Failed: PodFailurePolicy"
    assert (results(cluster) / sealing.DONE).read_text(encoding="utf-8") == "5\n"
    assert verdict(cluster)["status"] == "INVALID"
    assert not all(reason.startswith(BUSY) for reason in verdict(cluster)["reasons"])


def test_without_a_server_the_job_says_that_it_could_not_start(tmp_path: Path) -> None:
    found = deepcopy(overlay("ci"))
    runs.server(found)["spec"]["replicas"] = 0
    for job in of("Job", found):
        for container in containers(job):
            for entry in container.get("env", []):
                entry.update({"value": "6"} if entry["name"] == "WAIT_S" else {})
    with running(found, tmp_path) as cluster:
        outcomes = [cluster.outcome(job) for job in of("Job", found)]
    assert {each.code for each in cluster.pods.values()} == {6}, shown(cluster)
    assert outcomes == ["Failed: PodFailurePolicy"] * 2


def test_a_master_that_waits_for_its_server_can_be_told_to_end(tmp_path: Path) -> None:
    """Else who deletes the Job waits for its whole grace period."""
    found = deepcopy(overlay("ci"))
    runs.server(found)["spec"]["replicas"] = 0
    with running(found, tmp_path) as cluster:
        master, deadline = cluster.pods[MASTER], time.monotonic() + 60
        while "llm-server" not in master.log():
            assert time.monotonic() < deadline, shown(cluster)
            time.sleep(0.2)
        master.send(signal.SIGTERM)
        master.thread.join(30)
        assert master.code == 143, shown(cluster)


def test_a_volume_that_the_user_may_not_write_is_found_here_alone(tmp_path: Path) -> None:
    found = deepcopy(overlay("ci"))
    del pod(runs.master(found))["securityContext"]["fsGroup"]  # valid, and no check of text can know
    with running(found, tmp_path) as cluster:
        outcome = cluster.outcome(runs.master(found))
    assert outcome == "Failed: PodFailurePolicy"
    assert "Permission denied" in cluster.pods[MASTER].log()
