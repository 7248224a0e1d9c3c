"""What to do about a gate that makes a run INVALID: the words behind what was found."""

_AGAIN = "measure again"
_ALONE = "see that nobody else uses the server, and that its /metrics are its own"
_FILES = "take the files as the run wrote them, or measure again"
_ROOM = "more load workers, a lower load or a quieter machine"

REMEDIES = {
    "complete": _AGAIN,
    "window": "a run longer than its warm-up",
    "workers": "look into the lost worker's log, and measure again",
    "unaccounted": "look into the workers' logs, and measure again",
    "reports missing": "look into the network between workers and master, and measure again",
    "records = rows": _FILES,
    "gaps = itl.hlog": _FILES,
    "dispatch lag p99": _ROOM,
    "read lag p99": _ROOM,
    "coalesced chunks": _ROOM,
    "clock jumps": "measure while nothing sets this machine's clock",
    "times in order": "measure while nothing sets this machine's clock",
    "requests = server's": _ALONE,
    "tokens = server's": _ALONE,
    "server's TTFT": _ALONE,
    "Little's law, client": "measure again; if it breaks again, our own counts are wrong",
    "Little's law, server": _ALONE,
}
"""By the gate's name; every gate that can be "invalid" has one."""
