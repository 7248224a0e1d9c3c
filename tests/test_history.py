"""The history: appended to and never changed; series that are comparable; changes found, and not made up."""

import csv
import json
import sqlite3
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from analysis import changes as changing
from analysis.changes import OtavaMissingError, changes
from analysis.history import APPLICATION, Entry, Figure, HistoryError, append, read_entry
from analysis.rundir import load
from analysis.series import Place, Point, Series, series
from analysis.sla import default
from analysis.verdict import judge, write_verdict
from tests.experiments import measured
from tests.run_directories import START_S, change_meta
from tokenswarm import cli

DAY_NS = 24 * 3600 * 10**9


def entry(number: int, value: float = 100.0, **changed: Any) -> Entry:
    """Return an entry of the day `number`, with two figures."""
    fields: dict[str, Any] = {
        "run": f"run-{number}",
        "name": "nightly",
        "server": "awq",
        "level": 4.0,
        "block": 1,
        "started_unix_ns": START_S * 10**9 + number * DAY_NS,
        "commit": f"{number:012x}{'f' * 28}",
        "labels": {},
        "sla": "test",
        "status": "PASS",
        "simulated": False,
        "loop": "open",
        "versions": {"python": "3.11"},
        "conditions": {"workload.max_tokens": 64},
        "objectives": (
            {"text": "ttft p95 < 100 ms", "status": "PASS", "unit": "ms", "observed": value, "limit": 100.0}
            | {"bound_low": 0.01, "bound_high": 0.03, "n": 500, "n_eff": 250.0},
        ),
        "figures": (
            Figure("chat", "ttft p95", value, 500),
            Figure("chat", "output tokens/s", 1e4 / value, 500),
        ),
    }
    return Entry(**{**fields, **changed})


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of an experiment, with its verdict."""
    path = measured(tmp_path_factory.mktemp("runs"), "awq", baseline="bf16", level=4)
    write_verdict(judge(load(path), default()), path / "verdict.json")
    return path


def rows(db: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(db)
    found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_a_run_is_kept_with_what_was_judged(run: Path, db: Path) -> None:
    assert append(db, [read_entry(run, "abc", {"branch": "main"})]) == 1
    verdict = json.loads((run / "verdict.json").read_text())
    found = rows(db, "SELECT server, level, block, git_commit, labels, sla, status FROM runs")
    assert found == [("awq", 4.0, 1, "abc", '{"branch":"main"}', "sub-100ms", verdict["status"])]
    kept = rows(
        db, "SELECT text, status, observed, limit_value, bound_low, bound_high, n, n_eff FROM objectives"
    )
    keys = ("text", "status", "observed", "limit", "bound_low", "bound_high", "n", "n_eff")
    assert kept == [tuple(one[key] for key in keys) for one in verdict["objectives"]]
    (ttft,) = rows(db, "SELECT value, n FROM figures WHERE metric = 'ttft p95'")
    percentiles = verdict["scenarios"][0]["latencies"]["ttft"]
    assert ttft == (percentiles["all"]["p95"], percentiles["n"])
    (tokens,) = series(db, metric="output tokens/s")
    assert tokens.points[0].value == verdict["scenarios"][0]["output_tokens_per_s"]
    assert not tokens.place.lower_is_better


def test_the_same_run_is_there_once(db: Path) -> None:
    assert append(db, [entry(1), entry(2)]) == 2
    assert append(db, [entry(2), entry(3)]) == 1
    assert append(db, [entry(3, sla="another")]) == 1  # judged by something else: kept, and no second point
    assert [len(one.points) for one in series(db)] == [3, 3]


def test_nothing_that_is_kept_can_be_changed(db: Path) -> None:
    append(db, [entry(1)])
    connection = sqlite3.connect(db)
    for table in ("runs", "objectives", "figures"):
        for statement in (f"UPDATE {table} SET rowid = 9", f"DELETE FROM {table}"):  # noqa: S608 - names above
            with pytest.raises(sqlite3.IntegrityError, match="only appended to"):
                connection.execute(statement)
    connection.close()


def test_all_entries_are_added_or_none(db: Path) -> None:
    with pytest.raises(HistoryError, match="NOT NULL"):
        append(db, [entry(1), entry(2, status=None)])
    assert append(db, [entry(1)]) == 1


def test_what_is_infinite_or_missing_stays_so(db: Path) -> None:
    figures = (Figure("chat", "ttft p95", float("inf"), 9), Figure("chat", "ttft p99", None, 9))
    append(db, [entry(1, figures=figures)])
    (one,) = series(db)
    assert [point.value for point in one.points] == [float("inf")]


def test_a_file_that_is_no_history_is_one_line(tmp_path: Path, db: Path) -> None:
    def refused(path: Path, message: str, act: Callable[[Path], object]) -> None:
        with pytest.raises(HistoryError, match=message) as raised:
            act(path)
        assert "\n" not in str(raised.value)

    refused(db, "found no history, expected one that `tokenswarm history add` made", series)
    text = tmp_path / "text"
    text.write_text("not a database, but longer than SQLite's header is\n" * 30)
    other = tmp_path / "other"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    for act in (series, lambda path: append(path, [entry(1)])):
        refused(text, "text: file is not a database, expected a history", act)
        refused(other, "other: found another program's database", act)
    append(db, [entry(1)])
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    for act in (series, lambda path: append(path, [entry(1)])):
        refused(db, "schema 7, this Tokenswarm reads up to 1", act)
    refused(tmp_path / "no" / "where", "unable to open database file", lambda path: append(path, [entry(1)]))
    assert rows(other, "SELECT name FROM sqlite_master") == [("t",)]


def _append_many(db: Path, first: int) -> int:
    return sum(append(db, [entry(number)]) for number in range(first, first + 10))


def test_writers_at_the_same_time_lose_nothing(db: Path) -> None:
    with ProcessPoolExecutor(4) as pool:  # the first of them makes the file
        assert sum(pool.map(_append_many, [db] * 4, [0, 10, 20, 5])) == 30
    (one,) = series(db, metric="ttft p95")
    assert [point.run for point in one.points] == [f"run-{number}" for number in range(30)]
    assert rows(db, "PRAGMA application_id") == [(APPLICATION,)]


def test_a_series_breaks_where_its_conditions_change(db: Path) -> None:
    append(db, [entry(number) for number in range(3)])
    append(db, [entry(number, conditions={"workload.max_tokens": 128}) for number in range(3, 5)])
    before, after = series(db, metric="ttft p95")
    assert (len(before.points), len(after.points)) == (3, 2)
    assert (before.ended, after.ended) == (True, False)
    assert (before.broke, after.broke) == ((), ("workload.max_tokens was 64, is 128",))


def test_seed_and_length_are_no_conditions(run: Path, tmp_path: Path) -> None:
    def conditions(changes: dict[str, Any]) -> object:
        path = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
        path.mkdir()
        for name in ("run.json", "verdict.json"):
            (path / name).write_text((run / name).read_text())
        change_meta(path, changes)
        return read_entry(path, None, {}).conditions

    assert conditions({}) == conditions({"load": {"seed": 99, "run_time_s": 600}})
    assert conditions({}) != conditions({"workload": {"max_tokens": 1}})
    assert conditions({}) != conditions({"target": {"model": "another"}})


@pytest.mark.parametrize("status", ["INVALID", "OVERSATURATED"])
def test_a_run_that_proves_nothing_is_kept_and_gives_no_point(db: Path, status: str) -> None:
    append(db, [entry(1), entry(2, value=900.0, status=status)])
    (one,) = series(db, metric="ttft p95")
    assert [point.run for point in one.points] == ["run-1"]
    assert rows(db, "SELECT count(*) FROM runs") == [(2,)]


def test_only_judged_runs_are_taken(run: Path, tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"found no run\.json, expected a run directory"):
        read_entry(tmp_path, None, {})
    (tmp_path / "run.json").write_text((run / "run.json").read_text())
    with pytest.raises(HistoryError, match=r"found no verdict\.json, expected a judged run"):
        read_entry(tmp_path, None, {})
    for text, message in (("[1]", "found a list"), ("{", "not JSON"), ('{"run": "x"}', r"is of run x")):
        (tmp_path / "verdict.json").write_text(text)
        with pytest.raises(HistoryError, match=message) as raised:
            read_entry(tmp_path, None, {})
        assert "\n" not in str(raised.value)


# Change points


def of_values(values: Any, metric: str = "ttft p95", *, ended: bool = False) -> Series:
    points = tuple(
        Point(f"run-{i}", "nightly", START_S * 10**9 + i * DAY_NS, None, float(value), 500)
        for i, value in enumerate(values)
    )
    return Series(Place("awq", 4.0, "open", "chat", metric), {}, points, (), ended)


def noisy(rng: np.random.Generator, *levels: tuple[int, float]) -> np.ndarray:
    """Return stretches of so many points around a level, with 3 % of noise."""
    return np.concatenate([level * (1 + 0.03 * rng.standard_normal(n)) for n, level in levels])


def test_a_step_of_a_tenth_is_found_where_it_is() -> None:
    rng, n = np.random.default_rng(7), 100
    found = [changes(of_values(noisy(rng, (30, 100.0), (20, 110.0))), 0.05) for _ in range(n)]
    right = sum(len(one) == 1 and one[0].worse and abs(one[0].index - 30) <= 1 for one in found)
    exact = sum(len(one) == 1 and one[0].index == 30 for one in found)
    print(
        f"\na step of 10 % in noise of 3 %: found within a point in {right} of {n} series, exactly in {exact}"
    )
    assert right >= 0.9 * n
    assert found[0][0].relative == pytest.approx(0.1, abs=0.03)


def test_noise_gives_no_change() -> None:
    rng, n = np.random.default_rng(8), 300
    quiet = sum(not changes(of_values(noisy(rng, (50, 100.0))), 0.05) for _ in range(n))
    unlimited = sum(not changes(of_values(noisy(rng, (50, 100.0))), 0.0) for _ in range(n))
    print(f"\nnoise alone: no change in {quiet / n:.1%} of {n} series (of any size: {unlimited / n:.1%})")
    assert quiet / n >= 0.94
    assert unlimited / n >= 0.94


def test_many_series_of_noise_give_no_change_either() -> None:
    rng, histories, n = np.random.default_rng(15), 200, 20
    quiet = sum(
        not any(changes(of_values(noisy(rng, (40, 100.0))), 0.0, n) for _ in range(n))
        for _ in range(histories)
    )
    print(f"\nno change in any of {n} series of noise: {quiet / histories:.1%} of {histories} histories")
    assert quiet / histories >= 0.94


def test_how_many_points_a_step_needs_to_be_seen() -> None:
    rng, n = np.random.default_rng(9), 100
    seen = {
        after: sum(
            bool(changes(of_values(noisy(rng, (30, 100.0), (after, 115.0))), 0.05, 20)) for _ in range(n)
        )
        for after in (1, 2, 3, 5)
    }
    print(f"\na step of 15 % in noise of 3 %, seen after so many points in so many of {n} series: {seen}")
    assert seen[3] >= 0.9 * n


def test_a_step_back_is_an_improvement() -> None:
    rng = np.random.default_rng(10)
    worse, better = changes(of_values(noisy(rng, (25, 100.0), (25, 120.0), (25, 100.0))), 0.05)
    assert (worse.worse, better.worse) == (True, False)
    assert better.relative < 0


def test_more_tokens_are_no_regression() -> None:
    (one,) = changes(
        of_values(noisy(np.random.default_rng(11), (25, 100.0), (25, 120.0)), "output tokens/s"), 0.05
    )
    assert not one.worse


def test_what_cannot_change_does_not() -> None:
    assert changes(of_values([100.0] * 30), 0.05) == []
    assert changes(of_values([100.0] * 4 + [200.0] * 3), 0.05) == []
    rng = np.random.default_rng(12)
    (one,) = changes(of_values([float("inf"), *noisy(rng, (20, 100.0), (20, 150.0))]), 0.05)
    assert one.index == 21
    assert changes(of_values([0.0] * 20 + [0.1] * 20, "error share"), 0.05)[0].worse


def test_without_otava_there_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "otava.analysis", None)
    with pytest.raises(OtavaMissingError, match="uv sync --extra history"):
        changes(of_values(range(20)), 0.05)
    assert changing.FEWEST == 8


# The command line


@pytest.fixture
def ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    def command(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokenswarm", "history", *map(str, words)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return command


Ask = Callable[..., tuple[int, str, str]]


def test_add_show_and_again(ask: Ask, run: Path, tmp_path: Path) -> None:
    db = tmp_path / "new" / "history.sqlite"
    add = ("add", run, "--db", db, "--commit", "abc", "--label", "branch=main")
    assert ask(*add) == (0, f"{db}: 1 run added\n", "")
    assert ask(*add) == (0, f"{db}: 0 runs added, 1 already there\n", "")
    code, out, _ = ask("show", "--db", db, "--metric", "ttft p95")
    assert code == 0
    assert "awq at 4 users, chat, ttft p95: 1 point, median " in out
    assert out.rstrip().endswith("commit abc, run 20260921-run-1")


def test_mistakes_are_one_line(ask: Ask, run: Path, tmp_path: Path) -> None:
    db = tmp_path / "history.sqlite"
    for words, message in (
        (("show", "--db", db), "found no history"),
        (("add", tmp_path, "--db", db), "found no run.json"),
        (("add", run, "--db", db, "--label", "x"), "--label: found 'x', expected KEY=VALUE"),
    ):
        code, _, err = ask(*words)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1
    ask("add", run, "--db", db)
    code, _, err = ask("show", "--db", db, "--metric", "ttft p96")
    assert (code, err) == (2, f"tokenswarm: {db}: found no series of metric 'ttft p96'\n")


def test_check_says_what_changed_and_ends_with_3_while_it_is_new(ask: Ask, db: Path) -> None:
    rng = np.random.default_rng(13)
    for number, value in enumerate(noisy(rng, (25, 100.0), (5, 130.0))):
        append(db, [entry(number, float(value))])
    code, out, _ = ask("check", "--db", db, "--metric", "ttft p95")
    assert code == 3
    assert "awq at 4 arrivals/s, chat, ttft p95: worse since 2026-10-1" in out
    assert f"commit {25:012x}, run run-25" in out
    found = json.loads(ask("check", "--db", db, "--json")[1])
    assert [(one["metric"], one["worse"], one["regression"]) for one in found] == [
        ("output tokens/s", True, True),
        ("ttft p95", True, True),
    ]
    assert ask("check", "--db", db, "--newest", "3")[0] == 0  # told, and no longer new
    assert ask("check", "--db", db, "--smallest", "50")[0] == 0


def test_check_of_too_few_points_decides_nothing(ask: Ask, db: Path) -> None:
    append(db, [entry(number) for number in range(5)])
    code, out, _ = ask("check", "--db", db)
    assert code == 4
    assert "2 series have fewer than 8 points" in out


def test_a_series_that_ended_is_no_regression(ask: Ask, db: Path) -> None:
    rng = np.random.default_rng(14)
    values = noisy(rng, (25, 100.0), (5, 130.0))
    append(db, [entry(number, float(value)) for number, value in enumerate(values)])
    append(db, [entry(40, conditions={"workload.max_tokens": 1})])
    code, out, _ = ask("check", "--db", db, "--metric", "ttft p95")
    assert code == 0
    assert "worse since" in out


def test_otava_reads_what_is_exported(ask: Ask, db: Path, tmp_path: Path) -> None:
    for number in range(10):
        figures = (
            Figure("chat", "ttft p95", 100.0 + number, 9),
            Figure("chat", "output tokens/s", 5.0, 9),
            Figure("chat", "itl p99", float("inf") if number == 3 else 1.0, 9),
        )
        append(db, [entry(number, figures=figures)])
    code, out, _ = ask("export", tmp_path / "otava", "--db", db)
    assert code == 0
    file, config = map(Path, out.split())
    (test,) = yaml.safe_load(config.read_text())["tests"].values()
    assert test["file"] == str(file)
    assert test["metrics"] == {
        "output_tokens_per_s": {"column": "output tokens/s", "direction": 1},
        "ttft_p95": {"column": "ttft p95", "direction": -1},
    }
    table = list(csv.DictReader(file.open(newline="")))
    assert [float(row["ttft p95"]) for row in table] == [100.0 + number for number in range(10)]
    assert table[0]["time"] == "2026-09-21T14:13:20+00:00"
    assert {test["time_column"], *test["attributes"]} <= set(table[0])
