"""The faults, each played once: real Locust processes on hosts of their own, broken at a known moment.

`open` loops throughout: what must not happen is that load goes missing and nobody notices.
"""

import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.locusts import ALL_THERE, ROOT
from tests.faults.cluster import Hosts, Outcome, hosts, outcome

HERE = Path(__file__).parent
STALL_S = 10
CUT_S = 9
RUN = ("--run-dir", "run")


def load(users: int, seconds: int) -> tuple[str, ...]:
    return ("-u", str(users), "-r", str(users), "-t", str(seconds), *RUN)


def ended(made: Hosts, *names: str) -> None:
    """Wait until these programs have ended by themselves."""
    for name in names:
        made.programs[name].wait()


def delayed_reports(path: Path) -> Outcome:
    """Let 30 % of the reports of three workers arrive 10 s late; nothing else is wrong."""
    workers = ("one", "two", "three")
    with hosts(path, *workers, more=("relay",)) as made:
        made.server()
        relay = (path / "relay.log").open("wb")
        made.by_name["relay"].start(
            [sys.executable, str(HERE / "relay.py"), "master", "0.3", "10"], stdout=relay, stderr=relay
        )
        master = made.master(*load(60, 14), workers=3)
        for name in workers:
            made.worker(name, to="relay")
        code = master.wait(90)
        ended(made, *workers)
        return outcome(made, code)


def constant_arrivals(path: Path) -> Outcome:
    """Split evenly spaced arrivals over two hosts whose monotonic clocks are not the same."""
    with hosts(path, "one", "two") as made:
        made.server()
        master = made.master(*load(20, 6), "--arrivals", "constant")
        for name in ("one", "two"):
            made.worker(name)
        code = master.wait(60)
        ended(made, "one", "two")
        return outcome(made, code)


def links_and_a_worker(path: Path) -> Outcome:
    """Cut one worker's link for a second, another's for 9 s, and kill a third."""
    workers = ("blinks", "cut", "killed")
    with hosts(path, *workers) as made:
        made.server()
        master = made.master(*load(30, 30), workers=3)
        for name in workers:
            made.worker(name)
        master.wait_until_it_says(ALL_THERE)
        time.sleep(3.5)  # a stream, until it is handed over, until it is reported
        made.by_name["cut"].pull()
        cut_ns = time.time_ns()
        with made.by_name["blinks"].cut():
            time.sleep(1)
        made.programs["killed"].process.kill()
        time.sleep(CUT_S - 1)
        made.by_name["cut"].plug()
        code = master.wait(90)
        ended(made, "blinks", "cut")
        return outcome(made, code, cut=cut_ns)


def killed_master(path: Path) -> Outcome:
    """Kill the master, and let another one begin at once where it was, while the workers still send."""
    with hosts(path, "orphan", "other", "fresh") as made:
        made.server(log=path / "sent.jsonl")
        master = made.master(*load(20, 60))
        for name in ("orphan", "other"):
            made.worker(name)
        master.wait_until_it_says(ALL_THERE)
        time.sleep(3)
        master.process.kill()
        died_ns = time.time_ns()
        again = made.master("-u", "10", "-r", "10", "-t", "6", "--run-dir", "again", name="again", workers=1)
        made.worker("fresh")
        code = again.wait(90)
        ended(made, "fresh", "orphan", "other")
        return outcome(made, code, died=died_ns)


def server_stalls_then_dies(path: Path) -> Outcome:
    """Stop the server for 10 s, let it go on for a while, and kill it."""
    with hosts(path, "one", "two") as made:
        server = made.server()
        master = made.master(*load(20, 22))
        for name in ("one", "two"):
            made.worker(name)
        master.wait_until_it_says(ALL_THERE)
        time.sleep(2)
        server.send_signal(signal.SIGSTOP)
        from_ns = time.time_ns()
        time.sleep(STALL_S)
        server.send_signal(signal.SIGCONT)
        to_ns = time.time_ns()
        time.sleep(4)
        server.kill()
        died_ns = time.time_ns()
        code = master.wait(90)
        ended(made, "one", "two")
        return outcome(made, code, stalled=from_ns, went_on=to_ns, died=died_ns)


