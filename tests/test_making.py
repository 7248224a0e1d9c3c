"""A folder is made once: never half, never twice at a time."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.errors import ServerError
from server.making import MARKER, is_made, key, make_once

ROOT = Path(__file__).resolve().parents[1]


def write(folder: Path) -> None:
    (folder / "whole").write_text("yes")


def refuse(_folder: Path) -> None:
    raise AssertionError("made again")


def count(folder: Path) -> None:
    """Leave a trace for each time that it is called, beside the folder; slow enough to be overtaken."""
    with (folder.parent / "traces").open("a") as traces:
        traces.write(f"{os.getpid()}\n")
    time.sleep(0.2)


@pytest.mark.parametrize("movable", [True, False])
def test_made_once_and_again_when_its_inputs_change(tmp_path: Path, movable: bool) -> None:
    folder = tmp_path / "a" / "b"
    assert make_once(folder, "1", write, movable=movable) == folder
    assert (folder / "whole").read_text() == "yes"
    assert make_once(folder, "1", refuse, movable=movable) == folder
    (folder / "of the first time").touch()
    make_once(folder, "2", write, movable=movable)
    assert {path.name for path in folder.iterdir()} == {"whole", MARKER}
    assert is_made(folder, "2")
    assert not is_made(folder, "1")


@pytest.mark.parametrize("movable", [True, False])
def test_what_failed_never_looks_finished(tmp_path: Path, movable: bool) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ServerError("no space")

    folder = tmp_path / "made"
    with pytest.raises(ServerError, match="no space"):
        make_once(folder, "1", fail, movable=movable)
    assert not is_made(folder, "1")
    assert folder.exists() == (not movable), "what can be moved is never seen half"
    make_once(folder, "1", write, movable=movable)
    assert {path.name for path in folder.iterdir()} == {"whole", MARKER}


def test_the_old_one_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    folder = make_once(tmp_path / "made", "1", write)

    def fail(_folder: Path) -> None:
        assert (folder / "whole").exists()
        raise ServerError("no space")

    with pytest.raises(ServerError):
        make_once(folder, "2", fail)
    assert is_made(folder, "1")


def test_in_place_it_is_made_where_it_stays(tmp_path: Path) -> None:
    seen: list[Path] = []
    make_once(tmp_path / "here", "1", seen.append, movable=False)
    make_once(tmp_path / "moved", "1", seen.append)
    assert seen[0] == tmp_path / "here"
    assert seen[1] != tmp_path / "moved"
    assert seen[1].name.endswith(".partial")


def test_two_at_a_time_make_one(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=make_once, args=(tmp_path / "made", "1", count)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(20)
    assert [process.exitcode for process in both] == [0, 0]
    assert len((tmp_path / "traces").read_text().splitlines()) == 1


@pytest.mark.parametrize("movable", [True, False])
def test_killed_in_the_middle_it_is_made_again(tmp_path: Path, movable: bool) -> None:
    folder = tmp_path / "made"
    program = f"""
import sys, time
from pathlib import Path
from server.making import make_once
def make(folder):
    (folder / "half").touch()
    print("half", flush=True)
    time.sleep(60)
make_once(Path(sys.argv[1]), "1", make, movable={movable})
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert not is_made(folder, "1")
    make_once(folder, "1", write, movable=movable)
    assert {path.name for path in folder.iterdir()} == {"whole", MARKER}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match=r"file/in: cannot be written"):
        make_once(tmp_path / "file" / "in" / "it", "1", write)


def test_key_tells_its_parts_apart(tmp_path: Path) -> None:
    file = tmp_path / "pins"
    file.write_text("a==1")
    assert key("ab", "c") != key("a", "bc") != key("abc")
    assert key(file) == key("a==1")
    file.write_text("a==2")
    assert key(file) != key("a==1")
