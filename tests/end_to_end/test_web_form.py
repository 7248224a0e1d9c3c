"""Locust's web server with our controls: nothing bad starts, a load changes in flight, runs follow runs."""

import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from analysis.rundir import load
from analysis.sla import default
from analysis.verdict import judge
from tests.end_to_end.locusts import (
    Locust,
    Result,
    check_accounts,
    command,
    free_port,
    result,
    simulator,
    started,
)
from tests.marks import more

QUICK = '{"ttft_ms": 20, "itl_ms": 5, "tokens": 12}'
FORM = {"user_count": "2", "spawn_rate": "2"}
WAITS = "waiting for workers: found none, expected 2"


class Web(NamedTuple):
    """A Locust that waits for its page, and the server that it would load."""

    port: int
    url: str
    path: Path
    locust: Locust

    def ask(self, path: str, form: dict[str, str] | None = None) -> Any:
        data = None if form is None else urlencode(form).encode()
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=40) as answer:
                return json.load(answer)
        except HTTPError as error:
            return json.load(error)

    def wait(self, what: str, until: Callable[[], bool], timeout_s: float = 60) -> None:
        end = time.monotonic() + timeout_s
        while not until():
            assert self.locust.process.poll() is None, self.locust.said
            assert time.monotonic() < end, f"{what}\n{self.locust.said}"
            time.sleep(0.1)

    def wait_for_state(self, state: str) -> None:
        self.wait(state, lambda: self.ask("/llm/state.json")["state"] == state)

    def wait_until_free(self) -> None:
        """Wait until the run has ended and its workers are there again."""
        self.wait("the next run's turn", lambda: self.ask("/llm/state.json")["can_start"])

    def has_ended(self, name: str, requests: int) -> bool:
        """Say whether more requests than so many of the run with that name have ended."""
        run = self.ask("/llm/data.json")["run"]
        return bool(run["name"] == name and run["requests"] > requests)

    def runs(self) -> list[Result]:
        return sorted((result(path) for path in self.path.glob("out/*")), key=lambda run: run.meta["run"])


@contextmanager
def web(path: Path, locustfile: str = "arrivals", *more: str, workers: int = 0) -> Iterator[Web]:
    """Start Locust with its page, and so many workers as programs of their own (none: one process)."""
    with ExitStack() as stack:
        url, _ = stack.enter_context(simulator(QUICK))
        port, bus = free_port(), str(free_port())
        plain = [part for part in command(locustfile, url) if part not in {"--headless", "--only-summary"}]
        head = [*plain, "--web-port", str(port), *more]
        if workers:
            head += ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", bus]
        locust = stack.enter_context(started(head, path / "locust.log"))
        for number in range(workers):
            order = [*plain, "--worker", "--master-host", "127.0.0.1", "--master-port", bus]
            stack.enter_context(started(order, path / f"worker-{number}.log"))
        made = Web(port, url, path, locust)
        made.wait("a web server", lambda: _answers(made))
        if workers:
            made.wait("workers", lambda: made.ask("/llm/state.json")["workers"]["there"] == workers)
        yield made


def _answers(made: Web) -> bool:
    try:
        made.ask("/llm/state.json")
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("idle")) as made:
        yield made


