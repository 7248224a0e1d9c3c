"""Which weights a profile serves: its own checkpoint, the model as it is, or none under a false name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server import argv, locate, model_folder, models, profiles
from server.errors import UsageError
from tests.test_models import COMMIT, LLAMA, folder

AWQ = {"quant_method": "awq", "bits": 4}
INT8 = {"quant_method": "compressed-tensors", "format": "int-quantized"}
GPTQ = {"quant_method": "gptq", "bits": 4}
OF_ITS_OWN = "gptq: {like: baseline, quantization: gptq}"


def located(place: Path, profile: str, quantization: dict[str, Any] | None) -> str:
    """Return what the profile serves of a folder whose config.json names a quantization."""
    own = place / "profiles.yaml"
    own.write_text(OF_ITS_OWN)
    config = LLAMA | ({"quantization_config": quantization} if quantization else {})
    model = models.resolve(str(folder(place / "m", config)))
    return str(locate._weights(profiles.find(profile, own), model, config))


@pytest.mark.parametrize(
    ("profile", "quantization"),
    [
        ("baseline", None),
        ("awq", AWQ),
        ("int8", INT8),
        ("gptq", GPTQ),
        ("fp8", {"quant_method": "fp8"}),  # both a method and a recipe of ours
    ],
)
def test_what_is_as_the_profile_says_is_served(
    tmp_path: Path, profile: str, quantization: dict[str, Any] | None
) -> None:
    assert located(tmp_path, profile, quantization) == str(tmp_path / "m")


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": GPTQ},
        {"compression_config": GPTQ},
        {"text_config": {"quantization_config": GPTQ}},
    ],
)
def test_quantization_is_found_where_vllm_finds_it(config: dict[str, Any]) -> None:
    assert model_folder.quantization(LLAMA | config) == GPTQ
    assert model_folder.quantization(LLAMA | {"quantization_config": None, "text_config": {}}) == {}


def test_the_file_of_nvidia_s_modelopt_is_seen(tmp_path: Path) -> None:
    place = folder(tmp_path / "m")
    assert model_folder.quantization(model_folder.configuration(place)) == {}
    (place / model_folder.MODELOPT).write_text("{}")
    assert model_folder.quantization(model_folder.configuration(place)) == {"quant_method": "modelopt"}


@pytest.mark.parametrize(
    ("profile", "quantization", "line"),
    [
        ("baseline", AWQ, "found weights in awq in .*/m, expected full precision"),
        ("awq", INT8, "found weights in compressed-tensors int-quantized in .*/m, expected awq"),
        ("fp8", INT8, "found weights in compressed-tensors int-quantized in .*/m, expected fp8"),
        ("int8", GPTQ, "found weights in gptq in .*/m, expected int8"),
        ("gptq", AWQ, "found weights in awq in .*/m, expected gptq"),
        ("gptq", None, "found full precision in .*/m, expected weights in gptq, or one of awq"),
    ],
)
def test_no_weights_are_served_under_another_s_name(
    tmp_path: Path, profile: str, quantization: dict[str, Any] | None, line: str
) -> None:
    with pytest.raises(UsageError, match=line):
        located(tmp_path, profile, quantization)


def test_a_hub_s_model_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate.environments, "python", lambda _name: Path("/python"))
    monkeypatch.setattr(models, "config", lambda *_given: LLAMA | {"quantization_config": AWQ})
    of_hub = {"model": "org/m-awq", "revision": COMMIT}
    assert locate.place(profiles.changed(profiles.find("awq"), **of_hub)).model == "org/m-awq"
    with pytest.raises(UsageError, match="found weights in awq in org/m-awq, expected full precision"):
        locate.place(profiles.changed(profiles.find("baseline"), **of_hub))


def test_a_cpu_engine_preloads_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(locate, "SYSTEM_LIBRARIES", tmp_path / "system")
    program = tmp_path / "environment" / "bin" / "python"
    assert locate.faster_with(program) == ()
    openmp = tmp_path / "environment" / "lib" / "libiomp5.so"
    tcmalloc = tmp_path / "system" / "libtcmalloc_minimal.so.4"
    for library in (openmp, tcmalloc):
        library.parent.mkdir(parents=True)
        library.touch()
    assert locate.faster_with(program) == (str(openmp), str(tcmalloc))
    place = argv.Place("P", "/m", "m", 1, preload=locate.faster_with(program))
    profile = profiles.find("baseline")
    assert argv.command(profile, place).variables["LD_PRELOAD"] == f"{openmp}:{tcmalloc}"
    own = profiles.changed(profile, variables={"LD_PRELOAD": ""})
    assert not argv.command(own, place).variables["LD_PRELOAD"]
    assert "LD_PRELOAD" not in argv.command(profile, replace(place, device="cuda")).variables
    monkeypatch.setenv("LD_PRELOAD", "/mine.so")
    assert locate.faster_with(program) == (), "the caller's own stands"
