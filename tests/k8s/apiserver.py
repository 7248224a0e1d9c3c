"""As much of a Kubernetes API server as the real kubectl needs for `tokenswarm k8s`, over real HTTP.

Objects are kept, listed, watched and deleted; nothing is scheduled, checked or run. What a controller or a
kubelet would do, a test does (`finish`); a pod that is created is Ready at once, and a command in it runs
here, with the folder `volume` for its /results. Not in it: TLS, authentication, schemas, patches.
"""

import base64
import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]

KINDS = {
    "v1": ["Namespace", "Service", "ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim", "Pod"],
    "batch/v1": ["Job"],
    "apps/v1": ["Deployment"],
    "policy/v1": ["PodDisruptionBudget"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
}
WORDS = {"NetworkPolicy": "networkpolicies"}
EXEC = "v5.channel.k8s.io"
STDOUT, STATUS = b"\x01", b"\x03"
WATCH_S = 30


def plural(kind: str) -> str:
    return WORDS.get(kind, kind.lower() + "s")


def root(version: str) -> str:
    return f"/api/{version}" if "/" not in version else f"/apis/{version}"


class Store:
    """All objects, by their path; whoever changes one wakes those who watch."""

    def __init__(self, volume: Path) -> None:
        self.volume = volume
        self.objects: dict[str, Object] = {}
        self.created: list[Object] = []
        self.changed = threading.Condition()
        self.version = 0

    def put(self, path: str, one: Object) -> Object:
        with self.changed:
            self.version += 1
            one["metadata"]["resourceVersion"] = str(self.version)
            one["metadata"].setdefault("uid", f"uid-{self.version}")
            if one["kind"] == "Pod":
                one.setdefault(
                    "status", {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                )
            self.objects[path] = one
            self.changed.notify_all()
        return one

    def under(self, path: str, query: dict[str, str]) -> list[Object]:
        name = query.get("fieldSelector", "").removeprefix("metadata.name=")
        wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
        return [
            one
            for where, one in self.objects.items()
            if where.rpartition("/")[0] == path
            and name in {"", one["metadata"]["name"]}
            and wanted.items() <= one["metadata"].get("labels", {}).items()
        ]

    def names(self, kind: str) -> list[str]:
        return [one["metadata"]["name"] for one in self.objects.values() if one["kind"] == kind]

    def finish(self, namespace: str, job: str, end: Object | None, condition: str = "Failed") -> None:
        """Do as the kubelet and the Job controller: a pod's container ended (None: the pod is gone)."""
        if end is not None:
            state = {"name": "tokenswarm", "state": {"terminated": end}}
            labels = {"batch.kubernetes.io/job-name": job}
            named = {"name": f"{job}-x7k2p", "namespace": namespace, "labels": labels}
            pod = {"kind": "Pod", "apiVersion": "v1", "metadata": named}
            pod |= {"spec": {"containers": [{"name": "tokenswarm"}]}}
            pod |= {"status": {"phase": "Failed", "containerStatuses": [state]}}
            self.put(f"/api/v1/namespaces/{namespace}/pods/{job}-x7k2p", pod)
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{job}"
        ended = {"type": condition, "status": "True", "message": "Job has reached its end"}
        self.put(path, self.objects[path] | {"status": {"conditions": [ended]}})


class Handler(BaseHTTPRequestHandler):
    """One connection of kubectl's."""

    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _read(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        return url.path, {name: values[-1] for name, values in parse_qs(url.query).items()}

    def _answer(self, body: Object | bytes, status: int = 200) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _missing(self, path: str) -> None:
        kind, name = path.split("/")[-2:]
        text = f'{kind} "{name}" not found'
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": "NotFound",
            "code": 404,
        }
        self._answer(status | {"message": text, "details": {"name": name, "kind": kind}}, 404)

    def do_GET(self) -> None:
        path, query = self._read()
        found = about(path)
        if path.endswith("/exec"):
            self._exec()
        elif path.endswith("/log"):
            self._answer(f"said by {path.split('/')[-2]}\n".encode())
        elif found is not None:
            self._answer(found)
        elif path in self.store.objects:
            self._answer(self.store.objects[path])
        elif path.rpartition("/")[2] not in LISTS:
            self._missing(path)
        elif query.get("watch"):
            with suppress(OSError):  # kubectl has seen enough
                self._watch(path, query)
        else:
            items = self.store.under(path, query)
            kind, version = LISTS[path.rpartition("/")[2]]
            head = {"kind": f"{kind}List", "apiVersion": version}
            self._answer(head | {"metadata": {"resourceVersion": str(self.store.version)}, "items": items})

    def _watch(self, path: str, query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        seen = int(query.get("resourceVersion") or 0)
        with self.store.changed:
            self._events(self._since(path, query, seen))
            if query.get("sendInitialEvents"):  # newer kubectls list by watching, and wait for this
                self._events([("BOOKMARK", self._bookmark(path))])
            while True:
                seen = self.store.version
                if not self.store.changed.wait(WATCH_S):
                    return
                self._events(self._since(path, query, seen))

    def _since(self, path: str, query: dict[str, str], seen: int) -> list[tuple[str, Object]]:
        found = self.store.under(path, query)
        return [("MODIFIED", one) for one in found if int(one["metadata"]["resourceVersion"]) > seen]

    def _bookmark(self, path: str) -> Object:
        kind, version = LISTS[path.rpartition("/")[2]]
        end = {"annotations": {"k8s.io/initial-events-end": "true"}}
        metadata = {"resourceVersion": str(self.store.version)} | end
        return {"kind": kind, "apiVersion": version, "metadata": metadata}

    def _events(self, found: list[tuple[str, Object]]) -> None:
        for kind, one in found:
            self.wfile.write(json.dumps({"type": kind, "object": one}).encode() + b"\n")
        self.wfile.flush()

    def do_POST(self) -> None:
        path, _ = self._read()
        one = json.loads(self.rfile.read(int(self.headers["content-length"])))
        where = f"{path}/{one['metadata']['name']}"
        if one["kind"] == "Job":
            one["spec"]["selector"] = {
                "matchLabels": {"batch.kubernetes.io/job-name": one["metadata"]["name"]}
            }
        self.store.created.append(one)
        self._answer(self.store.put(where, one), 201)

    def do_PATCH(self) -> None:
        path, _ = self._read()
        change = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._answer(self.store.put(path, merged(self.store.objects[path], change)))

    def do_DELETE(self) -> None:
        path, _ = self._read()
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if path not in self.store.objects:
            self._missing(path)
            return
        with self.store.changed:
            gone = self.store.objects.pop(path)
            if gone["kind"] == "Namespace":
                inside = f"/namespaces/{gone['metadata']['name']}/"
                for other in [other for other in self.store.objects if inside in other]:
                    del self.store.objects[other]
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _exec(self) -> None:
        """Run a command as if in the pod, and send its output by WebSocket."""
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accepted = hashlib.sha1(key.encode(), usedforsecurity=False).digest()  # RFC 6455 has it so
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(accepted).decode())
        self.send_header("sec-websocket-protocol", EXEC)
        self.end_headers()
        self.close_connection = True
        asked = parse_qs(urlsplit(self.path).query)["command"]
        words = [word.replace("/results", "results") for word in asked]
        done = subprocess.run(words, cwd=self.store.volume.parent, capture_output=True, check=False)
        with suppress(OSError):  # kubectl need not wait for the end
            self._send(done)

    def _send(self, done: "subprocess.CompletedProcess[bytes]") -> None:
        for start in range(0, len(done.stdout), 30_000):
            self._frame(2, STDOUT + done.stdout[start : start + 30_000])
        good = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        bad = good | {"status": "Failure", "reason": "NonZeroExitCode", "message": done.stderr.decode()}
        self._frame(2, STATUS + json.dumps(bad if done.returncode else good).encode())
        self._frame(8, (1000).to_bytes(2, "big"))
        self.rfile.read(2)  # kubectl closes its side, too

    def _frame(self, kind: int, data: bytes) -> None:
        length = bytes([len(data)]) if len(data) < 126 else bytes([126]) + len(data).to_bytes(2, "big")
        self.wfile.write(bytes([0x80 | kind]) + length + data)
        self.wfile.flush()


def merged(one: Object, change: Object) -> Object:
    """Apply a patch, as far as maps go."""
    both = {
        name: merged(one[name], value)
        if isinstance(value, dict) and isinstance(one.get(name), dict)
        else value
        for name, value in change.items()
    }
    return {name: value for name, value in (one | both).items() if value is not None and name != "$patch"}


LISTS = {plural(kind): (kind, version) for version, kinds in KINDS.items() for kind in kinds}


def about(path: str) -> Object | None:
    """Return what an API server says of itself: its groups, their kinds, and what may be asked of these."""
    groups = [version for version in KINDS if "/" in version]
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(version) for version in groups]}
    if path == "/openapi/v3":
        return {"paths": {root(v)[1:]: {"serverRelativeURL": f"/openapi/v3{root(v)}"} for v in KINDS}}
    for version, kinds in KINDS.items():
        if path == root(version):
            resources = [_resource(kind) for kind in kinds]
            return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        if path == f"/openapi/v3{root(version)}":
            return {"openapi": "3.0.0", "paths": {f"/{kind}": _patchable(version, kind) for kind in kinds}}
    return None


