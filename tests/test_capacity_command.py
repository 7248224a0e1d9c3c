"""`tokenswarm capacity`: the plan for an experiment with known capacity, its files, and what it refuses."""

import csv
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from matplotlib.image import imread
from pypdf import PdfReader

from analysis import capacity_plan, charts, page_capacity, sized
from analysis.charts import Judged
from analysis.fleet import Assumptions, size
from analysis.rundir import load
from analysis.sla import parse
from analysis.verdict import judge
from tests.queueing import SLA_YAML, Queue, write_experiment
from tests.run_directories import change_meta
from tokenswarm import cli, sizing

SLOW, FAST = Queue(channels=2), Queue(channels=3)
FIRST = parse(SLA_YAML, "test")
PRICES = "currency: EUR\nper_hour: {card: 2.0}\ngpu: card\ngpus_per_replica: 2\n"


class Answer(NamedTuple):
    """What the command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def plan(self) -> dict[str, Any]:
        """Return what --json printed."""
        found: dict[str, Any] = json.loads(self.stdout)
        return found


Ask = Callable[..., Answer]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["tokenswarm", "capacity", *map(str, arguments)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an experiment: `fast` has three channels, `slow` two."""
    folder = tmp_path_factory.mktemp("two")
    servers = (("slow", SLOW), ("fast", FAST))
    return write_experiment(folder, (8, 10, 20, 40), servers=servers, seconds=80)


