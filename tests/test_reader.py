"""The two readers: every byte is called for, and many sockets cost a wake-up per period, not per read."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator

import gevent
import pytest

from locustfiles import _reader
from locustfiles._reader import CROWD, PERIOD_NS, ClockReader, EventReader, open_reader

Pair = tuple[socket.socket, socket.socket]

PERIOD_S = PERIOD_NS / 1e9
LINUX = hasattr(socket, "AF_PACKET")

pytestmark = pytest.mark.skipif(not LINUX, reason="epoll and timerfd are Linux's")


@pytest.fixture(params=[EventReader, ClockReader])
def reader(request: pytest.FixtureRequest) -> Iterator[EventReader | ClockReader]:
    made = request.param()
    yield made
    made.close()


def _pairs(count: int) -> list[Pair]:
    pairs = [socket.socketpair() for _ in range(count)]
    for near, _ in pairs:
        near.setblocking(False)
    return pairs


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


def _until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end_s
        gevent.sleep(PERIOD_S)


class _Watched(ClockReader):
    """Notes what was ready each time it looked, and when it began to look by the clock."""

    def __init__(self, pairs: list[Pair]) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.armed: list[int] = []
        ring_every = self._timer.ring_every

        def noted(period_ns: int) -> None:
            self.armed.append(period_ns)
            ring_every(period_ns)

        self._timer.ring_every = noted  # type: ignore[method-assign]
        for near, _ in pairs:
            self.add(near.fileno(), lambda near=near: near.recv(100))

    def _read(self) -> int:
        self.batches.append(super()._read())
        return self.batches[-1]


def _flood(pairs: list[Pair], seconds: float) -> float:
    """Write a byte now here, now there, some five times a millisecond, from outside the loop."""
    begun_s = time.monotonic()

    def write() -> None:
        for number in itertools.takewhile(lambda _: time.monotonic() < begun_s + seconds, itertools.count()):
            pairs[number % len(pairs)][1].send(b"x")
            time.sleep(PERIOD_S / 8)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        gevent.sleep(PERIOD_S)
    return time.monotonic() - begun_s


def test_rare_reads_are_taken_as_they_come_and_many_by_the_clock() -> None:
    pairs = _pairs(40)
    reader = _Watched(pairs)
    try:
        for number in range(5):  # each a while after the one before
            pairs[0][1].send(b"x")
            _until(lambda number=number: sum(reader.batches) > number)
            gevent.sleep(3 * PERIOD_S)
        assert reader.batches == [1] * 5
        assert reader.armed == []
        reader.batches.clear()
        took_s = _flood(pairs, 0.1)
        _until(lambda: reader.armed[-1:] == [0])  # back to events
        busy = [count for count in reader.batches if count]
        assert len(busy) <= took_s / PERIOD_S + 10, "a wake-up per period"
        assert sum(busy) > 2 * len(busy), f"{sum(busy)} reads in {len(busy)} wake-ups"
        looked = len(reader.batches)
        gevent.sleep(20 * PERIOD_S)
        assert len(reader.batches) == looked, "nothing comes: nothing is asked"
    finally:
        reader.close()
        reader.close()


def test_few_sockets_are_never_read_by_the_clock() -> None:
    """A single fast stream must not lose the times of its tokens to a clock that saves nothing."""
    pairs = _pairs(CROWD - 1)
    reader = _Watched(pairs)
    try:
        _flood(pairs, 0.1)
        assert sum(reader.batches) > 20, "too little was read to tell"
        assert reader.armed == []
    finally:
        reader.close()


def test_which_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    made = open_reader(stamped=True)
    assert isinstance(made, ClockReader)
    made.close()
    assert isinstance(open_reader(stamped=False), EventReader), "a read by the clock would be late unseen"

    def no_timerfd(_: object) -> None:
        raise OSError

    monkeypatch.setattr(_reader, "Timer", no_timerfd)
    assert isinstance(open_reader(stamped=True), EventReader)