def _group(version: str) -> Object:
    name = version.partition("/")[0]
    one = {"groupVersion": version, "version": version.partition("/")[2]}
    return {"name": name, "versions": [one], "preferredVersion": one}


def _resource(kind: str) -> Object:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    names = {"name": plural(kind), "singularName": kind.lower(), "kind": kind}
    return names | {"namespaced": kind != "Namespace", "verbs": verbs}


def _patchable(version: str, kind: str) -> Object:
    group, _, number = version.rpartition("/")
    gvk = {"group": group, "version": number, "kind": kind}
    parameters = [{"name": "fieldValidation", "in": "query"}]
    return {"patch": {"parameters": parameters, "x-kubernetes-group-version-kind": gvk}}


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Store, Path]]:
    """Serve until the block ends; yields the objects and a kubeconfig. Results go into the `volume`."""
    (folder / "results").mkdir()
    store = Store(folder / "results")
    handler = type("Bound", (Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    config = folder / "kubeconfig"
    address = f"http://127.0.0.1:{server.server_address[1]}"
    made = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": {"server": address}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        "users": [{"name": "fake", "user": {}}],
        "current-context": "fake",
    }
    config.write_text(yaml.safe_dump(made))
    try:
        yield store, config
    finally:
        server.shutdown()
        server.server_close()
