"""Locust's CSVs alone: what its rounding leaves undecided, and what the history file is worth."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.coarse import Coarse, judge
from analysis.importers import ImportFileError, locust
from analysis.objective import ObjectiveResult
from analysis.sla import Sla, parse_objective
from tests.locust_csvs import write_csvs

GOLDEN = Path(__file__).parent / "golden" / "importers" / "locust-2.47"
SECONDS, RATE = 400, 10


def draw(
    median_ms: float = 80.0, *, sigma: float = 0.05, phi: float = 0.0, failed: int = 0, seed: int = 1
) -> Any:
    """Draw requests, RATE a second; `phi` is the AR(1) coefficient from second to second."""
    rng = np.random.default_rng(seed)
    made, state = [], 0.0
    for second in range(SECONDS):
        state = phi * state + np.sqrt(1 - phi**2) * rng.standard_normal()
        for _ in range(RATE):
            noise = state if phi else rng.standard_normal()
            made.append((second, "POST", "chat", median_ms * float(np.exp(sigma * noise)), ""))
    for i in rng.choice(len(made), failed, replace=False):
        made[i] = (*made[i][:4], "HTTPError(503)")
    return made


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[str, Path] = {}

    def write(name: str, requests: Any = None, *, full: bool = False) -> Path:
        if name not in made:
            made[name] = write_csvs(tmp_path_factory.mktemp("locust") / name, requests or draw(), full=full)
        return made[name]

    return write


@pytest.fixture
def folder(written: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written("plain"), tmp_path / "run"))


def judged(run: Coarse, *texts: str) -> tuple[ObjectiveResult, ...]:
    return judge(run, Sla("test", tuple(parse_objective(text) for text in texts))).objectives


def one(folder: Path, text: str) -> ObjectiveResult:
    return judged(locust.read(folder, "run"), text)[0]


def test_every_percentile_tells_the_truth_about_the_values_behind_it(written: Callable[..., Path]) -> None:
    rng = np.random.default_rng(5)
    edges = [
        0.4,
        4.5,
        98.4,
        99.4,
        99.5,
        99.7,
        100.2,
        104.9,
        105.0,
        147,
        994.9,
        995,
        1049,
        9949,
        10_499,
        14_500,
    ]
    values = {f"n{n}": rng.lognormal(5, 2, n).tolist() for n in (1, 2, 3, 50, 99, 100, 101, 1000)} | {
        "edges": edges
    }
    requests = [(0, "POST", name, value, "") for name, own in values.items() for value in own]
    rows = {row.scenario: row for row in locust.read(written("truth", requests), "run").rows}
    assert rows.keys() == values.keys()
    for name, row in rows.items():
        own = np.array(values[name]) * 1e6
        assert len(row.points) == 12
        for point in row.points:
            assert (own <= point.high_ns + 1e-3).sum() >= point.up_to >= 1
            assert (own >= point.low_ns - 1e-3).sum() >= point.from_ >= 1
            assert point.low_ns - 1e-3 <= np.sort(own)[min(point.up_to, len(own)) - 1] <= point.high_ns + 1e-3


@pytest.mark.parametrize(
    ("shown", "low", "high"),
    [(0, 0, 0.5), (98, 97.5, 98.5), (99, 98.5, 99.5), (100, 99.5, 105), (110, 105, 115), (1000, 995, 1050),
     (1100, 1050, 1150), (10_000, 9950, 10_500), (12_000, 11_500, 12_500)],
)  # fmt: skip
def test_buckets(shown: float, low: float, high: float) -> None:
    assert locust.bucket_ms(shown, finer=False) == (low, high)


def test_far_from_the_limit_the_percentiles_decide(folder: Path) -> None:
    good, bad = one(folder, "e2e p95 < 120 ms"), one(folder, "e2e p95 < 80 ms")
    assert good.status == "PASS"
    assert good.n == SECONDS * RATE
    assert good.n_eff is not None
    assert 100 <= good.n_eff <= SECONDS
    assert good.bound_high is not None
    assert good.bound_high < 0.05
    assert bad.status == "FAIL"


def test_a_limit_inside_a_rounded_percentile_is_not_decided(written: Callable[..., Path]) -> None:
    folder = written("rounded", draw(102.0, sigma=0.01))
    result = one(folder, "e2e p95 < 104 ms")
    assert result.status == "INCONCLUSIVE"
    assert result.reason == (
        "Locust's CSV rounds: p95 of 100 ms stands for 99.5 to 105 ms, and the limit lies inside"
    )
    assert result.observed == 100
    assert result.resolution == 5.5


def test_a_percentile_that_the_file_has_not_lies_between_two_that_it_has(folder: Path) -> None:
    assert one(folder, "e2e p97 < 120 ms").status == "PASS"
    result = one(folder, "e2e p97 < 88 ms")
    assert result.observed is None
    assert result.status == "INCONCLUSIVE"
    assert "the file's percentiles allow from" in result.reason


def test_seconds_that_are_alike_are_worth_less(written: Callable[..., Path]) -> None:
    alone = locust.read(written("plain"), "run").worth.n
    together = locust.read(written("alike", draw(phi=0.95, sigma=0.2)), "run").worth.n
    assert alone is not None
    assert together is not None
    assert together < 100 < alone
    result = one(written("alike"), "e2e p95 < 1 s")
    assert result.status == "INCONCLUSIVE"
    assert "count as one, and seconds are alike: worth" in result.reason


def test_without_history_nothing_passes_and_only_the_hopeless_fails(folder: Path) -> None:
    (folder / "run_stats_history.csv").unlink()
    good, bad = one(folder, "e2e p95 < 1 s"), one(folder, "e2e p95 < 60 ms")
    assert (good.status, good.bound_high) == ("INCONCLUSIVE", None)
    assert "there is no run_stats_history.csv" in good.reason
    assert (bad.status, bad.bound_low) == ("FAIL", None)
    assert "worth 10" in bad.reason


def test_failures_count_as_infinitely_late(written: Callable[..., Path]) -> None:
    folder = written("failing", draw(failed=400))
    assert one(folder, "e2e p95 < 10 s").status == "FAIL"
    assert one(folder, "error_rate < 1 %").status == "FAIL"
    assert one(folder, "error_rate < 20 %").status == "PASS"
    run = locust.read(folder, "run")
    assert run.errors == {"chat": {"HTTPError(503)": 400}}
    assert all(gate.ok for gate in run.gates if gate.name == "run_failures.csv")


def test_the_mean_is_judged_by_the_history(folder: Path) -> None:
    result = one(folder, "e2e mean < 90 ms")
    assert result.status == "PASS"
    assert result.bound_low is not None
    assert result.bound_high is not None
    assert result.bound_low < 80.1 < result.bound_high < 81
    assert one(folder, "e2e mean < 70 ms").status == "FAIL"


def test_the_aggregated_row_is_never_read_for_latency(folder: Path) -> None:
    path = folder / "run_stats.csv"
    rows = list(csv.reader(path.open(newline="")))
    assert rows[-1][1] == "Aggregated"
    rows[-1][5:9] = ["9e9"] * 4
    rows[-1][11:] = ["9000000"] * len(rows[-1][11:])
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert one(folder, "e2e p95 < 120 ms").status == "PASS"


def test_rows_of_ttft_are_ttft_and_other_rows_are_named(written: Callable[..., Path]) -> None:
    requests = [
        request
        for second, kind, name, value, _ in draw()
        for request in (
            (second, kind, name, value, ""),
            (second, "TTFT", name, value / 2, ""),
            (second, "METRIC", "tokens", 9e6, ""),
        )
    ]
    run = locust.read(written("metrics", requests, full=True), "run")
    assert {row.metric for row in run.rows} == {"e2e", "ttft"}
    assert any("METRIC" in sentence for sentence in run.definitions)
    ttft, e2e, good, itl = judged(
        run,
        "ttft p95 < 60 ms",
        "e2e p95 < 120 ms",
        "goodput(ttft < 60 ms, e2e < 120 ms) >= 90 %",
        "itl p99 < 1 s",
    )
    assert [ttft.status, e2e.status, good.status] == ["PASS"] * 3
    assert (itl.status, itl.reason) == ("INCONCLUSIVE", "not known: the imported file has no itl")


def test_a_rounding_of_somebodys_own_is_noticed(folder: Path) -> None:
    assert not any("replaced" in sentence for sentence in locust.read(folder, "run").definitions)
    path = folder / "run_stats.csv"
    head, row, aggregated = path.read_text().splitlines()
    path.write_text("\n".join([head, ",".join([*row.split(",")[:-1], "147"]), aggregated]))
    assert any("replaced" in sentence for sentence in locust.read(folder, "run").definitions)
    assert locust.bucket_ms(147, finer=True) == (146.5, 148)


def spoil(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        path = folder / f"run_{name}.csv"
        path.write_text(change(path.read_text()))

    return act


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (spoil("stats", lambda _: ""), "run_stats.csv: found an empty file"),
        (spoil("stats", lambda text: text[:-40]), "line 3: found fewer or more cells"),
        (
            spoil("stats", lambda text: text.replace("Request Count", "Requests")),
            "found no column Request Count",
        ),
        (spoil("stats", lambda text: text.splitlines()[0] + "\n"), "found no requests"),
        (spoil("stats", lambda text: text.replace("chat,4000", "chat,nan")), "Request Count: found 'nan'"),
        (spoil("stats", lambda text: text.replace("chat,4000", "chat,-1")), "Request Count: found '-1'"),
        (
            spoil("stats_history", lambda text: text.replace("Total Request Count", "x")),
            "found no column Total",
        ),
    ],
)
def test_broken_files_are_one_line(act: Callable[[Path], None], words: str, folder: Path) -> None:
    act(folder)
    with pytest.raises(ImportFileError, match=words) as caught:
        locust.read(folder, "run")
    assert "\n" not in str(caught.value)


def earlier(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:200], *lines[100:110], *lines[200:]])


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (spoil("stats_history", earlier), "its clock went back by 99 s"),
        (
            spoil("stats_history", lambda text: text.replace("Aggregated", "other")),
            "has no rows of these requests",
        ),
        (spoil("stats", lambda text: text.replace(",4000,", ",400,")), "they are of two runs"),
    ],
)
def test_a_history_that_cannot_be_used_says_why(
    act: Callable[[Path], None], words: str, folder: Path
) -> None:
    act(folder)
    run = locust.read(folder, "run")
    assert run.worth.n is None
    assert words in run.worth.why
    assert words in run.gates[0].found


def test_a_history_that_was_reset_begins_there(folder: Path) -> None:
    whole = locust.read(folder, "run").worth.n

    def reset(text: str) -> str:
        head, *lines = text.splitlines(keepends=True)
        late = [line.replace(line.split(",")[0], str(int(line.split(",")[0]) + 1000), 1) for line in lines]
        return "".join([head, *lines[:200], *late])

    spoil("stats_history", reset)(folder)
    assert locust.read(folder, "run").worth.n == whole


def test_failures_that_do_not_add_up_are_a_warning(folder: Path) -> None:
    with (folder / "run_failures.csv").open("a") as file:
        file.write("POST,chat,boom,7,,\n")
    gate = locust.read(folder, "run").gates[1]
    assert (gate.ok, gate.severity, gate.found, gate.limit) == (
        False,
        "warning",
        "7 failures",
        "0 as in the stats",
    )


def test_a_real_run_of_somebody_elses_locustfile() -> None:
    run = locust.read(GOLDEN, "chat")
    slow, bad, none = judged(run, "e2e p95 < 10 s", "e2e p50 < 1 ms", "ttft p95 < 100 ms")
    # The machine was busy with other things, in waves: 147 seconds were worth 8.
    assert (slow.status, bad.status, none.status) == ("INCONCLUSIVE", "FAIL", "INCONCLUSIVE")
    assert slow.observed == 240
    assert slow.reason.endswith("worth 8, needs 20")
