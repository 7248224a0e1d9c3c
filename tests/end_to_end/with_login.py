"""Our arrivals with a login, as Locust's documentation sets one up, and a list of all rules for the tests."""

import os
import secrets
from typing import Any

from flask import Response, abort, jsonify, redirect, request
from flask_login import UserMixin, login_user
from locust import events

from locustfiles.arrivals import Arrivals

__all__ = ["Arrivals"]


class Person(UserMixin):  # type: ignore[misc]  # untyped upstream
    """Whoever knows the password."""

    def __init__(self, name: str) -> None:
        """Take a name for the session."""
        self.id = name


def bearer(asked: Any) -> Person | None:
    """Let a program in that sends the password as a token, as Prometheus can."""
    token = f"Bearer {os.environ['PAGE_PASSWORD']}"
    return Person("program") if asked.headers.get("Authorization") == token else None


def open_login(environment: Any, **_: Any) -> None:
    """Add the login, and the rules."""
    ui = environment.web_ui
    if ui is None:
        return
    app, base = ui.app, environment.parsed_options.web_base_path or ""
    app.secret_key = secrets.token_hex()

    @app.route("/rules")
    def rules() -> Response:
        return jsonify([[rule.rule, sorted(rule.methods)] for rule in app.url_map.iter_rules()])

    if not ui.web_login:
        return
    ui.login_manager.user_loader(Person)
    ui.login_manager.request_loader(bearer)
    ui.auth_args = {"username_password_callback": f"{base}/enter"}

    @app.route(f"{base}/enter", methods=["POST"])
    def enter() -> Any:
        if request.form["password"] != os.environ["PAGE_PASSWORD"]:
            abort(403)
        login_user(Person("someone"))
        return redirect(f"{base}/")


_events: Any = events
_events.init.add_listener(open_login)
