"""Run the pods of an overlay as it is rendered, on hosts of our own: what a kubelet and a Job controller do.

Each pod is a host (tests/netns.py) whose containers are processes in namespaces of their own: their user,
their variables, a root file system that has what the image and the volumes put there, read-only where the
manifest says so. Services are names in /etc/hosts, found by their selectors. Our image is this checkout with
its environment. Not done: limits of CPU and memory, network policies, scheduling, restarts.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.k8s import runs
from tests.k8s.manifests import (
    OUR_IMAGE,
    ROOT,
    Document,
    Documents,
    command,
    environment,
    labels,
    matches,
    of,
    one,
    pod,
    workloads,
)
from tests.netns import Host, network

CONTAINER = Path(__file__).with_name("container.py")
ASK = "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=float(sys.argv[2]))"
NODE = "node"  # the host from which probes come


class Pod:
    """One pod: its containers run one after another in `work`, which sets `code` at the end."""

    def __init__(self, name: str, workload: Document, cluster: "Cluster", index: int = 0) -> None:
        """Make its volumes; it is not started."""
        self.name, self.workload, self.cluster, self.index = name, workload, cluster, index
        self.spec = pod(workload)
        self.folder = cluster.folder / name
        self.code: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.thread = threading.Thread(target=self.work, name=name)
        self.message = self.folder / "termination-log"
        self.folder.mkdir()
        self.volumes = {volume["name"]: self._volume(volume) for volume in self.spec.get("volumes", [])}

    def work(self) -> None:
        """Run the containers; the first that fails is the pod's end."""
        for container in [*(self.spec.get("initContainers") or []), *self.spec["containers"]]:
            self.message.write_bytes(b"")
            self.message.chmod(0o666)
            with (self.folder / f"{container['name']}.log").open("wb") as log:
                spec = self.folder / f"{container['name']}.json"
                spec.write_text(json.dumps(self._container(container)), encoding="utf-8")
                line = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
                line += [sys.executable, str(CONTAINER), str(spec)]
                self.process = self.cluster.hosts[self.name].start(line, stdout=log, stderr=log)
                code = self.process.wait()
            if code:
                break
        self.code = code if code >= 0 else 128 - code

    def log(self) -> str:
        """Return what its containers said."""
        return "\n".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))

    def send(self, number: int) -> None:
        """Send a signal to the container's process 1, which is a child of `unshare`."""
        process = self.process
        assert process is not None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
        os.kill(int(children.split()[0]), number)

    def _volume(self, volume: dict[str, Any]) -> Path:
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            one("PersistentVolumeClaim", claim, self.cluster.found)
            folder = self.cluster.folder / f"claim-{claim}"
            folder.mkdir(exist_ok=True)
            group = self.spec.get("securityContext", {}).get("fsGroup")
            if group:
                os.chown(folder, 0, group)
                folder.chmod(0o2775)
            return folder
        folder = self.folder / f"volume-{volume['name']}"
        folder.mkdir()
        if "configMap" in volume:
            maps = {each["metadata"]["name"]: each["data"] for each in of("ConfigMap", self.cluster.found)}
            for name, text in maps[volume["configMap"]["name"]].items():
                (folder / name).write_text(text, encoding="utf-8")
        else:
            folder.chmod(0o777)
        return folder

    def _container(self, container: dict[str, Any]) -> dict[str, Any]:
        """Return what container.py is told."""
        assert container["image"].startswith(f"{OUR_IMAGE}:"), container["image"]
        context = self.spec["securityContext"] | container["securityContext"]
        assert context["runAsUser"] != 0, "the kubelet refuses root where runAsNonRoot is set"
        (self.folder / "root").mkdir(exist_ok=True)
        variables = image_variables() | {"HOSTNAME": self.name, "PYTHONPATH": "/app"}
        if self.workload["spec"].get("completionMode") == "Indexed":
            variables["JOB_COMPLETION_INDEX"] = str(self.index)
        return {
            "root": str(self.folder / "root"),
            "argv": command(container, self.cluster.found, self.name),
            "environment": variables | environment(container, self.cluster.found, self.name),
            "user": context["runAsUser"],
            "group": context["runAsGroup"],
            "groups": [context["fsGroup"]] if "fsGroup" in context else [],
            "workdir": "/tmp",  # noqa: S108 - the Containerfile's WORKDIR
            "read_only": context.get("readOnlyRootFilesystem", False),
            "mounts": self._mounts(container),
        }

    def _mounts(self, container: dict[str, Any]) -> list[tuple[str, str, bool]]:
        etc = self.folder / "etc"
        etc.mkdir(exist_ok=True)
        (etc / "hosts").write_text(self.cluster.names(), encoding="utf-8")
        (etc / "nsswitch.conf").write_text("hosts: files\n", encoding="utf-8")
        mounts = [("/usr", "/usr", True), (str(etc), "/etc", True), (str(ROOT), "/app", True)]
        mounts.append((str(self.message), "/dev/termination-log", False))
        kinds = {volume["name"]: volume for volume in self.spec["volumes"]}
        for mount in container.get("volumeMounts", []):
            path = mount["mountPath"]
            read_only = mount.get("readOnly", False) or "configMap" in kinds[mount["name"]]
            mounts.append((str(self.volumes[mount["name"]]), path, read_only))
            if path.startswith("/etc/"):  # what is mounted read-only has no room for another folder
                (etc / path.removeprefix("/etc/")).mkdir(exist_ok=True)
        ours = {sys.prefix, sys.base_prefix}  # last: they may be below /tmp, which is a volume
        return mounts + [(path, path, True) for path in ours if not path.startswith("/usr")]


