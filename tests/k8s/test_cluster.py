"""`tokenswarm k8s` with the real kubectl, which talks to the fake API server of apiserver.py over HTTP.

What no fake can show (scheduling, volumes, policies, that a pod really runs) is in none of these tests.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.in_process import asked
from tests.k8s.apiserver import Store, serving
from tests.k8s.manifests import ROOT, of, one, tool
from tokenswarm import sealing

NAMESPACE = "tokenswarm-ci"
MASTER, WORKERS = "loadtest-master-a1", "loadtest-workers-a1"
OWN = """
servers: [{name: server, url: "http://llm-server:8000"}]
load: {rate: [1, 2], duration_s: 100, warmup_s: 9, workers: 3}
sla: mine.yaml
"""
SLA = "name: mine\nobjectives: ['ttft p95 < 1 s']\n"


class Ended(NamedTuple):
    """What came of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def commands(self) -> list[str]:
        return [line[2:] for line in self.stderr.splitlines() if line.startswith("$ ")]

    def mistake(self) -> str:
        """Return the one line that says what was wrong."""
        (line,) = [line for line in self.stderr.splitlines() if not line.startswith("$ ")]
        return line


Ask = Callable[..., Ended]


@pytest.fixture
def asking(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ask]:
    """Return what makes the command line ask from a folder, in this process; kubectl is one of its own."""
    for name in [name for name in os.environ if name.startswith("KUBE")]:
        monkeypatch.delenv(name)

    def of(folder: Path, **variables: str) -> Ask:
        path = f"{Path(tool('kubectl')).parent}:{os.environ['PATH']}"
        for name, value in ({"HOME": str(folder), "PATH": path, "COLUMNS": "200"} | variables).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)
        return lambda *arguments: Ended(*asked(capfd, monkeypatch, "k8s", *arguments))

    return of


@pytest.fixture
def cluster(tmp_path: Path, asking: Callable[..., Ask]) -> Iterator[tuple[Store, Ask]]:
    with serving(tmp_path) as (store, config):
        yield store, asking(tmp_path, KUBECONFIG=str(config))


@pytest.fixture
def alone(tmp_path: Path, asking: Callable[..., Ask]) -> Ask:
    """Return what asks without a cluster."""
    return asking(tmp_path, KUBECONFIG=str(tmp_path / "none"))


def results(store: Store, name: str, exit_code: int = 3) -> Path:
    """Write a run's results into the volume, sealed."""
    folder = store.volume / name
    (folder / "server").mkdir(parents=True)
    (folder / "verdict.json").write_text("{}")
    (folder / "server" / "requests.csv").write_bytes(os.urandom(200_000))
    sealing.seal(folder, exit_code)
    return folder


# Rendering


def test_without_a_run_id_an_overlay_is_as_kubectl_renders_it(alone: Ask) -> None:
    found = alone("render", "ci")
    assert found.code == 0
    plain = [tool("kubectl"), "kustomize", str(ROOT / "k8s" / "overlays" / "ci")]
    assert found.stdout == subprocess.run(plain, capture_output=True, text=True, check=True).stdout
    assert found.commands == [f"kubectl kustomize {ROOT / 'k8s' / 'overlays' / 'ci'}"]


@pytest.mark.parametrize("overlay", ["baseline", "awq", "ci"])
def test_a_run_id_changes_the_jobs_alone(alone: Ask, overlay: str) -> None:
    """What it adds are two names and a label: taken away again, nothing differs."""
    before = list(yaml.safe_load_all(alone("render", overlay).stdout))
    after = list(yaml.safe_load_all(alone("render", overlay, "a1").stdout))
    assert [job["metadata"]["name"] for job in of("Job", after)] == [MASTER, WORKERS]
    for job in of("Job", after):
        job["metadata"]["name"] = job["metadata"]["name"].removesuffix("-a1")
        for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
            assert labels.pop("app.kubernetes.io/instance") == "a1"
    assert after == before