@pytest.fixture(scope="module")
def judged(two: Path) -> list[Judged]:
    runs = [load(two / f"slow-{level}-1") for level in (8, 10, 20, 40)]
    return [(run, judge(run, FIRST)) for run in runs]


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts out: they take a second, and other tests look at them."""
    monkeypatch.setattr(page_capacity, "chart_figures", lambda *_: {})


@pytest.fixture
def no_pages(no_charts: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - it is both
    """Leave the charts and the page out, likewise."""
    monkeypatch.setattr(page_capacity, "page_capacity", lambda *_: None)
    monkeypatch.setattr(charts, "save_pdf", lambda _pages, path, _title: path)


def planned(folder: Path, demand: str | Path = "9", **asked: Any) -> dict[str, Any]:
    """Return the plan as JSON: no page is drawn."""
    found, _ = sizing.answer(folder, sizing.Question(str(demand), Assumptions(), **asked))
    plain: dict[str, Any] = json.loads(json.dumps(found.to_json()))
    return plain


def replicas(judged: Sequence[Judged], per_s: float, by: Assumptions) -> int:
    (fleet,) = capacity_plan.plan(judged, FIRST, capacity_plan.number(per_s), by).fleets
    assert fleet.sizing
    return fleet.sizing.replicas


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("broken"), (24, 60), seconds=90)


def trace(path: Path, rates: list[int], tokens: str = "200,4") -> Path:
    """Write a trace whose minutes have these rates, evenly spaced."""
    times = [60 * minute + i / rate for minute, rate in enumerate(rates) for i in range(60 * rate)]
    rows = "".join(f"{time:.6f},{tokens}\n" for time in times)
    path.write_text(f"Timestamp,Request tokens,Response tokens\n{rows}")
    return path


def server(plan: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in plan["servers"] if one["server"] == name)
    return found


# The number


@pytest.mark.usefixtures("no_pages")
def test_the_plan_follows_from_the_measured_bound(two: Path, ask: Ask) -> None:
    answer = ask(two, "--demand", "200", "--growth", "30%", "--utilisation", "0.7", "--zones", "3", "--json")
    assert answer.code == 0, answer.stderr
    for name, queue in (("slow", SLOW), ("fast", FAST)):
        own = server(answer.plan, name)
        truth = queue.capacity_per_s(100, 0.05)
        assert own["highest"] < truth < own["refuted"]
        level = next(one for one in own["levels"] if one["level"] == own["highest"])
        by = Assumptions(growth=0.3, utilisation=0.7, spare=1, zones=3)
        assert own["fleet"]["sizing"]["replicas"] == size(200, level["goodput_low_per_s"], by).replicas
        fewest = size(200, own["highest"], by).replicas
        assert own["fleet"]["sizing"]["replicas"] >= fewest, "never fewer than if every request were good"
    assert "fast needs" in answer.plan["said"][-1]


def test_other_numbers_are_another_plan_of_the_same_runs(judged: Sequence[Judged]) -> None:
    planned = replicas(judged, 200, Assumptions())
    for other in ({"growth": 0.5}, {"utilisation": 0.5}, {"spare": 4}, {"zones": 2}):
        assert replicas(judged, 200, Assumptions(**other)) > planned  # type: ignore[arg-type]


def test_another_sla_is_another_plan(two: Path, tmp_path: Path) -> None:
    sla = tmp_path / "loose.yaml"
    sla.write_text(SLA_YAML.replace("100 ms", "5 s"))
    own = server(planned(two, sla=sla), "slow")
    assert own["highest"] == 20
    assert own["limits_ms"] == {"ttft p95": 5000.0}


@pytest.mark.usefixtures("no_pages")
def test_a_person_reads_the_decision_first(two: Path, ask: Ask, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    answer = ask(two, "--demand", "200", "--growth", "30%", "--prices", prices)
    first, second, *_ = answer.stdout.splitlines()
    assert re.match(
        r"slow: \d+ replicas for 200 requests/s \+ 30 %, [\d.]+ EUR an hour, [\d.]+ EUR per mill", first
    )
    assert re.match(
        r"slow holds the SLA up to \d+ arrivals/s, not at 20; there a replica gives [\d.]+ to ", second
    )
    for words in (
        "How many of fast",
        "rounded up: ",
        "If one number were another",
        "load -25 %",
        "Results: ",
    ):
        assert words in answer.stdout


def test_costs_by_hand(two: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    own = server(planned(two, "200", prices=prices), "slow")
    bill, sizing = own["fleet"]["bill"], own["fleet"]["sizing"]
    assert bill["per_hour"] == sizing["replicas"] * 4.0
    level = next(one for one in own["levels"] if one["level"] == own["highest"])
    tokens_per_hour = 3600 * level["goodput_low_per_s"] * level["output_tokens"]
    assert bill["at_capacity"]["per_million_output"] == pytest.approx(4.0 / tokens_per_hour * 1e6)
    assert bill["at_utilisation"]["per_million_output"] == pytest.approx(4.0 / tokens_per_hour * 1e6 / 0.7)


def test_the_sensitivity_is_the_plan_with_another_number(judged: Sequence[Judged]) -> None:
    by = Assumptions()
    found = capacity_plan.plan(judged, FIRST, capacity_plan.number(200), by).fleets[0]
    rows = {row.change: row.replicas for row in found.variants}
    assert rows["as planned"] == replicas(judged, 200, by)
    assert rows["load +25 %"] == replicas(judged, 250, by)
    assert rows["load -25 %"] == replicas(judged, 150, by)
    assert rows["growth 50 %"] == replicas(judged, 200, replace(by, growth=0.5))
    assert rows["utilisation 60 %"] == replicas(judged, 200, replace(by, utilisation=0.6))
    assert rows["utilisation 80 %"] == replicas(judged, 200, replace(by, utilisation=0.8))
    assert rows["requests 25 % longer"] == rows["load +25 %"]
    assert rows["goodput as observed"] <= rows["as planned"]


# A trace


@pytest.mark.usefixtures("no_pages")
def test_a_trace_is_followed(two: Path, ask: Ask, tmp_path: Path) -> None:
    file = trace(tmp_path / "trace.csv", [20, 20, 100, 40, 20])
    answer = ask(two, "--demand", file, "--server", "slow", "--json")
    assert answer.code == 0, answer.stderr
    plan = answer.plan
    assert plan == json.loads((two / "capacity.json").read_text())
    assert plan["demand"]["peak_per_s"] == pytest.approx(100, rel=0.01)
    assert plan["demand"]["trace"]["mean_per_s"] == pytest.approx(40, rel=0.01)
    assert plan["demand"]["trace"]["peak_over_mean"]["60_s"] == pytest.approx(2.5, rel=0.02)
    own = plan["servers"][0]["fleet"]
    assert own["autoscaled"]["highest"] == own["sizing"]["replicas"]
    assert own["autoscaled"]["short_share"] == pytest.approx(0.5, abs=0.01), "the minute of the rise"
    with (two / "replicas.csv").open(newline="") as file_of_steps:
        rows = list(csv.DictReader(file_of_steps))
    assert len(rows) == 5
    ready = [int(row["slow_ready"]) for row in rows]
    assert own["autoscaled"]["mean"] == pytest.approx(sum(ready) / 5)
    assert ready[3] == int(rows[2]["slow_needed"])


def test_other_tokens_are_told_and_scaled_if_asked(two: Path, tmp_path: Path) -> None:
    file = trace(tmp_path / "trace.csv", [20, 20, 40], tokens="600,8")
    plain = planned(two, file, server="slow")
    assert "3.00 x the input tokens and 2.00 x the output tokens of a measured request: measure that mix" in (
        " ".join(plain["notes"]).replace("3 x", "3.00 x").replace("2 x", "2.00 x")
    )
    scaled = planned(two, file, server="slow", by_tokens=True)
    assert scaled["servers"][0]["fleet"]["scale"] == pytest.approx(3.0)
    assert scaled["servers"][0]["fleet"]["sizing"]["demand_per_s"] == pytest.approx(
        3 * plain["servers"][0]["fleet"]["sizing"]["demand_per_s"], rel=0.001
    )


# Its files


def test_the_same_question_gives_the_same_bytes(two: Path, ask: Ask, tmp_path: Path) -> None:
    file = trace(tmp_path / "trace.csv", [20, 60, 20])
    (tmp_path / "prices.yaml").write_text(PRICES)
    question = (two, "--demand", file, "--server", "slow", "--prices", tmp_path / "prices.yaml")
    made = []
    for _ in range(2):
        ask(*question)
        names = ["capacity.json", "capacity.pdf", "replicas.csv", "charts/capacity-goodput.png"]
        made.append([(two / name).read_bytes() for name in names])
    assert made[0] == made[1]


@pytest.fixture(scope="module")
def written(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files of one plan, where those of another demand were."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "replicas.csv").touch()
    sizing.write(*sizing.answer(two, sizing.Question("200", Assumptions())), folder)
    return folder


def test_the_page_says_the_number_and_the_charts_are_drawn(written: Path) -> None:
    plan = json.loads((written / "capacity.json").read_text())
    (page,) = PdfReader(written / "capacity.pdf").pages
    text = page.extract_text()
    for one in plan["servers"]:
        assert re.search(rf"{one['fleet']['sizing']['replicas']}( replicas)? of {one['server']}", text)
        assert f"up to {one['highest']:g}, not {one['refuted']:g}" in text
    assert "rounded up" in text
    for name in ("ttft", "itl", "goodput", "sensitivity"):
        image = imread(written / "charts" / f"capacity-{name}.png")
        assert image[..., :3].std() > 0.01


def test_every_figure_is_json(two: Path, written: Path) -> None:
    assert not (written / "replicas.csv").exists(), "it belonged to another demand"
    plan = json.loads((written / "capacity.json").read_text())
    assert plan == planned(two, "200")
    assert all(math.isfinite(one["goodput_per_s"]) for one in plan["servers"][0]["levels"])


def test_the_answer_is_read_back_for_the_same_runs_alone(two: Path, written: Path) -> None:
    plan, _ = sizing.answer(two, sizing.Question("200", Assumptions()))
    found = sized.read(written / sized.FILE, plan.capacities)
    assert found
    assert found.words == "for 200 requests/s (the demand, as given), 70 % utilisation, 1 spare"
    assert found.needed == {fleet.server: sized.needs(fleet) for fleet in plan.fleets}
    assert {one.replicas for one in found.needed.values()} == {
        f.sizing.replicas for f in plan.fleets if f.sizing
    }
    slow, fast = plan.capacities
    others = [replace(slow, levels=slow.levels[:-1]), fast], [replace(slow, good=("success",)), fast], [slow]
    for capacities in others:
        assert sized.read(written / sized.FILE, capacities) is None
    assert sized.read(two / "no.json", plan.capacities) is None


# Where little can be said


@pytest.mark.usefixtures("no_charts")
def test_no_level_holds_no_replicas(broken: Path, ask: Ask) -> None:
    answer = ask(broken, "--demand", "100")
    assert answer.code == 3
    first, second, *_ = answer.stdout.splitlines()
    assert (
        first
        == "mine: no number of replicas for 100 requests/s, for no level that was measured holds the SLA."
    )
    assert second == "mine does not hold the SLA: broken from 24 arrivals/s."
    plan = json.loads((broken / "capacity.json").read_text())
    assert plan["servers"][0]["fleet"]["sizing"] is None
    assert "mine: lower levels than 24 arrivals/s were not measured: look there" in answer.stdout
    assert "No measured load holds the SLA" in PdfReader(broken / "capacity.pdf").pages[0].extract_text()


@pytest.mark.usefixtures("no_pages")
def test_one_level_that_holds_is_a_plan_that_says_so(ask: Ask, tmp_path: Path) -> None:
    write_experiment(tmp_path, [10], seconds=60)
    answer = ask(tmp_path, "--demand", "100")
    assert answer.code == 0
    assert "mine holds the SLA up to 10 arrivals/s, the highest that was measured" in answer.stdout
    assert "mine: one level was measured: where it breaks is not known" in answer.stdout


@pytest.mark.usefixtures("no_pages")
def test_where_the_instrument_was_not_fit_nobody_is_told_to_measure_longer(ask: Ask, tmp_path: Path) -> None:
    write_experiment(tmp_path, [4], seconds=20)
    (run,) = (path.parent for path in tmp_path.glob("**/run.json"))
    change_meta(run, {"ended_unix_ns": None})
    answer = ask(tmp_path, "--demand", "9")
    assert "mine: INVALID at 4 arrivals/s" in answer.stdout
    assert "measure longer there" not in answer.stdout


@pytest.mark.usefixtures("no_charts")
def test_a_level_too_short_to_decide_is_no_plan(ask: Ask, tmp_path: Path) -> None:
    write_experiment(tmp_path, [2], seconds=12, warmup_s=1)
    answer = ask(tmp_path, "--demand", "100")
    assert answer.code == 4
    assert "no level was shown to hold the SLA" in answer.stdout
    assert "Not decided" in PdfReader(tmp_path / "capacity.pdf").pages[0].extract_text()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three blocks of two levels, together too short to decide."""
    return write_experiment(tmp_path_factory.mktemp("short"), [8, 10], seconds=6, blocks=3, warmup_s=1)


