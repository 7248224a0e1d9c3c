"""What the live page draws: exact where it can be, never lost where it is late, and as small after a day."""

import json
import random
import time
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.histogram import Histogram, bin_low
from analysis.record import RequestRecord
from locustfiles._ledger import Ledger
from locustfiles._live import COLUMNS, RECENT_S, RUN_BUCKETS, Live, Series
from locustfiles._live_table import Limit, Table
from locustfiles._merge import Merge
from locustfiles._spread import Spread, bin_of, low_of, low_of_row, row_of
from locustfiles._timer import StreamTimer

START_S = 1_790_000_000
VALUES = st.integers(0, 10**13)


def record(due_s: float, **changes: Any) -> RequestRecord:
    return RequestRecord(
        worker="host-0",
        scenario="chat",
        request=0,
        due_unix_ns=int((START_S + due_s) * 1e9),
        sent_ns=1_000_000,
        connect_ns=0,
        first_ns=50_000_000,
        visible_ns=50_000_000,
        last_ns=1_050_000_000,
        end_ns=1_100_000_000,
        prompt_tokens=10,
        output_tokens=101,
        chunks=101,
        gaps=100,
        gap_sum_ns=1_000_000_000,
        gap_max_ns=20_000_000,
        reads=101,
        coalesced=0,
        lag_max_ns=0,
        body_bytes=1000,
        status=200,
        connection="new",
        clock="kernel",
        clock_jump_ns=0,
        outcome="ok",
        detail="",
    )._replace(**changes)


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    made.record(values)
    return made


def column(live: Live, series: Series, name: str) -> dict[int, Any]:
    """Return second since START_S -> value."""
    found = live.columns(series, inf)
    return {
        unix_s - START_S: value for unix_s, value in zip(found["unix_s"], found["series"][name], strict=True)
    }


@given(VALUES)
def test_a_bin_holds_its_value_and_is_narrow(value: int) -> None:
    number = bin_of(value)
    low, end = low_of(number), low_of(number + 1)
    assert low <= value < end
    assert bin_of(low) == bin_of(end - 1) == number
    assert number == 0 or (end - low) <= low / 128
    assert bin_of(bin_low(value)) == number  # those of the histograms that travel lie within
    assert low_of_row(row_of(number)) <= value < low_of_row(row_of(number) + 1)