class Cluster:
    """All pods of an overlay; started together, as `kubectl apply` does."""

    def __init__(self, found: Documents, folder: Path, hosts: dict[str, Host]) -> None:
        """Make the pods."""
        self.found, self.folder, self.hosts = found, folder, hosts
        self.pods = {
            name: Pod(name, workload, self, index)
            for workload in workloads(found)
            for index, name in enumerate(pod_names(workload))
        }

    def start(self) -> None:
        """Start all pods."""
        for each in self.pods.values():
            each.thread.start()

    def names(self) -> str:
        """Return /etc/hosts: the name of each Service that has a pod, and where it is."""
        lines = ["127.0.0.1 localhost\n"]
        for service in of("Service", self.found):
            selector = {"matchLabels": service["spec"]["selector"]}
            for name, each in self.pods.items():
                if matches(selector, labels(each.workload)):
                    lines.append(f"{self.hosts[name].address} {service['metadata']['name']}\n")
        return "".join(lines)

    def probe(self, name: str, kind: str) -> bool:
        """Ask a container as the kubelet would; a probe is what the manifest says it is."""
        (container,) = self.pods[name].spec["containers"]
        probe = container[kind]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        url = f"http://{self.hosts[name].address}:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
        asked = [sys.executable, "-c", ASK, url, str(probe["timeoutSeconds"])]
        return self.hosts[NODE].run(asked).returncode == 0

    def passes(self, name: str, kind: str) -> bool:
        """Say whether a probe succeeds within its own threshold; it is asked at its own period."""
        probe = self.pods[name].spec["containers"][0][kind]
        for _ in range(probe["failureThreshold"]):
            if self.probe(name, kind) or self.pods[name].code is not None:
                return self.pods[name].code is None
            time.sleep(probe["periodSeconds"])
        return False

    def outcome(self, job: Document) -> str:
        """Return what becomes of a Job once its pods have ended: Complete, or Failed and why."""
        pods = [self.pods[name] for name in pod_names(job)]
        deadline = time.monotonic() + job["spec"]["activeDeadlineSeconds"]
        for each in pods:
            each.thread.join(max(0.0, deadline - time.monotonic()))
            if each.thread.is_alive():
                return "Failed: DeadlineExceeded"
        codes = [each.code or 0 for each in pods]
        failed = next((code for code in codes if code), 0)
        if not failed:
            return "Complete"
        return "Failed: PodFailurePolicy" if runs.action(job["spec"], failed) == "FailJob" else "run again"

    def stop(self) -> None:
        """End what still runs."""
        for each in self.pods.values():
            while each.thread.is_alive():
                if each.process and each.process.poll() is None:
                    each.process.send_signal(signal.SIGKILL)  # its process 1 dies with it, and all with that
                each.thread.join(0.2)


def pod_names(workload: Document) -> list[str]:
    """Return the names of a workload's pods: short ones, for namespaces are called by them."""
    name, spec = workload["metadata"]["name"], workload["spec"]
    if workload["kind"] == "Deployment":
        return [f"{name}-{number}" for number in range(spec["replicas"])]
    return [f"{name}-{number}" for number in range(spec.get("completions", 1))]


@contextmanager
def running(found: Documents, folder: Path) -> Iterator[Cluster]:
    """Run an overlay's pods for the length of a `with` block."""
    every = [name for workload in workloads(found) for name in pod_names(workload)]
    with network(*every, NODE) as hosts:
        cluster = Cluster(found, folder, hosts)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def image_variables() -> dict[str, str]:
    """Return the variables of our image, out of the Containerfile; programs are this environment's."""
    final = (ROOT / "Containerfile").read_text(encoding="utf-8").rpartition("FROM ")[2]
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", final, re.MULTILINE)
    variables = dict(word.split("=", 1) for word in block.replace("\\\n", " ").split())
    variables["PATH"] = variables["PATH"].replace("/app/.venv", sys.prefix)
    return variables
