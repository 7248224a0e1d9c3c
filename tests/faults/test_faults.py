"""Every fault has the outcome that README promises: nothing is lost silently, every loss is a number.

The plays (plays.py) wait more than they work, so three go on at a time; each test waits for its own. What the
instrument's own gates say of a busy machine is not looked at here, only what the fault does.
"""

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from locustfiles._pacing import phase
from tests import netns
from tests.end_to_end.locusts import check_accounts, side_by_side
from tests.faults.cluster import SECOND_NS, Outcome
from tests.faults.plays import CUT_S, PLAYS, STALL_S
from tests.test_pacing import distance_from_exponential, gaps_s

HOUR_NS = 3600 * SECOND_NS
Played = Callable[[str], Outcome]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    netns.require()
    with side_by_side({play.__name__: play for play in PLAYS}, tmp_path_factory) as wait_for:
        yield wait_for


def lost(found: Outcome) -> dict[str, dict[str, int | str]]:
    """Return the workers that run.json calls lost, by their hosts."""
    return {entry["worker"].rpartition("-")[0]: entry for entry in found.measured.meta["workers"]["lost"]}


def clocks(found: Outcome) -> dict[str, dict[str, int]]:
    told = found.measured.meta["worker_clocks"]
    return {clock["worker"].rpartition("-")[0]: clock for clock in told}


def records_of(found: Outcome, host: str) -> list[int]:
    return [one.due_unix_ns for one in found.measured.records if one.worker.rpartition("-")[0] == host]


# Reports


def test_reports_that_come_10_s_late_all_count(played: Played) -> None:
    found = played("delayed_reports")
    assert found.code == 0, found.said
    check_accounts(found.measured)
    assert found.measured.meta["workers"]["lost"] == []
    relay = (found.measured.path.parent / "relay.log").read_text().splitlines()[-1].split()
    held, passed = int(relay[1]), int(relay[4])
    assert 0.15 < held / (held + passed) < 0.45
    assert found.gate("workers").ok
    assert found.gate("unaccounted").ok


def test_workers_on_several_hosts_make_one_poisson_process(played: Played) -> None:
    """20 users on each of three hosts are 60 arrivals a second of one process, as on one host."""
    found = played("delayed_reports")
    start, end = found.measured.meta["window"]["start_unix_ns"], found.measured.meta["window"]["end_unix_ns"]
    due = sorted(one.due_unix_ns for one in found.measured.records if start <= one.due_unix_ns < end)
    assert len({one.worker for one in found.measured.records}) == 3
    mean = 60 * (end - start) / SECOND_NS
    assert abs(len(due) - mean) < 4 * math.sqrt(mean)
    assert distance_from_exponential(gaps_s(due), rate=60) < 1.95
    tenths = [sum(1 for at in due if start + i * 10**8 <= at < start + (i + 1) * 10**8) for i in range(110)]
    assert 0.55 < statistics.variance(tenths) / 6 < 1.6  # of a count of Poisson's: its mean
    by_host = {one.due_unix_ns: one.worker for one in found.measured.records}
    changes = sum(by_host[early] != by_host[late] for early, late in pairwise(due))
    assert abs(changes / (len(due) - 1) - 2 / 3) < 0.1  # whose turn it is does not depend on whose it was


def test_constant_arrivals_on_two_hosts_keep_one_beat(played: Played) -> None:
    """Each of 20 users has a place of its own in the second, by the master's clock, on whichever host."""
    found = played("constant_arrivals")
    assert found.code == 0, found.said
    places = sorted(phase(user) for user in range(20))
    seen: dict[float, Counter[str]] = {place: Counter() for place in places}
    off_s = []
    for record in found.measured.records:
        at = record.due_unix_ns % SECOND_NS / SECOND_NS
        off, place = min((abs((at - place + 0.5) % 1 - 0.5), place) for place in places)
        off_s.append(off)
        seen[place][record.worker] += 1
    assert sorted(off_s)[int(0.9 * len(off_s))] < 0.004  # places are 24 ms apart at least
    owners = [workers.most_common(1)[0][0] for workers in seen.values()]
    assert set(Counter(owners).values()) == {10}


