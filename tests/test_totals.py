"""What a dashboard is told: exact at every bucket's edge, growing over runs, and bounded in its labels."""

import random
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.histogram import Histogram, bin_high, bin_low
from analysis.record import RequestRecord
from locustfiles._ledger import Ledger, Report
from locustfiles._live_table import Limit
from locustfiles._merge import Merge
from locustfiles._prometheus import _HISTOGRAMS, Metrics, seconds
from locustfiles._totals import NAME_MAX, OTHER, PAIRS_MAX, Pairs, Totals, edges_ns, up_to
from tests.test_ledger_merge import request

durations = st.lists(st.integers(0, 2**41), max_size=40)


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    made.record(values)
    return made


@pytest.mark.parametrize("metric", _HISTOGRAMS)
def test_every_edge_is_the_end_of_a_bin(metric: str) -> None:
    edges = _HISTOGRAMS[metric].edges
    assert edges == sorted(set(edges))
    assert all(bin_high(bin_low(edge)) == edge for edge in edges)
    assert 30 <= len(edges) <= 70


@given(durations, durations)
def test_counts_are_exact_at_the_edges_of_bins(one: list[int], two: list[int]) -> None:
    edges = edges_ns(4, 40, 4)
    counts = up_to(edges, [histogram(one), histogram(two)])
    assert counts == [sum(value <= edge for value in one + two) for edge in edges]


@given(durations, st.integers(1, 2**41))
def test_a_limit_within_a_bin_is_never_met_by_the_bins_width(values: list[int], limit: int) -> None:
    (count,) = up_to([limit], [histogram(values)])
    assert count <= sum(value <= limit for value in values)
    assert count >= sum(value < bin_low(limit) for value in values)


@given(st.integers(0, 10**14))
def test_edges_are_written_exactly(time_ns: int) -> None:
    text = seconds(time_ns)
    assert Decimal(text) * 10**9 == time_ns
    assert text == str(float(text)) or "e" in str(float(text)) or len(text) > 15  # as Prometheus writes it


def test_limits_of_the_run_are_buckets() -> None:
    merge, records = merged("run", 1)
    begin: list[Callable[[], None]] = []
    environment = SimpleNamespace(
        events=SimpleNamespace(test_start=SimpleNamespace(add_listener=begin.append))
    )
    run = SimpleNamespace(merge=merge, target=SimpleNamespace(model="m"))
    coordinator = SimpleNamespace(run=run)
    limits = [Limit("ttft", 10**8, True), Limit("e2e", 2 * 10**9, False), Limit("ttft_sent", 7, True)]
    metrics = Metrics(environment, coordinator, lambda: limits)
    begin[0]()
    found = dict(zip(_HISTOGRAMS, metrics.collect(), strict=False))
    mine = [record for record in records if record.scenario == "scenario-0"]
    for metric, le, values in (
        ("ttft", "0.1", [record.first_ns for record in mine if record.first_ns is not None]),
        ("e2e", "2.0", [record.end_ns for record in mine if record.outcome == "ok"]),
    ):
        (count,) = [
            sample.value
            for sample in found[metric].samples
            if sample.labels.get("le") == le and sample.labels["scenario"] == "scenario-0"
        ]
        limit_ns = round(float(le) * 1e9)
        assert sum(value < bin_low(limit_ns) for value in values) <= count
        assert count <= sum(value <= limit_ns for value in values)


def reports(run: str, seed: int) -> tuple[list[Report], list[RequestRecord]]:
    """Make up one worker's run, in three reports."""
    draw, ledger = random.Random(seed), Ledger(run, "w")
    made, records = [], []
    for second in range(3):
        for number in range(20):
            record, timer, lags = request(draw, 20 * second + number)
            ledger.begin(timer)
            ledger.end(timer, record, lags)
            records.append(record)
        ledger.tick(second, 500)
        made.append(ledger.report(final=second == 2))
    return made, records


def merged(run: str, seed: int) -> tuple[Merge, list[RequestRecord]]:
    merge = Merge(run)
    sent, records = reports(run, seed)
    for report in (*sent, sent[1], sent[0] | {"run": "another"}):  # one comes twice, one is foreign
        merge.take(report)
    return merge, records


def test_runs_add_up() -> None:
    pairs, all_runs, expected = Pairs(), Totals(), Counter[tuple[str, str, str]]()
    for seed, model in ((1, "a"), (2, "b"), (3, "a")):
        merge, records = merged(f"run-{seed}", seed)
        all_runs.absorb(Totals.of(merge, model, pairs))
        expected.update((record.scenario, model, record.outcome) for record in records)
    assert {(*pair, outcome): n for (pair, outcome), n in all_runs.outcomes.items()} == expected
    assert all_runs.counts["started"] == 180
    assert all_runs.counts["reports"] == 9
    assert all_runs.counts["duplicates"] == all_runs.counts["foreign"] == 3
    first = [h.count for (metric, _), h in all_runs.histograms.items() if metric == "itl"]
    assert sum(first) == all_runs.counts["gaps"] > 0


def test_looking_at_a_run_changes_nothing_of_it() -> None:
    merge, _ = merged("run", 1)
    before = {key: total.to_plain() for key, total in merge.totals.items()}
    kept = Totals()
    for _ in range(2):
        kept.absorb(Totals.of(merge, "m", Pairs()))
    assert {key: total.to_plain() for key, total in merge.totals.items()} == before
    assert sum(kept.outcomes.values()) == 120


def test_names_are_bounded_in_number_length_and_alphabet() -> None:
    pairs = Pairs()
    placed = [pairs.place(f"scenario {n}", "m") for n in range(PAIRS_MAX + 5)]
    assert placed[PAIRS_MAX:] == [OTHER] * 5
    assert pairs.place("scenario 3", "m") == placed[3]  # where it was, it stays
    hostile = Pairs().place("x" * 1000, "\ud800\n\"'")
    assert len(hostile.scenario) == NAME_MAX
    assert hostile.model.encode() == b"?\n\"'"


def test_two_runs_without_a_place_share_one() -> None:
    pairs = Pairs()
    for n in range(PAIRS_MAX):
        pairs.place(f"earlier {n}", "m")
    merge, records = merged("run", 5)  # of two scenarios
    assert {record.scenario for record in records} == {"scenario-0", "scenario-1"}
    found = Totals.of(merge, "m", pairs)
    assert {pair for _, pair in found.histograms} == {OTHER}
    both = [total for (metric, _), total in merge.totals.items() if metric == "e2e"]
    assert found.histograms["e2e", OTHER].count == sum(total.count for total in both)
    assert found.histograms["e2e", OTHER].sum == sum(total.sum for total in both)
