"""What is refused before anything is begun, and what makes a checkpoint whole."""

import dataclasses
import json
import math
import struct
import sys
from pathlib import Path

import pytest

from server import checkpoints, environments, making, models, places, quantize, recipes
from server.errors import ServerError, UsageError
from server.quantize import Job

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 1,
    "max_position_embeddings": 2048,
    "torch_dtype": "float32",
    "use_cache": True,
}
AWQ = {"quant_method": "awq", "bits": 4, "version": "gemm", "group_size": 64}
TEXT = "The tide came in over the flat sand, and nobody had counted the boats. " * 200


def model(folder: Path, config: dict[str, object] = CONFIG, weight: float = 1.0) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "generation_config.json").write_text('{"temperature": 0.5}')
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    data = struct.pack("<Q", len(header)) + header + struct.pack("<f", weight)
    (folder / "model.safetensors").write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep to a home of our own, where the quantizers' environments seem to be."""
    monkeypatch.setenv("TOKENSWARM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(environments, "python", lambda _name: Path(sys.executable))
    return tmp_path / "home"


def refusal(place: Path, recipe: str = "awq", **options: object) -> str:
    """Return the line; nothing may have been begun."""
    with pytest.raises(UsageError) as caught:
        quantize.quantize(str(place), recipe, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not places.models().exists()
    assert not places.logs().exists()
    return str(caught.value)


def test_too_few_texts(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("Too short.")
    place = model(tmp_path / "m")
    line = refusal(place, calibration=tmp_path / "texts", samples=24, sequence=256)
    assert "found 10 bytes, expected more than the 6144 tokens that 24 samples of 256 need" in line
    (tmp_path / "texts" / "a.txt").write_text(" \n")
    assert "found none, expected *.txt with text" in refusal(place, calibration=tmp_path / "texts")
    (tmp_path / "texts" / "a.txt").write_bytes(b"\xff\xfe")
    assert "expected text in UTF-8" in refusal(place, calibration=tmp_path / "texts")
    assert "cannot be read" in refusal(place, calibration=tmp_path / "nowhere")


def test_what_does_not_fit(tmp_path: Path) -> None:
    place = model(tmp_path / "m")
    assert "expected one of awq" in refusal(place, "gptq")
    assert "found 128, expected 64 or 32" in refusal(place, group_size=128)
    assert "int8 has no groups" in refusal(place, "int8", group_size=64)
    assert "found the recipe int8, expected awq" in refusal(place, "int8", keep_bug=True)
    assert "found 4096, expected at most 2048" in refusal(place, samples=1, sequence=4096)
    quantized = model(tmp_path / "q", CONFIG | {"quantization_config": AWQ})
    assert "quantized already (awq)" in refusal(quantized)
    assert "found GPTBigCode" in refusal(model(tmp_path / "g", CONFIG | {"architectures": ["GPTBigCode"]}))


def test_a_missing_environment_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("TOKENSWARM_HOME", str(tmp_path / "home"))
    assert "`tokenswarm install autoawq`" in refusal(model(tmp_path / "m"))


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    place = model(tmp_path / "m")
    before = sorted(place.iterdir())
    assert "holds something else" in refusal(place, out=place)
    assert sorted(place.iterdir()) == before
    assert "holds something else" in refusal(place, out=place / "config.json")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = model(tmp_path / "m")
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [750_000_000], "data_offsets": [0, 3 * 10**9]}}
    ).encode()
    with (place / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(file.tell() + 3 * 10**9)  # holds nothing, so it takes no place
    monkeypatch.setattr("shutil.disk_usage", lambda _place: type("Usage", (), {"free": 2.5e9}))
    line = refusal(place, out=tmp_path / "not" / "there")
    assert line == f"{tmp_path}: found 2.5 GB free, expected 3.0 GB"


def test_the_texts_that_we_ship_are_enough_and_without_filler() -> None:
    texts = quantize.read_texts(quantize.TEXTS)
    letters = sum(len(text) for text in texts)
    assert len(texts) >= 12
    assert letters > 5 * quantize.SAMPLES * quantize.SEQUENCE, "English has about 4.5 letters to a token"
    lines = [line for text in texts for line in text.splitlines() if len(line) > 60]
    assert len(lines) == len(set(lines))
    assert any("次" not in text and "駅" in text for text in texts), "not all of it is in Latin letters"


def job(tmp_path: Path) -> Job:
    made_from = {"model": "m", "revision": "", "fingerprint": "f"}
    recipe = recipes.find("awq")
    return Job(recipe, tmp_path, made_from, Path(sys.executable), 64, [TEXT], 24, 256, keep_bug=False)


@pytest.mark.parametrize(
    "change",
    [
        {"made_from": {"fingerprint": "g"}},
        {"group_size": 32},
        {"samples": 23},
        {"sequence": 255},
        {"keep_bug": True},
        {"texts": [TEXT, "more"]},
        {"recipe": recipes.find("awq-ct")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_job_is_another_checkpoint(tmp_path: Path, change: dict[str, object]) -> None:
    plain = job(tmp_path)
    assert dataclasses.replace(plain, **change).key != plain.key  # type: ignore[arg-type]
    assert dataclasses.replace(plain, source=tmp_path / "elsewhere").key == plain.key


def test_the_settings_say_what_matters(tmp_path: Path) -> None:
    assert job(tmp_path).settings == {"group_size": 64, "samples": 24, "sequence": 256}
    int8 = dataclasses.replace(job(tmp_path), recipe=recipes.find("int8"), group_size=0)
    assert int8.settings == {}, "no texts are used, so their number cannot matter"
    assert job(tmp_path).libraries["autoawq"] == "0.2.9"
    assert int8.libraries["llmcompressor"] == "0.14.0"


def saved(folder: Path, quantization: dict[str, object]) -> Path:
    """Write what a library saves: its own idea of the configuration."""
    folder.mkdir()
    config = {"torch_dtype": "bfloat16", "use_cache": False, "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"do_sample": true}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_checkpoint_differs_from_the_model_in_its_weights_alone(tmp_path: Path) -> None:
    source, folder = model(tmp_path / "m"), saved(tmp_path / "c", AWQ)
    checkpoints.complete(folder, source, recipes.find("awq"))
    config = json.loads((folder / "config.json").read_text())
    assert config == CONFIG | {"torch_dtype": "bfloat16", "quantization_config": AWQ}
    for name in ("tokenizer.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    assert (folder / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("quantization", [{}, AWQ | {"version": "gemv"}, {"quant_method": "gptq"}])
def test_what_vllm_would_not_recognize_is_no_checkpoint(
    tmp_path: Path, quantization: dict[str, object]
) -> None:
    source, folder = model(tmp_path / "m"), saved(tmp_path / "c", quantization)
    with pytest.raises(
        ServerError, match=r"expected \{'quant_method': 'awq', 'bits': 4, 'version': 'gemm'\}"
    ):
        checkpoints.complete(folder, source, recipes.find("awq"))


def found(model: str, recipe: str) -> Path:
    return checkpoints.find(models.resolve(model), recipe, model)


def finished(source: Path, recipe: str = "awq") -> Path:
    """Put a checkpoint in its place, as if it had been made from the model."""
    folder = checkpoints.place(models.resolve(str(source)), recipe)
    folder.mkdir(parents=True)
    record = {"source": {"fingerprint": checkpoints.fingerprint(source)}}
    (folder / checkpoints.RECORD).write_text(json.dumps(record))
    (folder / making.MARKER).write_text("key")
    return folder


def test_a_checkpoint_is_found_by_model_and_recipe(tmp_path: Path, home: Path) -> None:
    source = model(tmp_path / "little")
    with pytest.raises(UsageError) as caught:
        found(str(source), "awq")
    line = f"no awq checkpoint of {source}, make it with: tokenswarm quantize {source} awq"
    assert str(caught.value) == line
    folder = finished(source)
    assert folder == home / "models" / "little-awq"
    assert found(str(source), "awq") == folder
    with pytest.raises(UsageError, match="no int8 checkpoint"):
        found(str(source), "int8")
    (folder / making.MARKER).unlink()
    with pytest.raises(UsageError, match="no awq checkpoint"):
        found(str(source), "awq")


def test_a_checkpoint_of_another_model_of_that_name_is_not_served(tmp_path: Path) -> None:
    finished(model(tmp_path / "a" / "little"))
    other = model(tmp_path / "b" / "little", weight=2.0)
    with pytest.raises(
        UsageError, match=r"was made from other weights than .*b/little has now, make it with"
    ):
        found(str(other), "awq")


def test_a_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = checkpoints.fingerprint(model(tmp_path / "a"))
    assert checkpoints.fingerprint(model(tmp_path / "b")) == first, "wherever it lies"
    assert checkpoints.fingerprint(model(tmp_path / "c", weight=2.0)) != first
    assert checkpoints.fingerprint(model(tmp_path / "d", CONFIG | {"rope_theta": 1.0})) != first
    (tmp_path / "b" / making.MARKER).write_text("anything")
    assert checkpoints.fingerprint(tmp_path / "b") == first


def test_a_fingerprint_sees_a_change_in_the_middle_of_large_weights(tmp_path: Path) -> None:
    place = model(tmp_path / "m")
    weights = bytearray(4096 * 1000)
    seen = set()
    for start in (0, 4096 * 400, 4096 * 999):
        weights[start : start + 4096 * 8] = b"\1" * len(weights[start : start + 4096 * 8])
        (place / "model.safetensors").write_bytes(weights)
        seen.add(checkpoints.fingerprint(place))
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("mean", "worst", "line"),
    [
        (0.1, 0.23, None),  # SmolLM2's
        (0.3, 0.4, r"weights that differ by 0\.30 of their size from the model's, expected at most 0\.25"),
        (0.107, 1.0, r"weights that differ in their worst layer by 1\.00 of .*, expected at most 0\.5"),
        (math.nan, 0.2, "weights that differ by nan"),
        (0.1, math.nan, "in their worst layer by nan"),
    ],
)
def test_one_broken_layer_is_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mean: float, worst: float, line: str | None
) -> None:
    said = json.dumps({"mean": mean, "worst": worst, "layers": {}})
    monkeypatch.setattr(quantize.programs, "run", lambda *_given, **_more: said)
    recipe = recipes.find("awq")
    job = Job(recipe, tmp_path, {"fingerprint": ""}, Path("python"), 64, [], 24, 256, keep_bug=False)
    if line is None:
        assert quantize._weight_error(job, tmp_path)["worst"] == worst
        return
    with pytest.raises(ServerError, match=line):
        quantize._weight_error(job, tmp_path)
    broken = dataclasses.replace(job, keep_bug=True)
    assert quantize._weight_error(broken, tmp_path), "the gate's test wants it"
