"""Whatever the network does to reports, the master's account is that of one ledger, or says what it lacks."""

import json
import random
import tracemalloc
from collections import Counter
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.histogram import Histogram
from analysis.record import OUTCOMES, RequestRecord
from locustfiles._ledger import Ledger, Report
from locustfiles._merge import Merge, WorkerAccount
from locustfiles._timeline import OFFERED, OK, STARTED, Second, Timeline
from locustfiles._timer import StreamTimer

START_S = 1_790_000_000
RUN = "run-1"


def request(
    draw: random.Random, number: int, scenarios: int = 2
) -> tuple[RequestRecord, StreamTimer, list[int]]:
    """Make up one finished request: its record, its timer (for the gaps) and its read lags."""
    timer = StreamTimer(0)
    timer.chunks = draw.randrange(6)
    timer.gaps_ns = [draw.randrange(10**8) for _ in range(max(0, timer.chunks - 1))]
    timer.token_counts = list(range(1, timer.chunks + 1)) if draw.random() < 0.5 else []
    timer._choices = {0: None}  # type: ignore[dict-item]  # token_gaps_ns asks only how many there were
    lags = [draw.randrange(10**6) for _ in range(timer.chunks)]
    sent = None if draw.random() < 0.1 else draw.randrange(10**6)
    first = draw.randrange(10**6, 10**9) if timer.chunks and sent is not None else None
    record = RequestRecord(
        worker="",
        scenario=f"scenario-{draw.randrange(scenarios)}",
        request=number,
        due_unix_ns=START_S * 10**9 + draw.randrange(8 * 10**9),
        sent_ns=sent,
        connect_ns=0,
        first_ns=first,
        visible_ns=first,
        last_ns=first,
        end_ns=draw.randrange(10**9, 3 * 10**9),
        prompt_tokens=None,
        output_tokens=None,
        chunks=timer.chunks,
        gaps=len(timer.gaps_ns),
        gap_sum_ns=sum(timer.gaps_ns),
        gap_max_ns=max(timer.gaps_ns, default=0),
        reads=timer.chunks,
        coalesced=draw.randrange(2) if timer.chunks else 0,
        lag_max_ns=max(lags, default=0),
        body_bytes=draw.randrange(10**4),
        status=200,
        connection="new",
        clock=draw.choice(["kernel", "user"]),
        clock_jump_ns=draw.choice([0, 0, 0, 2_000_000, -2_000_000]),
        outcome=draw.choice(OUTCOMES),
        detail="",
    )
    return record, timer, lags


