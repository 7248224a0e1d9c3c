"""The quantizers, for real, on the first two layers of SmolLM2: small, but weights that were trained.

AutoAWQ's bug needs them: it scales weights by the sizes of their channels, and random ones are all alike.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from server import checkpoints, environments, making, models, programs, quantize
from server.errors import ServerError, UsageError
from tests.real import small_hub
from tests.real.vllm_server import Real

ROOT = Path(__file__).resolve().parents[2]
CUT = Path(__file__).with_name("first_layers.py")
LAYERS = 2
CLIPS = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
from quantize_autoawq import Quantizer, Upstream
torch.manual_seed(1)
weights = torch.randn(128, 192)
tokens = torch.randn(1500, 192) * torch.rand(192) * 4  # more than the 512 that are looked at
found = []
for kind in (Upstream, Quantizer):
    quantizer = object.__new__(kind)
    quantizer.group_size, quantizer.w_bit, quantizer.zero_point = 64, 4, True
    found.append(quantizer._compute_best_clip(weights.clone(), tokens))
assert found[0].shape == found[1].shape, [one.shape for one in found]
clipped = (found[0] < weights.reshape(128, 3, 64).abs().amax(-1, keepdim=True)).float().mean()
print((found[0] == found[1]).float().mean().item(), clipped.item())
"""
FEW: dict[str, Any] = {"samples": 2, "sequence": 16}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def source(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model to quantize; `real` is asked for so that an unsupported machine skips."""
    assert real.python.exists()
    python = environments.install("autoawq")
    environments.install("llm-compressor")
    folder = tmp_path_factory.mktemp("models") / "two-layers"
    whole = models.resolve("smollm2").path
    assert whole is not None
    programs.run([python, CUT, whole, folder, str(LAYERS)], folder.with_suffix(".log"))
    return folder


@pytest.fixture(scope="module")
def mended(source: Path) -> Path:
    return quantize.quantize(str(source), "awq", out=source.with_name("awq"), **FEW)


def error(folder: Path) -> dict[str, Any]:
    return checkpoints.record(folder)["weight_error"]  # type: ignore[no-any-return]


def test_awq_mended(mended: Path, source: Path) -> None:
    found = error(mended)
    print(f"\nawq: weights differ by {found['mean']:.3f}, worst {found['worst']:.3f}")
    assert len(found["layers"]) == 7 * LAYERS
    assert 0.08 < found["mean"] < 0.15
    assert found["worst"] < 0.3
    config = json.loads((mended / "config.json").read_text())
    assert config["quantization_config"]["group_size"] == 64, "128 does not divide 576"
    assert config.items() >= json.loads((source / "config.json").read_text()).items()
    small = (mended / "model.safetensors").stat().st_size
    assert small < (source / "model.safetensors").stat().st_size


def test_awq_as_it_is_multiplies_scales_in_twice(source: Path) -> None:
    """Keep the proof of the bug: when it goes, the mending may go as well."""
    broken = quantize.quantize(
        str(source), "awq", out=source.with_name("broken"), samples=1, sequence=16, keep_bug=True
    )
    found = error(broken)
    print(f"\nawq with its bug: weights differ by {found['mean']:.3f}, worst {found['worst']:.3f}")
    assert found["mean"] > 0.3
    assert found["worst"] > 0.5
    assert checkpoints.record(broken)["settings"]["keep_bug"]


def test_clips_are_found_as_upstream_finds_them(source: Path) -> None:
    """Both look for the least error of the same outputs; only ties may fall otherwise."""
    assert source.exists()
    inside = ROOT / "server" / "inside"
    argv = [str(environments.python("autoawq")), "-c", CLIPS, str(inside)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=True)
    same, clipped = (float(word) for word in done.stdout.split())
    assert same > 0.99
    assert 0.2 < clipped <= 1, "there was something to find"


@pytest.mark.parametrize(
    ("recipe", "least", "most"),
    [("awq-ct", 0.08, 0.15), ("int8", 0.004, 0.015), ("fp8", 0.02, 0.035), ("nvfp4", 0.08, 0.15)],
)
def test_llm_compressor(source: Path, recipe: str, least: float, most: float) -> None:
    said: list[str] = []
    folder = quantize.quantize(str(source), recipe, out=source.with_name(recipe), say=said.append, **FEW)
    found = error(folder)
    print(f"\n{recipe}: weights differ by {found['mean']:.4f}, worst {found['worst']:.4f}")
    assert least < found["mean"] < most
    told = [line for line in said if line.startswith("layer ")]
    assert len(told) == (LAYERS if quantize.recipes.find(recipe).calibrated else 0)


def test_a_checkpoint_is_made_once(mended: Path, source: Path) -> None:
    before = (mended / "model.safetensors").stat().st_mtime_ns
    said: list[str] = []
    assert quantize.quantize(str(source), "awq", out=mended, say=said.append, **FEW) == mended
    assert said == []
    assert (mended / "model.safetensors").stat().st_mtime_ns == before


def test_broken_weights_are_no_checkpoint(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the bug in without saying so: the check of the saved weights must find it."""
    command = quantize._command
    monkeypatch.setattr(quantize, "_command", lambda *given: [*command(*given), "--keep-bug"])
    with pytest.raises(ServerError, match=r"awq: found weights that differ by 0\.\d\d of their size"):
        quantize.quantize(str(source), "awq", out=tmp_path / "out", samples=1, sequence=16)
    assert not (tmp_path / "out").exists()


def test_too_few_tokens_are_counted_before_the_model_is_loaded(source: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 300)
    said: list[str] = []
    with pytest.raises(UsageError) as caught:
        quantize.quantize(
            str(source),
            "awq",
            calibration=tmp_path / "a.txt",
            samples=10,
            sequence=64,
            out=tmp_path / "out",
            say=said.append,
        )
    assert "found 301 tokens, 4 samples of 64; expected at least 10 samples (640 tokens)" in str(caught.value)
    assert said == []
    assert not (tmp_path / "out").exists()


def test_killed_in_the_middle_it_leaves_no_checkpoint(source: Path, tmp_path: Path) -> None:
    """End the front door with SIGKILL after the first layer: nothing is found, nothing goes on."""
    out = tmp_path / "out"
    program = (
        "import sys, pathlib; from server import quantize;"
        "quantize.quantize(sys.argv[1], 'awq', out=pathlib.Path(sys.argv[2]), samples=2, sequence=16,"
        " say=lambda line: print(line, flush=True))"
    )
    argv = [sys.executable, "-c", program, str(source), str(out)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = next((line for line in process.stdout if line.startswith("layer 1/2")), None)
        assert seen, "it ended before it had done a layer"
        process.kill()
    assert not out.exists()
    assert (tmp_path / ".out.partial").exists(), "it had begun"
    assert not left_after(tmp_path, 10), "the quantizer went on alone"
    again = quantize.quantize(str(source), "awq", out=out, **FEW)
    assert (again / making.MARKER).is_file()
    assert not (tmp_path / ".out.partial").exists()
    assert 0.08 < error(again)["mean"] < 0.15


def left_after(folder: Path, seconds: float) -> list[str]:
    """Return who still uses the folder after so long; the guardian has to hear of our end first."""
    deadline = time.monotonic() + seconds
    while (found := users_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def users_of(folder: Path) -> list[str]:
    """Return the command lines of the processes that were given a path in the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in line and "pytest" not in line:
            found.append(line)
    return found


@pytest.mark.parametrize("recipe", ["awq", "int8"], ids=["autoawq", "llm-compressor"])
def test_a_model_of_a_hub_is_downloaded_at_its_commit(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (source / "consolidated.bin").write_bytes(b"the same weights once more, in another format")
    with small_hub.hub("org/little", source) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        python = environments.python(quantize.recipes.find(recipe).environment)
        model = models.resolve("org/little", small_hub.COMMIT)
        assert models.config(model, python)["architectures"] == ["LlamaForCausalLM"]
        alone = next((tmp_path / "hub").rglob("snapshots/*"))
        assert [file.name for file in alone.iterdir()] == ["config.json"], "no weights before all is checked"
        folder = models.fetch(model, python, lambda _line: None)
        assert checkpoints.fingerprint(folder) == checkpoints.fingerprint(source)
        assert not (folder / "consolidated.bin").exists()
        with pytest.raises(ServerError, match=r"^org/little: ") as caught:
            models.fetch(models.resolve("org/little", "f" * 40), python, lambda _line: None)
    assert "\n" not in str(caught.value)
