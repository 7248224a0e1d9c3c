"""Become one container: python container.py SPEC.json, as root, in mount and PID namespaces of its own.

SPEC has `argv`, `environment`, `user`, `group`, `groups`, `workdir`, `read_only`, and `mounts`: pairs of a
path here and one in the container, read-only where a third item says so. The root is an empty one with this
machine's programs bound into it; what is not mounted is not there. Then it is the program, as process 1.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

NOSUID, READ_ONLY, REMOUNT, BIND, RECURSIVE = 2, 1, 32, 4096, 16384
NO_NEW_PRIVILEGES = 38
DEVICES = ("null", "zero", "full", "random", "urandom")
LIBC = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str = "", flags: int = 0) -> None:
    """Mount something; raises OSError."""
    if LIBC.mount(source.encode(), str(target).encode(), kind.encode(), flags, None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source}: {os.strerror(number)}", str(target))


def bind(source: str, target: Path, *, read_only: bool = False) -> None:
    """Make a path of this machine visible in the container."""
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(source, target, flags=BIND | RECURSIVE)
    if read_only:
        mount(source, target, flags=BIND | REMOUNT | READ_ONLY | NOSUID)


def build(root: Path, spec: dict[str, Any]) -> None:
    """Make the root file system."""
    mount("tmpfs", root, "tmpfs")
    for name in ("bin", "lib", "lib64", "sbin"):
        if (Path("/") / name).is_symlink():
            (root / name).symlink_to((Path("/") / name).readlink())
    for source, target, *how in spec["mounts"]:
        bind(source, root / target.lstrip("/"), read_only=bool(how and how[0]))
    for name in DEVICES:
        bind(f"/dev/{name}", root / "dev" / name)
    (root / "proc").mkdir()
    mount("proc", root / "proc", "proc")
    if spec["read_only"]:
        mount("tmpfs", root, flags=REMOUNT | READ_ONLY)


def main() -> None:
    """Build the root, give up all that a container must not have, and become the program."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.umask(0o022)
    root = Path(spec["root"])
    build(root, spec)
    os.chroot(root)
    os.chdir(spec["workdir"])
    os.setgroups(spec["groups"])
    os.setresgid(*[spec["group"]] * 3)
    os.setresuid(*[spec["user"]] * 3)  # from root to another: no capability is left
    LIBC.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    os.execvpe(spec["argv"][0], spec["argv"], spec["environment"])  # noqa: S606 - a program, no shell


if __name__ == "__main__":
    main()
