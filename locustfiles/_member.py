"""The worker's side of the crew: says what it is, tries the server, tells its clock, and notes a dead master.

Theory of operation
-------------------
1. As soon as it has a master it says which code it runs, and what a request and a token cost it. The master
   counts nothing of a worker that did not say so, or runs other code.
2. Before a run it is asked to reach the server, and to read the prompts' file: a policy or a name that is
   wrong here, or another file of that name, is known then.
3. Whoever has not heard of its master for GONE_S stops its load and cuts its streams: nobody would count
   them. What it has measured waits for QUIT_S, in case only the link was broken. Silence is measured as time
   in which this process was awake, not by the wall clock: one that is set forward is no dead master.
"""

import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import gevent

from locustfiles import _cost
from locustfiles._meta import version
from locustfiles._target import Target, TargetError
from locustfiles._workload import WorkloadError, digest, read_prompts

HERE, REACH, REACHED, CLOCK, SURPLUS = (
    f"tokenswarm_{word}" for word in ("here", "reach", "reached", "clock", "surplus")
)
EXIT_SURPLUS = 7  # no exit code of a command: `tokenswarm worker` alone sees it
GONE_S = 4.0  # master and worker exchange a heartbeat a second
QUIT_S = 30.0
LOOK_S = 0.25
LINGER_MS = 2000  # for a master that is gone
DRAINING = "cleanup"  # Locust's word; it hears nothing then, as it waits for its streams

CONTRACT = ("record.py", "histogram.py")
ROOT = Path(__file__).resolve().parents[1]
log = logging.getLogger("tokenswarm")


def code() -> str:
    """Return a digest of the code that measures: two workers whose differ do not measure the same."""
    digest = hashlib.sha256()
    for path in (*sorted(ROOT.glob("locustfiles/*.py")), *(ROOT / "analysis" / name for name in CONTRACT)):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def said() -> dict[str, Any]:
    """Return what a worker says of itself."""
    return {"version": version(), "code": code(), "cost": list(_cost.measure())}


def _compare_prompts(file: str, expected: str) -> None:
    """Raise WorkloadError where this host's file is not the master's."""
    if digest(read_prompts(file)) != expected:
        raise WorkloadError(f"--prompts: found another {file} than the master's")


class Member:
    """One worker as a part of its master's crew."""

    def __init__(self, environment: Any) -> None:
        """Present itself to the master, and listen."""
        self.place, self.of, self.offset_ns = 0, 0, 0  # in the crew, as the master said before this run
        self.gone = False  # the load was stopped because the master fell silent
        self._environment = environment
        self._runner = environment.runner
        self._silent_s = 0.0
        self._runner.register_message(REACH, self._reach, concurrent=True)
        self._runner.register_message(CLOCK, self._tell)
        self._runner.register_message(SURPLUS, self._go)
        environment.events.heartbeat_received.add_listener(self._heard)
        environment.events.quit.add_listener(self._leave)
        self._runner.send_message(HERE, said())
        gevent.spawn(self._watch)

    def _reach(self, msg: Any, **_: Any) -> None:
        asked = msg.data
        self.place, self.of, self.offset_ns = asked["place"], asked["of"], asked["offset_ns"]
        error = ""
        try:
            _compare_prompts(asked["prompts"], asked["digest"])
            Target.look(asked["host"], verify=asked["verify"], model=asked["model"])
        except (TargetError, WorkloadError) as found:
            error = str(found)
        self._runner.send_message(REACHED, {"number": asked["number"], "error": error})

    def _go(self, **_: Any) -> None:
        log.error("The master has all its workers: this one ends")
        self._environment.process_exit_code = EXIT_SURPLUS
        gevent.spawn(self._runner.quit)

    def _leave(self, **_: Any) -> None:
        """Let arrive what was said last: with Python ends the thread in which ZeroMQ still sends it.

        A master that does not hear that a worker quits takes it for lost, and the run is INVALID.
        """
        socket = self._runner.client.socket
        context = socket.context
        socket.close(linger=LINGER_MS)
        context.term()

    def _tell(self, msg: Any, **_: Any) -> None:
        heard_ns = time.time_ns()
        self._runner.send_message(
            CLOCK, {"sent_ns": msg.data["sent_ns"], "heard_ns": heard_ns, "answered_ns": time.time_ns()}
        )

    def _heard(self, **_: Any) -> None:
        if self.gone and self._silent_s >= GONE_S:
            log.error("The master is there again: it gets what was measured, no load is made for this run")
        self._silent_s = 0.0

    def _watch(self) -> None:
        while True:
            before_s = time.monotonic()
            gevent.sleep(LOOK_S)
            if self._runner.state == DRAINING:
                self._silent_s = 0.0
                continue
            self._silent_s += min(time.monotonic() - before_s, 2 * LOOK_S)
            if self._silent_s >= GONE_S and not self.gone and self._runner.state in {"spawning", "running"}:
                log.error("No word from the master for %.0f s: the load is stopped", self._silent_s)
                self.gone = True
                self._environment.stop_timeout = 0.0
                self._runner.stop()
            if self._silent_s >= QUIT_S:
                log.error("No word from the master for %.0f s: this worker ends", self._silent_s)
                self._runner.quit()
                return