SEARCHED: dict[str, Any] = {
    "sla": FIRST.name,
    "objectives": [one.text for one in FIRST.objectives],
    "servers": [
        {
            "server": "mine",
            "levels": [
                {"level": 8.0, "probe": "PASS", "confirmation": "PASS", "runs": []},
                {"level": 10.0, "probe": "PASS", "confirmation": "FAIL", "runs": []},
            ],
        }
    ],
}


def test_a_load_search_decides_over_all_runs_of_a_level(tmp_path: Path) -> None:
    write_experiment(tmp_path, [8, 10], seconds=40, blocks=3)
    (tmp_path / "search.json").write_text(json.dumps(SEARCHED))
    own = server(planned(tmp_path), "mine")
    assert (own["highest"], own["refuted"]) == (8, 10)
    assert own["fleet"]["sizing"]["replicas"] >= 2
    assert own["levels"][1]["reason"] == "FAIL over all runs"


def test_a_goodput_without_an_interval_plans_nothing(short: Path) -> None:
    (short / "search.json").write_text(json.dumps(SEARCHED))
    own = server(planned(short), "mine")
    assert [one["reason"] for one in own["levels"]] == ["PASS over all runs", "FAIL over all runs"]
    assert (own["highest"], own["levels"][0]["goodput_low_per_s"]) == (8, None)
    assert (own["fleet"]["sizing"], "measure longer" in own["fleet"]["reason"]) == (None, True)


