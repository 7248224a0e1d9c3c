"""Between two runs: wait until the server has nothing left of the one before, or say that it has.

vLLM says on /metrics how many requests it runs and how many wait. Where a server does not say, a short pause
has to do, and run.json tells so.
"""

import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3

from locustfiles._portable import proxies_for, unchanged
from locustfiles._scrape import read_metrics
from server.making import Say

LONGEST_S = 60.0
PAUSE_S = 2.0
LOOK_S = 0.5
ANSWER_S = 5.0


class Rest(NamedTuple):
    """What the waiting came to."""

    found: str  # idle, busy (still, after the longest wait) or unknown (a pause, for the server does not say)
    waited_s: float
    running: int | None = None
    waiting: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what run.json keeps."""
        return self._asdict() | {"waited_s": round(self.waited_s, 1)}

    @property
    def warning(self) -> str:
        """What a person must hear of; empty where there is nothing."""
        if self.found != "busy":
            return ""
        found = f"{self.running} running and {self.waiting} waiting"
        return f"the server still had {found} after {self.waited_s:.0f} s: what follows meets them"


def wait(url: str, say: Say, *, verify: bool = True, longest_s: float | None = None) -> Rest:
    """Wait until nothing runs or waits at a server, at most so long."""
    began, longest_s = time.monotonic(), LONGEST_S if longest_s is None else longest_s
    while True:
        found = _at_server(url, verify=verify)
        waited_s = time.monotonic() - began
        if found is None:
            say(f"cooling down for {PAUSE_S:g} s (no /metrics say what is left at the server)")
            time.sleep(PAUSE_S)
            return Rest("unknown", waited_s + PAUSE_S)
        if not any(found):
            return Rest("idle", waited_s, *found)
        if waited_s >= longest_s:
            return Rest("busy", waited_s, *found)
        say(f"cooling down: {found[0]} running, {found[1]} waiting at the server")
        time.sleep(LOOK_S)


def _at_server(url: str, *, verify: bool) -> tuple[int, int] | None:
    """Return how many requests run and wait at a server, None where it does not say."""
    parts = urlsplit(url)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/").removesuffix("/v1")
    try:
        answer = requests.get(
            f"{plain}/metrics", timeout=ANSWER_S, verify=verify, auth=unchanged, proxies=proxies_for(plain)
        )
        row = read_metrics(answer.text) if answer.status_code == 200 else {}
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError):
        return None
    if "running" not in row or "waiting" not in row:
        return None
    return int(row["running"]), int(row["waiting"])
