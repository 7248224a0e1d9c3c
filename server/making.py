"""Make a folder once: never half, never twice at a time, again only when what it is made from changes."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from server.errors import ServerError

MARKER = "DONE"
Say = Callable[[str], None]
"""Takes a line of progress."""


def key(*parts: Path | str) -> str:
    """Return a fingerprint of texts and of files' contents, in their order."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(len(content).to_bytes(8) + content)
    return digest.hexdigest()


def is_made(folder: Path, fingerprint: str) -> bool:
    """Say whether the folder was finished, from just this."""
    marker = folder / MARKER
    return marker.is_file() and marker.read_text(encoding="utf-8").strip() == fingerprint


def make_once(folder: Path, fingerprint: str, make: Callable[[Path], None], *, movable: bool = True) -> Path:
    """Return the folder, made by `make(path)` unless it stands already; two at a time wait for each other.

    A movable folder is made beside its place and renamed when it is whole. A virtual environment holds its
    own path, so it is made in place and its marker is written last; either way a folder without its marker
    was cut off and is made again. Raises what `make` raises, ServerError where nothing can be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise ServerError(f"{folder.parent}: cannot be written ({error.strerror})") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_made(folder, fingerprint):
            return folder
        work = folder.parent / f".{folder.name}.partial" if movable else folder
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        make(work)
        (work / MARKER).write_text(fingerprint + "\n", encoding="utf-8")
        if movable:
            shutil.rmtree(folder, ignore_errors=True)
            work.replace(folder)
    return folder
