"""SIGTERM: the pod is evicted, the job is cancelled. What is left is a grace period: in our k8s/ 180 s.

It interrupts whatever is done just then, as Ctrl-C does. What was begun ends in order; nothing new is begun.
No other module of ours may be needed here: SIGTERM can come while they are imported.
"""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

VERDICT = {"schema": 1, "status": "INVALID", "exit_code": 5}
GRACE_S = 60.0  # for Locust: streams may take 30 s to end, and reports 10 s to come in


class Evicted(KeyboardInterrupt):
    """SIGTERM came."""


_came = _held = _kept = False


def listen() -> None:
    """Raise Evicted at the first SIGTERM; those that follow change nothing."""
    signal.signal(signal.SIGTERM, _hear)


def _hear(_number: int, _frame: FrameType | None) -> None:
    global _came, _kept
    if not _came:
        _came, _kept = True, _held
        if not _held:
            raise Evicted


@contextmanager
def held() -> Iterator[None]:
    """Keep SIGTERM back while a process is forked, where Python would print and drop what is raised."""
    global _held  # noqa: PLW0603 - signals are the process's, too
    _held = True
    try:
        yield
    finally:
        _held = False


def recall() -> None:
    """Raise what was kept back, once."""
    global _kept  # noqa: PLW0603
    if _kept:
        _kept = False
        raise Evicted


def too_late() -> None:
    """From here on the result stands, and SIGTERM changes nothing; raises Evicted if one was overheard.

    (Python drops what is raised while an object is being deleted, say.)
    """
    deafen()
    if _came:
        raise Evicted


def deafen() -> None:
    """Let SIGTERM change nothing: what is left to do takes less than the grace period."""
    signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # children get the default back, as they would not of SIG_IGN


def came() -> bool:
    """Say whether SIGTERM came."""
    return _came


def note(out: Path, reason: str) -> bool:
    """Write a verdict.json that says INVALID, and why; False where there are other results already."""
    file = out / "verdict.json"
    if file.exists() or next(out.glob("*/run.json"), None):
        return False
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps(VERDICT | {"reasons": [reason], "runs": []}, indent=2) + "\n", encoding="utf-8"
    )
    return True
