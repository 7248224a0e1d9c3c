"""The judge's client: what is known of the current run's verdict, found out by a process beside this one.

Judging takes more time than an event loop has that also reads tokens, so `analysis.live` does it, in a
process of its own that gives way to this one. It is started when there is an SLA, asked rarely enough to cost
a twentieth of a core at most, and whatever becomes of it, the run goes on.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import gevent
import gevent.lock
import gevent.subprocess

from locustfiles import _meta
from locustfiles._live_table import Limit
from locustfiles._options import KEYS
from locustfiles._workload import WorkloadError

ROOT = Path(__file__).resolve().parents[1]
PAUSE_S = 2.0  # between two judgements, at least
SHARE = 20  # so many times as long as one takes
STEP_S = 0.1  # how soon the end of a run is noticed
TRIES = 2
ANSWER_S = 300.0  # a process that says nothing for so long hangs
NO_SLA = "no SLA was given"
NOT_YET = "not judged yet"

Answer = dict[str, Any]


class Kept(NamedTuple):
    """A run of this process that can be asked for."""

    run: str
    name: str
    path: Path
    started_unix_s: int


class Process:
    """One process beside, started when it is asked, and once more where it has ended."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: Any = None
        self._turn = gevent.lock.Semaphore()  # questions come from several greenlets, answers in their order
        self._ended = 0

    def ask(self, **question: Any) -> Answer:
        """Return the answer; its `error` says in one line why there is none. Other greenlets go on."""
        with self._turn:
            reason = "its process has ended"
            while self._ended < TRIES:
                try:
                    return self._exchange(question)
                except (OSError, ValueError) as error:
                    reason = str(error)
                    self._ended += 1
                    self.close()
                except BaseException:  # the asking greenlet was killed: an answer may still come, to nobody
                    self.close()
                    raise
        return {"error": reason}

    def begin_again(self) -> None:
        """Forget how often it ended."""
        self._ended = 0

    def quit(self) -> None:
        """End it for good."""
        self.close()
        self._ended = TRIES

    def close(self) -> None:
        """End it, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                try:
                    pipe.close()
                except OSError:  # what it had not read yet
                    continue
            process.wait()

    def _exchange(self, question: Answer) -> Answer:
        if self._process is None:
            self._process = _started()
        process = self._process
        with gevent.Timeout(ANSWER_S, OSError(f"no answer within {ANSWER_S:g} s")):
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise OSError("its process ended without an answer")
        found: Answer = json.loads(line)
        return found


def _started() -> Any:
    """Start the process, in a group of its own: a Ctrl-C is for Locust, and this one ends with its stdin.

    In a session of its own Linux would weigh it as if it had no low priority (autogroups).
    """
    kept = {name: value for name, value in os.environ.items() if name not in KEYS}
    return gevent.subprocess.Popen(
        [sys.executable, "-m", "analysis.live"],
        cwd=ROOT,
        env={**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=gevent.subprocess.PIPE,
        stdout=gevent.subprocess.PIPE,
        process_group=0,
    )


class Judging:
    """The SLA of this process's runs, and how the current one stands."""

    def __init__(self, environment: Any, coordinator: Any) -> None:
        """Read the SLA file that the command line names; what is wrong with it is said when a run begins."""
        self._environment = environment
        self._coordinator = coordinator
        self._process = Process()
        self._run: Any = None  # the latest
        self.runs: dict[str, Kept] = {}  # by id, all of this process
        self._found = self._demanded = _unjudged(None, [], NO_SLA)
        self._limits_demanded: list[Limit] = []  # of the next run
        self._limits: list[Limit] = []
        self._from_file, self._unread = "", ""
        options = environment.parsed_options
        if options.sla and not options.sla_text:
            try:
                self._from_file = Path(options.sla).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "not UTF-8"
                self._unread = f"--sla: {options.sla} cannot be read ({why})"
        options.sla_text = options.sla_text or self._from_file
        environment.events.quit.add_listener(lambda **_: self._process.quit())

    def check(self, text: str, options: Any = None) -> list[str] | str:
        """Return the objectives of an SLA, or in one line why it is none that a run with `options` can keep.

        An SLA of nothing has none. `options` are Locust's, and its current ones unless given.
        """
        answer = self._checked(text, options or self._environment.parsed_options)
        return str(answer["error"]) if "error" in answer else list(answer["objectives"])

    def _checked(self, text: str, options: Any) -> Answer:
        if not text.strip():
            return {"name": None, "objectives": [], "limits": []}
        self._process.begin_again()
        return self._process.ask(
            do="check",
            sla=text,
            file=f"--sla {options.sla}" if text == self._from_file else "SLA",
            scenarios=[options.scenario or options.endpoint],
            window_s=_window_s(options),
        )

    def demand(self, options: Any) -> None:
        """Raise WorkloadError, one line, where the run that is about to begin has an SLA that is none."""
        if self._unread and not options.sla_text:
            raise WorkloadError(self._unread)
        answer = self._checked(options.sla_text, options)
        if self._environment.web_ui is None:  # nobody would look: `tokenswarm verdict` judges it afterwards
            self._process.close()
        if "error" in answer:
            raise WorkloadError(str(answer["error"]))
        said = NOT_YET if answer["objectives"] else NO_SLA
        self._demanded = _unjudged(answer["name"], answer["objectives"], said)
        self._limits_demanded = [Limit(*limit) for limit in answer["limits"]]

    def follow(self, run: Any) -> None:
        """Judge a run while it goes on and when it has ended; returns at once."""
        self._run, name = run, run.merge.run
        self._found = self._demanded | {"run": name}
        self._limits = self._limits_demanded
        if run.live:
            run.live.table.limits = self._limits
        self.runs[name] = Kept(
            run=name,
            name=run.options.run_name or run.settings.scenario,
            path=run.directory.path.absolute(),
            started_unix_s=run.started_unix_ns // 10**9,
        )
        if self._found["objectives"] and self._environment.web_ui is not None:
            gevent.spawn(self._follow, run)

    def now(self) -> Answer:
        """Return how the current run stands, else the latest one: what /llm/sla.json says."""
        return self._found

    def limits(self) -> list[Limit]:
        """Return every latency limit of the SLA of the run that is on."""
        return self._limits

    def _follow(self, run: Any) -> None:
        while self._coordinator.run is run:
            until = time.monotonic() + self._judge(run, goes_on=True)
            while self._coordinator.run is run and time.monotonic() < until:
                gevent.sleep(STEP_S)
        self._judge(run, goes_on=False)

    def _judge(self, run: Any, *, goes_on: bool) -> float:
        """Ask once; returns how long to wait before the next time, in s: a long run is judged rarely."""
        try:
            known = so_far(run) if goes_on else None
            answer = self._process.ask(do="judge", run=str(run.directory.path.absolute()), known=known)
        except OSError as error:  # a full disk: the coordinator finds it, too, and ends the run
            answer = {"error": error.strerror or str(error)}
        if self._run is not run:
            return PAUSE_S  # another one has begun
        before = self._found
        if "error" in answer:
            texts = [objective["text"] for objective in before["objectives"]]
            answer = _unjudged(before["sla"], texts, f"not judged: {answer['error']}")
        pause_s = max(PAUSE_S, SHARE * float(answer.pop("took_s", 0.0)))
        self._found = answer | {"run": run.merge.run, "every_s": round(pause_s)}
        return pause_s


