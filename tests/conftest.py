"""What holds for all tests, and how they share the machine.

`pytest` alone runs them in a few processes, each of which takes whole files (their fixtures are made once).
Whoever names a file or a marker (-m), or wants to see what is printed (-s), gets one process. What takes
times that neighbours would spoil is marked `alone`: it comes first, and the other processes wait for it.
End-to-end tests wait more than they work, so they are groups: files that let programs wait side by side,
those of the web pages, those that take minutes one by one, and the rest.
"""

import fcntl
import gc
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from analysis import report

# The same examples every time, and no deadline: a neighbour on the machine must not fail a law.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")

# A shell starts background jobs with Ctrl-C ignored, and children inherit that; some tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests start hundreds of Python programs; each would compile all that it imports where none may keep it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

WORKERS = 4  # for two cores: three groups mostly wait
END_TO_END = "tests/end_to_end/"
SIDE_BY_SIDE = ("test_front_door.py", "test_locust.py", "test_locust_breaks.py", "test_server_side.py")
LONG = ("test_eviction.py", "test_joining.py", "test_searching.py", "test_serving.py")
PAGES = ("test_live_page.py", "test_metrics.py", "test_web_form.py", "test_web_judge.py")
GROUPS = {
    **{END_TO_END + file: "side by side" for file in SIDE_BY_SIDE},
    **{END_TO_END + file: "pages" for file in PAGES},
    **{END_TO_END + file: file for file in LONG},
    END_TO_END + "test_accuracy.py": "alone",
    "tests/test_sim_timing.py": "alone",
    "tests/test_sim_script.py": "alone",
    **dict.fromkeys(("tests/real/test_load.py", "tests/real/test_real_vllm.py"), "one vLLM"),
}
DOOR, ROOM = Path(__file__).parent, Path(__file__).parent / "end_to_end"  # folders serve as locks
held: list[int] = []  # the room's lock, while this process runs a test


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes share the tests that were asked for; 0 runs them in this one."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    shared = "not slow" in config.option.markexpr and config.option.capture != "no"
    return WORKERS if everything and shared else 0


def is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what must be alone."""
    items.sort(key=lambda item: not is_alone(item))


def pytest_collection_finish() -> None:
    """Let Python look for garbage in what tests make, and not in all modules again: a tenth of their time."""
    gc.collect()
    gc.freeze()


class Groups(LoadScopeScheduling):
    """Gives whole groups to the processes, in the order of their first tests.

    (Markers of xdist 3.8 for groups, loadgroup, go into node ids; pytest 9.2 does not keep them there.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return GROUPS.get(file) or ("end to end" if file.startswith(END_TO_END) else file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


def lock(folder: Path, how: int) -> int:
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, how)
    return handle


@pytest.hookimpl(wrapper=True, tryfirst=True)  # waiting is no part of a test's time limit
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Let tests of several processes be in the room together, but one that must be alone, alone."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    if not held:
        door = lock(DOOR, fcntl.LOCK_EX)  # who waits here until the others leave lets nobody else in
        held.append(lock(ROOM, fcntl.LOCK_EX if is_alone(item) else fcntl.LOCK_SH))
        os.close(door)
    try:
        return (yield)
    finally:
        if not (is_alone(item) and is_alone(nextitem)):
            os.close(held.pop())


@pytest.fixture
def no_run_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the reports of single runs: each takes seconds, and tests of their own look at them."""
    monkeypatch.setattr(report, "write_report", lambda *_: None)


@pytest.fixture
def no_pages(no_run_pages: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - it is both
    """Leave out the reports of runs, of experiments and of comparisons, likewise."""
    monkeypatch.setattr(report, "write_experiment", lambda *_: None)
    monkeypatch.setattr(report, "write_comparison", lambda *_: None)


@pytest.fixture
def no_html(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out report.html, where a test looks at the PDF."""
    from analysis import web_report  # noqa: PLC0415 - it loads matplotlib, which most files do without

    monkeypatch.setattr(web_report, "write_html", lambda *_, **__: None)
