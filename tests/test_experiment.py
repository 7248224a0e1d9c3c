"""Reading experiments and the order of their runs."""

from pathlib import Path

import pytest

from tokenswarm import TokenswarmError, experiment, judging, measuring

ROOT = Path(__file__).resolve().parents[1]
TWO = "servers: [{sim: baseline}, {sim: awq}]\n"


def read(folder: Path, text: str) -> experiment.Experiment:
    (folder / "experiment.yaml").write_text(text)
    return experiment.read(folder / "experiment.yaml")


def names(plan: experiment.Experiment) -> list[str]:
    return [run.name for run in experiment.schedule(plan)]


def test_one_block_is_one_run_for_each_server(tmp_path: Path) -> None:
    assert names(read(tmp_path, TWO)) == ["baseline", "awq"]


def test_blocks_are_mirrored(tmp_path: Path) -> None:
    plan = read(tmp_path, TWO + "blocks: 3")
    assert names(plan) == ["baseline-1", "awq-1", "awq-2", "baseline-2", "baseline-3", "awq-3"]


def test_levels_are_measured_up_and_then_down(tmp_path: Path) -> None:
    plan = read(tmp_path, TWO + "blocks: 2\nload: {rate: [1, 2]}")
    first, second = names(plan)[:4], names(plan)[4:]
    assert first == ["baseline-1rps-1", "baseline-2rps-1", "awq-1rps-1", "awq-2rps-1"]
    assert second == ["awq-2rps-2", "awq-1rps-2", "baseline-2rps-2", "baseline-1rps-2"]


def test_the_loop_chooses_what_a_level_is(tmp_path: Path) -> None:
    plan = read(tmp_path, TWO + "load: {loop: closed, users: [1, 4], rate: 9}")
    assert names(plan) == ["baseline-1users", "baseline-4users", "awq-1users", "awq-4users"]


def test_pairs_have_the_same_seed_and_blocks_have_their_own(tmp_path: Path) -> None:
    plan = read(tmp_path, TWO + "blocks: 2\nload: {seed: 7}")
    up = measuring.Up("x", "http://127.0.0.1:1", "m", None)
    seeds = {}
    for run in experiment.schedule(plan):
        words = measuring.locust_command(plan, run, up, tmp_path)
        seeds[run.name] = words[words.index("--seed") + 1]
    assert seeds == {"baseline-1": "7", "awq-1": "7", "awq-2": "8", "baseline-2": "8"}


def test_a_model_that_the_server_does_not_list_is_named(tmp_path: Path) -> None:
    plan = read(tmp_path, TWO)
    run = next(experiment.schedule(plan))
    words = measuring.locust_command(plan, run, measuring.Up("x", "http://h", "/models/m", None), tmp_path)
    assert words[words.index("--model") + 1] == "/models/m"


def test_a_profile_with_changes(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("quick: {like: int8, options: {max-num-seqs: 4}}")
    text = "profiles: mine.yaml\nservers: [{profile: quick, model: /m, options: {enforce-eager: true}}]"
    plan = read(tmp_path, text)
    found = experiment.profile_of(plan.servers[0], plan)
    assert (found.name, found.model, found.quantization) == ("quick", "/m", "int8")
    assert found.options == {"max-num-seqs": 4, "enforce-eager": True}
    assert plan.servers[0].name == "quick"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("servers: [{profile: awk}]", "server 1: profile: found 'awk', expected one of baseline, awq"),
        ("servers: [{profile: awq, url: 'http://h'}]", "one of profile, sim and url, found profile and url"),
        (
            "servers: [{url: 'http://h', model: m}]",
            "model: expected it with a profile only, found it with url",
        ),
        ("servers: [{profile: awq, options: {api-key: x}}]", "found api-key, a secret"),
        ("profiles: none.yaml\nservers: [{profile: awq}]", "none.yaml: cannot be read"),
        (TWO + "load: {rate: [2, 2]}", "load: found a level twice in [2, 2]"),
        (TWO + "load: {rate: []}", "rate"),
        (TWO + "blocks: 0", "blocks"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TokenswarmError) as refused:
        read(tmp_path, text)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("workload", "scenario"),
    [
        ("{}", "chat"),
        ("{endpoint: completions}", "completions"),
        ("{options: [--ignore-eos, --scenario, long chat]}", "long chat"),
        ("{options: [--scenario=short, --scenario=long]}", "long"),
    ],
)
def test_the_scenario_is_known_before_a_run(tmp_path: Path, workload: str, scenario: str) -> None:
    assert experiment.scenarios(read(tmp_path, TWO + f"workload: {workload}")) == [scenario]


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("ttft p95 < 1 s in chatt", "found the scenario 'chatt', expected chat; did you mean 'chat'?"),
        ("ttft p95 < 1 s to 70 s", "found a time at 70 s, expected one within the 60 s of the run"),
        ("ttft p95 < 1 furlong", "found 'furlong' as a unit of time"),
    ],
)
@pytest.mark.parametrize("inline", [True, False])
def test_an_sla_that_cannot_be_judged_is_refused_before_a_run(
    tmp_path: Path, objective: str, words: str, *, inline: bool
) -> None:
    written = f"{{name: x, objectives: [error_rate < 1 %, '{objective}']}}"
    (tmp_path / "sla.yaml").write_text(written)
    plan = read(tmp_path, f"{TWO}sla: {written if inline else 'sla.yaml'}")
    with pytest.raises(TokenswarmError, match=r"(: sla|sla\.yaml): objective 2: ") as refused:
        judging.experiment_sla(plan, tmp_path / "experiment.yaml")
    assert words in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_experiments_that_we_ship_can_be_read(file: Path) -> None:
    plan = experiment.read(file)
    assert [experiment.profile_of(server, plan).engine for server in plan.servers]