def so_far(run: Any) -> Answer:
    """Hand what was measured to the disk, and return what run.json will say and does not yet.

    Raises OSError where the disk says no.
    """
    run.directory.flush()
    seen = sorted(name for name in run.merge.workers if name)
    since = {client: f"left at {at}" for client, at in run.left.items()}
    since |= {client: f"silent since {at}" for client, at in run.missing.items()}
    lost = [
        {"worker": run.heard_of.get(client, client), "detail": detail} for client, detail in since.items()
    ]
    return {
        "window": run.window(),
        "workers": {"expected": len(seen), "seen": seen, "lost": lost},
        "clock": _meta.clock(run.merge),
    }


def _unjudged(sla: str | None, objectives: list[str], reason: str) -> Answer:
    """Return lights that are neither green nor red."""
    unknown = dict.fromkeys(("metric", "statistic", "status", "observed", "limit", "unit", "n", "bad"))
    return {
        "sla": sla,
        "status": None,
        "so_far": False,
        "as_of_unix_s": None,
        "reasons": [reason],
        "objectives": [{"text": text, **unknown, "reason": ""} for text in objectives],
        "run": None,
        "every_s": None,
    }


def _window_s(options: Any) -> float | None:
    """Return how long a run with these options will be judged; None where nobody has said."""
    if not options.run_time:
        return None
    spawning_s = (options.num_users or 1) / (options.spawn_rate or 1) - 1
    judged_s: float = options.run_time - max(0.0, spawning_s) - options.warmup
    return max(0.0, judged_s)
