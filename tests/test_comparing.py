"""Folders against folders: who is paired, what is refused, and with which exit code a command ends."""

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from analysis.conditions import conditions, is_declared
from analysis.effects import EQUIVALENT, ONE_PAIR, WORSE, Effect
from analysis.rundir import load
from analysis.sentences import effect_of
from tests.experiments import measured
from tests.quality_answers import said_by
from tests.run_directories import change_meta
from tokenswarm import TokenswarmError, cli, comparing, experiment, rejudging
from tokenswarm.comparing import Asked, Compared

SLA = "name: first\nobjectives: [ttft p95 < 100 ms]\n"
STEADY = {"ttft_sigma": 0.02, "itl_sigma": 0.02}
PROFILE = {"name": "int8", "engine": "vllm", "options": {"max-model-len": 2048}}
ARGV = ["/home/a/python", "-m", "vllm", "--model", "/home/a/m-int8", "--port", "39143", "--dtype", "bfloat16"]
SERVED = {
    "server": {
        "profile": PROFILE,
        "argv": ARGV,
        "variables": {"LD_PRELOAD": "/a/lib/libiomp5.so:/a/lib/libtcmalloc.so"},
        "inherited": {},
        "kernels": ["CPUInt8"],
        "kernel_ok": True,
        "kernel_expected": "CPUInt8",
        "ready_s": 30.0,
    }
}


