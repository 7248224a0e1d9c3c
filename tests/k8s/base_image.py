"""A base image without a registry: what Debian's essential packages and python3 have installed here."""

import shutil
import subprocess
from pathlib import Path

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
WANTED = ("python3", "python3-venv", "ca-certificates", "libstdc++6")  # NumPy wants the last
KINDS = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")


def missing() -> str:
    """Say what is missing to make it and to build on it; empty where nothing is."""
    if not shutil.which("buildah"):
        return "no buildah (Debian: apt-get install buildah)"
    if not shutil.which("apt-cache"):
        return "no Debian to take a base image from"
    absent = [
        name
        for name in WANTED
        if subprocess.run(["dpkg", "-L", name], capture_output=True, check=False).returncode
    ]
    return f"not installed: {', '.join(absent)}" if absent else ""


def fill(root: Path) -> None:
    """Put the files of these packages, and of all that they need, into an empty folder."""
    essential = _lines("dpkg-query", "--show", "--showformat=${Essential} ${Package}\n")
    first = [line.split()[1] for line in essential if line.startswith("yes")] + list(WANTED)
    only = [f"--no-{kind}" for kind in KINDS]
    needed = _lines("apt-cache", "depends", "--recurse", "--installed", *only, *first)
    packages = sorted({line for line in needed if line[:1].isalnum()})
    files = {line for name in packages for line in _lines("dpkg", "-L", name) if line.startswith("/")}
    files |= {CERTIFICATES, "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"}
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
    there = sorted(file.lstrip("/") for file in files if Path(file).exists() and file != "/.")
    pack = ["tar", "--create", "--no-recursion", "--directory=/", "--verbatim-files-from", "--files-from=-"]
    unpack = ["tar", "--extract", "--keep-directory-symlink", f"--directory={root}"]
    packed = subprocess.run(pack, input="\n".join(there).encode(), capture_output=True, check=True)
    subprocess.run(unpack, input=packed.stdout, check=True)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    subprocess.run(["ldconfig", "-r", root], check=True)


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
