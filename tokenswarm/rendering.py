"""An overlay of k8s/ as manifests: as it is, or for a run with names of its own and another experiment.

Jobs cannot be changed, so each run has its own; all else (server, volumes, policies) the runs of a namespace
share. What is added is a kustomization on top of the overlay: `kubectl kustomize` does all the work.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tokenswarm import EXIT_USAGE, ROOT, TokenswarmError, kubectl

K8S = ROOT / "k8s"
MASTER, WORKERS = "loadtest-master", "loadtest-workers"
RUN_LABEL = "app.kubernetes.io/instance"
RUN_ID = re.compile(
    r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?"
)  # a Job's name and a label's value, with room for pods


class Names(NamedTuple):
    """Where a run is to be found."""

    namespace: str
    master: str  # a Job, as the next
    workers: str
    image: str  # of the master: where the overlay has ours from


def meant(overlay: str, run_id: str = "") -> Names:
    """Return where an overlay's run is to be found; raises TokenswarmError."""
    return _names(kubectl.run("kustomize", str(_folder(overlay)), exit_code=EXIT_USAGE), overlay, run_id)


def render(overlay: str, run_id: str = "", own: Path | None = None) -> tuple[str, Names]:
    """Render an overlay: one of ours by its name, or a folder; `own` is another experiment's file.

    Returns the manifests. Raises TokenswarmError.
    """
    folder = _folder(overlay)
    with _on_top(folder, run_id, own) if run_id or own else nullcontext(folder) as made:
        text = kubectl.run("kustomize", str(made), exit_code=EXIT_USAGE)
    return text, _names(text, overlay, run_id)


def _names(text: str, overlay: str, run_id: str) -> Names:
    """Find the namespace of the master; its manifest has a run's own name, or not yet."""
    try:
        documents: list[dict[str, Any]] = list(yaml.safe_load_all(text))
        masters = {MASTER, f"{MASTER}-{run_id}"}
        (job,) = [one for one in documents if one["kind"] == "Job" and one["metadata"]["name"] in masters]
        namespace = str(job["metadata"]["namespace"])
        image = str(job["spec"]["template"]["spec"]["containers"][0]["image"])
    except (yaml.YAMLError, ValueError, KeyError, IndexError, TypeError):
        text = f"OVERLAY: {overlay}: found no Job {MASTER} in a namespace, expected one"
        raise TokenswarmError(text, EXIT_USAGE) from None
    suffix = f"-{_checked(run_id)}" if run_id else ""
    return Names(namespace, MASTER + suffix, WORKERS + suffix, image)


def reader(image: str) -> str:
    """Return the manifest of the pod that reads results, with the overlay's own image."""
    pod = yaml.safe_load(kubectl.run("kustomize", str(K8S / "reader")))
    pod["spec"]["containers"][0]["image"] = image
    return str(yaml.safe_dump(pod, sort_keys=False))


def _checked(run_id: str) -> str:
    if not RUN_ID.fullmatch(run_id):
        text = f"RUN_ID: found {run_id!r}, expected up to 30 small letters, digits and hyphens"
        raise TokenswarmError(text, EXIT_USAGE)
    return run_id


def _folder(overlay: str) -> Path:
    shipped = {path.parent.name: path.parent for path in sorted(K8S.glob("overlays/*/kustomization.yaml"))}
    folder = shipped.get(overlay, Path(overlay))
    if not (folder / "kustomization.yaml").is_file():
        text = (
            f"OVERLAY: found {overlay!r}, expected {', '.join(shipped)} or a folder with a kustomization.yaml"
        )
        raise TokenswarmError(text, EXIT_USAGE)
    return folder


@contextmanager
def _on_top(folder: Path, run_id: str, own: Path | None) -> Iterator[Path]:
    """Make a kustomization that has the overlay as its base; yields its folder."""
    with tempfile.TemporaryDirectory(prefix="tokenswarm-") as made:
        here = Path(made).resolve()
        plain: dict[str, Any] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(folder.resolve(), here)],  # it refuses absolute ones
        }
        patches = []
        if own:
            from tokenswarm import fitting  # noqa: PLC0415 - reading experiments takes longer than kubectl

            plan, files = fitting.read(own)
            for name, file in files.items():
                shutil.copyfile(file, here / name)
            plain["configMapGenerator"] = [
                {"name": "experiment", "behavior": "replace", "files": sorted(files)}
            ]
            patches += fitting.sizes(plan)
        if run_id:
            patches += [_named(name, _checked(run_id)) for name in (MASTER, WORKERS)]
        plain["patches"] = patches
        (here / "kustomization.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
        yield here


def _named(name: str, run_id: str) -> dict[str, Any]:
    label = f"metadata/labels/{RUN_LABEL.replace('/', '~1')}"
    operations = [
        {"op": "replace", "path": "/metadata/name", "value": f"{name}-{run_id}"},
        {"op": "add", "path": f"/{label}", "value": run_id},
        {"op": "add", "path": f"/spec/template/{label}", "value": run_id},
    ]
    return patch("Job", name, operations) | {"options": {"allowNameChange": True}}


def patch(kind: str, name: str, operations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a patch as a kustomization has it."""
    return {"target": {"kind": kind, "name": name}, "patch": yaml.safe_dump(operations)}
