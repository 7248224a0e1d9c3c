from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.sim.prefix import BLOCK_TOKENS, PrefixCache, block_keys
from server.sim.profiles import AWQ, BASELINE, PROFILES, Profile
from server.sim.scheduler import Scheduler, Sequence, Step

MS = 1_000_000
SMALL = replace(BASELINE, kv_tokens=400, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=400)


def sequence(prompt_tokens: int, max_tokens: int, arrival_ns: int = 0) -> Sequence:
    return Sequence(prompt_tokens=prompt_tokens, max_tokens=max_tokens, arrival_ns=arrival_ns)


def run(scheduler: Scheduler, arrivals: list[Sequence]) -> list[tuple[Step, list[Sequence]]]:
    """Play to the end as the engine does; returns the steps and who got a token in each."""
    pending = sorted(arrivals, key=lambda one: one.arrival_ns)
    history: list[tuple[Step, list[Sequence]]] = []
    now = 0
    while True:
        while pending and (pending[0].arrival_ns <= now or not (scheduler.running or scheduler.waiting)):
            now = max(now, pending[0].arrival_ns)
            scheduler.add(pending.pop(0))
        step = scheduler.plan(now)
        if step is None:
            assert not pending
            return history
        assert scheduler.kv_used <= scheduler.profile.kv_tokens
        assert len(scheduler.running) <= scheduler.profile.max_num_seqs
        assert scheduler.kv_used == sum(one.kv for one in scheduler.running)
        history.append((step, scheduler.complete(step)))
        now = step.end_ns


REQUESTS = st.lists(
    st.tuples(st.integers(1, 150), st.integers(1, 120), st.integers(0, 3000 * MS)), min_size=1, max_size=14
)


@settings(max_examples=150, deadline=None)
@given(REQUESTS)
def test_no_token_is_lost_or_doubled_and_the_kv_limit_holds(requests: list[tuple[int, int, int]]) -> None:
    arrivals = [sequence(*request) for request in requests]
    scheduler = Scheduler(SMALL)
    history = run(scheduler, arrivals)
    for one in arrivals:
        tokens = sum(emitted.count(one) for _, emitted in history)
        assert tokens == one.generated == one.max_tokens
        assert one.done
        assert one.arrival_ns <= one.scheduled_ns < one.first_ns <= one.last_ns
    assert scheduler.kv_used == 0
    assert not scheduler.running
    assert not scheduler.waiting


@settings(max_examples=100, deadline=None)
@given(REQUESTS)
def test_admission_is_first_come_first_served(requests: list[tuple[int, int, int]]) -> None:
    arrivals = sorted((sequence(*request) for request in requests), key=lambda one: one.arrival_ns)
    run(Scheduler(SMALL), arrivals)
    scheduled = [one.scheduled_ns for one in arrivals]
    assert scheduled == sorted(scheduled)


@settings(max_examples=50, deadline=None)
@given(REQUESTS, st.integers(0, 9))
def test_the_same_seed_plays_the_same(requests: list[tuple[int, int, int]], seed: int) -> None:
    def times() -> list[tuple[int | None, int | None]]:
        arrivals = [sequence(*request) for request in requests]
        run(Scheduler(SMALL, seed), arrivals)
        return [(one.first_ns, one.last_ns) for one in arrivals]

    assert times() == times()


def test_another_seed_jitters_otherwise() -> None:
    ends = set()
    for seed in range(5):
        one = sequence(10, 20)
        run(Scheduler(SMALL, seed), [one])
        ends.add(one.last_ns)
    assert len(ends) == 5


def test_the_last_to_arrive_is_preempted_and_resumes_with_all_its_tokens() -> None:
    first, second = sequence(100, 150), sequence(100, 150, arrival_ns=1)
    scheduler = Scheduler(replace(SMALL, max_num_batched_tokens=2048))
    history = run(scheduler, [first, second])  # 2 x 250 tokens do not fit in 400
    assert scheduler.preemptions == 1
    assert first.generated == second.generated == 150
    gaps = {id(first): [], id(second): []}
    last: dict[int, int] = {}
    for step, emitted in history:
        for one in emitted:
            gaps[id(one)].append(step.end_ns - last.get(id(one), step.end_ns))
            last[id(one)] = step.end_ns
    assert max(gaps[id(first)]) < 40 * MS  # the first one noticed nothing but the other's prefill
    assert max(gaps[id(second)]) > 500 * MS  # the second one's client saw a stall
    assert (
        max(step.prefill_tokens for step, _ in history) > 100
    )  # prompt and generated tokens, computed again


