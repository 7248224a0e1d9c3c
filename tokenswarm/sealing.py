"""Results that somebody will fetch: checksums of all files, and last of all the word that nothing is missing.

    SHA256SUMS   sha256sum's own format: `sha256sum -c SHA256SUMS` checks it
    DONE         the exit code of the command that made them

DONE is there only where the command came to its end, whatever the verdict is.
"""

import hashlib
import os
from pathlib import Path

SUMS, DONE = "SHA256SUMS", "DONE"


def seal(out: Path, exit_code: int) -> None:
    """Write SHA256SUMS and DONE into a directory of results."""
    lines = [f"{digest(file)}  {name}\n" for name, file in files(out)]
    _write(out / SUMS, "".join(lines))
    _write(out / DONE, f"{exit_code}\n")


def unseal(out: Path) -> None:
    """Take the seal off results that are about to change."""
    for name in (DONE, SUMS):
        (out / name).unlink(missing_ok=True)


def damage(out: Path) -> list[str]:
    """Return what is wrong with results that were fetched, in words; nothing where all is as sealed."""
    missing = [name for name in (DONE, SUMS) if not (out / name).is_file()]
    if missing:
        return [f"{name} is missing: the results are not all there" for name in missing]
    if not (out / DONE).read_text(encoding="utf-8", errors="replace").strip().isdecimal():
        return [f"{DONE} holds no exit code"]
    sums = dict(_read(line) for line in (out / SUMS).read_text("utf-8", "replace").splitlines())
    there = dict(files(out))
    return [
        *(f"{name} is missing" for name in sums if name not in there),
        *(
            f"{name} is not what was sealed"
            for name, file in there.items()
            if name in sums and sums[name] != digest(file)
        ),
        *(f"{name} was not sealed" for name in there if name not in sums),
    ]


def digest(file: Path) -> str:
    """Return a file's SHA-256, as hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def files(out: Path) -> list[tuple[str, Path]]:
    """Return every file but the seal itself, with its name in SHA256SUMS, in their order."""
    files = ((str(file.relative_to(out)), file) for file in out.rglob("*") if file.is_file())
    return sorted((name, file) for name, file in files if name not in {SUMS, DONE})


def _read(line: str) -> tuple[str, str]:
    found, _, name = line.partition("  ")
    return name, found


def _write(path: Path, text: str) -> None:
    """Write a file that is there after a power cut, too, or not at all."""
    draft = path.with_name(path.name + ".part")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
