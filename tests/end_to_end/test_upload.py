"""Results in a bucket: a real S3 server, which checks signatures, and `tokenswarm run` as it is."""

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.locusts import environment
from tests.end_to_end.orders import ROOT, order, running
from tests.environments import install
from tests.s3_server import BUCKET, PACKAGES, S3, running_s3
from tokenswarm import EXIT_NOT_STARTED, EXIT_USAGE, TokenswarmError, sealing
from tokenswarm.uploading import Destination

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
EXPERIMENT = """
servers: [{name: one, sim: baseline}]
load: {rate: 10, duration_s: 3, warmup_s: 0, workers: 1}
workload: {prompt_words: 10-20, max_tokens: 8-16}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("moto") / "venv", *PACKAGES) / "python"


@pytest.fixture(scope="module")
def s3(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with running_s3(python, tmp_path_factory.mktemp("s3")) as found:
        yield found


def run(folder: Path, s3: S3, to: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run the experiment; returns its exit code and what it said to stderr. An empty variable is none."""
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    given = environment(PYTHONPATH=str(ROOT), **s3.variables("putter") | variables)
    done = subprocess.run(
        order(folder, "--out", "out", "--upload", f"s3://{to}", *arguments),
        cwd=folder,
        env={name: value for name, value in given.items() if value},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.returncode, done.stderr


def contents(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}


def test_all_that_was_sealed_is_in_the_bucket_done_last(tmp_path: Path, s3: S3) -> None:
    code, said = run(tmp_path, s3, f"{BUCKET}/all/monday")
    assert said.splitlines()[-1] == f"Uploaded: s3://{BUCKET}/all/monday", said
    found = s3.objects("all/monday")
    assert found == contents(tmp_path / "out")
    assert len(found) > 10
    assert found["DONE"] == f"{code}\n".encode()
    puts = [name for name in s3.puts() if name.startswith("all/monday/")]
    assert puts[0] == "all/monday/SHA256SUMS"
    assert puts[-2:] == ["all/monday/SHA256SUMS", "all/monday/DONE"]
    key = s3.keys["putter"]
    assert not any(word.encode() in data for word in key for data in [*found.values(), said.encode()])

    (tmp_path / "again").mkdir()
    code, said = run(tmp_path / "again", s3, f"{BUCKET}/all/monday")
    assert code == EXIT_USAGE
    place = f"s3://{BUCKET}/all/monday/SHA256SUMS"
    assert said == f"tokenswarm: --upload: {place} is there: found other results, expected a new prefix\n"
    assert not (tmp_path / "again" / "out").exists()
    assert s3.objects("all/monday") == found


@pytest.mark.parametrize(
    ("to", "variables", "words"),
    [
        ("no-such-bucket/a", {}, "NoSuchBucket"),
        (f"{BUCKET}/a", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
        (f"{BUCKET}/a", {"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "InvalidAccessKeyId"),
        (f"{BUCKET}/a", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "Connection refused"),
        (f"{BUCKET}/a", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "found no credentials"),
    ],
)
def test_a_bucket_that_cannot_be_written_is_found_before_the_load(
    to: str, variables: dict[str, str], words: str, tmp_path: Path, s3: S3
) -> None:
    code, said = run(tmp_path, s3, to, **variables)
    assert code == EXIT_NOT_STARTED, said
    assert said.startswith(f"tokenswarm: --upload: s3://{to} cannot be written: ")
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_user_who_may_not_put_is_refused(tmp_path: Path, s3: S3) -> None:
    code, said = run(tmp_path, s3, f"{BUCKET}/a", **s3.variables("nobody"))
    assert code == EXIT_NOT_STARTED
    assert "cannot be written: AccessDenied" in said


def test_a_server_that_dies_in_the_middle_changes_no_verdict(tmp_path: Path, python: Path) -> None:
    with running_s3(python, tmp_path, dies_at=5) as s3:
        code, said = run(tmp_path, s3, f"{BUCKET}/a", "--markdown", "out/summary.md")
        assert len(s3.puts()) == 4
    out = tmp_path / "out"
    assert (out / "DONE").read_text() == f"{code}\n"
    assert code not in {1, EXIT_USAGE, EXIT_NOT_STARTED}, said
    assert sealing.damage(out) == []
    told = [line for line in said.splitlines() if "not uploaded" in line]
    assert len(told) == 1, said
    assert told[0].startswith(f"tokenswarm: results were not uploaded, they are in out: s3://{BUCKET}/a/")
    assert "Uploaded" not in said
    summary = (out / "summary.md").read_text()
    assert summary.startswith("## ")
    assert "Results were not uploaded, they are in out" in summary.splitlines()[-1]


def test_what_an_eviction_left_is_uploaded(tmp_path: Path, s3: S3) -> None:
    text = EXPERIMENT.replace("duration_s: 3", "duration_s: 120")
    with running(
        tmp_path, text, "--upload", f"s3://{BUCKET}/evicted", **s3.variables("putter")
    ) as experiment:
        experiment.wait_for_requests("one")
        assert s3.objects("evicted") == {"SHA256SUMS": b""}  # nobody takes this for results
        experiment.process.send_signal(signal.SIGTERM)
        assert experiment.process.wait(180) == 5, experiment.said
    found = s3.objects("evicted")
    assert found == contents(experiment.out)
    assert found["DONE"] == b"5\n"
    assert b"INVALID" in found["verdict.json"]


def test_large_empty_and_oddly_named_files_arrive_as_they_are(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.variables("putter").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "é#%25~{}.png").write_bytes(b"")
    (tmp_path / "large").write_bytes(bytes(range(256)) * 50_000)  # more than one part
    sealing.seal(tmp_path, 3)
    to = Destination(f"s3://{BUCKET}/odd=1/")
    to.claim()
    assert to.upload(tmp_path) == ""
    assert s3.objects("odd=1") == contents(tmp_path)
    with pytest.raises(TokenswarmError, match=re.escape("is there: found other results")):
        Destination(f"s3://{BUCKET}/odd=1").claim()