def test_clocks_of_one_machine_are_found_to_be_one(played: Played) -> None:
    for clock in clocks(played("delayed_reports")).values():
        assert clock["samples"] >= 4
        assert abs(clock["offset_ns"]) <= clock["error_ns"] + 1_000_000
        assert clock["moved_ns"] < 1_000_000
    assert played("delayed_reports").gate("workers' clocks").ok


# Links and workers


def test_killed_worker_is_a_number(played: Played) -> None:
    found = played("links_and_a_worker")
    assert found.code == 5, found.said
    accounting = found.measured.meta["accounting"]
    assert "silent since" in str(lost(found)["killed"]["detail"])
    assert accounting["unaccounted"] == accounting["started"] - accounting["records"]
    assert found.verdict.status == "INVALID"
    assert not found.gate("workers").ok


def test_link_that_was_cut_and_mended_loses_time_and_no_record(played: Played) -> None:
    found = played("links_and_a_worker")
    entry = lost(found)["cut"]
    assert "then back" in str(entry["detail"])
    assert entry["in_flight"] == 0
    assert "the load is stopped" in found.said
    assert "it gets what was measured" in found.said
    cut_ns = found.times_ns["cut"]
    after = [due for due in records_of(found, "cut") if due > cut_ns]
    assert after  # measured while the link was cut, handed over when it was mended
    assert max(after) < cut_ns + 6 * SECOND_NS < cut_ns + CUT_S * SECOND_NS
    cancelled = [one for one in found.measured.records if one.outcome == "cancelled"]
    assert {one.worker.rpartition("-")[0] for one in cancelled} == {"cut"}
    killed = lost(found)["killed"]
    assert found.measured.meta["accounting"]["unaccounted"] <= int(killed["in_flight"]) + 1  # none of "cut"


def test_link_that_is_cut_for_a_second_costs_nothing(played: Played) -> None:
    found = played("links_and_a_worker")
    assert set(lost(found)) == {"cut", "killed"}
    assert {one.worker.rpartition("-")[0] for one in found.measured.records} == {"blinks", "cut", "killed"}


# Masters


def sent(found: Outcome) -> dict[str, list[int]]:
    """Return when the server received requests (unix ns), by run."""
    times: dict[str, list[int]] = {}
    for line in (found.measured.path.parent / "sent.jsonl").read_text().splitlines():
        request = json.loads(line)
        times.setdefault(str(request["request_id"])[:20], []).append(request["received_unix_ns"])
    return times


def test_orphans_stop_within_5_s(played: Played) -> None:
    found = played("killed_master")
    died_ns = found.times_ns["died"]
    times = sent(found)[found.measured.meta["run"]]
    assert max(times) > died_ns + SECOND_NS  # they went on as if nothing had happened
    assert max(times) < died_ns + 5 * SECOND_NS
    assert found.said.count("the load is stopped") == 2


def test_reports_of_orphans_do_not_count_for_the_next_master(played: Played) -> None:
    found = played("killed_master")
    assert found.code == 0, found.said  # the next master's
    again = found.read("again")
    check_accounts(again, foreign=None)
    assert again.meta["accounting"]["foreign_reports"] > 0
    assert {record.worker.rpartition("-")[0] for record in again.records} == {"fresh"}
    assert again.meta["workers"]["seen"] == ["fresh-0"]


def test_what_a_killed_master_had_written_is_there_and_invalid(played: Played) -> None:
    found = played("killed_master")
    assert found.measured.meta["ended_unix_ns"] is None
    assert len(found.measured.records) > 10
    assert found.verdict.status == "INVALID"
    assert any("cut off" in reason for reason in found.verdict.reasons)


# The server


def test_server_that_stalls_for_10_s_shows_in_what_was_due_meanwhile(played: Played) -> None:
    found = played("server_stalls_then_dies")
    check_accounts(found.measured)
    from_ns, to_ns = found.times_ns["stalled"], found.times_ns["went_on"]
    due = [one for one in found.measured.records if from_ns < one.due_unix_ns < to_ns]
    assert abs(len(due) - 20 * STALL_S) < 4 * math.sqrt(20 * STALL_S)  # nobody waited for the server
    for one in due:
        assert one.outcome == "ok"
        assert one.first_ns is not None
        assert one.first_ns > to_ns - one.due_unix_ns
    worst = max(one.first_ns or 0 for one in due)
    assert worst > (STALL_S - 1) * SECOND_NS


