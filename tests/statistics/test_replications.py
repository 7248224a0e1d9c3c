"""Runs of an experiment judged together, from run directories to exit codes."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis.replications import Replications, replications
from analysis.rundir import load, window
from analysis.sla import Sla, parse
from analysis.statistics import FloatArray, trend
from analysis.verdict import judge
from tests.experiments import measured
from tests.run_directories import change_meta
from tests.test_statistics import queue
from tokenswarm import judging, tables

BY = parse("name: quick\nobjectives: [ttft p95 < 100 ms, error_rate < 1 %]", "test")
SHORT: dict[str, Any] = {"seconds": 12, "warmup_s": 2, "rate": 25.0, "tokens": 3, "loop": "open"}
INVALID: dict[str, Any] = {"meta": {"accounting": {"unaccounted": 4}}}
SURGE: dict[str, Any] = {"seconds": 26, "ttft_rise_ms": 400.0, "in_flight_rise": 60.0}
pytestmark = pytest.mark.usefixtures("no_pages")


def written(folder: Path, *blocks: dict[str, Any], server: str = "alone", **place: Any) -> list[Path]:
    """Write runs of one server at one level, one per block."""
    return [
        measured(folder, server, baseline="alone", block=block, **{**SHORT, "seed": block, **knobs}, **place)
        for block, knobs in enumerate(blocks, 1)
    ]


def together(paths: list[Path], by: Sla = BY) -> Replications:
    judged = [(run, judge(run, by)) for run in map(load, paths)]
    (found,) = replications(judged, by)
    return found


def test_five_short_runs_pass_what_none_of_them_can_show(tmp_path: Path) -> None:
    paths = written(tmp_path, *[{}] * 5)
    found = together(paths)
    assert {one.status for one in found.runs} == {"INCONCLUSIVE"}
    assert found.status == "PASS", found.reasons
    assert (found.server, found.level, len(found.runs)) == ("alone", 4.0, 5)
    assert found.objectives[0].n == sum(len(window(load(path))) for path in paths)
    assert [len(one.observed) for one in found.spread] == [5, 5]


def test_five_short_runs_do_not_measure_ten_minutes(tmp_path: Path) -> None:
    limit = "ttft p95 < 100 ms"
    by = parse(f"name: long\nobjectives: [{limit} from 0 s to 10 s, {limit} from 0 s to 10 min]", "test")
    seconds, minutes = together(written(tmp_path, *[{}] * 5), by).objectives
    assert seconds.status == "PASS", seconds.reason
    assert minutes.status == "INCONCLUSIVE"
    assert "5 of 5 runs did not measure all of it" in minutes.reason
    assert "the window ends after 10 s" in minutes.reason


def test_an_error_budget_over_runs_lasts_as_long_as_their_failures_together_let_it(tmp_path: Path) -> None:
    by = parse("name: month\nobjectives: [error_budget 10 % of 30 days]", "test")
    paths = written(tmp_path, *[{"failures": {"http_5xx": 0.03}}] * 5)
    (found,) = together(paths, by).objectives
    seen = [window(load(path)) for path in paths]
    failed = sum(int((frame.outcome != "ok").sum()) for frame in seen) / sum(map(len, seen))
    assert found.budget_lasts_h == pytest.approx(720 * 0.1 / failed)
    assert "at this rate the budget of 30 days" in found.reason


def test_one_invalid_run_of_five_is_left_out_by_name_and_two_are_too_many(tmp_path: Path) -> None:
    long = {"seconds": 22}
    found = together(written(tmp_path / "one", long, long, INVALID, long, long))
    assert [one.counted for one in found.runs] == [True, True, False, True, True]
    assert found.status == "PASS", found.reasons
    assert found.reasons[1].startswith("left out: alone-4-3, INVALID (unaccounted")
    assert "4 runs: differences between runs cannot be judged" in found.objectives[0].reason
    found = together(written(tmp_path / "two", {}, INVALID, {}, INVALID, {}))
    assert (found.status, found.objectives) == ("INVALID", ())
    assert [reason.split(":")[0] for reason in found.reasons] == ["alone-4-2", "alone-4-4"]


def test_one_run_is_its_own_verdict(tmp_path: Path) -> None:
    (path,) = written(tmp_path, {"seconds": 30})
    own = judge(load(path), BY)
    found = together([path])
    assert (found.status, found.reasons, found.objectives) == (own.status, own.reasons, own.objectives)


def test_a_load_that_rises_in_every_run_is_oversaturated(tmp_path: Path) -> None:
    found = together(written(tmp_path, *[SURGE] * 3))
    assert [one.status for one in found.runs] == ["OVERSATURATED"] * 3
    assert found.status == "OVERSATURATED"
    assert "in flight rose from" in found.reasons[0]
    assert {one.bound_high for one in found.objectives} == {None}
    assert found.spread == ()


def test_one_surge_of_many_runs_is_counted_and_does_not_decide_alone(tmp_path: Path) -> None:
    calm = {"seconds": 26}
    surge = {**calm, "ttft_rise_ms": 60.0, "in_flight_rise": 60.0}
    paths = written(tmp_path, surge, *[calm] * 5)
    found = together(paths)
    assert [one.status for one in found.runs].count("OVERSATURATED") == 1
    assert found.status != "OVERSATURATED"
    assert found.reasons[-1] == "alone-4-1 alone is OVERSATURATED, all runs together are not"
    late = [int((window(load(path)).first_ns >= 100e6).sum()) for path in paths]
    assert late[0] > 20
    assert found.objectives[0].bad == sum(late)


def test_runs_that_say_nothing_of_an_experiment_stand_for_themselves(tmp_path: Path) -> None:
    paths = written(tmp_path, {}, {"meta": {"experiment": {"server": 7}}})
    change_meta(paths[0], {"experiment": None})
    judged = [(run, judge(run, BY)) for run in map(load, paths)]
    found = replications(judged, BY)
    assert [(one.server, one.level, len(one.runs)) for one in found] == [
        ("alone-4-1", None, 1),
        ("alone-4-2", None, 1),
    ]


def test_false_alarms_of_single_runs_do_not_add_up() -> None:
    rng, groups, runs = np.random.default_rng(6), 12, 5
    rate = {}
    for rho in (0.8, 1.3):
        one_of_them = together_rise = 0
        for _ in range(groups):
            series = [queue(rho, 45, rng) for _ in range(runs)]
            alone = [all(rises(values) for values in one) for one in series]
            averages = [np.nanmean([one[which] for one in series], axis=0) for which in (0, 1)]
            one_of_them += any(alone)
            together_rise += all(rises(values) for values in averages)
        rate[rho] = together_rise / groups
        what = f"{groups} x {runs} M/M/1 runs at rho {rho}"
        print(f"\n{what}: one of five rises in {one_of_them}, their average in {together_rise}")
    assert rate[0.8] <= 1 / groups
    assert rate[1.3] == 1.0


def rises(values: FloatArray) -> bool:
    known = ~np.isnan(values)
    found = trend(np.flatnonzero(known), values[known])
    return found is not None and found.rising


def conclude(folder: Path, paths: list[Path]) -> judging.Conclusion:
    return judging.conclude(paths, BY, folder)


def test_status_and_exit_code_are_those_of_the_replications(tmp_path: Path) -> None:
    paths = written(tmp_path, *[{}] * 5)
    found = conclude(tmp_path, paths)
    assert {one.status for one in found.verdicts} == {"INCONCLUSIVE"}
    assert (found.status, found.exit_code) == ("PASS", 0)
    kept = json.loads((tmp_path / "verdict.json").read_text())
    assert (kept["status"], kept["exit_code"]) == ("PASS", 0)
    (pool,) = kept["replications"]
    assert [one["block"] for one in pool["runs"]] == [1, 2, 3, 4, 5]
    assert pool["spread"][0].keys() == {"text", "observed", "sd_within", "sd_between", "more_runs"}
    (level,) = kept["capacities"][0]["levels"]
    low, high = level["bounds"]["ttft p95"]
    assert low < level["values"]["ttft p95"] < high, "the first page's whisker"
    assert [one["status"] for one in kept["runs"]] == ["INCONCLUSIVE"] * 5
    again = conclude(tmp_path, paths)
    assert again.to_json() == kept
    own = json.loads((paths[0] / "verdict.json").read_text())
    assert own["status"] == "INCONCLUSIVE"


def test_the_worst_server_decides(tmp_path: Path) -> None:
    slow = written(tmp_path, *[{"ttft_ms": 90.0}] * 5, server="slow")
    found = conclude(tmp_path, [*written(tmp_path, *[{}] * 5), *slow])
    assert [(one.server, one.status) for one in found.replications] == [("alone", "PASS"), ("slow", "FAIL")]
    assert found.exit_code == 3


def printed(found: judging.Conclusion, show: Any = tables.conclusion) -> str:
    console = Console(file=StringIO(), width=200)
    show(found, console)
    text = console.file.getvalue()  # type: ignore[attr-defined] - it is the StringIO from above
    assert isinstance(text, str)
    return text


def test_the_table_has_a_line_for_all_runs_of_a_server(tmp_path: Path) -> None:
    text = printed(conclude(tmp_path, written(tmp_path, *[{}] * 4, INVALID)))
    assert "alone, 5 runs" in text
    assert "alone-4-1" not in text
    assert "alone, 5 runs: left out: alone-4-5, INVALID (unaccounted: found 4, limit 0; look into" in text


def test_levels_are_lines_of_their_own(tmp_path: Path) -> None:
    paths = [path for level in (4, 8) for path in written(tmp_path, {}, {}, level=level)]
    text = printed(conclude(tmp_path, paths))
    assert "alone at 4/s, 2 runs" in text
    assert "alone at 8/s, 2 runs" in text


@pytest.mark.parametrize("blocks", [1, 5])
def test_early_stopping_is_printed_beside(tmp_path: Path, blocks: int) -> None:
    paths = written(tmp_path, *[{}] * blocks)
    found = conclude(tmp_path, paths)
    text = printed(found, tables.early_stopping)
    requests = sum(len(window(load(path))) for path in paths)
    assert "it supposes independent requests and changes no verdict" in text
    assert f"of {requests:,}, needs" in text
    assert text.count("ttft p95 < 100 ms: met") == 1
    assert "error_rate" not in text