@contextmanager
def small_disk(path: Path, size_kib: int) -> Iterator[None]:
    """Mount a file system of this size."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tokenswarm-test", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def full_disk(path: Path) -> Outcome:
    """Let the disk of the run directory be full after a few seconds."""
    with hosts(path, "one", "two") as made, small_disk(path / "disk", 80):
        made.server()
        master = made.master("-u", "40", "-r", "40", "-t", "60", "--run-dir", "disk/run")
        for name in ("one", "two"):
            made.worker(name)
        code = master.wait(90)
        ended(made, "one", "two")
        shutil.copytree(path / "disk" / "run", path / "run")
        return outcome(made, code)


def other_code(path: Path) -> Path:
    """Return a checkout whose measuring code differs by a comment."""
    root = path / "other"
    for room in ("locustfiles", "analysis"):
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    with (root / "locustfiles" / "_timer.py").open("a", encoding="utf-8") as file:
        file.write("# another time\n")
    return root


def wrong_version(path: Path) -> Outcome:
    """Begin with a worker whose code is not the master's."""
    with hosts(path, "one", "old") as made:
        made.server()
        master = made.master(*load(10, 5))
        made.worker("one")
        made.worker("old", root=other_code(path))
        code = master.wait(60)
        ended(made, "one", "old")
        return outcome(made, code)


def late_workers(path: Path) -> Outcome:
    """Let two workers join while the run is on, the second of them with other code."""
    with hosts(path, "early", "late", "old") as made:
        made.server()
        old = other_code(path)
        master = made.master(*load(20, 20), "--enable-rebalancing", workers=1)
        made.worker("early")
        master.wait_until_it_says(ALL_THERE)
        joined_ns = time.time_ns()
        made.worker("late")
        time.sleep(5)
        made.worker("old", root=old)
        code = master.wait(90)
        ended(made, "early", "late", "old")
        return outcome(made, code, joined=joined_ns)


def stepped_clock(path: Path) -> Outcome:
    """Set the clock of one worker's host forward by an hour."""
    shim, step = path / "step.so", path / "step"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", shim, HERE / "step.c", "-ldl"], check=True)
    step.write_bytes(struct.pack("q", 0))
    with hosts(path, "steady", "stepped") as made:
        made.server()
        master = made.master(*load(20, 18))
        made.worker("steady")
        made.worker("stepped", LD_PRELOAD=str(shim), STEP_FILE=str(step))
        master.wait_until_it_says(ALL_THERE)
        time.sleep(3)
        with step.open("r+b") as file:
            file.write(struct.pack("q", 3600))
        stepped_ns = time.time_ns()
        code = master.wait(90)
        ended(made, "steady", "stepped")
        return outcome(made, code, stepped=stepped_ns)


def no_way_to_the_server(path: Path) -> Outcome:
    """Begin with a worker that a firewall keeps from the server."""
    with hosts(path, "one", "behind") as made:
        made.server()
        forbid = ["ip", "route", "add", "prohibit", made.by_name["server"].address]
        assert made.by_name["behind"].run(forbid).returncode == 0
        master = made.master(*load(10, 5))
        for name in ("one", "behind"):
            made.worker(name)
        code = master.wait(60)
        ended(made, "one", "behind")
        return outcome(made, code)


def too_much(path: Path) -> Outcome:
    """Ask two workers for half a million arrivals a second."""
    with hosts(path, "one", "two") as made:
        made.server()
        master = made.master("-u", "500", "-r", "500", "--rate-per-user", "1000", "-t", "5", *RUN)
        for name in ("one", "two"):
            made.worker(name)
        code = master.wait(60)
        ended(made, "one", "two")
        return outcome(made, code)


PLAYS = (
    links_and_a_worker,
    killed_master,
    delayed_reports,
    server_stalls_then_dies,
    stepped_clock,
    late_workers,
    full_disk,
    constant_arrivals,
    wrong_version,
    no_way_to_the_server,
    too_much,
)
