"""Take a run home from the page: its directory as a zip, its report as a PDF, so far or afterwards.

A browser names a run by its id, which is looked up among this process's runs; no path comes from it. A zip
holds what a run directory is known to hold and nothing that lies beside, each file as it was at one moment.
"""

import io
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import gevent
import gevent.lock
from flask import Response, jsonify
from werkzeug.wsgi import FileWrapper

from analysis.record import SLA_FILE
from locustfiles._judge import Kept, Process, so_far

if TYPE_CHECKING:  # which imports this
    from locustfiles._web import Door

FILES = (
    "run.json",
    "requests.csv",
    "timeline.csv",
    "server_metrics.csv",
    "*.hlog",
    "locust_*.csv",
    SLA_FILE,
    "verdict.json",
    "junit.xml",
    "report.pdf",
    "report.html",
    "charts/*.png",
)
"""What a run directory may hold: --run-dir may be one where other things are, too."""

GROWING = (".csv", ".hlog")
SMALL_BYTES = 1 << 18  # what is no larger is read at once, since Locust's tables are overwritten in place
TAIL_BYTES = 1 << 16
CHUNK_BYTES = 1 << 18
LEVEL = 1  # of compression: the load needs the time more

log = logging.getLogger("tokenswarm")


class Part(NamedTuple):
    """A file as it was at one moment: the first `size` bytes of it."""

    name: str
    file: IO[bytes]
    size: int
    modified_unix_s: float


class RefusedError(Exception):
    """What is asked for cannot be had: `code` is HTTP's, the text one line."""

    def __init__(self, code: int, text: str) -> None:
        """Keep both."""
        super().__init__(text)
        self.code = code


def add_downloads(door: "Door", coordinator: Any) -> None:
    """Offer the runs of this process."""
    turn = gevent.lock.Semaphore()  # one at a time: each takes a core for a while
    door.tabs.download("Run directory (zip)", "./llm/runs/latest.zip")
    door.tabs.download("Report (PDF)", "./llm/runs/latest.pdf")

    @door.route("/runs.json")
    def runs() -> Response:
        return jsonify({"runs": [_told(kept, coordinator) for kept in coordinator.judging.runs.values()]})

    @door.route("/runs/<run>.zip")
    def run_zip(run: str) -> Response:
        with turn:
            return _answered(f"{run}.zip", lambda: _zip(_kept(run, coordinator), coordinator))

    @door.route("/runs/<run>.pdf")
    def run_pdf(run: str) -> Response:
        with turn:
            return _answered(f"{run}.pdf", lambda: _pdf(_kept(run, coordinator), coordinator))


def _kept(run: str, coordinator: Any) -> Kept:
    runs: dict[str, Kept] = coordinator.judging.runs
    if run == "latest" and runs:
        return next(reversed(runs.values()))
    if run not in runs:
        raise RefusedError(404, "found no such run, expected one that this process has started")
    return runs[run]


def _going_on(kept: Kept, coordinator: Any) -> Any:
    run = coordinator.run
    return run if run is not None and run.merge.run == kept.run else None


def _told(kept: Kept, coordinator: Any) -> dict[str, Any]:
    ended = None
    if not _going_on(kept, coordinator):
        try:
            ended_ns = json.loads((kept.path / "run.json").read_text(encoding="utf-8"))["ended_unix_ns"]
            ended = (ended_ns or (kept.path / "requests.csv").stat().st_mtime_ns) // 10**9
        except (OSError, ValueError, KeyError):  # somebody has moved it away
            ended = kept.started_unix_s
    return {
        "id": kept.run,
        "name": kept.name,
        "started_unix_s": kept.started_unix_s,
        "ended_unix_s": ended,
    }


def _answered(name: str, made: Any) -> Response:
    """Return what was made, or the line that says why it could not be."""
    try:
        response: Response = made()
    except RefusedError as error:
        return Response(f"{error}\n", error.code, mimetype="text/plain")
    except OSError as error:
        text = f"{name}: cannot be made ({error.strerror or error})"
        log.error("%s", text)
        return Response(f"{text}\n", 500, mimetype="text/plain")
    return response


