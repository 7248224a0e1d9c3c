"""Markers: what happened to a run at a moment. A word of whoever watches, or a load that was changed.

They are kept in run.json at once, so that charts and the verdict know of them whatever happens next. A load
that changes by Locust's page, by ours or by a load shape is marked without being asked.
"""

import logging
import time
from typing import TYPE_CHECKING, Any, TypedDict

from flask import jsonify, request

if TYPE_CHECKING:
    from locustfiles._coordinator import Coordinator
    from locustfiles._web import Door

NOTE, LOAD = "note", "load"
TEXT_MAX = 200
MARKERS_MAX = 1000  # a run: more can neither be drawn nor read

log = logging.getLogger("tokenswarm")


class MarkerError(ValueError):
    """A marker that cannot be set: one line that says what was found and what was expected."""


class Marker(TypedDict):
    """One entry of `markers` in run.json."""

    unix_ns: int
    until_unix_ns: int | None  # of a changed load: when the last user had been started or stopped
    text: str
    kind: str  # note | load


def read_text(text: str) -> str:
    """Return the text of a marker; raises MarkerError."""
    text = text.strip()
    if not 1 <= len(text) <= TEXT_MAX:
        found = f"{len(text)} characters" if text else "nothing"
        raise MarkerError(f"marker: found {found}, expected 1 to {TEXT_MAX} characters")
    odd = next((mark for mark in text if not mark.isprintable()), None)
    if odd is not None:
        raise MarkerError(
            f"marker: found the character U+{ord(odd):04X}, expected printable ones on one line"
        )
    return text


class Markers:
    """The markers of the run that is on, or of the latest one."""

    def __init__(self, coordinator: "Coordinator") -> None:
        """Watch Locust's runner for a load that changes."""
        self.users = 0  # that were asked for last
        self.latest: list[Marker] = []
        self._coordinator = coordinator
        runner = coordinator.environment.runner
        self._locust_start = runner.start
        runner.start = self._start
        coordinator.environment.events.test_start.add_listener(self._begun)
        coordinator.environment.events.spawning_complete.add_listener(self._spawned)

    def add(self, text: str, kind: str = NOTE) -> None:
        """Set a marker now; raises MarkerError where no run is on, or for a text that cannot be one."""
        text, run = read_text(text), self._coordinator.run
        if run is None or run.closed:
            raise MarkerError("marker: found no run that is on, expected one: a marker is a part of it")
        if len(run.markers) >= MARKERS_MAX:
            raise MarkerError(f"marker: found {MARKERS_MAX} of them in this run, expected no more")
        run.markers.append({"unix_ns": time.time_ns(), "until_unix_ns": None, "text": text, "kind": kind})
        run.keep_meta()

    def _start(self, user_count: int, spawn_rate: float, *more: Any, **named: Any) -> Any:
        """Start as Locust does, having marked a change if a run is on."""
        before, self.users = self.users, user_count
        run = self._coordinator.run
        if run is not None and self._coordinator.is_on and before != user_count:
            each = run.settings.rate_per_user if run.loop == "open" else 1
            what = "arrivals/s" if run.loop == "open" else "users"
            try:
                self.add(f"{what} {before * each:g} -> {user_count * each:g}", LOAD)
            except MarkerError as error:
                log.warning("%s", error)
        return self._locust_start(user_count, spawn_rate, *more, **named)

    def _begun(self, **_: Any) -> None:
        run = self._coordinator.run
        self.latest = run.markers if run else []

    def _spawned(self, **_: Any) -> None:
        """Note when a changed load was reached."""
        run = self._coordinator.run
        still = [marker for marker in self.latest if marker["kind"] == LOAD and not marker["until_unix_ns"]]
        if run is None or run.closed or not still:
            return
        for marker in still:
            first = marker["unix_ns"] < run.spawned_unix_ns  # changed before the first load was reached
            marker["until_unix_ns"] = run.spawned_unix_ns if first else time.time_ns()
        run.keep_meta()

    def seen(self) -> list[dict[str, Any]]:
        """Return them for a page, whose numbers do not reach to ns."""
        return [
            {"unix_s": marker["unix_ns"] / 1e9, "text": marker["text"], "kind": marker["kind"]}
            for marker in self.latest
        ]


def add_markers(door: "Door", coordinator: "Coordinator") -> None:
    """Offer /llm/markers: GET markers.json, POST text."""
    markers = coordinator.markers

    @door.route("/markers.json")
    def markers_so_far() -> Any:
        return jsonify({"markers": markers.seen()})

    @door.route("/markers", "POST")
    def set_marker() -> Any:
        try:
            markers.add(request.form.get("text", ""))
        except MarkerError as error:
            return jsonify({"success": False, "message": str(error)}), 400
        return jsonify({"success": True, "markers": markers.seen()})
