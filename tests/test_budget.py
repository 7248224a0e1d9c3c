"""A short profile: what it cuts, what it refuses, and that less data is never a PASS by luck."""

from pathlib import Path

import numpy as np
import pytest

from analysis.rundir import load
from analysis.sla import Sla, parse_objective
from analysis.verdict import judge
from tests.run_directories import START_S, Load, change_meta, write_run
from tokenswarm import TokenswarmError, experiment
from tokenswarm.budget import cut

FOUR_RUNS = "servers: [{sim: baseline}, {sim: awq}]\nblocks: 2\nload: {duration_s: 120, warmup_s: 5}"


def plan(folder: Path, text: str = FOUR_RUNS) -> experiment.Experiment:
    (folder / "experiment.yaml").write_text(text)
    return experiment.read(folder / "experiment.yaml")


def test_all_runs_fit_into_the_time(tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert cut(found, 5) == "cut to 65 s a run from 120: what this cannot decide will be INCONCLUSIVE"
    assert found.load.duration_s == 65
    assert 4 * (65 + 5 + 5) <= 5 * 60


def test_what_fits_stays_as_it_is(tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert cut(found, 60) == ""
    assert found.load.duration_s == 120


def test_a_time_too_short_to_judge_anything_is_refused(tmp_path: Path) -> None:
    expected = r"1 minutes leave 5 s for each of 4 runs, expected at least 2 minutes"
    with pytest.raises(TokenswarmError, match=expected) as raised:
        cut(plan(tmp_path), 1)
    assert raised.value.exit_code == 2
    assert cut(plan(tmp_path), 2)


def test_a_run_cut_short_is_inconclusive_where_the_whole_one_passes(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", Load(seconds=65, rate=70, tokens=8, failures={"http_5xx": 0.002}, seed=2)
    )
    sla = Sla("test", (parse_objective("error_rate < 0.5 %"),))
    assert judge(load(run), sla).status == "PASS"
    change_meta(run, {"window": {"end_unix_ns": (START_S + 5 + 6) * 10**9}})
    assert judge(load(run), sla).status == "INCONCLUSIVE"


def test_a_service_on_its_limit_does_not_pass_by_being_looked_at_briefly(tmp_path: Path) -> None:
    """Of 60 short runs of a service with exactly the bad share that is forbidden, at most 5 % may PASS."""
    rng, sla, n = np.random.default_rng(6), Sla("test", (parse_objective("error_rate < 2 %"),)), 60
    found = []
    for seed in range(n):
        knobs = Load(
            seconds=13,
            warmup_s=1,
            rate=25,
            tokens=2,
            failures={"http_5xx": 0.02},
            seed=int(rng.integers(2**31)),
        )
        found.append(judge(load(write_run(tmp_path / str(seed), knobs)), sla).status)
    share = found.count("PASS") / n
    print(f"\nPASS {share:.1%}, FAIL {found.count('FAIL') / n:.1%} of {n} short runs on the limit")
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)
    assert found.count("INCONCLUSIVE") >= 0.9 * n
