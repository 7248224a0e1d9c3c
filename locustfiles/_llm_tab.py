"""The LLM tab of Locust's page, and the ways from there to the live page."""

from typing import TYPE_CHECKING

from flask import Response, request

from locustfiles import _live_table
from locustfiles._live_data import Answers

if TYPE_CHECKING:
    from locustfiles._web import Door

LINK = (
    '<a href="{href}" style="position:fixed;right:16px;bottom:56px;z-index:2000;padding:10px 16px;'
    "border-radius:6px;background:#0b6b4f;color:#fff;font:600 15px system-ui,sans-serif;"
    'text-decoration:none;box-shadow:0 1px 4px rgba(0,0,0,.4)">Live LLM page</a>'
)


def add_llm_tab(door: "Door", answers: Answers) -> None:
    """Show a row per scenario in a tab, and link the live page and the table beside Locust's downloads."""
    door.tabs.add("llm", "LLM", _live_table.COLUMNS, answers.table)
    door.tabs.download("Open the live LLM page", "./llm/")
    door.tabs.download("Download the LLM table as CSV", "./llm/table.csv")

    def linked(response: Response) -> Response:
        """Put one link into Locust's page, beside what its own program draws."""
        at_home = request.path == f"{door.base}/" and response.status_code == 200
        if at_home and response.mimetype == "text/html" and b"templateArgs" in response.data:
            link = LINK.format(href="./llm/").encode()
            response.set_data(response.data.replace(b"</body>", link + b"</body>", 1))
        return response

    door.ui.app.after_request(linked)
