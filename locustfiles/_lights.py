"""The SLA's lights where people look: a tab in Locust's page, and /llm/sla.json for the live page."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import jsonify

if TYPE_CHECKING:  # which imports this
    from flask import Response

    from locustfiles._judge import Answer
    from locustfiles._tabs import Rows
    from locustfiles._web import Door

SYMBOLS = {"PASS": "✓", "FAIL": "✗", "OVERSATURATED": "▲", "INCONCLUSIVE": "?", "INVALID": "⚠"}
COLUMNS = {
    "light": "Light",
    "objective": "Objective",
    "observed": "Observed",
    "limit": "Limit",
    "reason": "Reason",
}


def add_lights(door: "Door", coordinator: Any) -> None:
    """Show how the current run stands by its SLA, and how the latest ended."""
    door.tabs.add("sla", "SLA", COLUMNS, lambda: rows(coordinator.judging.now()))

    @door.route("/sla.json")
    def sla() -> "Response":
        return jsonify(coordinator.judging.now())


def rows(found: "Answer") -> "Rows":
    """Return the tab's rows: the whole verdict, then each objective."""
    whole = {
        "light": light(found["status"]),
        "objective": f"SLA {found['sla']}{_as_of(found)}" if found["sla"] else "no SLA",
        "observed": "",
        "limit": "",
        "reason": "; ".join(found["reasons"]),
    }
    return [whole] + [
        {
            "light": light(objective["status"]),
            "objective": objective["text"],
            "observed": objective.get("observed_words", ""),
            "limit": objective.get("limit_words", ""),
            "reason": objective["reason"],
        }
        for objective in found["objectives"]
    ]


def light(status: str | None) -> str:
    """Write a status as symbol and word."""
    return f"{SYMBOLS[status]} {status}" if status else "…"


def _as_of(found: "Answer") -> str:
    if not found["so_far"] or found["as_of_unix_s"] is None:
        return ""
    as_of = datetime.fromtimestamp(found["as_of_unix_s"], UTC)
    return f" (so far, as of {as_of:%H:%M:%S} UTC, judged every {found['every_s']} s)"