@given(st.lists(VALUES, min_size=1, max_size=60), st.lists(VALUES, max_size=60))
def test_quantiles_are_the_exact_ones_to_a_bin(left: list[int], right: list[int]) -> None:
    parts = Spread(), Spread()
    for value in left:
        parts[0].record(value)
    parts[1].take(histogram(right))
    parts[0].merge(parts[1])
    values = sorted(left + right)
    assert parts[0].count == len(values) == sum(parts[0].rows().values())
    for share in (0.5, 0.95, 0.99, 1):
        (found,) = parts[0].quantiles((share,))
        exact = values[max(0, -int(-round(share * len(values), 6) // 1) - 1)]
        assert found is not None
        assert exact <= found <= max(exact * 1.008, low_of(1))
        assert found <= max(values)


def test_nothing_measured_is_not_zero() -> None:
    live = Live()
    live.tick(START_S, [0, 0, 0, 100, 0])
    assert column(live, live.run, "ttft_p99_ms") == {0: None}
    assert column(live, live.run, "kv_cache_percent") == {0: None}
    assert column(live, live.run, "coalesced_percent") == {0: None}
    assert live.columns(live.run, inf)["heat"]["ttft"] == {"edges_ms": [], "columns": []}


@pytest.mark.parametrize("order", [1, -1])
def test_buckets_widen_and_lose_nothing(order: int) -> None:
    live = Live()
    seconds = [*range(1000)][::order]
    for second in seconds:
        live.tick(START_S + second, [3, 50, 1000 * second, 200, 2])
        live.count(record(second + 0.5, first_ns=(1 + second) * 1_000_000, end_ns=400_000_000))
        live.gaps(START_S + second, histogram([10_000_000] * 5))
    found = live.columns(live.run, inf)
    assert found["width_s"] == 4
    assert len(found["unix_s"]) <= RUN_BUCKETS
    buckets = live.run.buckets.values()
    assert sum(bucket.ttft.count for bucket in buckets) == 1000
    assert sum(bucket.itl.count for bucket in buckets) == 5000
    assert sum(bucket.begun for bucket in buckets) == 2000
    assert sum(bucket.ended["ok"] for bucket in buckets) == 1000
    middle = {name: values[100] for name, values in found["series"].items()}
    assert (middle["in_flight"], middle["tokens_per_s"], middle["started_per_s"]) == (3, 50, 2)
    assert middle["workers"] == 1
    assert middle["itl_p50_ms"] == middle["itl_p99_ms"] == 10  # the greatest value is exact
    first = found["unix_s"][100] - START_S
    assert middle["ttft_p99_ms"] == first + 4  # of first+1 … first+4 ms the greatest, which is exact
    recent = live.columns(live.recent, inf)
    assert recent["unix_s"] == list(range(START_S + 700, START_S + 1000))


def test_late_stream_counts_where_it_was_due() -> None:
    live = Live()
    for second in range(20):
        live.tick(START_S + second, [1, 0, 0, 0, 0])
    before = column(live, live.recent, "ttft_p50_ms")
    live.count(record(2.5, end_ns=16_000_000_000, first_ns=123_000_000))
    live.gaps(START_S + 2, histogram([7_000_000]))
    after = column(live, live.recent, "ttft_p50_ms")
    assert {second for second in after if after[second] != before[second]} == {2}
    assert after[2] == 123
    assert column(live, live.recent, "itl_p99_ms")[2] == 7
    assert column(live, live.recent, "ok_per_s")[18] == 1
    assert column(live, live.recent, "offered_per_s")[2] == 1
    live.tick(START_S + 1000, [0, 0, 0, 0, 0])  # the recent series has forgotten it, the whole run has not
    live.count(record(3.5, first_ns=1_000_000_000))
    assert 3 not in column(live, live.recent, "ttft_p50_ms")
    assert max(value or 0 for value in column(live, live.run, "ttft_p99_ms").values()) == 1000


def test_seconds_that_workers_still_report_on_are_not_drawn() -> None:
    live = Live()
    for second in range(10):
        for _ in range(2 if second < 8 else 1):  # the second worker's report is under way
            live.tick(START_S + second, [5, 0, 0, 0, 0])
    assert live.columns(live.recent, START_S + 8)["series"]["in_flight"] == [10] * 8
    assert live.columns(live.recent, inf)["series"]["in_flight"] == [10] * 8 + [5] * 2


def test_failures_are_drawn_by_their_outcome() -> None:
    live = Live()
    for second in range(3):
        live.tick(START_S + second, [0, 0, 0, 0, 1])
    live.count(record(0, outcome="http_5xx", first_ns=None, end_ns=1_500_000_000))
    live.count(record(1, outcome="truncated", end_ns=1_500_000_000))
    found = live.columns(live.run, inf)
    assert found["errors"] == {"http_5xx": [0, 1, 0], "truncated": [0, 0, 1]}
    assert (live.requests, live.failed) == (2, 2)


def test_server_is_read_as_means_and_differences() -> None:
    live = Live()
    rows = [
        {
            "waiting": 0,
            "running": 4,
            "kv_cache_usage": 0.25,
            "prefix_cache_queries": 100,
            "prefix_cache_hits": 50,
        },
        {
            "waiting": 2,
            "running": 8,
            "kv_cache_usage": 0.5,
            "prefix_cache_queries": 300,
            "prefix_cache_hits": 100,
        },
        {
            "waiting": 2,
            "running": 8,
            "kv_cache_usage": 0.5,
            "prefix_cache_queries": 10,
            "prefix_cache_hits": 10,
        },
    ]
    for second, row in enumerate(rows):
        live.tick(START_S + second, [0, 0, 0, 0, 0])
        live.reading(START_S + second, {name: float(value) for name, value in row.items()})
    series = live.columns(live.run, inf)["series"]
    assert series["server_waiting"] == [0, 2, 2]
    assert series["server_running"] == [4, 8, 8]
    assert series["kv_cache_percent"] == [25, 50, 50]
    assert series["prefix_hit_percent"] == [None, 25, None]  # the last is a server that started anew
    assert series["preemptions_per_s"] == [None, None, None]  # it has no such counter


def test_ledgers_ticks_reach_the_page_through_the_merge() -> None:
    live = Live()
    merge = Merge("run", live)
    ledger, timer = Ledger("run", "w"), StreamTimer(0)
    for _ in range(3):
        ledger.begin(StreamTimer(0))
    ledger.begin(timer)
    ledger.tick(START_S, 400)
    ledger.begin(StreamTimer(0))
    timer.gaps_ns = [5_000_000, 6_000_000]
    ledger.end(timer, record(0), [])
    ledger.tick(START_S + 1, 700)
    report = ledger.report(final=True)
    merge.take(report)
    merge.take(report)  # the network delivered it twice
    assert column(live, live.run, "started_per_s") == {0: 4, 1: 1}
    assert column(live, live.run, "in_flight") == {0: 4, 1: 4}
    assert column(live, live.run, "cpu_percent") == {0: 40, 1: 70}
    assert column(live, live.run, "ttft_p50_ms")[0] == 50
    assert sum(bucket.itl.count for bucket in live.run.buckets.values()) == 2
    assert live.requests == 1


def test_table_is_exact_and_a_failed_request_is_no_goodput() -> None:
    merge = Merge("run")
    table = Table()
    draw = random.Random(1)
    records = [
        record(n / 10, scenario=f"s{n % 2}", first_ns=draw.randrange(10**7, 10**9), last_ns=2 * 10**9)
        for n in range(1000)
    ]
    records[0] = records[0]._replace(outcome="stall_timeout", output_tokens=None, chunks=7)
    strict = Table()
    strict.limits = [Limit("ttft", 5 * 10**8, True), Limit("e2e", 10**12, True), Limit("itl", 1, True)]
    for each in records:
        table.count(each)
        strict.count(each)
        merge._count(each)
    good = [each for each in records if each.outcome == "ok" and (each.first_ns or 0) < 5 * 10**8]
    served = sum(row["goodput_per_s"] for row in strict.rows(merge.totals, 100.0))
    assert served == pytest.approx(len(good) / 100)
    rows = table.rows(merge.totals, 100.0)
    assert [row["scenario"] for row in rows] == ["s0", "s1"]
    for number, row in enumerate(rows):
        own = [each for each in records if each.scenario == f"s{number}"]
        exact = histogram([each.first_ns or 0 for each in own])
        assert row["n"] == 500
        assert row["ttft_p99_ms"] == round(exact.quantile(0.99) / 1e6, 2)
        assert row["itl_p99_ms"] is None  # no gap was reported
    assert rows[0]["ok_per_s"] == 4.99
    assert rows[0]["goodput_per_s"] is None  # no SLA says what is good
    assert rows[0]["error_percent"] == 0.2
    assert rows[0]["tokens_per_s"] == round((499 * 101 + 7) / 100, 2)
    tpots = [(2 * 10**9 - (each.first_ns or 0)) / 100 for each in records if each.scenario == "s1"]
    assert rows[1]["tpot_p50_ms"] == pytest.approx(sorted(tpots)[249] / 1e6, rel=0.001)


@pytest.mark.parametrize(("strict", "good"), [(True, 1), (False, 2)])
def test_goodput_counts_a_value_on_the_limit_as_the_sla_says(strict: bool, good: int) -> None:
    table = Table()
    table.limits = [Limit("ttft", 50_000_000, strict)]
    for first_ns in (49_999_999, 50_000_000, 50_000_001):
        table.count(record(0, first_ns=first_ns))
    assert table.rows({}, 1.0)[0]["goodput_per_s"] == good


def size_of(live: Live) -> int:
    spreads = [
        spread
        for series in (live.run, live.recent)
        for bucket in series.buckets.values()
        for spread in (bucket.ttft, bucket.itl)
    ]
    return sum(len(spread._counts) for spread in spreads)


def feed(live: Live, seconds: range, workers: int, draw: random.Random) -> None:
    """Give a live store what `workers` report in these seconds, with latencies of all sizes."""
    for second in seconds:
        for _ in range(workers):
            live.tick(START_S + second, [20, 2000, draw.randrange(10**6), 500, 10])
        gaps = [int(8e6 * draw.lognormvariate(0, 0.8)) for _ in range(60)]
        live.gaps(START_S + second, histogram([*gaps, 0, 30 * 10**9]))
        for _ in range(5):
            outcome = draw.choice(["ok"] * 20 + ["http_5xx", "truncated", "stall_timeout", "connect"])
            first_ns = int(8e7 * draw.lognormvariate(0, 1))
            last_ns = first_ns + 10**9
            live.count(
                record(second + 0.2, first_ns=first_ns, last_ns=last_ns, outcome=outcome, end_ns=30 * 10**9)
            )
        live.reading(START_S + second, {"waiting": 1.0, "running": 9.0, "kv_cache_usage": 0.3})


def test_day_of_200_workers_is_no_larger_than_half_of_it() -> None:
    live, draw = Live(), random.Random(2)
    day, step = 24 * 3600, 120  # a second in 120: what is bounded does not know
    sizes = []
    for begin in range(0, day, day // 2):
        end = begin + day // 2
        feed(live, range(begin, end - RECENT_S, step), 200, draw)
        feed(live, range(end - RECENT_S, end), 200, draw)
        live.columns(live.run, inf)
        sizes.append(size_of(live))
    assert sizes[1] < 1.1 * sizes[0]
    assert len(live.run.buckets) <= RUN_BUCKETS
    assert len(live.recent.buckets) <= RECENT_S
    assert live.run.width_s == 256
    for series in (live.run, live.recent):
        text = json.dumps(live.columns(series, inf), separators=(",", ":"))
        assert len(text) < 200_000
        feed(live, range(day, day + 1), 200, draw)
        begun = time.process_time()
        json.dumps(live.columns(series, inf), separators=(",", ":"))
        took_s = time.process_time() - begun
        print(f"{len(text):,} bytes in {1000 * took_s:.1f} ms")
        assert took_s < 0.05
    assert set(COLUMNS) == set(live.columns(live.run, inf)["series"])
