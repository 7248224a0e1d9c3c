"""What `tokenswarm worker` does: a Locust worker for each run of an experiment that another host measures.

Locust's workers end with their master, and an experiment has a master for each of its runs. Which users to
send with is the master's to say: a worker knows both locustfiles, so nothing that is run here comes over the
network.
"""

import sys
import time
from collections.abc import Callable

from tokenswarm import EXIT_INTERNAL, EXIT_NOT_STARTED, ROOT, TokenswarmError
from tokenswarm.door import Address, look
from tokenswarm.processes import child

LOOK_S = 0.25  # between two masters the port is without one for a second at least: Locust has to start
AGAIN_S = 5.0  # a worker that was killed is missed after 3 s; until then its successor is one too many
EXIT_SURPLUS = 7  # Locust's: its master has all its workers
SAME_S = 60.0  # a master that ends waits 40 s for other workers' streams; one that is still there is another

Say = Callable[[str], None]


def work(at: Address, wait_s: float, linger_s: float, say: Say) -> int:
    """Serve the masters that come to this address, until none has been there for a while.

    Returns the worst exit code of the Locust workers. Raises TokenswarmError where no master came within
    `wait_s`, or where it has all its workers; after a run, `linger_s` without anybody there is its end.
    """
    runs = worst = sent_away = 0
    alone_since = time.monotonic()
    say(f"looking for a master at {at}")
    while time.monotonic() - alone_since < (linger_s if runs else wait_s):
        found = look(at)
        if found == "master":
            code = _serve_one(at)
            sent_away = sent_away + 1 if code == EXIT_SURPLUS else 0
            if sent_away > 1:
                text = f"the master at {at} has all its workers: found one more than load.workers says"
                raise TokenswarmError(text, EXIT_NOT_STARTED)
            if sent_away:
                time.sleep(AGAIN_S)
                continue
            runs += 1
            say(f"run {runs} ended" + (f": Locust's exit code is {code}" if code else ""))
            worst = max(worst, code if code >= 0 else EXIT_INTERNAL)  # a signal ended it
            _leave(at)
        if found != "nobody":
            alone_since = time.monotonic()
        time.sleep(LOOK_S)
    if not runs:
        raise TokenswarmError(f"no master came to {at} within {wait_s:g} s", EXIT_NOT_STARTED)
    say(f"no master at {at} for {linger_s:g} s after {runs} run{'s' if runs > 1 else ''}: done")
    return worst


def _leave(at: Address) -> None:
    """Wait until the master that was served is gone: it must not take us for one that joins its run late."""
    until = time.monotonic() + SAME_S
    while look(at) == "master" and time.monotonic() < until:
        time.sleep(LOOK_S)


def _serve_one(at: Address) -> int:
    locustfiles = ",".join(str(ROOT / "locustfiles" / name) for name in ("arrivals.py", "chat.py"))
    command = [sys.executable, "-m", "locust", "-f", locustfiles, "--worker"]
    command += ["--master-host", at.host, "--master-port", str(at.port)]
    command += ["--exit-code-on-error", "0"]  # what a failed request is worth is the verdict's to say
    with child(command, None) as process:
        return process.wait()
