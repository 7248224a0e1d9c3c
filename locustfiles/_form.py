"""The form that starts a run, sans-IO: what it asks for, and what was filled in, as options.

Locust puts whatever a form says into its options and trips over what does not fit, with half of it already
changed. Here the same is done to a copy first, and what is wrong becomes one line with the field's name.
"""

import argparse
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from locustfiles._errors import shown
from locustfiles._options import ENDPOINTS, LONGEST_S, RATES_PER_USER
from locustfiles._pacing import ARRIVALS
from locustfiles._workload import WorkloadError

LOADS = ("user_count", "spawn_rate", "run_time", "arrivals_per_s")  # what may change while a run is on
COMMON = (*LOADS, "host", "profile", "user_classes", "shape_class")  # what Locust's own form has
USERS_MAX = 100_000
OPTION = re.compile(r"--([a-z-]+): ")
TIMES = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s?)?")


class FormError(ValueError):
    """A form that describes no run: one line, and the field that it is about where that is known."""

    def __init__(self, text: str, name: str = "") -> None:
        """Find the field in the line where it begins with an option."""
        super().__init__(text)
        option = OPTION.match(text)
        self.name = name or (option[1].replace("-", "_") if option else "")


class Field(NamedTuple):
    """One input: `kind` is number | text | choice | textarea; a choice is (value, words)."""

    name: str
    label: str
    kind: str
    value: Any
    help: str
    unit: str = ""
    limits: tuple[float | None, float | None] = (None, None)
    choices: tuple[tuple[str, str], ...] = ()


def loop_of(classes: list[Any]) -> str:
    """Return the kind of loop that all our users are; raises WorkloadError where they differ."""
    loops: set[str] = {made.loop for made in classes if hasattr(made, "loop")}
    if len(loops) != 1:
        found = " and ".join(made.__name__ for made in classes)
        raise WorkloadError(f"user classes: found {found}, expected one: name it at the end of the command")
    return loops.pop()


def into(options: argparse.Namespace, form: Mapping[str, str]) -> None:
    """Put a form's values into options, as Locust would; raises FormError."""
    known = vars(options)
    for name, text in form.items():
        if name == "user_count":
            known["num_users"] = whole(text, name, "users")
        elif name == "spawn_rate":
            known[name] = positive(text, name, "ramp")
        elif name == "run_time":
            known[name] = seconds(text) if text else None
        elif name not in COMMON and name in known:
            known[name] = _like(known[name], text, name)


def _like(old: Any, text: str, name: str) -> Any:
    """Read a text as what the option is; Locust's own rules."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(old, bool):
        if text not in {"true", "false", ""}:
            raise FormError(f"{flag}: found {shown(text)!r}, expected true or false")
        return text == "true"
    if isinstance(old, int | float):
        try:
            return type(old)(text)
        except ValueError:
            kind = "a whole number" if isinstance(old, int) else "a number"
            raise FormError(f"{flag}: found {shown(text)!r}, expected {kind}") from None
    return text if old is None or isinstance(old, str) else old


def whole(text: str, name: str, what: str) -> int:
    """Read a number of users; raises FormError."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= USERS_MAX:
        raise FormError(
            f"{what}: found {shown(text)!r}, expected a whole number from 1 to {USERS_MAX:,}", name
        )
    return value


