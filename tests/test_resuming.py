"""Going on with an experiment: what is whole is kept, what was cut off is moved aside, others are refused."""

from pathlib import Path
from typing import Any

import pytest

from tests.run_directories import Load, change_meta, write_run
from tokenswarm import EXIT_USAGE, TokenswarmError, experiment, rejudging, resuming
from tokenswarm.experiment import Experiment, Run

TEXT = """
servers: [{sim: baseline}, {sim: awq}]
load: {rate: [2, 4], seed: 3}
sla: sla.yaml
"""
SLA = "name: small\nobjectives: [ttft p95 < 500 ms]\n"


def read(folder: Path, text: str = TEXT, sla: str = SLA) -> tuple[Experiment, Path]:
    folder.mkdir(exist_ok=True)
    (folder / "experiment.yaml").write_text(text)
    (folder / "sla.yaml").write_text(sla)
    return experiment.read(folder / "experiment.yaml"), folder / "experiment.yaml"


def made(out: Path, run: Run, **meta: Any) -> Path:
    where = {"server": run.server.name, "baseline": "baseline", "level": run.level, "block": run.block}
    knobs = Load(seconds=2, warmup_s=0, seed=run.seed, meta={"experiment": where, **meta})
    return write_run(out / run.name, knobs)


@pytest.mark.parametrize(
    ("text", "sla", "words"),
    [
        (TEXT.replace("4]", "5]"), SLA, "found load.rate.2 = 5"),
        (TEXT.replace("{sim: awq}", "{sim: awq, name: x}"), SLA, "found servers.2.name = 'x'"),
        (TEXT + "blocks: 2", SLA, "found blocks = 2"),
        (TEXT, SLA.replace("500", "400"), "found files.sla.objectives.1 = 'ttft p95 < 400 ms'"),
    ],
)
def test_another_experiment_is_refused_with_what_differs(
    tmp_path: Path, text: str, sla: str, words: str
) -> None:
    plan, path = read(tmp_path)
    rejudging.keep_plan(plan, tmp_path, path)
    resuming.check(plan, path, tmp_path)
    resuming.check(*read(tmp_path / "elsewhere", "# a remark changes nothing\n" + TEXT), tmp_path)
    with pytest.raises(TokenswarmError) as refused:
        resuming.check(*read(tmp_path, text, sla), tmp_path)
    assert words in str(refused.value)
    assert "was measured with" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize("text", [None, "{", "[]", '{"servers": [], "runs": []}'])
def test_a_directory_that_holds_no_experiment_is_refused(tmp_path: Path, text: str | None) -> None:
    plan, path = read(tmp_path)
    if text is not None:
        (tmp_path / "plan.json").write_text(text)
    with pytest.raises(TokenswarmError, match="found no experiment that can be gone on with") as refused:
        resuming.check(plan, path, tmp_path)
    assert refused.value.exit_code == EXIT_USAGE


def test_what_is_whole_is_kept_and_nothing_is_lost(tmp_path: Path) -> None:
    runs = list(experiment.schedule(read(tmp_path)[0]))
    whole, cut, interrupted, absent = runs
    made(tmp_path, whole)
    change_meta(made(tmp_path, cut), {"ended_unix_ns": None})
    change_meta(made(tmp_path, interrupted), {"interrupted": "stopped before the end of the run time"})
    rows = (tmp_path / cut.name / "requests.csv").read_text()
    said: list[str] = []
    assert resuming.kept(runs, tmp_path, said.append) == {whole.name}
    assert (tmp_path / "cut-off" / cut.name / "requests.csv").read_text() == rows
    assert sorted(path.name for path in (tmp_path / "cut-off").iterdir()) == [interrupted.name, cut.name]
    assert [line.split(" ")[0] for line in said] == [cut.name, interrupted.name]
    assert not (tmp_path / absent.name).exists()
    change_meta(made(tmp_path, cut), {"ended_unix_ns": None})
    resuming.kept(runs, tmp_path, said.append)
    assert (tmp_path / "cut-off" / f"{cut.name}-2" / "run.json").exists()
    assert (tmp_path / "cut-off" / cut.name / "requests.csv").read_text() == rows


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": None},
        {"experiment": {"block": 2}},
        {"experiment": {"level": 9}},
        {"load": {"seed": 77}},
    ],
)
def test_a_run_of_another_place_is_not_this_one(tmp_path: Path, change: dict[str, Any]) -> None:
    run = next(experiment.schedule(read(tmp_path)[0]))
    change_meta(made(tmp_path, run), change)
    assert not resuming.is_whole(run, tmp_path)
    made(tmp_path, run)
    assert resuming.is_whole(run, tmp_path)


def test_a_server_that_was_not_asked_yet_has_its_last_run_made_again(tmp_path: Path) -> None:
    runs = list(experiment.schedule(read(tmp_path)[0]))
    for run in runs:
        made(tmp_path, run)
    kept = resuming.kept(runs, tmp_path, lambda _: None, unasked=["awq"])
    assert kept == {"baseline-2rps", "baseline-4rps", "awq-2rps"}
    assert (tmp_path / "cut-off" / "awq-4rps" / "run.json").exists()
