"""Checksums and DONE: what is sealed is what sha256sum itself finds, and every change is seen."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tokenswarm import sealing


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "one" / "charts").mkdir(parents=True)
    (tmp_path / "one" / "requests.csv").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "one" / "charts" / "a b.png").write_bytes(b"")
    (tmp_path / "verdict.json").write_text("{}")
    return tmp_path


def forge(out: Path, digest: bytes) -> None:
    """Put something else where the digest of verdict.json is."""
    sums = out / "SHA256SUMS"
    right = sealing.digest(out / "verdict.json").encode()
    assert right in sums.read_bytes()
    sums.write_bytes(sums.read_bytes().replace(right, digest))


def test_sha256sum_reads_it_and_finds_nothing_wrong(out: Path) -> None:
    sealing.seal(out, 3)
    done = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=out, capture_output=True, text=True, check=True
    )
    assert done.stdout == "one/charts/a b.png: OK\none/requests.csv: OK\nverdict.json: OK\n"
    assert (out / "DONE").read_text() == "3\n"
    assert sealing.damage(out) == []


def test_done_is_written_last(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = sealing._write

    def note(path: Path, text: str) -> None:
        written.append(path.name)
        write(path, text)

    monkeypatch.setattr(sealing, "_write", note)
    sealing.seal(out, 0)
    assert written == ["SHA256SUMS", "DONE"]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda out: (out / "DONE").unlink(), "DONE is missing: the results are not all there"),
        (lambda out: (out / "SHA256SUMS").unlink(), "SHA256SUMS is missing: the results are not all there"),
        (lambda out: (out / "one" / "requests.csv").unlink(), "one/requests.csv is missing"),
        (lambda out: (out / "verdict.json").write_text("[]"), "verdict.json is not what was sealed"),
        (lambda out: (out / "one" / "more").write_text(""), "one/more was not sealed"),
        (lambda out: (out / "DONE").write_bytes(b""), "DONE holds no exit code"),
        (lambda out: (out / "DONE").write_bytes(b"\xff"), "DONE holds no exit code"),
        (lambda out: forge(out, b"\xff"), "verdict.json is not what was sealed"),
        (lambda out: forge(out, b""), "verdict.json is not what was sealed"),
    ],
)
def test_every_change_is_seen(out: Path, harm: Callable[[Path], None], words: str) -> None:
    sealing.seal(out, 0)
    harm(out)
    assert sealing.damage(out) == [words]


def test_sealed_again_it_is_whole_again(out: Path) -> None:
    sealing.seal(out, 6)
    (out / "one" / "more").write_text("")
    sealing.unseal(out)
    assert sealing.damage(out) != []
    sealing.seal(out, 0)
    assert sealing.damage(out) == []
