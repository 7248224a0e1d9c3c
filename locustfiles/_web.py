"""Our pages beside Locust's own: where they hang, who may open them, what a browser may do with them.

Every route of ours goes through one Door: it lies under /llm (and --web-base-path), asks for the login where
--web-login does, and answers with headers that let a page load nothing from elsewhere. Locust lets every site
read its answers (CORS); ours take that back, and a form that another site's page sends is refused, Locust's
included: whoever opens a hostile page in the same browser must not start a load with it.
"""

import ipaddress
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, request, send_from_directory

from locustfiles._controls import add_controls
from locustfiles._downloads import add_downloads
from locustfiles._lights import add_lights
from locustfiles._live_data import Answers, add_live_data
from locustfiles._llm_tab import add_llm_tab
from locustfiles._markers import add_markers
from locustfiles._tabs import Tabs

if TYPE_CHECKING:
    from locustfiles._coordinator import Coordinator

PAGE = Path(__file__).with_name("_page")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

log = logging.getLogger("tokenswarm")

View = Callable[..., Any]


class Door:
    """The way in for every page of ours."""

    def __init__(self, environment: Any) -> None:
        """Open nothing yet; `hang` does, when all routes are there."""
        self.ui: Any = environment.web_ui
        self.base: str = (environment.parsed_options.web_base_path or "").rstrip("/")
        self.tabs = Tabs(self.ui, self.base)
        self._blueprint = Blueprint("tokenswarm", __name__, url_prefix=f"{self.base}/llm")
        self._blueprint.after_request(_guarded)

    def route(self, rule: str, *methods: str) -> Callable[[View], View]:
        """Put a view under /llm (GET unless said otherwise), behind the login where there is one."""

        def put(view: View) -> View:
            self._blueprint.add_url_rule(
                rule, view.__name__, self.ui.auth_required_if_enabled(view), methods=methods or ("GET",)
            )
            return view

        return put

    def hang(self) -> None:
        """Hand the routes to Locust's web server, which has not started yet."""
        self.ui.app.before_request(_refuse_other_sites)
        self.ui.app.register_blueprint(self._blueprint)
        if not is_loopback(self.ui.host) and not self.ui.web_login:
            log.warning(
                "The web page listens on %s without a login: whoever reaches it can start a load with it",
                self.ui.host or "every address",
            )


def is_loopback(host: str) -> bool:
    """Say whether a host to listen on is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _guarded(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response


def _refuse_other_sites() -> None:
    """Let nothing but a page of our own (or a program, which sends no Origin) change anything."""
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    origin = request.headers.get("Origin")
    other = origin is not None and urlsplit(origin).netloc != request.host
    if other or request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        abort(403, "found a request from another site's page, expected one from this server's own")


def add_page(door: Door) -> None:
    """Serve the live page and what it is made of."""

    @door.route("/")
    def live_page() -> Response:
        return send_from_directory(PAGE, "page.html")

    @door.route("/page/<path:name>")
    def live_page_part(name: str) -> Response:
        return send_from_directory(PAGE, name)


def open_door(environment: Any, coordinator: "Coordinator") -> None:
    """Hang our pages into Locust's web server, where there is one."""
    if environment.web_ui is None:
        return
    door = Door(environment)
    answers = Answers(environment, coordinator)
    add_page(door)
    add_live_data(door, answers)
    add_llm_tab(door, answers)
    add_lights(door, coordinator)
    add_downloads(door, coordinator)
    add_controls(door, coordinator)
    add_markers(door, coordinator)
    door.hang()