def test_another_experiment_brings_its_workers_and_its_length(alone: Ask, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(OWN)
    (tmp_path / "mine.yaml").write_text(SLA)
    found = list(yaml.safe_load_all(alone("render", "ci", "a1", "--experiment", "e.yaml").stdout))
    config = one("ConfigMap", "experiment", found)
    assert config["data"] == {"experiment.yaml": OWN, "mine.yaml": SLA}
    master, workers = (one("Job", name, found)["spec"] for name in (MASTER, WORKERS))
    (mounted,) = [v["configMap"] for v in master["template"]["spec"]["volumes"] if "configMap" in v]
    assert mounted["name"] == config["metadata"]["name"]
    assert (workers["completions"], workers["parallelism"]) == (3, 3)
    assert one("PodDisruptionBudget", "loadtest-workers", found)["spec"]["minAvailable"] == 3
    assert min(job["activeDeadlineSeconds"] for job in (master, workers)) > 7200 + 2 * (100 + 9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("servers: [{sim: awq}]", "found server awq, which the master would start"),
        ("servers: [{url: 'http://x'}]\nlaod: {}", "laod"),
        ("servers: [{url: 'http://x'}]\nsla: nothing.yaml", "nothing.yaml"),
        ("servers: [{url: 'http://x'}]\nsla: sub/mine.yaml", "expected the name of a file beside it"),
    ],
)
def test_an_experiment_that_cannot_be_is_told_before_the_cluster_is_asked(
    alone: Ask, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "mine.yaml").write_text(SLA)
    (tmp_path / "e.yaml").write_text(text)
    found = alone("apply", "ci", "--experiment", "e.yaml")
    assert found.code == 2
    assert found.commands == []
    assert words in found.mistake()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nope",), "found 'nope', expected awq, baseline, ci or a folder"),
        (("ci", "Monday"), "RUN_ID: found 'Monday'"),
        (("ci", "a" * 31), "RUN_ID"),
        (("broken",), "nothing.yaml"),
        (("other",), "found no Job loadtest-master"),
    ],
)
def test_an_overlay_that_is_none(alone: Ask, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    for name, line in (("broken", "resources: [nothing.yaml]"), ("other", "namespace: x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kustomization.yaml").write_text(line)
    (tmp_path / "other" / "kustomization.yaml").write_text("configMapGenerator: [{name: a, literals: [b=c]}]")
    found = alone("render", *arguments)
    assert found.code == 2
    assert words in found.mistake()


# A cluster that is not there


@pytest.mark.parametrize("command", ["apply", "wait", "logs", "fetch", "clean"])
def test_no_cluster_is_one_line(alone: Ask, command: str) -> None:
    found = alone(command, "ci", "a1")
    assert found.code == 6
    assert "localhost:8080 was refused" in found.mistake()


def test_no_kubectl_is_one_line(asking: Callable[..., Ask], tmp_path: Path) -> None:
    found = asking(tmp_path, PATH=str(tmp_path))("render", "ci")
    assert found.code == 6
    assert found.mistake().startswith("tokenswarm: kubectl: not found on PATH")


# A run, from its begin to its results


def test_apply_creates_all_and_begins_a_run_once(cluster: tuple[Store, Ask]) -> None:
    store, ask = cluster
    first = ask("apply", "ci", "a1")
    assert first.code == 0, first.stderr
    rendered = list(yaml.safe_load_all(ask("render", "ci", "a1").stdout))
    for kind in {document["kind"] for document in rendered}:
        assert sorted(store.names(kind)) == sorted(d["metadata"]["name"] for d in of(kind, rendered)), kind

    again = ask("apply", "ci", "a1")
    assert again.code == 2
    assert f"Job {MASTER} is there already" in again.mistake()
    meanwhile = ask("apply", "ci", "b2")
    assert meanwhile.code == 6
    assert f"Job {MASTER} still runs" in meanwhile.mistake()
    assert len(store.names("Job")) == 2


def test_workers_of_a_run_that_is_over_do_not_come_to_the_next(cluster: tuple[Store, Ask]) -> None:
    """They look for a master for a while after their own is gone, by the same name."""
    store, ask = cluster
    assert ask("apply", "ci", "a1").code == 0
    store.finish(NAMESPACE, MASTER, {"exitCode": 0}, "Complete")
    following = ask("apply", "ci", "b2")
    assert following.code == 0, following.stderr
    assert sorted(store.names("Job")) == [MASTER, "loadtest-master-b2", "loadtest-workers-b2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "condition", "code"),
    [
        ({"exitCode": 0}, "Complete", 0),
        ({"exitCode": 3, "message": "## FAIL\n"}, "Failed", 3),
        ({"exitCode": 5}, "Failed", 5),
        ({"exitCode": 6}, "Failed", 6),
        ({"exitCode": 137}, "Failed", 5),
        (None, "Failed", 5),
    ],
)
def test_wait_ends_with_the_runs_own_exit_code(
    cluster: tuple[Store, Ask], end: dict[str, object] | None, condition: str, code: int
) -> None:
    store, ask = cluster
    assert ask("apply", "ci", "a1").code == 0

    def finish() -> None:
        time.sleep(1.5)  # kubectl watches by then; where it does not, it finds the end when it looks
        store.finish(NAMESPACE, MASTER, end, condition)

    later = threading.Thread(target=finish)
    later.start()
    found = ask("wait", "ci", "a1", "--timeout", "30")
    later.join()
    assert found.code == code, found.stderr
    assert found.stdout == (str(end["message"]) if end and "message" in end else "")


@pytest.mark.slow
def test_wait_that_waits_too_long_or_for_nothing(cluster: tuple[Store, Ask]) -> None:
    _, ask = cluster
    assert "not found" in ask("wait", "ci", "a1").mistake()
    assert ask("apply", "ci", "a1").code == 0
    late = ask("wait", "ci", "a1", "--timeout", "1")
    assert late.code == 6
    assert "timed out waiting" in late.mistake()


@pytest.mark.parametrize("broken", ["complete", "failed"])
def test_wait_does_not_wait_for_ever_with_one_eye(
    asking: Callable[..., Ask], tmp_path: Path, broken: str
) -> None:
    """Whoever looks for one end alone never sees the other."""
    script = f"""#!/bin/sh
case "$*" in
    *condition={broken}*) echo "error: connection reset" >&2; exit 1 ;;
    *condition=*) exec sleep 50 ;;
    *) exec {tool("kubectl")} "$@" ;;
esac
"""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").write_text(script)
    (tmp_path / "bin" / "kubectl").chmod(0o755)
    found = asking(tmp_path, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")("wait", "ci", "a1")
    assert found.code == 6
    assert found.mistake() == "tokenswarm: kubectl wait: connection reset"


@pytest.mark.slow
def test_logs(cluster: tuple[Store, Ask]) -> None:
    store, ask = cluster
    assert "not found" in ask("logs", "ci", "a1").mistake()
    ask("apply", "ci", "a1")
    for job in (MASTER, WORKERS):
        store.finish(NAMESPACE, job, {"exitCode": 0}, "Complete")
    assert ask("logs", "ci", "a1").stdout == f"said by {MASTER}-x7k2p\n"
    assert f"said by {WORKERS}-x7k2p" in ask("logs", "ci", "a1", "--workers").stdout


def test_fetch_copies_and_checks(cluster: tuple[Store, Ask], tmp_path: Path) -> None:
    store, ask = cluster
    name = f"{MASTER}-x7k2p"
    sealed = results(store, name)
    results(store, f"{MASTER}-0-x7k2p")  # of the run a1-0
    found = ask("fetch", "ci", "a1")
    assert found.code == 0, found.stderr
    assert found.stdout == f"out/{name}: all there; the run's exit code is 3\n"
    assert not store.names("Pod")
    for file in (file for file in sealed.rglob("*") if file.is_file()):
        assert (tmp_path / "out" / name / file.relative_to(sealed)).read_bytes() == file.read_bytes()
    again = ask("fetch", "ci", "a1")
    assert again.code == 2
    assert "with files in it" in again.mistake()


def test_the_reader_comes_from_where_the_overlay_has_its_image(
    cluster: tuple[Store, Ask], tmp_path: Path
) -> None:
    store, ask = cluster
    results(store, f"{MASTER}-x7k2p")
    (tmp_path / "mine").mkdir()
    made: dict[str, object] = {
        "resources": [os.path.relpath(ROOT / "k8s" / "overlays" / "ci", tmp_path.resolve() / "mine")]
    }
    made |= {"images": [{"name": "tokenswarm", "newName": "registry.example/tokenswarm", "newTag": "7"}]}
    (tmp_path / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(made))
    assert ask("fetch", "mine", "a1").code == 0
    (pod,) = [one for one in store.created if one["kind"] == "Pod"]
    assert pod["spec"]["containers"][0]["image"] == "registry.example/tokenswarm:7"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / "DONE").unlink(), "DONE is missing"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
        (lambda folder: (folder / "verdict.json").unlink(), "verdict.json is missing"),
        (lambda folder: (folder / "verdict.json").write_text("{ }"), "verdict.json is not what was sealed"),
        (lambda folder: (folder / "more").write_text(""), "more was not sealed"),
    ],
)
def test_fetch_of_results_that_are_not_whole(
    cluster: tuple[Store, Ask], harm: Callable[[Path], None], words: str
) -> None:
    store, ask = cluster
    harm(results(store, f"{MASTER}-x7k2p"))
    found = ask("fetch", "ci", "a1")
    assert found.code == 5
    assert words in found.mistake()
    assert not store.names("Pod")


