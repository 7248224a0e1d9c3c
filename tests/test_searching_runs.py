"""A search over run directories: what it finds, what it keeps, and that it goes on where it was cut off."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from analysis import sla as slas
from tests.run_directories import Load, change_meta, write_run
from tokenswarm import TokenswarmError, experiment, rejudging, resuming, searching, tables_search
from tokenswarm.experiment import Experiment, Run
from tokenswarm.searching import Found, Searched

TEXT = """
servers: [{sim: baseline}, {sim: awq}]
load: {warmup_s: 1}
search: {from: 16, to: 128, within: 20 %, confirm: 2, probe_s: 12, longest_s: 24}
sla: {name: small, objectives: ["ttft p95 < 100 ms"]}
"""
SLA = "name: small\nobjectives: [ttft p95 < 100 ms]\n"
LIMITS = {"baseline": 40.0, "awq": 70.0}


def order(folder: Path) -> tuple[Experiment, Path]:
    path = folder / "experiment.yaml"
    path.write_text(TEXT)
    plan = experiment.read(path)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    rejudging.keep_plan(plan, out, path)
    return plan, out


class Bench:
    """Writes runs of servers whose first token comes at 50 ms below their limit and at 200 ms above it."""

    def __init__(self, out: Path, runs: int = 1000) -> None:
        self.out, self.runs = out, runs
        self.made: list[Run] = []

    def __call__(self, run: Run, _searched: list[Searched]) -> bool:
        if resuming.is_whole(run, self.out):
            return True
        resuming.move_aside(run, self.out, lambda _: None)
        self.made.append(run)
        server = run.server.name
        where = {"server": server, "baseline": "baseline", "level": run.level, "block": run.block}
        ttft_ms = 50 if run.level <= LIMITS[server] else 200
        knobs = Load(
            seconds=round(run.duration_s) + 1,
            warmup_s=1,
            rate=run.level,
            seed=run.seed,
            name=run.name,
            ttft_ms=ttft_ms,
            tokens=3,
            meta={"experiment": where},
        )
        path = write_run(self.out / run.name, knobs)
        (path / "sla.yaml").write_text(SLA)
        whole = len(self.made) < self.runs
        change_meta(path, {"interrupted": None if whole else "stopped"})
        return whole


def search(plan: Experiment, out: Path, measure: Callable[[Run, list[Searched]], bool]) -> Found:
    return searching.search(plan, slas.parse(SLA, "SLA"), out, measure)


def test_each_server_gets_its_interval_and_every_run_a_seed_of_its_own(tmp_path: Path) -> None:
    plan, out = order(tmp_path)
    bench = Bench(out)
    found = search(plan, out, bench)
    assert (found.status, found.exit_code) == ("PASS", 0)
    for one in found.searched:
        assert one.done
        assert one.done.low is not None
        assert one.done.high is not None
        assert one.done.low <= LIMITS[one.server.name] < one.done.high <= 1.2 * one.done.low
        seeds = [run.seed for run in one.runs]
        assert seeds == list(range(1, len(seeds) + 1))
    said = json.loads((out / "search.json").read_text())
    assert [server["server"] for server in said["servers"]] == ["baseline", "awq"]
    assert (said["unit"], said["sla"], said["settings"]["within"]) == ("arrivals/s", "small", 0.2)
    first = said["servers"][0]
    assert first["finished"]
    assert first["contradictions"] == []
    assert [level["probe"] for level in first["levels"] if level["level"] == 64] == ["FAIL"]
    confirmed = next(level for level in first["levels"] if level["level"] == first["low"])
    assert (confirmed["probe"], confirmed["confirmation"], len(confirmed["runs"])) == ("PASS", "PASS", 3)
    assert json.loads((out / "plan.json").read_text())["runs"] == [run.name for run in bench.made]
    assert all((out / run.name / "verdict.json").exists() for run in bench.made)
    assert {run.duration_s for run in bench.made} == {12}
    printed = io.StringIO()
    tables_search.conclusion(found, Console(file=printed, width=120))
    lines = printed.getvalue().splitlines()
    assert lines[0].strip() == "Highest load within SLA small, arrivals/s"
    for one in found.searched:
        assert one.done
        (row,) = [line.split() for line in lines if line.split()[1:2] == [one.server.name]]
        assert row[3::2] == [
            "PASS",
            f"{one.done.low:g}",
            f"{one.done.high:g}",
            f"{one.done.high:g}",
            str(len(one.runs)),
        ]
        assert any(line.startswith(f"{one.server.name}: 2 fresh runs PASS at") for line in lines)


@pytest.mark.parametrize("runs", [2, 9])
def test_a_search_that_was_cut_off_goes_the_same_way_on(tmp_path: Path, runs: int) -> None:
    plan, out = order(tmp_path)
    whole = Bench(out)
    search(plan, out, whole)
    expected = (out / "search.json").read_bytes()

    (tmp_path / "again").mkdir()
    plan, out = order(tmp_path / "again")
    cut = Bench(out, runs)
    found = search(plan, out, cut)
    assert found.status == "INCONCLUSIVE"
    assert not all(one.done for one in found.searched)
    again = Bench(out)
    search(plan, out, again)
    assert (out / "search.json").read_bytes() == expected
    names = [run.name for run in whole.made]
    assert [run.name for run in cut.made] == names[:runs]
    assert [run.name for run in again.made] == names[runs - 1 :], "the cut one is made again, no other"
    assert (out / "cut-off" / names[runs - 1] / "requests.csv").exists()


def test_a_search_is_judged_again_by_its_runs(tmp_path: Path) -> None:
    plan, out = order(tmp_path)
    search(plan, out, Bench(out))
    before = (out / "search.json").read_bytes()
    found = rejudging.again(out, None, report=False)
    assert isinstance(found, Found)
    assert found.status == "PASS"
    assert (out / "search.json").read_bytes() == before
    (tmp_path / "wide.yaml").write_text(SLA.replace("100 ms", "1 s"))
    wide = rejudging.again(out, tmp_path / "wide.yaml", report=False)
    assert isinstance(wide, Found)
    assert wide.status == "INCONCLUSIVE", "it would have to go on, where there are no runs"
    assert [one.done for one in wide.searched] == [None, None]
    assert len(json.loads((out / "plan.json").read_text())["runs"]) > 10, "no run is forgotten"


def test_what_is_left_shrinks_to_nothing(tmp_path: Path) -> None:
    plan, out = order(tmp_path)
    bench, loads = Bench(out), list[float]()

    def measure(run: Run, searched: list[Searched]) -> bool:
        loads.append(sum(searching.loads_left_s(plan, searched)))
        return bench(run, searched)

    found = search(plan, out, measure)
    assert searching.loads_left_s(plan, found.searched) == []
    assert loads[-1] == 12 + 1 + 1
    assert loads[0] > 5 * loads[-1]


def test_a_directory_without_its_runs_is_one_line(tmp_path: Path) -> None:
    _, out = order(tmp_path)
    with pytest.raises(TokenswarmError, match="found none of a search's runs"):
        rejudging.again(out, None, report=False)