def day(folder: Path, ttft_ms: float, *, seeds: list[int], server: str = "int8", **meta: Any) -> Path:
    """Write one server's runs of a day, a block for each seed."""
    for block, seed in enumerate(seeds, 1):
        measured(
            folder,
            server,
            baseline=server,
            block=block,
            seed=round(1000 * ttft_ms) + seed,  # of the noise
            ttft_ms=ttft_ms,
            meta={**SERVED, **meta, "load": {"seed": seed}},
            **STEADY,
        )
    (folder / "sla.yaml").write_text(SLA)
    return folder


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a day of two runs, once."""
    return day(tmp_path_factory.mktemp("days") / "yesterday", 45.0, seeds=[1, 2])


@pytest.fixture
def today(yesterday: Path, tmp_path: Path) -> Path:
    """Return another day, which was just as yesterday."""
    return Path(shutil.copytree(yesterday, tmp_path / "today"))


def compared(*folders: Path, differs: tuple[str, ...] = (), server: str = "") -> Compared:
    return comparing.compare(Asked(list(folders), server, list(differs), None, folders[0] / "sla.yaml"))


def first_token(found: Compared) -> Effect:
    (contrast,) = found.comparison.contrasts
    effect = effect_of(contrast, "ttft p95")
    assert effect is not None
    return effect


# Pairs


def test_the_same_seeds_are_pairs(tmp_path: Path) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1, 2, 3])
    today = day(tmp_path / "today", 90.0, seeds=[3, 1, 2])  # in another order
    found = compared(yesterday, today)
    (contrast,) = found.comparison.contrasts
    assert (contrast.paired, contrast.runs, contrast.blocks) == (True, (3, 3), (1, 2, 3))
    seeds = {
        (run.meta["experiment"]["server"], run.meta["experiment"]["block"]): run.meta["load"]["seed"]
        for run, _ in found.runs
    }
    assert all(seeds["today", block] == seeds["yesterday", block] for block in (1, 2, 3))
    assert (first_token(found).outcome, found.exit_code) == (WORSE, 3)
    assert found.to_json()["sentences"][0].startswith("today answers later than yesterday at 4 users: ")


def test_other_seeds_are_no_pairs_and_that_is_said(tmp_path: Path) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1, 2, 3])
    today = day(tmp_path / "today", 45.2, seeds=[4, 5])
    found = compared(yesterday, today)
    (contrast,) = found.comparison.contrasts
    assert (contrast.paired, contrast.runs, contrast.left_out) == (False, (2, 3), ())
    assert "no pairs: 2 against 3 runs" in found.to_json()["sentences"][0]
    assert (first_token(found).outcome, found.exit_code) == (EQUIVALENT, 0)


def test_a_seed_that_one_day_lacks_is_missing(tmp_path: Path) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1, 2, 3])
    today = day(tmp_path / "today", 45.0, seeds=[2, 3, 4])
    (contrast,) = compared(yesterday, today).comparison.contrasts
    assert (contrast.blocks, [(one.block, one.server) for one in contrast.left_out]) == (
        (2, 3),
        [(1, "today"), (4, "yesterday")],
    )


def test_seeds_that_come_twice_are_no_pairs(tmp_path: Path) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1, 1, 1])
    found = compared(yesterday, day(tmp_path / "today", 45.0, seeds=[1, 1]))
    assert not found.comparison.contrasts[0].paired


@pytest.mark.parametrize("seed", [1, 2])
def test_a_single_pair_proves_nothing(tmp_path: Path, seed: int) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1])
    run = day(tmp_path / "today", 90.0, seeds=[seed]) / "int8-4-1"  # the run itself, not its folder
    found = compared(yesterday, run)
    effect = first_token(found)
    assert (effect.outcome, effect.low, found.exit_code) == (ONE_PAIR, None, 4)
    assert (effect.ratio or 0) > 1.8
    assert found.weighed["int8-4-1"].reasons[0].endswith("one pair proves nothing")


def test_one_run_against_several_has_no_interval(tmp_path: Path) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1, 2, 3])
    found = compared(yesterday, day(tmp_path / "today", 90.0, seeds=[9]))
    assert first_token(found).low is None
    assert "one run proves nothing" in found.weighed["today"].reasons[0]


def test_several_candidates_are_compared_with_one_baseline(tmp_path: Path) -> None:
    days = [
        day(tmp_path / name, ttft, seeds=[1, 2, 3]) for name, ttft in (("a", 45.0), ("b", 45.1), ("c", 90.0))
    ]
    found = compared(*days)
    assert {name: one.status for name, one in found.weighed.items()} == {"b": "PASS", "c": "FAIL"}
    assert found.exit_code == 3


# Servers of an experiment


def test_a_server_of_several_is_chosen(tmp_path: Path) -> None:
    folders = []
    for name in ("yesterday", "today"):
        folder = day(tmp_path / name, 45.0, seeds=[1, 2])
        day(folder, 95.0, seeds=[1, 2], server="awq")
        folders.append(folder)
    with pytest.raises(
        TokenswarmError, match=r"found the servers awq, int8, expected --server with one"
    ) as no:
        compared(*folders)
    assert no.value.exit_code == 2
    with pytest.raises(TokenswarmError, match=r"found the servers awq, int8, expected 'fp8' among them"):
        compared(*folders, server="fp8")
    found = compared(*folders, server="awq")
    assert {run.path.name for run, _ in found.runs} == {"awq-4-1", "awq-4-2"}


def test_an_experiments_plan_says_which_runs_are_its_own(tmp_path: Path) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1, 2])
    plan = {"servers": ["int8"], "runs": ["int8-4-2"]}
    (yesterday / rejudging.PLAN).write_text(json.dumps(plan))
    found = compared(yesterday, day(tmp_path / "today", 45.0, seeds=[1, 2]))
    assert found.comparison.contrasts[0].runs == (1, 1)


# What must be the same


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"workload": {"max_tokens": 9}}, "workload.max_tokens: found 9, the baseline has 8"),
        ({"load": {"spawn_rate_per_s": 9}}, "load.spawn_rate_per_s: found 9, the baseline has 1"),
        ({"deadlines": {"total_s": 9}}, "deadlines.total_s: found 9, the baseline has 60"),
        ({"target": {"url": "http://gpu-7:8000"}}, 'target.host: found "gpu-7", the baseline has "loopback"'),
        ({"target": {"model": "other"}}, 'target.model: found "other", the baseline has "llama-8b"'),
        ({"versions": {"system": "linux 7"}}, 'versions.system: found "linux 7", the baseline has nothing'),
        ({"simulated": True}, "simulated: found true, the baseline has false"),
        (
            {"server": {"profile": {**PROFILE, "options": {"max-model-len": 4096}}}},
            "server.profile.options.max-model-len: found 4096, the baseline has 2048",
        ),
        (
            {"server": {"argv": [*ARGV, "--enforce-eager"]}},
            'server.argv.--enforce-eager: found "", the baseline has nothing',
        ),
        (
            {"server": {"inherited": {"OMP_NUM_THREADS": "4"}}},
            'server.inherited.OMP_NUM_THREADS: found "4", the baseline has nothing',
        ),
        ({"server": None}, 'server: found nothing, the baseline has "started by us"'),
    ],
)
def test_what_was_not_declared_is_refused(
    yesterday: Path, today: Path, change: dict[str, Any], said: str
) -> None:
    for run in sorted(today.glob("*/run.json")):
        change_meta(run.parent, change)
    with pytest.raises(TokenswarmError, match="not declared, expected runs that can be compared") as refused:
        compared(yesterday, today)
    assert refused.value.exit_code == 5
    assert f"today: {said}" in refused.value.tail
    name = said.partition(":")[0]
    declared = compared(yesterday, today, differs=("server",) if name == "server" else (name,))
    assert name in {one.name for one in declared.comparison.differences["today"]}
    assert f"Declared to differ: {name} " in declared.to_json()["sentences"][0]


def test_every_difference_is_listed(tmp_path: Path) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1])
    today = day(tmp_path / "today", 45.0, seeds=[1], workload={"max_tokens": 9}, deadlines={"total_s": 5})
    with pytest.raises(TokenswarmError, match="found 2 differences that were not declared") as refused:
        compared(yesterday, today)
    assert len(refused.value.tail) == 2


def test_what_differs_by_its_nature_is_no_difference(yesterday: Path, today: Path) -> None:
    argv = [
        "/home/b/python",
        "-m",
        "vllm",
        "--model",
        "/home/b/m-int8",
        "--port",
        "41000",
        "--dtype",
        "bfloat16",
    ]
    preload = {"LD_PRELOAD": "/b/libiomp5.so:/b/libtcmalloc.so"}
    for run in sorted(today.glob("*/run.json")):
        change_meta(
            run.parent, {"server": {"argv": argv, "variables": preload, "ready_s": 99.0, "kernels": []}}
        )
        change_meta(
            run.parent, {"target": {"url": "http://localhost:41000"}, "run": "20270101-x", "name": "b"}
        )
        change_meta(run.parent, {"versions": {"locust": "2.48.0", "cpu": "4 x Other"}})
    assert compared(yesterday, today).comparison.differences == {}


def test_a_declared_profile_covers_what_follows_from_it(tmp_path: Path) -> None:
    changed = {"profile": {**PROFILE, "name": "awq"}, "argv": [*ARGV, "--quantization", "awq"]}
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1])
    today = day(tmp_path / "today", 45.0, seeds=[1], target={"model": "m-awq"})
    change_meta(today / "int8-4-1", {"server": changed})
    found = compared(yesterday, today, differs=("server.profile",)).comparison
    assert [one.name for one in found.differences["today"]] == [
        "target.model",
        "server.profile.name",
        "server.argv.--quantization",
    ]
    assert not is_declared("server.inherited.OMP_NUM_THREADS", ["server.profile"])
    assert not is_declared("server.profiles", ["server.profile"])


def test_a_declared_name_that_no_run_knows_is_a_typing_error(tmp_path: Path) -> None:
    days = [day(tmp_path / name, 45.0, seeds=[1]) for name in ("yesterday", "today")]
    with pytest.raises(
        TokenswarmError, match=r"--differs: found 'workload.max_token', .*; did you mean"
    ) as no:
        compared(*days, differs=("workload.max_token",))
    assert no.value.exit_code == 2


def test_days_without_a_load_in_common_are_refused(tmp_path: Path) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1])
    measured(tmp_path / "today", "int8", baseline="int8", level=8, meta=SERVED)
    with pytest.raises(TokenswarmError, match="not declared") as refused:
        compared(yesterday, tmp_path / "today", differs=("load",))
    assert refused.value.tail == ("today: load.users: found 8, the baseline has 4",)


def test_conditions_keep_an_option_that_comes_again(tmp_path: Path) -> None:
    run = day(tmp_path, 45.0, seeds=[1]) / "int8-4-1"
    change_meta(run, {"server": {"argv": ["python", "serve", "--lora=a", "--lora", "b", "--host", "::1"]}})
    found = conditions(load(run))
    assert found["server.argv.--lora"] == "a b"
    assert found["server.argv"] == "serve"
    assert "server.argv.--host" not in found


# The command


class Answer(NamedTuple):
    code: Any
    stdout: str
    stderr: str


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["tokenswarm", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Answer(end.value.code, *capsys.readouterr())

    return run


@pytest.mark.usefixtures("no_html")
def test_the_command_says_what_is_worse_and_writes_nothing_unasked(
    ask: Callable[..., Answer], tmp_path: Path
) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1, 2, 3])
    today = day(tmp_path / "today", 90.0, seeds=[1, 2, 3])
    before = sorted(tmp_path.rglob("*"))
    sla = yesterday / "sla.yaml"
    code, told, _ = ask(yesterday, today, "--sla", sla)
    assert code == 3
    assert "today: FAIL: ttft p95 (2 x) worse, by more than 5 %" in told
    assert sorted(tmp_path.rglob("*")) == before
    code, told, err = ask(yesterday, today, "--sla", sla, "--json", "--out", tmp_path / "out")
    assert told, err
    found = json.loads(told)
    assert found == json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["weighed"]["today"]["status"] == "FAIL"
    assert (tmp_path / "out" / "report.pdf").exists()


def test_the_commands_mistakes_are_one_line(ask: Callable[..., Answer], tmp_path: Path) -> None:
    one = day(tmp_path / "one", 45.0, seeds=[1])
    other = day(tmp_path / "other", 45.0, seeds=[1], workload={"max_tokens": 9})
    (tmp_path / "empty").mkdir()
    for arguments, code, said in (
        ([one, tmp_path / "empty"], 2, "empty: found no run, expected a run directory or an experiment's"),
        ([one, one], 2, "found twice, expected runs of another time"),
        ([one, other, "--margin", "5"], 2, "--margin: found '5', expected a percentage such as 5 %"),
        ([one, other], 5, "found 1 difference that was not declared"),
    ):
        found = ask(*arguments)
        assert (found.code, said in found.stderr.splitlines()[-1]) == (code, True), found.stderr
    assert "  other: workload.max_tokens: found 9, the baseline has 8" in found.stderr


def test_an_experiments_margin_is_a_percentage(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text("servers: [{sim: baseline}]\nmargin: 2 %\n")
    assert experiment.read(file).margin_share() == 0.02
    file.write_text("servers: [{sim: baseline}]\n")
    assert experiment.read(file).margin_share() is None
    file.write_text("servers: [{sim: baseline}]\nmargin: two\n")
    with pytest.raises(TokenswarmError, match="margin: found 'two', expected a percentage such as 5 %"):
        experiment.read(file)


def test_the_quality_of_kept_answers_stands_beside_the_speed(tmp_path: Path) -> None:
    yesterday = day(tmp_path / "yesterday", 45.0, seeds=[1, 2, 3])
    today = day(tmp_path / "today", 45.0, seeds=[1, 2, 3])
    (yesterday / "sla.yaml").write_text(SLA + "quality: [kl <= 0.05]\n")
    found = compared(yesterday, today)
    assert found.exit_code == 4
    assert "quality INCONCLUSIVE: not judged: found no " in found.weighed["today"].reasons[0]
    for folder, noise in ((yesterday, 0.0), (today, 3.0)):
        (folder / "quality").mkdir()
        text = json.dumps(said_by(noise))
        (folder / "quality" / "int8.json.gz").write_bytes(gzip.compress(text.encode()))
    lost = compared(yesterday, today)
    assert (lost.weighed["today"].status, lost.exit_code) == ("FAIL", 3)
    assert lost.weighed["today"].reasons[0].startswith("quality FAIL: kl <= 0.05: ")