@pytest.mark.parametrize(
    "found",
    [
        None,
        {"servers": 3},
        SEARCHED | {"sla": "another"},
        SEARCHED | {"objectives": ["ttft p95 < 1 s"]},
        {key: value for key, value in SEARCHED.items() if key != "objectives"},
    ],
)
def test_a_search_for_another_sla_decides_nothing(short: Path, found: dict[str, Any] | None) -> None:
    (short / "search.json").unlink(missing_ok=True)
    if found is not None:
        (short / "search.json").write_text(json.dumps(found))
    own = server(planned(short), "mine")
    assert (own["highest"], own["refuted"]) == (None, None)


@pytest.mark.usefixtures("no_pages")
def test_runs_that_are_missing_are_named(ask: Ask, tmp_path: Path) -> None:
    write_experiment(tmp_path, [9, 10], seconds=60)
    shutil.rmtree(tmp_path / "mine-10-1")
    answer = ask(tmp_path, "--demand", "100")
    assert answer.code == 0
    assert "Not measured: mine-10-1." in answer.stdout


@pytest.mark.usefixtures("no_charts")
def test_simulated_runs_say_so(ask: Ask, tmp_path: Path) -> None:
    write_experiment(tmp_path, [10], seconds=50, simulated=True)
    answer = ask(tmp_path, "--demand", "100")
    assert "mine, one replica, by load in arrivals/s, times in ms  (SIMULATED)" in answer.stdout
    assert "SIMULATED" in PdfReader(tmp_path / "capacity.pdf").pages[0].extract_text()