def test_server_that_dies_is_failures_and_no_loss(played: Played) -> None:
    found = played("server_stalls_then_dies")
    assert found.code == 1, found.said
    died_ns = found.times_ns["died"]
    after = [one for one in found.measured.records if one.due_unix_ns > died_ns]
    assert len(after) > 30
    assert {one.outcome for one in after} <= {"connect", "truncated"}
    assert found.measured.meta["accounting"]["unaccounted"] == 0
    assert found.verdict.status in {"INVALID", "FAIL"}  # INVALID: its own counts ended with it


# The disk


def test_full_disk_ends_the_run_and_says_how_much_is_missing(played: Played) -> None:
    found = played("full_disk")
    assert found.code == 5, found.said
    assert found.said.count("cannot be written (No space left on device): the run is INVALID") == 1
    assert "Traceback" not in found.said
    accounting = found.measured.meta["accounting"]
    assert 0 < len(found.measured.records) <= accounting["records"]  # how many fit is the disk's affair
    assert found.measured.meta["interrupted"] == "results could not be written (No space left on device)"
    assert not found.gate("records = rows").ok or len(found.measured.records) == accounting["records"]
    assert found.verdict.status == "INVALID"


# Who takes part


def test_worker_of_other_code_is_refused_before_the_start(played: Played) -> None:
    found = played("wrong_version")
    assert found.code == 6, found.said
    assert found.run is None
    assert "worker old-" in found.said
    assert "expected 0.1.0 (code " in found.said
    assert "Traceback" not in found.said


def test_worker_that_joins_late_counts_and_one_of_other_code_does_not(played: Played) -> None:
    found = played("late_workers")
    assert found.code == 5, found.said
    assert set(lost(found)) == {"old"}
    assert "joined and was turned away" in str(lost(found)["old"]["detail"])
    hosts = {record.worker.rpartition("-")[0] for record in found.measured.records}
    assert hosts == {"early", "late"}
    assert set(clocks(found)) == {"early", "late"}
    assert min(records_of(found, "late")) > found.times_ns["joined"]
    check_accounts(found.measured, foreign=None)
    assert found.verdict.status == "INVALID"


def test_worker_that_cannot_reach_the_server_is_named_before_the_start(played: Played) -> None:
    found = played("no_way_to_the_server")
    assert found.code == 6, found.said
    assert found.run is None
    assert "worker behind-" in found.said
    assert "http://server:8000: cannot be reached (Permission denied)" in found.said


def test_rate_that_no_worker_can_carry_is_refused_before_the_start(played: Played) -> None:
    found = played("too_much")
    assert found.code == 6, found.said
    assert found.run is None
    assert "--users: found 500,000 arrivals a second on 2 workers: at least" in found.said
    assert "workers cannot carry it" in found.said


# Clocks


def test_clock_that_is_stepped_by_an_hour_is_found_and_no_latency_knows_of_it(played: Played) -> None:
    found = played("stepped_clock")
    assert found.code == 0, found.said  # the worker took it for no dead master
    check_accounts(found.measured)
    clock = clocks(found)["stepped"]
    assert abs(clock["moved_ns"] - HOUR_NS) < SECOND_NS
    assert abs(clock["worst_ns"] - HOUR_NS) < SECOND_NS
    assert clocks(found)["steady"]["moved_ns"] < 1_000_000
    gate = found.gate("workers' clocks")
    assert (gate.ok, gate.severity) == (False, "invalid")
    assert found.verdict.status == "INVALID"
    after = [
        one for one in found.measured.records if one.due_unix_ns > found.times_ns["stepped"] + HOUR_NS / 2
    ]
    assert len(after) > 50  # it measured on
    whole = [one for one in found.measured.records if abs(one.clock_jump_ns) < SECOND_NS]
    assert len(found.measured.records) - len(whole) <= 10  # those that were in flight, each with its jump
    assert all(0 < (one.first_ns or 0) <= one.end_ns < 5 * SECOND_NS for one in whole)
