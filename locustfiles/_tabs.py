"""Tabs of our own in Locust's page: each a table whose rows come with the numbers that the page asks for.

Locust's page is not changed: it shows what `extended_tabs` and `extended_tables` of its template arguments
name, and takes the rows from `extended_stats` in the answer that it polls every two seconds.
"""

import json
from collections.abc import Callable
from typing import Any

from flask import Response, request

Rows = list[dict[str, Any]]


class Tabs:
    """The tabs, and the rows that each is filled with."""

    def __init__(self, ui: Any, base: str) -> None:
        """Add none yet; `ui` is Locust's WebUI, `base` its --web-base-path without a slash at the end."""
        self._ui = ui
        self._polled = f"{base}/stats/requests"
        self._rows: dict[str, Callable[[], Rows]] = {}
        ui.app.after_request(self._extend)

    def add(self, key: str, title: str, columns: dict[str, str], rows: Callable[[], Rows]) -> None:
        """Show a tab: `columns` are keys of a row -> headings; `rows` is asked at every poll."""
        self._rows[key] = rows
        arguments = self._ui.template_args
        arguments.setdefault("extended_tabs", []).append({"title": title, "key": key})
        structure = [{"key": column, "title": heading} for column, heading in columns.items()]
        arguments.setdefault("extended_tables", []).append({"key": key, "structure": structure})

    def download(self, title: str, href: str) -> None:
        """Put a link beside Locust's downloads; `href` is relative to Locust's page."""
        self._ui.template_args.setdefault("extended_csv_files", []).append({"title": title, "href": href})

    def _extend(self, response: Response) -> Response:
        if request.path == self._polled and response.is_json:
            extended = [{"key": key, "data": rows()} for key, rows in self._rows.items()]
            response.set_data(json.dumps({**(response.json or {}), "extended_stats": extended}))
        return response