# Mistakes


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--demand", "0"], "--demand: found 0, expected more than 0 requests/s"),
        (["--demand", "nan"], "--demand: found nan"),
        (["--demand", "none.csv"], "none.csv: cannot be read (No such file or directory)"),
        (["--demand", "9", "--growth", "30"], "did you mean 30%?"),
        (["--demand", "9", "--growth", "much"], "found 'much', expected a share such as 30% or 0.3"),
        (["--demand", "9", "--utilisation", "120%"], "expected a share between 0% and 100%"),
        (["--demand", "9", "--utilisation", "0"], "--utilisation"),
        (["--demand", "9", "--server", "medium"], "--server: found 'medium', expected slow or fast"),
        (["--demand", "9", "--by", "tokens"], "found a number as --demand, expected a trace with tokens"),
        (["--demand", "9", "--prices", "none.yaml"], "none.yaml: cannot be read"),
        (["--demand", "9", "--sla", "none.yaml"], "none.yaml: cannot be read"),
        ([], "Missing option '--demand'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(two: Path, ask: Ask, more: list[str], said: str) -> None:
    before = sorted(two.rglob("*"))
    answer = ask(two, *more)
    assert answer.code == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert sorted(two.rglob("*")) == before


def test_a_price_file_without_its_currency_is_one_line(two: Path, ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES.replace("currency: EUR\n", ""))
    answer = ask(two, "--demand", "9", "--prices", tmp_path / "prices.yaml")
    assert (answer.code, answer.stderr.count("\n")) == (2, 1)
    assert "prices.yaml: found no currency, expected a word such as EUR" in answer.stderr


def test_a_folder_without_runs_is_one_line(ask: Ask, tmp_path: Path) -> None:
    answer = ask(tmp_path, "--demand", "9")
    assert (answer.code, answer.stderr.count("\n")) == (2, 1)
    assert "found no runs, expected the directory of an experiment, with plan.json" in answer.stderr


def test_mixed_loops_are_one_line(ask: Ask, tmp_path: Path) -> None:
    write_experiment(tmp_path, [4, 5], seconds=12)
    change_meta(tmp_path / "mine-5-1", {"load": {"loop": "closed"}})
    answer = ask(tmp_path, "--demand", "9")
    assert (answer.code, answer.stderr.count("\n")) == (2, 1)
    assert "found loops of two kinds" in answer.stderr
