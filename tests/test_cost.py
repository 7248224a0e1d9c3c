"""What a load costs at least, and what that forbids."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from locustfiles._cost import Cost, measure, too_much
from locustfiles._options import Settings, add_arguments

CHEAP, DEAR = Cost(100_000, 5_000), Cost(400_000, 20_000)


class Parser(argparse.ArgumentParser):
    """Takes Locust's additions to argparse, and does without them."""

    def add_argument(self, *names: str, **more: object) -> None:  # type: ignore[override]
        for name in ("env_var", "include_in_web_ui"):
            more.pop(name, None)
        super().add_argument(*names, **more)  # type: ignore[arg-type]


def settings(*arguments: str) -> Settings:
    parser = Parser()
    add_arguments(parser)
    return Settings.read(parser.parse_args(arguments))


def test_cost_is_measured() -> None:
    found = measure()
    assert 5_000 < found.request_ns < 5_000_000
    assert 300 < found.token_ns < 300_000


@pytest.mark.parametrize(
    ("users", "costs", "options", "share"),
    [
        (9_000, [CHEAP], (), 0.945),  # 105 us each: a request and its first token
        (9_600, [CHEAP], (), 1.008),
        (19_000, [CHEAP, CHEAP], (), 0.9975),
        (19_200, [CHEAP, CHEAP], (), 1.008),
        (4_600, [CHEAP, DEAR], (), 0.966),  # the slowest decides: each gets the same share
        (4_900, [CHEAP, DEAR], (), 1.029),
        (9_600, [CHEAP], ("--rate-per-user", "0.5"), 0.504),
        (9_000, [CHEAP], ("--max-tokens", "1000"), 0.945),  # an answer may be shorter
        (200, [CHEAP], ("--max-tokens", "1000", "--ignore-eos"), 1.02),
        (190, [CHEAP], ("--max-tokens", "500-1500", "--ignore-eos"), 0.969),
        (100, [CHEAP], ("--max-tokens", "1000", "--ignore-eos", "--choices", "2"), 1.01),
    ],
)
def test_what_is_certainly_too_much_is_refused(
    users: int, costs: list[Cost], options: tuple[str, ...], share: float
) -> None:
    assert bool(too_much(settings(*options), users, costs)) == (share > 1)


def test_refusal_says_what_was_found_and_what_would_not_do_either() -> None:
    assert too_much(settings("--ignore-eos", "--max-tokens", "100"), 5_000, [CHEAP, CHEAP]) == (
        "--users: found 5,000 arrivals a second of 100 tokens on 2 workers: at least 1.5 s of CPU a second "
        "for each (measured there: 100 us a request, 5.0 us a token), expected at most 1; "
        "fewer than 3 workers cannot carry it"
    )


def test_spawn_message_does_not_hold_up_a_worker() -> None:
    """Locust asks for its own defaults once for each of some hundred options of every such message."""
    script = (
        "import time, locustfiles._users\n"
        "from locust import argument_parser\n"
        "first = argument_parser.default_args_dict()\n"
        "begun = time.process_time()\n"
        "for _ in range(100): assert argument_parser.default_args_dict() == first\n"
        "print(time.process_time() - begun)"
    )
    root = Path(__file__).resolve().parents[1]
    asked = [sys.executable, "-c", script]
    found = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True)
    assert float(found.stdout) < 0.02
