"""Controls: a run is checked before anything starts, whichever page asks for it, and its load can be changed.

Locust's /swarm stays the only way to start; our view stands in front of it. A form that describes no run gets
`{"success": false, "message": …}`, which Locust's page shows as it does its own, and nothing has changed.
"""

import argparse
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from flask import jsonify, request
from werkzeug.datastructures import ImmutableMultiDict, MultiDict

from locustfiles import _form
from locustfiles._form import FormError
from locustfiles._target import ModelError, TargetError, served
from locustfiles._workload import WorkloadError

if TYPE_CHECKING:
    from locustfiles._coordinator import Coordinator
    from locustfiles._web import Door

MODELS_MAX = 500
BACK_S = 10.0  # how long the workers of a run may take to be there again
FREE = ("ready", "stopped")
NOT_NOW = {
    "spawning": "a run is just being started",
    "stopping": "the last run is still stopping (its streams may run to their end): try again in a moment",
}

log = logging.getLogger("tokenswarm")


class Controls:
    """What stands in front of Locust's /swarm."""

    def __init__(self, ui: Any, coordinator: "Coordinator") -> None:
        """Take Locust's own view; `ui` is its WebUI."""
        self._ui = ui
        self._coordinator = coordinator
        self._environment = coordinator.environment
        self._locusts_view = ui.app.view_functions["locust.swarm"]
        self._checking = False
        self._ends_s: float | None = None  # on the monotonic clock, where the run has an end
        self._crew = 0  # workers that the latest run began with
        self._stopped_s = -math.inf
        self._environment.events.test_stop.add_listener(self._stopped)

    def swarm(self) -> Any:
        """Start a run or change the load of the one that is on, as Locust does, if the form is fit for it."""
        running = self._coordinator.is_on
        form = self._fields(running=running)
        options = self._environment.parsed_options
        run_time_s = options.run_time
        try:
            if running:
                self._check_change(form)
            else:
                self._check_start(form)
        except FormError as error:
            log.warning("Refused from the web page: %s", error)
            answer = {"success": False, "message": str(error), "field": error.name}
            return jsonify({**answer, "host": self._environment.host})
        if not running:
            options.run_time = None  # an empty field changes nothing in Locust: it would be the last run's
            self._crew = (self.workers() or (0, 0))[0]
        request.form = ImmutableMultiDict(form)
        answer = self._locusts_view()
        planned = form.get("run_time")
        self._ends_s = time.monotonic() + int(planned) if planned else None
        if running:
            options.run_time = run_time_s  # of the whole run, for the next form
        return answer

    def _stopped(self, **_: Any) -> None:
        self._stopped_s = time.monotonic()

    def _fields(self, *, running: bool) -> "MultiDict[str, str]":
        """Return what a page may say: no files, no ports, and of a run that is on the load alone."""
        self._ui.update_template_args()
        may = {*_form.LOADS}
        if not running:
            may |= {*_form.COMMON, *(self._ui.template_args["extra_options"] or ()), "sla_text"}
        return MultiDict([(name, text) for name, text in request.form.items(multi=True) if name in may])

    def _check_start(self, form: "MultiDict[str, str]") -> None:
        """Refuse what cannot begin; raises FormError."""
        now = self._coordinator.state
        if self._checking or now not in FREE:
            raise FormError(NOT_NOW.get(now, NOT_NOW["spawning"]))
        if self.waiting():
            raise FormError(self.waiting())
        self._checking = True  # asking the server takes a moment, in which a second click may come
        try:
            self._check_options(form)
        finally:
            self._checking = False

    def _check_options(self, form: "MultiDict[str, str]") -> None:
        options = argparse.Namespace(**vars(self._environment.parsed_options))
        options.run_time = None  # Locust keeps none of the last run
        if rate := form.pop("arrivals_per_s", ""):
            users, each = _form.split_rate(rate)
            form["user_count"], form["rate_per_user"] = str(users), repr(each)
        _form.into(options, form)
        if not self._environment.shape_class:
            _need_load(form)
            _form.check_length(options)
        if form.get("run_time"):
            form["run_time"] = str(options.run_time)
        host = form.get("host", self._environment.host or "").replace("<", "").replace(">", "")
        judging = getattr(self._coordinator, "judging", None)
        if judging is not None and form.get("sla_text"):
            found = judging.check(form["sla_text"], options)
            if isinstance(found, str):
                raise FormError(found, "sla_text")
        try:
            self._coordinator.look(options, host, self._classes(form))
        except ModelError as error:
            raise FormError(str(error), "model") from None
        except TargetError as error:
            raise FormError(str(error), "host") from None
        except WorkloadError as error:
            raise FormError(str(error)) from None
        except ValueError as error:
            raise FormError(f"found an option that cannot be used ({error})") from None

    def _check_change(self, form: "MultiDict[str, str]") -> None:
        """Refuse a load that cannot be; a run keeps its end. Raises FormError."""
        run = self._coordinator.run
        if self._environment.shape_class:
            raise FormError("the load of this run follows a load shape: it is not changed by hand")
        rate = form.pop("arrivals_per_s", "")
        if rate and run is not None:
            form["user_count"] = str(_form.users_for(rate, run.settings.rate_per_user))
        _need_load(form)
        wanted = argparse.Namespace(run_time=None)
        _form.into(wanted, form)
        left_s = self.left_s()
        if wanted.run_time:
            form["run_time"] = str(wanted.run_time)
        elif left_s is not None:  # Locust forgets the end where a form does not say it again
            form["run_time"] = str(max(1, left_s))

    def _classes(self, form: "MultiDict[str, str]") -> list[Any]:
        """Return the user classes that Locust will take; raises FormError."""
        if not self._ui.userclass_picker_is_active:
            return list(self._environment.user_classes)
        known = self._environment.available_user_classes or {}
        names = form.getlist("user_classes") or list(known)
        for name in names:
            if name not in known:
                raise FormError(f"user classes: found {name!r}, expected {', '.join(known)}", "user_classes")
        return [known[name] for name in names]

    def left_s(self) -> int | None:
        """Return how long the run still goes on, where it has an end."""
        if self._ends_s is None or not self._coordinator.is_on:
            return None
        return max(0, math.ceil(self._ends_s - time.monotonic()))

    def waiting(self) -> str:
        """Say so where workers are missing that could send something; else nothing.

        Those of the last run leave as it ends and come back at once: without some of them the next one would
        be another measurement.
        """
        there, expected = self.workers() or (1, 1)
        back_s = time.monotonic() - self._stopped_s
        if there < self._crew and back_s < BACK_S:
            return f"waiting for workers: found {there} of the last run's {self._crew}"
        return "" if there else f"waiting for workers: found none, expected {max(1, expected)}"

    def workers(self) -> tuple[int, int] | None:
        """Return how many workers are there and how many are expected; None where there is no master."""
        runner = self._environment.runner
        if not hasattr(runner, "clients"):
            return None
        return runner.worker_count, self._environment.parsed_options.expect_workers or 0

    def now(self) -> dict[str, Any]:
        """Return where the run stands, for a page."""
        coordinator, workers, waiting = self._coordinator, self.workers(), self.waiting()
        run, state, is_on = coordinator.run, coordinator.state, coordinator.is_on
        not_now = "" if is_on else NOT_NOW.get(state, "")
        each = run.settings.rate_per_user if run and run.loop == "open" else 1.0
        return {
            "state": state,
            "says": not_now or coordinator.refused or waiting,
            "can_start": state in FREE and not waiting,
            "can_change": is_on,
            "workers": workers and {"there": workers[0], "expected": workers[1]},
            "run": run.options.run_id if run else None,
            "unit": "arrivals/s" if run and run.loop == "open" else "users",
            "load": round(coordinator.markers.users * each, 6) if run else None,
            "step": each,
            "left_s": self.left_s(),
        }