def play(requests: int, workers: int, seed: int) -> tuple[list[Report], list[RequestRecord], Merge]:
    """Spread requests over ledgers that report now and then.

    Returns the reports of all, the records, and a merge of one ledger that saw everything.
    """
    draw = random.Random(seed)
    ledgers = [Ledger(RUN, f"host-{i}") for i in range(workers)]
    alone, reports, records = Ledger(RUN, "alone"), [], []
    for number in range(requests):
        ledger = draw.choice(ledgers)
        record, timer, lags = request(draw, number)
        record = record._replace(worker=ledger.worker)
        records.append(record)
        for account in (ledger, alone):
            account.begin(timer)
            account.end(timer, record, lags)
        if draw.random() < 0.3:
            ledger.tick(START_S + number // 10, draw.randrange(1000))
            reports.append(ledger.report(final=False))
    reports += [ledger.report(final=True) for ledger in ledgers]
    single = Merge(RUN)
    single.take(alone.report(final=True))
    return reports, records, single


def measured(merge: Merge) -> dict[str, Any]:
    """Return everything that must not depend on who measured it or how it was reported."""
    return {
        "totals": {key: histogram.to_plain() for key, histogram in merge.totals.items()},
        "intervals": [
            (metric, i.scenario, i.second, i.histogram.to_plain()) for metric, i in merge.intervals(1 << 62)
        ],
        "events": [row[:5] for row in merge.seconds() if any(row[1:5])],
        "chunks": merge.chunks,
        "coalesced": merge.coalesced,
        "clock_jumps": merge.clock_jumps,
        "clocks": merge.clocks,
    }


PLAYS = st.builds(play, requests=st.integers(0, 40), workers=st.integers(1, 4), seed=st.integers(0, 10**6))


@given(PLAYS, st.randoms(use_true_random=False), st.integers(0, 5))
def test_merged_is_single(
    played: tuple[list[Report], list[RequestRecord], Merge], shuffle: random.Random, repeated: int
) -> None:
    reports, records, single = played
    delivered = reports + shuffle.choices(reports, k=repeated)
    shuffle.shuffle(delivered)
    merge, rows = Merge(RUN), []
    for report in delivered:
        rows += merge.take(report)
    assert sorted(rows) == sorted(records) if not _has_none(records) else Counter(rows) == Counter(records)
    assert measured(merge) == measured(single)
    assert merge.duplicates == repeated
    assert merge.foreign == 0
    assert sum(account.started for account in merge.workers.values()) == len(records)
    for account in merge.workers.values():
        assert account.final
        assert (account.missing_reports, account.unaccounted) == (0, 0)
        assert account.started == account.ended == account.received
    for worker, account in merge.workers.items():
        own = [record for record in records if record.worker == worker]
        assert (account.gaps, account.gap_sum_ns) == (
            sum(record.gaps for record in own),
            sum(record.gap_sum_ns for record in own),
        )


def _has_none(records: list[RequestRecord]) -> bool:
    return any(None in record for record in records)


@given(PLAYS)
def test_histograms_are_those_of_the_records(played: tuple[list[Report], list[RequestRecord], Merge]) -> None:
    _, records, single = played
    for metric, values in {
        "ttft": [record.first_ns for record in records if record.first_ns is not None],
        "e2e": [record.end_ns for record in records if record.outcome == "ok"],
        "dispatch_lag": [record.sent_ns for record in records if record.sent_ns is not None],
    }.items():
        expected = Histogram()
        expected.record(values)
        assert single.metric(metric) == expected, metric
    itl = single.metric("itl")
    assert (itl.count, itl.sum) == (sum(r.gaps for r in records), sum(r.gap_sum_ns for r in records))
    assert single.metric("lag").count == sum(record.reads for record in records)


@given(PLAYS, st.randoms(use_true_random=False))
def test_dropped_report_is_missed(
    played: tuple[list[Report], list[RequestRecord], Merge], pick: random.Random
) -> None:
    reports, records, _ = played
    dropped = pick.choice(reports)
    merge, rows = Merge(RUN), []
    for report in reports:
        if report is not dropped:
            rows += merge.take(report)
    account = merge.workers[dropped["worker"]]
    assert len(rows) == len(records) - len(dropped["records"])
    if dropped["final"]:  # nobody can know how much it held; that it never came is known
        assert not account.final
    else:
        assert account.missing_reports == 1
        assert account.unaccounted == len(dropped["records"])


def test_report_of_another_run_never_counts() -> None:
    reports, records, single = play(20, 2, seed=1)
    merge = Merge(RUN)
    for report in reports:
        assert merge.take(report | {"run": "run-0"}) == []
        merge.take(report)
    assert merge.foreign == len(reports)
    assert measured(merge) == measured(single)
    assert sum(account.received for account in merge.workers.values()) == len(records)


def plain_types(value: Any) -> set[type]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return {list} | {kind for item in value for kind in plain_types(item)}
    return {type(value)}


def test_reports_are_plain_and_survive_the_way() -> None:
    reports, _, _ = play(40, 3, seed=2)
    for report in reports:
        assert plain_types(report) <= {list, int, str, bool, type(None)}
        assert msgpack.unpackb(msgpack.packb(report)) == report
        assert json.loads(json.dumps(report)) == report


def test_ledger_keeps_nothing_that_it_has_handed_over() -> None:
    draw, ledger = random.Random(1), Ledger(RUN, "w")
    for number in range(50):
        record, timer, lags = request(draw, number)
        ledger.begin(timer)
        ledger.end(timer, record, lags)
    first, second = ledger.report(final=False), ledger.report(final=True)
    assert len(first["records"]) == 50
    assert (second["records"], second["histograms"], second["ticks"]) == ([], [], [])
    assert second["totals"] == first["totals"]
    assert (first["sequence"], second["sequence"]) == (0, 1)
    assert (first["final"], second["final"]) == (False, True)


def test_request_in_flight_is_started_and_not_ended() -> None:
    ledger, timer = Ledger(RUN, "w"), StreamTimer(0)
    assert ledger.begin(timer) == 0
    assert ledger.begin(StreamTimer(0)) == 1
    assert ledger.in_flight == 2
    merge = Merge(RUN)
    merge.take(ledger.report(final=False))
    assert merge.workers["w"].unaccounted == 2


def test_ticks_become_a_timeline_without_holes() -> None:
    merge = Merge(RUN)
    for worker, cpu in (("a", 100), ("b", 400)):
        ledger, timer = Ledger(RUN, worker), StreamTimer(0)
        ledger.begin(timer)
        timer.chunks = 3
        ledger.tick(START_S, cpu)
        timer.chunks = 7
        ledger.tick(START_S + 3, cpu)
        merge.take(ledger.report(final=False))
    rows = list(merge.seconds())
    assert [row.unix_s for row in rows] == list(range(START_S, START_S + 4))
    assert [row.tokens for row in rows] == [6, 0, 0, 8]
    assert [row.in_flight for row in rows] == [2, 0, 0, 2]
    assert [row.workers for row in rows] == [2, 0, 0, 2]
    assert [row.cpu_share_max for row in rows] == [0.4, 0, 0, 0.4]


def test_timeline_counts_requests_in_the_seconds_of_their_events() -> None:
    draw, ledger = random.Random(3), Ledger(RUN, "w")
    record, timer, lags = request(draw, 0)
    record = record._replace(
        due_unix_ns=START_S * 10**9 + 900_000_000, sent_ns=200_000_000, end_ns=2_500_000_000, outcome="ok"
    )
    ledger.begin(timer)
    ledger.end(timer, record, lags)
    merge = Merge(RUN)
    merge.take(ledger.report(final=True))
    rows = {row.unix_s - START_S: row for row in merge.seconds()}
    assert [(s, row.offered, row.started, row.ok, row.failed) for s, row in rows.items()] == [
        (0, 1, 0, 0, 0),
        (1, 0, 1, 0, 0),
        (2, 0, 0, 0, 0),
        (3, 0, 0, 1, 0),
    ]
    assert list(Merge(RUN).seconds()) == []
    assert set(Second._fields) >= {"unix_s", "offered", "started", "ok", "failed", "in_flight", "tokens"}


def test_intervals_are_handed_over_once_and_late_ones_again() -> None:
    reports, _, single = play(30, 1, seed=4)
    merge, handed = Merge(RUN), []
    for report in reports:
        merge.take(report)
        handed += merge.intervals(START_S + 4)
    handed += merge.intervals(1 << 62)
    assert merge.intervals(1 << 62) == []
    total: dict[tuple[str, str, int], Histogram] = {}
    for metric, interval in handed:
        total.setdefault((metric, interval.scenario, interval.second), Histogram()).merge(interval.histogram)
    expected = {(m, i.scenario, i.second): i.histogram for m, i in single.intervals(1 << 62)}
    assert total == expected


def test_report_whose_bins_were_damaged_is_refused() -> None:
    reports, _, _ = play(30, 1, seed=5)
    damaged = next(report for report in reports if report["histograms"])
    damaged["histograms"][0][3][0] += 1
    with pytest.raises(ValueError, match="values in the bins"):
        Merge(RUN).take(damaged)


def test_account_of_a_long_run_is_whole_and_keeps_no_tick_of_each_worker() -> None:
    merge, seconds = Merge(RUN), 500
    for worker in ("a", "b", "c"):
        ledger, timer = Ledger(RUN, worker), StreamTimer(0)
        ledger.begin(timer)
        for second in range(seconds):
            timer.chunks += 2
            ledger.tick(START_S + second, second % 7 * 100)
            report = ledger.report(final=False)
            if (worker, second) != ("b", 100):  # one was lost
                merge.take(report)
                merge.take(report)
    rows = list(merge.seconds())
    assert [row.unix_s for row in rows] == list(range(START_S, START_S + seconds))
    assert [row.workers for row in rows] == [2 if second == 100 else 3 for second in range(seconds)]
    assert [row.in_flight for row in rows] == [row.workers for row in rows]
    assert [row.tokens for row in rows] == [2 * row.workers for row in rows]
    assert [row.cpu_share_max for row in rows] == [second % 7 / 10 for second in range(seconds)]
    assert {worker: account.missing_reports for worker, account in merge.workers.items()} == {
        "a": 0,
        "b": 1,
        "c": 0,
    }
    assert merge.duplicates == 3 * seconds - 1
    assert len(merge._ticks) < 130
    assert {len(account.missing) for account in merge.workers.values()} == {0, 1}


def test_a_day_of_the_timeline_is_a_few_megabytes() -> None:
    day, made = 86_400, Timeline()
    tracemalloc.start()
    for second in range(START_S, START_S + day):
        for column in (OFFERED, STARTED, OK):
            made.count(second, column)
        made.add(second, [[10**4, 10**5, 10**6, 900, 5]])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 8_000_000
    rows = [made.row(second, [[1, 2, 3, 4, 5]]) for second in made.seconds()]
    assert len(rows) == day
    assert {row[1:] for row in rows} == {(1, 1, 1, 0, 10_001, 100_002, 10**6, 0.9, 2)}


def test_a_clock_that_was_set_by_a_year_leaves_no_row_for_each_second_between() -> None:
    made, year = Timeline(), 365 * 86_400
    for second in (START_S, START_S - year, START_S + 1):
        made.count(second, OFFERED)
    assert list(made.seconds()) == [START_S - year, START_S, START_S + 1]


@pytest.mark.parametrize("seed", range(5))
def test_numbers_of_reports_are_accounted_for_in_any_order(seed: int) -> None:
    luck, account, come = random.Random(seed), WorkerAccount(), set[int]()
    for number in luck.choices(range(40), k=60):
        assert account.is_new(number) == (number not in come)
        come.add(number)
        assert account.missing_reports == len(set(range(max(come))) - come)


def test_last_report_that_overtakes_others_is_not_the_last_word() -> None:
    account = WorkerAccount()
    assert account.is_new(0)
    assert account.is_new(3)
    account.final = True
    assert not account.complete
    assert account.is_new(1)
    assert not account.complete
    assert account.is_new(2)
    assert account.complete