def test_an_id_that_was_used_again_gives_the_latest(cluster: tuple[Store, Ask], tmp_path: Path) -> None:
    store, ask = cluster
    for age_s, pod in ((100, "zzzzz"), (50, "x7k2p"), (200, "aaaaa")):
        folder = results(store, f"{MASTER}-{pod}")
        os.utime(folder, (time.time() - age_s,) * 2)
    found = ask("fetch", "ci", "a1", "--out", str(tmp_path / "mine"))
    assert found.code == 0
    assert f"found {MASTER}-x7k2p, {MASTER}-zzzzz, {MASTER}-aaaaa" in found.stderr
    latest = store.volume / f"{MASTER}-x7k2p" / "server" / "requests.csv"
    assert (tmp_path / "mine" / "server" / "requests.csv").read_bytes() == latest.read_bytes()


def test_fetch_of_results_that_are_not_there(cluster: tuple[Store, Ask]) -> None:
    store, ask = cluster
    results(store, "loadtest-master-b2-x7k2p")
    found = ask("fetch", "ci", "a1")
    assert found.code == 6
    assert f"expected {MASTER}-*" in found.mistake()


@pytest.mark.slow
def test_clean(cluster: tuple[Store, Ask]) -> None:
    store, ask = cluster
    ask("apply", "ci", "a1")
    assert ask("clean", "ci", "a1").code == 0
    assert store.names("Job") == []
    assert store.names("PersistentVolumeClaim") == ["results"]
    assert ask("clean", "ci", "a1").code == 0  # nothing is left to do
    assert ask("clean", "ci", "a1", "--all").code == 0
    assert store.objects == {}