def _need_load(form: "MultiDict[str, str]") -> None:
    for name, what in (("user_count", "users"), ("spawn_rate", "ramp")):
        if not form.get(name):
            raise FormError(f"{what}: found nothing, expected a number", name)


def _loop_now(environment: Any) -> str:
    """Return the kind of loop that would run; nothing where that is not clear."""
    try:
        return _form.loop_of(environment.user_classes)
    except WorkloadError:
        return ""


def add_controls(door: "Door", coordinator: "Coordinator") -> None:
    """Stand in front of /swarm, and offer /llm/form.json, state.json and models.json."""
    controls = Controls(door.ui, coordinator)
    door.ui.app.view_functions["locust.swarm"] = door.ui.auth_required_if_enabled(controls.swarm)
    environment = coordinator.environment

    @door.route("/form.json")
    def form_now() -> Any:
        options = environment.parsed_options
        model = "" if options.model == coordinator.found_model else options.model
        loop = _loop_now(environment)
        groups = _form.groups(options, environment.host or "", loop, model)
        named = [{"name": name, "fields": [one._asdict() for one in fields]} for name, fields in groups]
        return jsonify({"loop": loop, "groups": named})

    @door.route("/state.json")
    def state_now() -> Any:
        return jsonify(controls.now())

    @door.route("/models.json", "POST")  # no GET: another site's page could make us ask
    def models_of_a_target() -> Any:
        host = request.values.get("host", "")
        try:
            coordinator.key_rule.check(host)
            names = served(host, verify=not environment.parsed_options.insecure)
        except (TargetError, ValueError) as error:
            return jsonify({"success": False, "message": str(error), "models": []})
        return jsonify({"success": True, "models": names[:MODELS_MAX]})
