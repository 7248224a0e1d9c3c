"""The Containerfile: it builds on a base of this machine's packages, and its image measures as in a pod.

No registry is asked; PyPI is, for what uv.lock names.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pypdf
import pytest

from tests.absent import absent
from tests.k8s import base_image
from tests.k8s.manifests import ROOT
from tests.k8s.pods import CONTAINER
from tokenswarm import sealing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
COMPILERS = ("cc", "gcc", "g++", "cpp", "ld", "make", "rustc", "uv")
EXPERIMENT = """\
servers: [{sim: baseline}]
load: {rate: 5, duration_s: 2, warmup_s: 0, workers: 1}
workload: {max_tokens: 8}
"""


class Image(NamedTuple):
    """What was built: its root's files, and what it says of itself."""

    root: Path
    config: dict[str, Any]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build it once; nothing of it is left in this machine's own images."""
    if reason := base_image.missing():
        absent(f"an image: {reason}")
    folder = tmp_path_factory.mktemp("images")
    store = ["buildah", "--root", str(folder / "store"), "--runroot", str(folder / "run")]

    def buildah(*arguments: str) -> str:
        done = subprocess.run([*store, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip()

    try:
        empty = buildah("from", "scratch")
        base_image.fill(Path(buildah("mount", empty)))
        for variable in ("SSL_CERT_FILE", "PIP_CERT"):  # an authority of this machine's own, if it has one
            buildah("config", "--env", f"{variable}={base_image.CERTIFICATES}", empty)
        buildah("commit", "-q", "--rm", empty, "localhost/base:1")
        how = ["--isolation", "chroot", "--network", "host", "--build-arg", "BASE=localhost/base:1"]
        buildah("build", *how, "--file", "Containerfile", "--tag", "localhost/tokenswarm:1", ".")
        made = buildah("from", "localhost/tokenswarm:1")
        config = json.loads(buildah("inspect", made))["OCIv1"]["config"]
        yield Image(Path(buildah("mount", made)), config)
    finally:
        subprocess.run(["umount", "--recursive", folder / "store" / "overlay"], check=False)
        shutil.rmtree(folder, ignore_errors=True)  # half a gigabyte


def test_says_who_runs_it_and_how(image: Image) -> None:
    assert image.config["User"] == "10001:10001"
    assert image.config["Entrypoint"] == ["tokenswarm"]
    assert "PYTHONDONTWRITEBYTECODE=1" in image.config["Env"]


def test_has_no_compiler_and_nothing_that_is_not_needed(image: Image) -> None:
    found = [path for name in COMPILERS for path in image.root.glob(f"usr/**/bin/{name}")]
    assert found == []
    assert sorted(path.name for path in (image.root / "app").iterdir()) == [
        *(".venv", "LICENSE", "README.md", "analysis", "locustfiles", "pyproject.toml", "server"),
        *("tokenswarm", "uv.lock"),
    ]
    assert list((image.root / "app/.venv/lib").glob("python3*/site-packages/obstore"))  # the extra `s3`
    assert not list((image.root / "app/.venv/bin").glob("ruff"))  # nothing of the dev group


def test_measures_with_a_root_that_is_read_only(image: Image, tmp_path: Path) -> None:
    for name in ("results", "tmp", "given", "root"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    (tmp_path / "given" / "experiment.yaml").write_text(EXPERIMENT, encoding="utf-8")
    mounts = [(str(image.root / name), f"/{name}", True) for name in ("usr", "etc", "app")]
    mounts += [(str(tmp_path / name), f"/{name}", name == "given") for name in ("tmp", "results", "given")]
    user, group = map(int, image.config["User"].split(":"))
    words = ["run", "/given/experiment.yaml", "--out", "/results/one", "--seal"]
    spec = {
        "root": str(tmp_path / "root"),
        "argv": [*image.config["Entrypoint"], *words],
        "environment": dict(pair.split("=", 1) for pair in image.config["Env"]),
        "user": user,
        "group": group,
        "groups": [],
        "workdir": image.config["WorkingDir"],
        "read_only": True,
        "mounts": mounts,
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    line = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, str(CONTAINER)]
    done = subprocess.run([*line, str(tmp_path / "spec.json")], capture_output=True, text=True, check=False)
    out = tmp_path / "results" / "one"
    assert (out / "baseline" / "run.json").exists(), done.stdout + done.stderr
    assert sealing.damage(out) == []
    assert (out / sealing.DONE).read_text(encoding="utf-8") == f"{done.returncode}\n"
    page = pypdf.PdfReader(out / "baseline" / "report.pdf").pages[0]
    fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]  # type: ignore[index]
    assert fonts
    assert all("DejaVu" in str(font["/BaseFont"]) for font in fonts)
