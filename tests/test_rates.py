"""Rates: exact figures of requests that are written down, and how often the bounds hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.objective import ObjectiveResult
from analysis.rates import Served, served
from analysis.rundir import load
from analysis.sla import Sla, parse_objective
from analysis.verdict import judge
from tests.run_directories import START_S, Load, Requests, make_record, write_run


def poisson(seconds: int, a_second: float, seed: int = 1) -> list[float]:
    rng = np.random.default_rng(seed)
    return sorted(rng.uniform(0, seconds, rng.poisson(seconds * a_second)).tolist())


def at(times_s: list[float], outcomes: dict[int, str] | None = None) -> Requests:
    """Return requests of four tokens each, due at these times after the start."""
    requests: Requests = []
    for i, time_s in enumerate(times_s):
        record = make_record(START_S * 10**9 + int(time_s * 1e9), 50.0, [5.0] * 3, (outcomes or {}).get(i, "ok"))
        requests.append((record, [5_000_000] * record.gaps))
    return requests


def judged(path: Path, requests: Requests, *objectives: str, seconds: int = 120, loop: str = "closed") -> list[ObjectiveResult]:
    run = load(write_run(path, Load(seconds=seconds, warmup_s=0, loop=loop), requests))
    return list(judge(run, Sla("test", tuple(map(parse_objective, objectives)))).objectives)


def test_what_was_ok_and_due_in_the_window_is_counted(tmp_path: Path) -> None:
    times = poisson(120, 20)
    failed = dict.fromkeys(range(0, len(times), 10), "http_5xx")
    requests, tokens = judged(
        tmp_path, at(times, failed), "requests_per_s >= 15", "output_tokens_per_s <= 80"
    )
    ok = len(times) - len(failed)
    assert requests.observed == pytest.approx(ok / 120)
    assert tokens.observed == pytest.approx(4 * ok / 120)
    assert (requests.n, requests.unit, tokens.unit) == (ok, "requests/s", "tokens/s")
    assert (requests.status, tokens.status) == ("PASS", "PASS")
    assert (requests.at_least, tokens.at_least) == (True, False)
    assert requests.bound_low is not None
    assert 15 < requests.bound_low < requests.observed < (requests.bound_high or 0)
    assert requests.margin == pytest.approx(ok / 120 / 15)
    assert (requests.bad, requests.n_eff, requests.budget_used) == (None, None, None)


@pytest.mark.parametrize(
    ("objective", "status"),
    [
        ("requests_per_s >= 15", "PASS"),
        ("requests_per_s >= 20", "INCONCLUSIVE"),
        ("requests_per_s >= 25", "FAIL"),
        ("requests_per_s < 15", "FAIL"),
        ("requests_per_s < 20", "INCONCLUSIVE"),
        ("requests_per_s < 25", "PASS"),
    ],
)
def test_a_rate_is_judged_from_its_own_side(tmp_path: Path, objective: str, status: str) -> None:
    (result,) = judged(tmp_path, at(poisson(120, 20)), objective)
    assert result.status == status
    assert result.reason.startswith("between ")
    assert ("; needs about" in result.reason) == (status == "INCONCLUSIVE")


def test_the_edges_of_the_window_are_worth_a_request(tmp_path: Path) -> None:
    regular = at([i / 20 for i in range(120 * 20)])
    at_limit, below = judged(tmp_path, regular, "requests_per_s >= 20", "requests_per_s >= 19.9")
    assert (at_limit.status, below.status) == ("INCONCLUSIVE", "PASS")
    assert (at_limit.bound_low, at_limit.bound_high) == pytest.approx((20 - 1 / 120, 20 + 1 / 120))
    assert at_limit.resolution == pytest.approx(1 / 120)


def test_in_an_open_loop_a_rate_is_what_was_offered(tmp_path: Path) -> None:
    (result,) = judged(tmp_path, at(poisson(120, 20)), "requests_per_s >= 15", loop="open")
    assert result.reason.endswith("; in an open loop that is what was offered")


def test_a_window_that_is_too_short_has_no_bounds(tmp_path: Path) -> None:
    (result,) = judged(tmp_path, at(poisson(60, 20)), "requests_per_s >= 15", seconds=60)
    assert (result.status, result.bound_low) == ("INCONCLUSIVE", None)
    assert result.observed is not None
    assert "no valid interval: worth 60 independent seconds, needs 100; needs about" in result.reason


def test_what_is_undecided_may_have_been_served(tmp_path: Path) -> None:
    times = poisson(120, 20)
    cut = at(times, dict.fromkeys(range(0, len(times), 4), "cancelled"))
    few, many, tokens = judged(
        tmp_path / "a", cut, "requests_per_s >= 17", "requests_per_s >= 25", "output_tokens_per_s >= 1000"
    )
    assert few.observed is not None
    assert (few.status, many.status) == ("INCONCLUSIVE", "FAIL")
    assert tokens.status == "INCONCLUSIVE"
    assert tokens.bound_high == float("inf")
    unknown = [(record._replace(output_tokens=None), gaps) for record, gaps in at(times)]
    (tokens,) = judged(tmp_path / "b", unknown, "output_tokens_per_s < 1")
    assert (tokens.status, tokens.observed) == ("INCONCLUSIVE", 0.0)


def test_nothing_served_is_no_rate_at_all(tmp_path: Path) -> None:
    times = poisson(120, 20)
    (failed,) = judged(tmp_path / "a", at(times, dict.fromkeys(range(len(times)), "connect")), "requests_per_s >= 1")
    assert (failed.status, failed.observed, failed.n) == ("FAIL", 0.0, 0)
    (empty,) = judged(tmp_path / "b", [], "requests_per_s >= 1")
    assert (empty.status, empty.reason, empty.observed) == ("INCONCLUSIVE", "no data", None)
