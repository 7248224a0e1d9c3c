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


def test_random_order_shuffles_within_blocks_and_keeps_a_servers_runs_together(tmp_path: Path) -> None:
    text = (
        "servers: [{sim: baseline}, {sim: awq}]\norder: random\nblocks: 20\nload: {rate: [1, 2, 3], seed: %d}"
    )
    plan = read(tmp_path, text % 7)
    runs = list(experiment.schedule(plan))
    assert len({run.name for run in runs}) == len(runs) == 120
    orders = set()
    for block in range(20):
        own = runs[6 * block : 6 * block + 6]
        assert {run.block for run in own} == {block + 1}
        assert len({run.server.name for run in own[:3]}) == len({run.server.name for run in own[3:]}) == 1
        assert sorted(run.level for run in own) == [1, 1, 2, 2, 3, 3]
        orders.add(tuple((run.server.name, run.level) for run in own))
    assert len(orders) > 10
    assert names(plan) == [run.name for run in runs], "the same seed, the same order"
    assert names(read(tmp_path, text % 8)) != names(plan)
    mirrored = read(tmp_path, text.replace("random", "mirrored") % 7)
    seeds = {run.name: run.seed for run in experiment.schedule(mirrored)}
    assert {run.name: run.seed for run in runs} == seeds, "whatever the order, a run has its seed"


def test_rates_need_not_be_whole(tmp_path: Path) -> None:
    plan = read(tmp_path, TWO + "load: {rate: [0.5, 2, 37.4]}")
    assert names(plan)[:3] == ["baseline-0.5rps", "baseline-2rps", "baseline-37.4rps"]
    up = measuring.Up("x", "http://127.0.0.1:1", "m", None)
    found = []
    for run in list(experiment.schedule(plan))[:3]:
        words = measuring.locust_command(plan, run, up, tmp_path)
        users = int(words[words.index("-u") + 1])
        each = float(words[words.index("--rate-per-user") + 1]) if "--rate-per-user" in words else 1.0
        assert words[words.index("-r") + 1] == str(users)
        found.append((users, each * users))
    assert found == [(1, 0.5), (2, 2.0), (38, pytest.approx(37.4))]


def test_a_search_plans_no_runs_and_says_how_it_looks(tmp_path: Path) -> None:
    text = "search: {from: 0.5, to: 64, within: 10 %, confirm: 4, probe_s: 20, longest_s: 100}"
    plan = read(tmp_path, TWO + text)
    assert names(plan) == []
    assert plan.search
    assert (plan.search.start, plan.search.top, plan.search.share) == (0.5, 64, pytest.approx(0.1))
    assert plan.search.longest == 5
    assert plan.search.confirm_s == 25


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
        (TWO + "order: sideways", "order"),
        (TWO + "load: {loop: closed, users: 1.5}", "users"),
        (TWO + "search: {until: 3}", "until"),
        (TWO + "search: {within: 5}", "within"),
        (TWO + "search: {within: 0.1 %}", "search: within: found 0.1 %, expected 1 % to 50 %"),
        (TWO + "search: {from: 9, to: 3}", "search: found from 9 to 3, expected a rising range"),
        (TWO + "search: {}\nload: {rate: 4}", "rate: found it beside a search"),
        (TWO + "search: {}\nblocks: 2", "blocks: found it beside a search"),
        (TWO + "search: {from: 1.5}\nload: {loop: closed}", "from 1.5 to 200, expected whole users"),
        (TWO + "search: {probe_s: 60, longest_s: 30}", "longest_s 30 and probe_s 60"),
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