@pytest.mark.parametrize(
    ("form", "field", "words"),
    [
        ({"user_count": "many"}, "user_count", "users: found 'many', expected a whole number"),
        ({"user_count": ""}, "user_count", "users: found ''"),
        ({"spawn_rate": "nan"}, "spawn_rate", "ramp: found 'nan', expected more than 0"),
        ({"run_time": "soon"}, "run_time", "run time: found 'soon', expected such as 90s"),
        ({"run_time": "4", "warmup": "5"}, "run_time", "run time: found 4 s, expected more than the 5 s"),
        ({"arrivals_per_s": "-1"}, "arrivals_per_s", "arrivals/s: found '-1', expected more than 0"),
        ({"rate_per_user": "0"}, "rate_per_user", "--rate-per-user: found 0.0, expected between"),
        ({"prompt_words": "many"}, "prompt_words", "--prompt-words: found 'many', expected a number or"),
        ({"max_tokens": "9-3"}, "max_tokens", "--max-tokens: found '9-3', expected 1 <= LOW <= HIGH"),
        ({"endpoint": "mail"}, "endpoint", "--endpoint: found 'mail', expected one of chat, completions"),
        ({"prompt_source": "/etc"}, "prompt_source", "--prompt-source: found '/etc', expected one of auto"),
        ({"seed": "1.5"}, "seed", "--seed: found '1.5', expected a whole number"),
        ({"warmup": "-1"}, "warmup", "--warmup: found -1.0, expected at least 0 s"),
        ({"extra_body": "{"}, "extra_body", "--extra-body: found '{', expected a JSON object"),
        ({"model": "nope"}, "model", "expected the model 'nope', found "),
        ({"host": "ftp://127.0.0.1"}, "host", "--host: found 'ftp://127.0.0.1', expected http://"),
        (
            {"host": "http://127.0.0.1:1"},
            "host",
            "http://127.0.0.1:1: cannot be reached (Connection refused)",
        ),
    ],
)
def test_a_bad_form_is_one_line_and_nothing_starts(
    idle: Web, form: dict[str, str], field: str, words: str
) -> None:
    before = idle.ask("/llm/form.json")
    answer = idle.ask("/swarm", FORM | form)
    assert answer["success"] is False
    assert words in answer["message"]
    assert "\n" not in answer["message"]
    assert answer["field"] == field
    assert idle.ask("/llm/form.json") == before
    now = idle.ask("/llm/state.json")
    assert (now["state"], now["workers"], now["can_start"]) == ("ready", None, True)
    assert idle.ask("/stats/requests")["state"] == "ready"
    assert not (idle.path / "out").exists()
    assert idle.locust.errors() == []


def test_models_of_a_target_are_listed_when_asked_by_our_own_page(idle: Web) -> None:
    found = idle.ask("/llm/models.json", {"host": idle.url})
    assert found["success"]
    assert len(found["models"]) == 1
    for host, words in (("file:///etc/passwd", "expected http"), ("http://127.0.0.1:1", "cannot be reached")):
        found = idle.ask("/llm/models.json", {"host": host})
        assert (found["success"], found["models"]) == (False, [])
        assert words in found["message"]
    with pytest.raises(HTTPError, match="405"):
        urlopen(f"http://127.0.0.1:{idle.port}/llm/models.json?host={idle.url}")


def test_a_marker_needs_a_run(idle: Web) -> None:
    answer = idle.ask("/llm/markers", {"text": "too early"})
    assert answer == {"success": False, "message": answer["message"]}
    assert "found no run that is on" in answer["message"]


