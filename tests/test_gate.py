"""An experiment's quality gate: what is asked when, what a failure costs, and judging it all once more."""

import json
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from analysis import sla as slas
from tests.experiments import experiment as written
from tests.quality_answers import said_by
from tokenswarm import EXIT_USAGE, TokenswarmError, experiment, gate, quality, rejudging
from tokenswarm.experiment import Experiment
from tokenswarm.measuring import Up

LIMITED = slas.parse("name: small\nobjectives: [ttft p95 < 1 s]\nquality: [kl <= 0.05]", "LIMITED")
KEPT = "name: kept\nobjectives: [ttft p50 < 60 ms]\nquality: [kl <= 0.05]"
FACTS: dict[str, Any] = {"profile": {"engine": "vllm"}}


def plan(folder: Path, blocks: int) -> Experiment:
    file = folder / "experiment.yaml"
    file.write_text(f"servers: [{{sim: baseline}}, {{sim: awq}}]\nblocks: {blocks}")
    return experiment.read(file)


class Servers:
    """Stands for servers that are asked; those in `broken` refuse."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.broken: set[str] = set()
        monkeypatch.setattr(quality, "ask", self.ask)

    def ask(self, url: str, path: Path, _say: object, *, like: Path | None = None) -> None:
        name = str(path.relative_to(self.folder)).removesuffix(".json.gz")
        self.asked.append(name)
        if name in self.broken:
            raise TokenswarmError(f"{url}: refuses", 6)
        assert like is None or like.exists()
        noise, own = (0.05, 1) if name == "awq" else (0.0, 2)
        quality._keep(said_by(noise, own=own), path)


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Servers:
    return Servers(tmp_path / "quality", monkeypatch)


def gone_through(
    folder: Path, blocks: int, said: list[str], facts: dict[str, Any] | None = FACTS
) -> gate.Gate:
    """Let a gate meet the servers as an experiment does: each block starts them anew."""
    made = plan(folder, blocks)
    asks = gate.Gate(made, folder / "quality", lambda state: said.append(state.doing) if state.last else None)
    for run in experiment.schedule(made):
        asks(run, Up(run.server.name, "http://s", "", facts, start=run.start))
    return asks


@pytest.mark.parametrize(
    ("blocks", "facts", "asked"),
    [
        (1, FACTS, ["baseline", "floor/again", "awq"]),
        (2, FACTS, ["baseline", "awq", "floor/restarted"]),
        (2, None, ["baseline", "floor/again", "awq"]),
    ],
    ids=["one block", "mirrored", "not ours to start"],
)
def test_each_is_asked_once_and_the_baseline_once_more(
    tmp_path: Path, servers: Servers, blocks: int, facts: dict[str, Any] | None, asked: list[str]
) -> None:
    asks = gone_through(tmp_path, blocks, [], facts)
    assert servers.asked == asked
    found = gate.judge(tmp_path / "quality", ["baseline", "awq"], LIMITED, asks.unasked)
    assert found["awq"].status == "PASS"
    (floor,) = (name.removeprefix("floor/") for name in asked if name.startswith("floor/"))
    assert found["awq"].floor == gate.FLOORS[floor]
    assert asks.unasked == {}


def test_without_a_noise_floor_there_is_a_verdict_all_the_same(tmp_path: Path, servers: Servers) -> None:
    servers.broken = {"floor/again"}
    said: list[str] = []
    asks = gone_through(tmp_path, 1, said)
    assert said == ["baseline: no noise floor: http://s: refuses"]
    found = gate.judge(tmp_path / "quality", ["baseline", "awq"], LIMITED, asks.unasked)
    assert (found["awq"].status, found["awq"].floor) == ("PASS", "not measured")


@pytest.mark.parametrize("broken", ["baseline", "awq"])
def test_who_cannot_be_asked_is_not_judged(tmp_path: Path, servers: Servers, broken: str) -> None:
    servers.broken = {broken}
    asks = gone_through(tmp_path, 1, [])
    assert asks.unasked == {broken: "http://s: refuses"}
    assert gate.judge(tmp_path / "quality", ["baseline", "awq"], LIMITED, asks.unasked) == {}
    assert asks.unasked["awq"] == "http://s: refuses"


@pytest.mark.usefixtures("servers", "no_pages")
def test_an_experiment_is_judged_again(tmp_path: Path) -> None:
    written(tmp_path, {"baseline": {}, "awq": {"ttft_ms": 48.0}}, blocks=1)
    for name in ("baseline", "awq"):
        (tmp_path / f"{name}-4-1").rename(tmp_path / name)
        (tmp_path / name / "sla.yaml").write_text(KEPT)
    gone_through(tmp_path, 1, [])
    rejudging.keep_plan(plan(tmp_path, 1), tmp_path)
    found = rejudging.again(tmp_path, None, report=False)
    assert [one.sla for one in found.verdicts] == ["kept"] * 2
    assert found.quality["awq"].status == "PASS"
    assert found.comparison
    kept = json.loads((tmp_path / "verdict.json").read_text())
    assert (kept["status"], kept["quality"]["awq"]["floor"]) == (found.status, gate.FLOORS["again"])
    (tmp_path / "strict.yaml").write_text(KEPT.replace("0.05", "0.0001"))
    (tmp_path / "quality" / "awq.json.gz").unlink()
    lost = rejudging.again(tmp_path, tmp_path / "strict.yaml", report=False)
    assert [limit.text for one in lost.verdicts for limit in one.objectives] == ["ttft p50 < 60 ms"] * 2
    assert "awq.json.gz: cannot be read" in lost.unasked["awq"]
    assert "quality undecided" in " ".join(lost.said)


@pytest.mark.usefixtures("no_run_pages", "no_html")
def test_what_was_planned_and_is_missing_is_no_pass(tmp_path: Path) -> None:
    written(tmp_path, {"baseline": {}}, blocks=1)
    (tmp_path / "baseline-4-1").rename(tmp_path / "baseline")
    (tmp_path / "sla.yaml").write_text("name: easy\nobjectives: [ttft p50 < 10 s]")
    (tmp_path / "report.pdf").write_text("of another time")
    rejudging.keep_plan(plan(tmp_path, 1), tmp_path)
    found = rejudging.again(tmp_path, tmp_path / "sla.yaml", report=False)  # an experiment always has one
    assert [one.status for one in found.verdicts] == ["PASS"]
    assert (found.status, found.exit_code, found.missing) == ("INCONCLUSIVE", 4, ["awq"])
    assert json.loads((tmp_path / "verdict.json").read_text())["missing"] == ["awq"]
    first = PdfReader(tmp_path / "report.pdf").pages[0].extract_text()
    assert "INCONCLUSIVE" in first
    assert "not measured: awq" in first


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"servers": 1, "runs": 2}'])
def test_a_plan_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(TokenswarmError, match="found no plan of an experiment") as refused:
        rejudging.again(tmp_path, None, report=False)
    assert refused.value.exit_code == EXIT_USAGE


def test_a_folder_without_runs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TokenswarmError, match=r"expected run\.json") as refused:
        rejudging.again(tmp_path, None, report=False)
    assert refused.value.exit_code == EXIT_USAGE