def _zip(kept: Kept, coordinator: Any) -> Response:
    going_on = _going_on(kept, coordinator)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the response closes it
    try:
        with ExitStack() as stack:
            if going_on:
                going_on.directory.flush()
            parts = snapshot(kept.path, stack, whole_lines=bool(going_on))
            _in_a_thread(_pack, file, parts, kept.run)
        return _attached(file, f"{kept.run}.zip", "application/zip")
    except BaseException:
        file.close()
        raise


def snapshot(directory: Path, stack: ExitStack, *, whole_lines: bool) -> list[Part]:
    """Open a run directory's files, all at this moment; `whole_lines` where somebody is writing them.

    Lets no other greenlet run, so that no file is ahead of another. `stack` closes them. Raises OSError.
    """
    parts = []
    for path in sorted(path for pattern in FILES for path in directory.glob(pattern)):
        if path.is_symlink() or not path.is_file():
            continue
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        facts = os.fstat(file.fileno())
        size = facts.st_size
        if whole_lines and path.suffix in GROWING:
            size = _whole(file, size)
        if size <= SMALL_BYTES:
            content = file.read(size)
            file, size = io.BytesIO(content), len(content)
        parts.append(Part(path.relative_to(directory).as_posix(), file, size, facts.st_mtime))
    if not parts:
        raise RefusedError(404, "found no files of this run: they were moved away")
    return parts


def _whole(file: IO[bytes], size: int) -> int:
    """Return where the last line ends that is whole; the file is then at its beginning again."""
    start = max(0, size - TAIL_BYTES)
    file.seek(start)
    end = file.read(size - start).rfind(b"\n") + 1
    file.seek(0)
    return start + end


def _in_a_thread(work: Callable[..., None], *arguments: Any) -> None:
    """Run it while the event loop goes on. Raises OSError; gevent would print what a thread raises."""

    def caught() -> OSError | None:
        try:
            work(*arguments)
        except OSError as error:
            return error
        return None

    error = gevent.get_hub().threadpool.apply(caught)
    if error:
        raise error


def _pack(file: IO[bytes], parts: list[Part], folder: str) -> None:
    """Write a zip; runs in a thread of its own, and compresses without the interpreter's lock."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as packed:
        for part in parts:
            moment = datetime.fromtimestamp(part.modified_unix_s, UTC).timetuple()[:6]
            entry = zipfile.ZipInfo(f"{folder}/{part.name}", moment)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with packed.open(entry, "w", force_zip64=part.size >= zipfile.ZIP64_LIMIT // 2) as target:
                for chunk in _chunks(part):
                    target.write(chunk)


def _chunks(part: Part) -> Iterator[bytes]:
    left = part.size
    while left and (chunk := part.file.read(min(left, CHUNK_BYTES))):
        left -= len(chunk)
        yield chunk


def _pdf(kept: Kept, coordinator: Any) -> Response:
    going_on = _going_on(kept, coordinator)
    process, folder = Process(), Path(tempfile.mkdtemp(prefix="tokenswarm-"))
    try:
        pdf = folder / "report.pdf"
        known = so_far(going_on) if going_on else None
        answer = process.ask(do="report", run=str(kept.path.absolute()), known=known, pdf=str(pdf))
        if "error" in answer:
            raise OSError(answer["error"])
        return _attached(pdf.open("rb"), f"{kept.run}.pdf", "application/pdf")
    finally:
        process.close()
        shutil.rmtree(folder, ignore_errors=True)  # the open file stays readable


def _attached(file: IO[bytes], name: str, kind: str) -> Response:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    response = Response(FileWrapper(file, CHUNK_BYTES), mimetype=kind, direct_passthrough=True)
    response.content_length = size
    response.headers["Content-Disposition"] = f'attachment; filename="tokenswarm-{name}"'
    return response