def test_a_full_disk_ends_the_run_and_the_page_says_why(tmp_path: Path) -> None:
    with web(tmp_path) as made:
        made.wait_for_state("ready")
        _, most = resource.prlimit(made.locust.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(made.locust.process.pid, resource.RLIMIT_FSIZE, (20000, most))
        assert made.ask("/swarm", {"user_count": "60", "spawn_rate": "60"})["success"]
        made.wait("a full disk", lambda: "cannot be written" in made.ask("/llm/state.json")["says"])
        made.wait_until_free()
        assert "File too large" in made.ask("/llm/state.json")["says"]
        resource.prlimit(made.locust.process.pid, resource.RLIMIT_FSIZE, (most, most))
        assert made.ask("/swarm", FORM)["success"]  # there is room again
        made.wait_for_state("running")
        assert made.ask("/llm/state.json")["says"] == ""
        made.wait("requests", lambda: made.has_ended("chat", 3))
        made.ask("/stop", {})
        made.wait_until_free()
        check_accounts(made.runs()[-1])
        assert "Traceback" not in made.locust.said
        assert "ignored" not in made.locust.said


def test_a_master_without_workers_says_that_it_waits(tmp_path: Path) -> None:
    with web(
        tmp_path, "arrivals", "--master", "--master-bind-port", str(free_port()), "--expect-workers", "2"
    ) as made:
        now = made.ask("/llm/state.json")
        assert (now["state"], now["can_start"], now["says"]) == ("ready", False, WAITS)
        answer = made.ask("/swarm", FORM)
    assert answer["success"] is False
    assert answer["message"] == WAITS


@pytest.mark.parametrize("workers", [more(0), 2])
def test_a_load_changes_in_flight_and_a_second_run_follows(tmp_path: Path, workers: int) -> None:
    stolen = tmp_path / "stolen"
    files = {
        "run_dir": str(stolen),
        "html_file": str(stolen),
        "csv_prefix": str(stolen),
        "prompts": "/etc/passwd",
    }
    with web(tmp_path, workers=workers) as made:
        form = {"arrivals_per_s": "5", "spawn_rate": "100", "arrivals": "constant", "run_time": "12"}
        assert made.ask("/swarm", form | files)["success"]
        made.wait_for_state("running")
        time.sleep(4)  # of a steady load, which is counted below
        assert made.ask("/swarm", {"arrivals_per_s": "2.5", "spawn_rate": "5"})["field"] == "arrivals_per_s"
        answer = made.ask("/llm/markers", {"text": "deployed the new build"})
        assert answer["success"], answer
        assert made.ask("/swarm", {"arrivals_per_s": "20", "spawn_rate": "100", "warmup": "60"})["success"]
        made.wait("the change", lambda: len(made.ask("/llm/markers.json")["markers"]) == 2)
        (path,) = tmp_path.glob("out/*")
        kept = json.loads((path / "run.json").read_text())  # at once: the run is still on
        assert kept["ended_unix_ns"] is None
        assert [marker["text"] for marker in kept["markers"]] == [
            "deployed the new build",
            "arrivals/s 5 -> 20",
        ]
        assert made.ask("/llm/state.json")["load"] == 20
        made.wait_until_free()  # its end was kept, though the second form did not say it

        assert "no run" in made.ask("/llm/markers", {"text": "too late"})["message"]
        assert len(made.ask("/llm/markers.json")["markers"]) == 2
        assert made.ask("/swarm", {"arrivals_per_s": "2.4", "spawn_rate": "100", "run_name": "again"})[
            "success"
        ]
        made.wait_for_state("running")
        assert made.ask("/llm/markers.json")["markers"] == []
        assert made.ask("/llm/state.json")["left_s"] is None
        made.wait("its requests", lambda: made.has_ended("again", 3))
        made.ask("/stop", {})
        made.wait_until_free()
        runs = made.runs()
        said = made.locust.said
    assert "Traceback" not in said, said
    assert not stolen.exists()
    _check_runs(runs, max(1, workers))


def _check_runs(runs: list[Result], workers: int) -> None:
    first, second = runs
    for run in runs:
        assert set(run.outcomes()) == {"ok"}
        check_accounts(run)
        assert run.meta["workers"]["lost"] == []
        assert len(run.meta["workers"]["seen"]) == workers
        assert run.meta["workload"]["prompts"] is None
        assert run.meta["window"]["warmup_s"] == 0
    assert (first.meta["load"]["users"], first.meta["load"]["run_time_s"]) == (5, 12)  # as it began
    assert (second.meta["load"]["users"], second.meta["load"]["rate_per_user"]) == (3, pytest.approx(0.8))
    assert (second.meta["name"], second.meta["markers"]) == ("again", [])
    assert second.meta["load"]["run_time_s"] is None

    note, change = first.meta["markers"]
    assert (note["kind"], note["until_unix_ns"], change["kind"]) == ("note", None, "load")
    window = first.meta["window"]
    assert 11 < (window["end_unix_ns"] - first.meta["started_unix_ns"]) / 1e9 < 15  # 12 s, not 12 s more
    assert change["unix_ns"] <= change["until_unix_ns"]
    before_s = [(record.due_unix_ns - change["unix_ns"]) / 1e9 for record in first.records]
    after_s = [(record.due_unix_ns - change["until_unix_ns"]) / 1e9 for record in first.records]
    assert 8 <= sum(-2.5 <= due_s < -0.5 for due_s in before_s) <= 12
    assert 38 <= sum(0.5 <= due_s < 2.5 for due_s in after_s) <= 42
    (gate,) = [one for one in judge(load(first.path), default()).gates if one.name == "load changes"]
    assert (gate.ok, gate.severity) == (False, "warning")
    assert gate.found.startswith("arrivals/s 5 -> 20 at ")


def test_users_of_a_closed_loop_change_in_flight(tmp_path: Path) -> None:
    with web(tmp_path, "chat") as made:
        assert made.ask("/swarm", {"user_count": "1", "spawn_rate": "9", "think_time": "0.2"})["success"]
        made.wait_for_state("running")
        time.sleep(1.5)
        assert made.ask("/swarm", {"user_count": "4", "spawn_rate": "9"})["success"]
        time.sleep(2)
        assert made.ask("/swarm", {"user_count": "2", "spawn_rate": "9"})["success"]
        time.sleep(1)
        assert made.ask("/stop", {})["success"]
        made.wait_until_free()
        (run,) = made.runs()
    check_accounts(run)
    assert [marker["text"] for marker in run.meta["markers"]] == ["users 1 -> 4", "users 4 -> 2"]
