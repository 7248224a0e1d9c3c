"""Our pages beside Locust's own: where they hang, who may open them, what a browser may do with them.

Every route of ours goes through one Door: it lies under /llm (and --web-base-path), asks for the login where
--web-login does, and answers with headers that let a page load nothing from elsewhere. Locust lets every site
read its answers (CORS); the whole server takes that back, and a form that another site's page sends is
refused, Locust's included: whoever opens a hostile page in the same browser must not start a load with it,
nor show it what is measured. Where the server listens on loopback and nobody logs in, it answers to names of
loopback alone: a site may give its own name this machine's address (DNS rebinding).
"""

import ipaddress
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, request, send_from_directory
from flask_login import current_user

from locustfiles._controls import add_controls
from locustfiles._downloads import add_downloads
from locustfiles._lights import add_lights
from locustfiles._live_data import Answers, add_live_data
from locustfiles._llm_tab import add_llm_tab
from locustfiles._markers import add_markers
from locustfiles._prometheus import add_metrics, open_metrics
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
        shown = environment.parsed_options.web_host_display_name or ""
        self._name = _host_of(shown.rpartition("//")[2])  # of a proxy before us
        self.base: str = (environment.parsed_options.web_base_path or "").rstrip("/")
        self.tabs = Tabs(self.ui, self.base)
        self._blueprint = Blueprint("tokenswarm", __name__, url_prefix=f"{self.base}/llm")
        self._blueprint.before_request(self._ask_for_login)
        self._blueprint.after_request(_guarded)

    def route(self, rule: str, *methods: str) -> Callable[[View], View]:
        """Put a view under /llm (GET unless said otherwise), behind the login where there is one."""

        def put(view: View) -> View:
            self._blueprint.add_url_rule(rule, view.__name__, view, methods=methods or ("GET",))
            return view

        return put

    def _ask_for_login(self) -> Any:
        # Locust's own decorator would turn every answer that is an exception (404, 403) into a page of 200.
        if self.ui.web_login and not current_user.is_authenticated:
            return self.ui.login_manager.unauthorized()
        return None

    def hang(self) -> None:
        """Hand the routes to Locust's web server, which has not started yet."""
        app = self.ui.app
        app.wsgi_app = _without_cors(app.wsgi_app)
        app.before_request(self._refuse_other_sites)
        app.after_request(_unframed)
        if is_loopback(self.ui.host) and not self.ui.web_login:
            app.before_request(self._refuse_other_names)
        app.register_blueprint(self._blueprint)
        if not is_loopback(self.ui.host) and not self.ui.web_login:
            log.warning(
                "The web page listens on %s without a login: whoever reaches it can start a load with it",
                self.ui.host or "every address",
            )

    def _refuse_other_sites(self) -> None:
        """Let nothing but a page of our own (or a program, which sends no Origin) change anything.

        Other sites may link to us; as a picture of theirs a report would be drawn beside a measurement.
        """
        said = request.headers.get("Sec-Fetch-Site")  # by the browser, which knows its address line
        if request.method in {"GET", "HEAD", "OPTIONS"} and (
            said in {None, "same-origin", "none"} or request.headers.get("Sec-Fetch-Mode") == "navigate"
        ):
            return
        origin = request.headers.get("Origin")
        if said is not None:
            ours = said in {"same-origin", "none"}
        else:  # a proxy may have put its own name for us into Host
            netloc = urlsplit(origin or "").netloc
            ours = (
                origin is None or netloc == request.host or (bool(netloc) and _host_of(netloc) == self._name)
            )
        if not ours:
            abort(403, "found a request from another site's page, expected one from this server's own")

    def _refuse_other_names(self) -> None:
        name = _host_of(request.host)
        if not is_loopback(name) and not name.endswith(".localhost") and name != self._name:
            abort(
                403,
                f"found a request for {name!r}, expected one for localhost: the page listens on loopback and "
                "has no login (behind a proxy, say its name with --web-host-display-name)",
            )


def is_loopback(host: str) -> bool:
    """Say whether a host to listen on is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _without_cors(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Take back what lets other sites read an answer; around the app, because flask-cors adds it last."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *failure: Any) -> Any:
            kept = [pair for pair in headers if not pair[0].lower().startswith("access-control-")]
            return start_response(status, kept, *failure)

        found: Iterable[bytes] = inner(environ, start)
        return found

    return answer


def _guarded(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response


def _unframed(response: Response) -> Response:
    """Let no other site show Locust's pages inside its own, where a click is not meant for us."""
    response.headers.setdefault("X-Frame-Options", "SAMEORIGIN")
    return response


def _host_of(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


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
    metrics = open_metrics(environment, coordinator, coordinator.judging.limits)
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
    add_metrics(door, metrics)
    door.hang()
