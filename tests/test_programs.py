"""Programs of an engine's environment: followed, bounded, and nothing of them stays."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from server import programs
from server.errors import ServerError

ROOT = Path(__file__).resolve().parents[1]
CHILD = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); "


def run(tmp_path: Path, program: str, **options: object) -> str:
    return programs.run([sys.executable, "-c", program], tmp_path / "logs" / "it.log", **options)  # type: ignore[arg-type]


def gone(pid: int) -> bool:
    """Wait for the end of a process: a signal was sent, the kernel takes a moment."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.01)
    return False


def test_what_it_prints_comes_back_and_is_kept(tmp_path: Path) -> None:
    said: list[str] = []
    each: list[str] = []
    program = "import sys; print('one'); print('progress: half'); print('two', file=sys.stderr)"
    text = run(
        tmp_path,
        f"import sys; sys.stdout.reconfigure(line_buffering=True); {program}",
        say=said.append,
        each=each.append,
    )
    assert text.splitlines() == ["one", "progress: half", "two"] == each
    assert said == ["half"]
    assert (tmp_path / "logs" / "it.log").read_text() == text + "\n"


@pytest.mark.parametrize(
    ("program", "telling"),
    [
        ("print('error: no pins'); print('bye'); raise SystemExit(1)", "no pins"),
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("raise SystemExit(3)", "it printed nothing"),
        ("print(b'\\xff'); raise SystemExit('broken')", "broken"),
    ],
)
def test_a_failure_is_its_most_telling_line(tmp_path: Path, program: str, telling: str) -> None:
    with pytest.raises(ServerError, match=f"^{re.escape(telling)} \\(exit code [13], see .*it.log\\)$"):
        run(tmp_path, program)


def test_past_its_limit_it_is_ended_with_all_its_children(tmp_path: Path) -> None:
    child: list[str] = []
    with pytest.raises(ServerError, match=r"ran past 1 s"):
        run(tmp_path, CHILD + "import time; time.sleep(60)", limit_s=1, each=child.append)
    assert gone(int(child[0]))


@pytest.mark.parametrize("code", [0, 1])
def test_a_child_that_stays_is_ended(tmp_path: Path, code: int) -> None:
    child: list[str] = []
    program = CHILD.replace(
        "['sleep', '60']", "['sleep', '60'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    )
    try:
        run(tmp_path, program + f"sys.exit({code})", each=child.append)
    except ServerError:
        assert code
    assert gone(int(child[0]))


def test_it_ends_with_the_one_who_started_it(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from server import programs
programs.run([sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"],
             Path({str(tmp_path)!r}) / "log", each=lambda line: print(line, flush=True))
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert gone(pid)


def test_it_sees_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in programs.OURS:
        monkeypatch.setenv(name, "/ours")
    program = (
        f"import os; print([name for name in {programs.OURS} if name in os.environ], os.environ['MORE'])"
    )
    assert run(tmp_path, program, variables={"MORE": "theirs"}) == "[] theirs"
    assert os.environ["VIRTUAL_ENV"] == "/ours"