def positive(text: str, name: str, what: str) -> float:
    """Read a rate; raises FormError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= USERS_MAX:
        raise FormError(
            f"{what}: found {shown(text)!r}, expected more than 0 and at most {USERS_MAX:,}", name
        )
    return value


def seconds(text: str) -> int:
    """Read how long a run is, as Locust writes it: 90, 90s, 5m, 1h30m; raises FormError."""
    parts = TIMES.fullmatch(text.strip())
    hours, minutes, rest = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    value = hours * 3600 + minutes * 60 + rest
    if not 1 <= value <= 365 * LONGEST_S:
        expected = "expected such as 90s, 5m or 1h30m, or nothing for a run that is stopped by hand"
        raise FormError(f"run time: found {shown(text)!r}, {expected}", "run_time")
    return value


def split_rate(text: str) -> tuple[int, float]:
    """Return users and arrivals a second of each, for a rate of arrivals that need be no whole number."""
    low = RATES_PER_USER[0]
    rate = positive(text, "arrivals_per_s", "arrivals/s")
    if rate < low:
        raise FormError(f"arrivals/s: found {shown(text)!r}, expected at least {low:g}", "arrivals_per_s")
    users = math.ceil(rate)
    return users, rate / users


def users_for(text: str, rate_per_user: float) -> int:
    """Return the users that are a rate of arrivals, in a run where each is `rate_per_user` of them."""
    rate = positive(text, "arrivals_per_s", "arrivals/s")
    users = max(1, round(rate / rate_per_user))
    if not math.isclose(users * rate_per_user, rate, rel_tol=1e-6):
        near = f"such as {users * rate_per_user:g}"
        expected = f"expected a multiple of {rate_per_user:g} (what one user is in this run), {near}"
        raise FormError(f"arrivals/s: found {shown(text)!r}, {expected}", "arrivals_per_s")
    return users


def check_length(options: argparse.Namespace) -> None:
    """Refuse a run that would end before anything is judged; raises FormError."""
    ramp_s = max(0.0, options.num_users / options.spawn_rate - 1)  # Locust begins with a second's worth
    before_s = ramp_s + options.warmup
    if options.run_time and options.run_time <= before_s:
        raise FormError(
            f"run time: found {options.run_time} s, expected more than the {before_s:g} s of ramp and "
            "warm-up together: nothing would be left to judge",
            "run_time",
        )


def groups(options: Any, host: str, loop: str, model: str) -> list[tuple[str, list[Field]]]:
    """Return what the form asks for, with the values of now; `loop` is open, closed or not known ("")."""
    return [
        ("Target", _target(options, host, model)),
        ("Workload", _workload(options)),
        ("Load", _load(options, loop)),
        ("Judging", _judging(options)),
    ]


def _target(options: Any, host: str, model: str) -> list[Field]:
    ends = tuple((name, name) for name in ENDPOINTS)
    return [
        Field("host", "Target", "text", host, "Where the server is: http://HOST:PORT, without /v1"),
        Field("model", "Model", "text", model, "Empty: the first that the server lists"),
        Field("endpoint", "Endpoint", "choice", options.endpoint, "Which of its APIs is asked", choices=ends),
    ]


def _workload(options: Any) -> list[Field]:
    fields = []
    if options.prompts:
        file = (("auto", f"file {Path(options.prompts).name}"), ("words", "generated words"))
        about = "The file is the one that was named on the command line"
        fields = [Field("prompt_source", "Prompts", "choice", options.prompt_source, about, choices=file)]
    length = "N, or LOW-HIGH to draw each at random"
    yes = (("false", "no"), ("true", "yes"))
    eos = str(options.ignore_eos).lower()
    return [
        *fields,
        Field("prompt_words", "Prompt length", "text", options.prompt_words, length, "words"),
        Field("max_tokens", "Answer length", "text", options.max_tokens, f"{length}, at most", "tokens"),
        Field("ignore_eos", "Always the full length", "choice", eos, "vLLM's ignore_eos", choices=yes),
        Field(
            "choices", "Answers per request", "number", options.choices, "The request's n", limits=(1, None)
        ),
        Field(
            "extra_body", "More of the request", "textarea", options.extra_body, 'JSON: {"temperature": 0}'
        ),
        Field("seed", "Seed", "number", options.seed, "The same seed sends the same prompts and lengths"),
    ]


def _load(options: Any, loop: str) -> list[Field]:
    users, rate = options.num_users or 1, options.rate_per_user
    each = (1, USERS_MAX)
    spaced = tuple((name, name) for name in ARRIVALS)
    day = (0, LONGEST_S)
    of_open = [
        Field(
            "arrivals_per_s",
            "Arrivals",
            "number",
            round(users * rate, 6),
            "Requests that arrive whatever the server does; 2.4 is a rate, too",
            "per second",
            (RATES_PER_USER[0], USERS_MAX),
        ),
        Field(
            "arrivals",
            "Spacing",
            "choice",
            options.arrivals,
            "poisson: at random, as strangers come; constant: evenly",
            choices=spaced,
        ),
    ]
    of_closed = [
        Field(
            "user_count", "Users", "number", users, "Each asks, waits for the answer, asks again", "", each
        ),
        Field("think_time", "Think time", "number", options.think_time, "After an answer", "s", day),
    ]
    return [
        *(of_open if loop == "open" else of_closed),
        Field(
            "spawn_rate",
            "Ramp",
            "number",
            options.spawn_rate or max(1, users),
            "Users, or arrivals a second, that are added each second",
            "per second",
            (0.001, USERS_MAX),
        ),
        Field(
            "run_time", "Run time", "text", _written(options.run_time), "90s, 5m, 1h30m; empty: until Stop"
        ),
        Field("warmup", "Warm-up", "number", options.warmup, "After the ramp; not judged", "s", day),
    ]


def _judging(options: Any) -> list[Field]:
    fields = [
        Field("run_name", "Name of the run", "text", options.run_name, "What tables and reports call it")
    ]
    if hasattr(options, "sla_text"):
        about = "As in an SLA file: {name: chat, objectives: [ttft p95 < 500 ms]}; empty: not judged"
        fields.append(Field("sla_text", "SLA", "textarea", options.sla_text or "", about))
    return fields


def _written(run_time_s: int | None) -> str:
    return f"{run_time_s}s" if run_time_s else ""
