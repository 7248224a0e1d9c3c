"""Programs that need other versions of much that we have: each in an environment of its own."""

import shutil
import subprocess
import sys
from pathlib import Path


def install(folder: Path, *packages: str) -> Path:
    """Install packages into a new environment; returns where its programs are."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    python = str(folder / "bin" / "python")
    line = [uv, "pip", "install", "-q", "--python", python] if uv else [python, "-m", "pip", "install", "-q"]
    subprocess.run([sys.executable, "-m", "venv", *(["--without-pip"] if uv else []), folder], check=True)
    subprocess.run([*line, *packages], check=True)
    return folder / "bin"