def test_an_aborted_sequence_frees_its_kv_and_emits_nothing_more() -> None:
    stays, leaves, waits = sequence(50, 30), sequence(50, 30), sequence(390, 2)
    scheduler = Scheduler(SMALL)
    for one in (stays, leaves, waits):
        scheduler.add(one)
    for number in range(20):
        step = scheduler.plan(number)
        assert step is not None
        if number == 10:
            scheduler.abort(leaves)  # in the middle of a step
            scheduler.abort(waits)
            before = leaves.generated
        scheduler.complete(step)
    assert before > 0
    assert leaves.generated == before
    assert scheduler.kv_used == stays.kv
    assert scheduler.running == [stays]
    assert not scheduler.waiting


def test_a_long_prompt_is_prefilled_in_parts_and_delays_everybodys_step() -> None:
    quiet = replace(SMALL, jitter=0.0)
    running, long = sequence(4, 20), sequence(150, 2, arrival_ns=100 * MS)
    history = run(Scheduler(quiet), [running, long])
    alone = [step for step, _ in history if step.prefill_tokens == 0 and len(step.sequences) == 1]
    shared = [
        step
        for step, _ in history
        if step.prefill_tokens > 1 and running in step.sequences and long in step.sequences
    ]
    assert [step.prefill_tokens for step in shared] == [63, 63, 24]  # the running one takes one of 64
    slow = shared[0].end_ns - shared[0].start_ns
    fast = alone[0].end_ns - alone[0].start_ns
    assert slow - fast > 63 * quiet.per_prefill_token_ms * MS
    for step, emitted in history:
        assert (long in emitted) == (step.end_ns >= long.first_ns and long in step.sequences)


def test_steps_follow_each_other_without_a_gap() -> None:
    history = run(Scheduler(SMALL), [sequence(10, 50)])
    for (earlier, _), (later, _) in pairwise(history):
        assert later.start_ns == earlier.end_ns


def test_an_idle_engine_waits_for_the_next_arrival() -> None:
    scheduler = Scheduler(SMALL)
    scheduler.add(sequence(10, 1, arrival_ns=5000))
    step = scheduler.plan(1000)
    assert step is not None
    assert step.start_ns == 5000


def test_a_sequence_that_could_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="found 300 \\+ 101 tokens of KV, expected at most 400"):
        Scheduler(SMALL).add(sequence(300, 101))


def test_a_prompt_seen_before_needs_only_its_last_block() -> None:
    keys = block_keys("x" * 4 * BLOCK_TOKENS * 3, 4)
    scheduler = Scheduler(SMALL)
    first = Sequence(3 * BLOCK_TOKENS, 1, 0, prefix=keys)
    again = Sequence(3 * BLOCK_TOKENS, 1, 10_000 * MS, prefix=keys)
    prefills = [step.prefill_tokens for step, _ in run(scheduler, [first, again])]
    assert prefills == [48, 16]
    assert scheduler.prefix_queries == 96
    assert scheduler.prefix_hits == 32


@given(st.text(max_size=400), st.text(max_size=400))
def test_block_keys_agree_exactly_on_the_common_prefix(one: str, other: str) -> None:
    common = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    same = sum(a == b for a, b in zip(block_keys(one, 1), block_keys(other, 1), strict=False))
    assert same == common // BLOCK_TOKENS


def test_the_prefix_cache_forgets_what_was_not_used_for_longest() -> None:
    cache = PrefixCache(2)
    old, new = block_keys([1] * 32, 1), block_keys([2] * 32, 1)
    cache.remember(old)
    cache.remember(new)
    assert cache.hit_tokens(old, 33) == 0
    assert cache.hit_tokens(new, 33) == 32


# The two profiles, as a pure function of the batch


def itl_ms(profile: Profile, batch: int) -> float:
    return profile.step_ms(batch, kv_tokens=batch * 300)


def test_awq_is_twice_as_fast_alone_and_slower_in_a_crowd() -> None:
    table = [
        (batch, itl_ms(BASELINE, batch), itl_ms(AWQ, batch))
        for batch in (1, 2, 4, 8, 16, 32, 48, 64, 128, 256)
    ]
    for batch, baseline, awq in table:
        print(f"batch {batch:3}: baseline {baseline:6.2f} ms, awq {awq:6.2f} ms, {baseline / awq:.2f}x")
    assert 1.7 < table[0][1] / table[0][2] < 2.2
    faster = [batch for batch, baseline, awq in table if awq < baseline]
    slower = [batch for batch, baseline, awq in table if awq > baseline]
    assert max(faster) in (16, 32)
    assert min(slower) in (32, 48)
    assert AWQ.kv_tokens > BASELINE.kv_tokens
    assert AWQ.per_prefill_token_ms > BASELINE.per_prefill_token_ms


def test_a_lone_users_first_token_comes_well_below_100_ms() -> None:
    for profile in PROFILES.values():
        assert profile.step_ms(1, 256, 256) < 60
        assert profile.max_model_len <= profile.kv_tokens
