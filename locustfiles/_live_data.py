"""/llm/data.json: what the live page asks for every second or two, and the same rows as CSV.

The answer is put together once a second at most, however many pages are open; it is as long after a day as
after ten minutes.
"""

import csv
import io
import json
import time
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent
from flask import Response, request

from locustfiles import _live_table
from locustfiles._live import Live
from locustfiles._target import Target

if TYPE_CHECKING:
    from locustfiles._web import Door

KEPT_S = 1.0
REPORTED_S = 3  # by then every worker has reported on a second: they report once a second
NOW_S = 5  # the rates of "now" are those of so many seconds
SPANS = ("run", "recent")


def keep_up(live: Live, target: Target) -> None:
    """Bring a run's buckets up to date once a second until killed, while no token is waiting."""
    seen: dict[str, float] = {}
    while True:
        gevent.sleep((0.5 - time.time()) % 1.0 or 1.0)  # it is read at the full second
        if target.last and target.last is not seen:
            seen = target.last
            live.reading(int(time.time()) - 1, seen)
        for _ in live.settle():
            gevent.idle()


class Made(NamedTuple):
    """A table, when it was made, and of which run; one that went on is not the run's last word."""

    at_s: float
    run: Any
    ended: bool
    rows: list[dict[str, Any]]


class Answers:
    """What is said of the latest run. `coordinator.latest` may be None: nothing was started yet."""

    def __init__(self, environment: Any, coordinator: Any) -> None:
        """Begin with no answer."""
        self._environment = environment
        self._coordinator = coordinator
        self._kept: dict[str, tuple[float, str]] = {}
        self._table: Made | None = None

    def table(self) -> list[dict[str, Any]]:
        """Return the rows of the table, no older than KEPT_S; none before the first run."""
        run, made = self._coordinator.latest, self._table
        if run is None:
            return []
        ended = bool(run.ended_unix_ns)
        of_now = made is not None and made.run is run and made.ended == ended
        if made is None or not of_now or time.monotonic() - made.at_s > KEPT_S:
            rows = run.live.table.rows(run.merge.totals, _elapsed_s(run))
            made = self._table = Made(time.monotonic(), run, ended, rows)
        return made.rows

    def text(self, span: str) -> str:
        """Return the JSON of a span, no older than KEPT_S."""
        made_s, text = self._kept.get(span, (-inf, ""))
        if time.monotonic() - made_s > KEPT_S:
            answer = self._answer(span)
            gevent.sleep(0)
            text = json.dumps(answer, separators=(",", ":"))
            self._kept[span] = time.monotonic(), text
        return text

    def _answer(self, span: str) -> dict[str, Any]:
        run = self._coordinator.latest
        now_s = time.time()
        answer = {"span": span, "now_unix_s": round(now_s, 1), "state": self._coordinator.state, "run": None}
        if run is None:
            return answer
        live = run.live
        until_s = inf if run.ended_unix_ns else now_s - REPORTED_S
        recent = live.columns(live.recent, until_s)
        gevent.sleep(0)  # in a run of one process tokens may be waiting
        shown = recent if span == "recent" else live.columns(live.run, until_s)
        about, columns = self._about(run, recent), _live_table.COLUMNS
        return {**answer, **shown, "run": about, "columns": columns, "table": self.table()}

    def _about(self, run: Any, recent: dict[str, Any]) -> dict[str, Any]:
        columns, ended = recent["series"], bool(run.ended_unix_ns)
        return {
            **run.about,
            "users": 0 if ended else self._environment.runner.user_count,
            "elapsed_s": round(_elapsed_s(run), 1),
            "requests": run.live.requests,
            "failed": run.live.failed,
            "in_flight": _now(columns["in_flight"], 1, ended=ended),
            "tokens_per_s": _now(columns["tokens_per_s"], NOW_S, ended=ended),
            "ok_per_s": _now(columns["ok_per_s"], NOW_S, ended=ended),
        }


def _elapsed_s(run: Any) -> float:
    ended_unix_ns: int = run.ended_unix_ns or time.time_ns()
    return (ended_unix_ns - int(run.started_unix_ns)) / 1e9


def _now(column: list[float | None], seconds: int, *, ended: bool) -> float | None:
    """Return the mean of the last seconds that are known; None where the run has ended, or begun just now."""
    known = [value for value in column[-seconds:] if value is not None]
    return round(sum(known) / len(known), 2) if known and not ended else None


def add_live_data(door: "Door", answers: Answers) -> None:
    """Offer the data of the live page, and its table as a file."""

    @door.route("/data.json")
    def live_data() -> Response:
        span = request.args.get("span", "run")
        if span not in SPANS:
            return Response(f"span: found {span[:40]!r}, expected one of {', '.join(SPANS)}\n", 400)
        return Response(answers.text(span), mimetype="application/json")

    @door.route("/table.csv")
    def live_table() -> Response:
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_live_table.COLUMNS)
        for row in answers.table():
            writer.writerow(["" if cell is None else _tame(cell) for cell in row.values()])
        response = Response(file.getvalue(), mimetype="text/csv")
        response.headers["Content-Disposition"] = "attachment; filename=tokenswarm-llm.csv"
        return response


def _tame(cell: object) -> object:
    """Keep a spreadsheet from taking a scenario's name for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell
