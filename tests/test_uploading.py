"""--upload where nothing may begin: what is refused before anybody is asked. The rest: end_to_end."""

import sys
from pathlib import Path

import pytest

from tokenswarm import EXIT_USAGE, TokenswarmError, cli
from tokenswarm.uploading import Destination, why


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["tokenswarm", "run", "none.yaml", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == EXIT_USAGE
    return capsys.readouterr().err


def test_without_a_seal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(capsys, monkeypatch, "--upload", "s3://bucket/a")
    assert said == "tokenswarm: found --upload without --seal, expected both\n"


def test_without_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)  # Python's own word for: not there
    said = refused(capsys, monkeypatch, "--seal", "--upload", "s3://bucket/a", "--out", str(tmp_path / "out"))
    assert said.startswith("tokenswarm: --upload: found no obstore, expected it: pip install -e '")
    assert said.endswith("[s3]'\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["s3://bucket/a", "s3://my.bucket-1/a/b_c/d=1.x/", "s3://bkt/A"])
def test_a_place(text: str) -> None:
    assert Destination(text).at == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        *("", "bucket/a", "https://bucket/a", "s3://bucket", "s3://bucket/", "s3://B/a", "s3://bucket//a"),
        *(
            "s3://bucket/a//b",
            "s3://bucket/a/../b",
            "s3://$(BUCKET)/a",
            "s3://bucket/$(RUN_ID)",
            "s3://bucket/a\n",
        ),
    ],
)
def test_a_place_that_is_none(text: str) -> None:
    with pytest.raises(TokenswarmError, match=r"--upload: found .*, expected s3://BUCKET/PREFIX") as found:
        Destination(text)
    assert found.value.exit_code == EXIT_USAGE


def test_a_page_of_an_error_is_one_line() -> None:
    assert (
        why("Generic S3 error: Error performing PUT http://a/b in 1s - too slow\n\nDebug source:\nx")
        == "too slow"
    )
    assert why("x - 403: <Code>No</Code>\n<Message>Not\nyours</Message>\n\nDebug") == "No: Not yours"
    assert why("x - <Code>No</Code>") == "No"
