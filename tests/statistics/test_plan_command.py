from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analysis.planning import Supposed, need
from analysis.sla import parse_objective
from tests.run_directories import Load, write_run
from tokenswarm import EXIT_USAGE, TokenswarmError, judging
from tokenswarm.cli_plan import plan
from tokenswarm.planned import _earlier

SLA = "name: quick\nobjectives: [ttft p95 < 100 ms, itl p99 < 20 ms, ttft mean < 80 ms]"
EXPERIMENT = """
servers: [{sim: baseline}, {sim: awq}]
load: {rate: [10, 20], duration_s: 30}
sla: {name: own, objectives: ["error_rate < 1 %"]}
"""


def asked(*arguments: object) -> Result:
    found = CliRunner().invoke(plan, [str(one) for one in arguments])
    if isinstance(found.exception, TokenswarmError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found


@pytest.fixture
def sla(tmp_path: Path) -> Path:
    file = tmp_path / "sla.yaml"
    file.write_text(SLA)
    return file


def test_an_sla_and_a_rate_give_a_plan(sla: Path) -> None:
    text = asked(sla, "--rate", 20).output
    assert "SLA quick, 20 requests/s" in text
    assert "one in 10 requests is independent" in text
    most = need(parse_objective("itl p99 < 20 ms"), Supposed(20, 60, part=0.5, tau=10), None)
    assert f"For all of them: blocks: {most.runs} (so many for itl p99 < 20 ms)" in text
    assert "ttft mean < 80 ms: how values scatter is told by an earlier run" in text
    assert "paired blocks" not in text


def test_runs_too_short_for_an_objective_are_no_plan_for_it(sla: Path) -> None:
    text = asked(sla, "--rate", 5).output
    assert "ttft p95 < 100 ms: of runs of 60 s some would have no interval of their own" in text
    assert "For the others: blocks:" in text
    assert "For all of them: blocks:" in asked(sla, "--rate", 5, "--duration", 80).output


def test_an_experiment_brings_its_own_rate_and_sla_and_is_a_comparison(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(EXPERIMENT)
    text = asked(file).output
    assert "SLA own, 10 requests/s" in text
    assert "runs of 30 s" in text
    assert "where runs vary by 3 %: 9 paired blocks" in text
    assert "5 paired blocks" in asked(file, "--cv", 2).output


def test_an_earlier_run_tells_what_requests_are_worth(tmp_path: Path, sla: Path) -> None:
    run = write_run(tmp_path / "run", Load(seconds=30, tokens=6, phi=0.5))
    text = asked(sla, "--rate", 50, "--like", run).output
    assert f"requests depend on each other as in {run}" in text
    assert "how values scatter" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "found no rate of arrivals, expected --rate"),
        (("--rate", 5, "--like", "nowhere"), "--like: nowhere: found no directory"),
    ],
)
def test_what_is_missing_is_one_line(sla: Path, arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(TokenswarmError, match=words) as refused:
        asked(sla, *arguments)
    assert refused.value.exit_code == EXIT_USAGE


def test_of_an_earlier_run_all_stretches_tell_what_requests_are_worth(tmp_path: Path) -> None:
    """Its worst stretch would say little, and is no part of it that the planned ones are like."""
    run = write_run(tmp_path / "run", Load(seconds=60, tokens=6, phi=0.5))
    whole, every = tmp_path / "whole.yaml", tmp_path / "every.yaml"
    whole.write_text("name: whole\nobjectives: [ttft p95 < 100 ms, ttft p95 < 100 ms from 20 s to 50 s]")
    every.write_text("name: every\nobjectives: [ttft p95 < 100 ms every 5 s]")
    (one, part), (each,) = (
        [found for found in _earlier(run, judging.sla(file)) if found] for file in (whole, every)
    )
    assert replace(each.result, text="") == replace(one.result, text="")
    assert each.requests == one.requests
    assert part.requests == pytest.approx(one.requests * 30 / 55, abs=1)
