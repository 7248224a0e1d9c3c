import asyncio
from collections.abc import Callable
from time import perf_counter_ns

import pytest

from server.sim.clock import Alarm

MS = 1_000_000


def ring(plan: Callable[[Alarm, Callable[[int], None]], int], *, timerfd: bool) -> list[tuple[int, int]]:
    """Return (due, called) of each call, in the order of the calls, once the planned number has come."""
    called: list[tuple[int, int]] = []

    async def main() -> None:
        alarm = Alarm(asyncio.get_running_loop())
        if not timerfd:
            alarm._libc = None
        everything = asyncio.Event()

        def call(due_ns: int) -> None:
            called.append((due_ns, perf_counter_ns()))
            if len(called) == expected:
                everything.set()

        expected = plan(alarm, call)
        await asyncio.wait_for(everything.wait(), 10)
        await asyncio.sleep(0.02)  # what comes twice comes now

    asyncio.run(main())
    return called


@pytest.mark.parametrize("timerfd", [True, False], ids=["timerfd", "call_at"])
def test_calls_come_once_in_order_and_never_early(timerfd: bool) -> None:
    def plan(alarm: Alarm, call: Callable[[int], None]) -> int:
        now = perf_counter_ns()
        for after_ms in (30, 10, 20, -5, 10, 5):
            alarm.at(now + after_ms * MS, call)
        return 6

    called = ring(plan, timerfd=timerfd)
    dues = [due for due, _ in called]
    assert dues == sorted(dues)
    assert len(dues) == 6
    assert all(at >= due for due, at in called)


@pytest.mark.parametrize("timerfd", [True, False], ids=["timerfd", "call_at"])
def test_a_call_may_set_the_next_one_earlier_than_all_others(timerfd: bool) -> None:
    def plan(alarm: Alarm, call: Callable[[int], None]) -> int:
        now = perf_counter_ns()

        def first(due_ns: int) -> None:
            call(due_ns)
            alarm.at(due_ns + 5 * MS, call)

        alarm.at(now + 50 * MS, call)
        alarm.at(now + 5 * MS, first)
        return 3

    called = ring(plan, timerfd=timerfd)
    assert [due - called[0][0] for due, _ in called] == [0, 5 * MS, 45 * MS]


def test_a_call_that_fails_does_not_stop_the_others() -> None:
    def plan(alarm: Alarm, call: Callable[[int], None]) -> int:
        def fail(_due_ns: int) -> None:
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            raise RuntimeError

        now = perf_counter_ns()
        alarm.at(now, fail)
        alarm.at(now + 5 * MS, call)
        return 1

    assert len(ring(plan, timerfd=True)) == 1
