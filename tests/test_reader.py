"""The two readers: every byte is called for, and many sockets cost a wake-up per period, not per read."""

import socket
import time
from collections.abc import Iterator

import gevent
import gevent.socket
import pytest

from locustfiles import _reader
from locustfiles._reader import PERIOD_NS, QUIET_PERIODS, ClockReader, EventReader, open_reader

Pair = tuple[gevent.socket.socket, gevent.socket.socket]

PERIOD_S = PERIOD_NS / 1e9
LINUX = hasattr(socket, "AF_PACKET")

pytestmark = pytest.mark.skipif(not LINUX, reason="epoll and timerfd are Linux's")


@pytest.fixture(params=[EventReader, ClockReader])
def reader(request: pytest.FixtureRequest) -> Iterator[EventReader | ClockReader]:
    made = request.param()
    yield made
    made.close()


def _pairs(count: int) -> list[Pair]:
    return [gevent.socket.socketpair() for _ in range(count)]


def test_every_byte_is_called_for_and_a_removed_socket_is_left_alone(
    reader: EventReader | ClockReader,
) -> None:
    pairs = _pairs(20)
    got = [0] * len(pairs)

    def taker(index: int) -> None:
        got[index] += len(pairs[index][0].recv(100))

    for index, (near, _) in enumerate(pairs):
        reader.add(near.fileno(), lambda index=index: taker(index))
    for number in range(50):
        for near, far in pairs:
            if number < 30 or near is not pairs[0][0]:
                far.send(b"x")
        if number == 29:
            gevent.sleep(0.02)
            reader.remove(pairs[0][0].fileno())
            pairs[0][1].send(b"nobody takes this")
        gevent.sleep(PERIOD_S / 3)
    gevent.sleep(0.02)
    assert got == [30, *[50] * 19]


def test_a_callback_may_close_another_socket_that_can_be_read(reader: EventReader | ClockReader) -> None:
    pairs = _pairs(8)
    alive = {near.fileno(): near for near, _ in pairs}

    def closer(own: int) -> None:
        assert own in alive
        for fd in [fd for fd in alive if fd != own]:
            reader.remove(fd)
            alive.pop(fd).close()
        alive[own].recv(10)

    for fd in list(alive):
        reader.add(fd, lambda fd=fd: closer(fd))
    for _, far in pairs:
        far.send(b"x")
    gevent.sleep(0.02)
    assert len(alive) == 1


def test_many_reads_are_taken_by_the_clock_and_rare_ones_as_they_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[int] = []
    read = ClockReader._read

    def counted(self: ClockReader) -> int:
        batches.append(read(self))
        return batches[-1]

    monkeypatch.setattr(ClockReader, "_read", counted)
    reader = ClockReader()
    pairs = _pairs(40)
    for near, _ in pairs:
        reader.add(near.fileno(), lambda near=near: near.recv(100))
    try:
        for _ in range(5):  # each far from the one before
            pairs[0][1].send(b"x")
            gevent.sleep(10 * PERIOD_S)
        rare = list(batches)
        batches.clear()
        end_ns = time.perf_counter_ns() + 100 * PERIOD_NS
        sent = 0
        while time.perf_counter_ns() < end_ns:
            pairs[sent % 40][1].send(b"x")
            sent += 1
            gevent.sleep(0)
        gevent.sleep((QUIET_PERIODS + 5) * PERIOD_S)
        busy = [count for count in batches if count]
        batches.clear()
        gevent.sleep(20 * PERIOD_S)
    finally:
        reader.close()
    assert rare == [1] * 5
    assert len(busy) <= 110, "a wake-up per period"
    assert sum(busy) > 3 * len(busy), f"{sum(busy)} reads in {len(busy)} wake-ups"
    assert not batches, "nothing comes: nothing is asked"


def test_which_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    made = open_reader(stamped=True)
    assert isinstance(made, ClockReader)
    made.close()
    assert isinstance(open_reader(stamped=False), EventReader), "a read by the clock would be late unseen"

    def no_timerfd(_: object) -> None:
        raise OSError

    monkeypatch.setattr(_reader, "Timer", no_timerfd)
    assert isinstance(open_reader(stamped=True), EventReader)
