"""The crew: who belongs to it, who is turned away, and that nobody waits where a message must be received."""

from collections.abc import Callable
from typing import Any

import gevent
import msgpack  # type: ignore[import-untyped]
import pytest

from locustfiles import _crew
from locustfiles._crew import Ask, Crew, CrewError
from locustfiles._member import CLOCK, HERE, REACH, REACHED, SURPLUS, code

ASK = Ask("http://server", verify=True, model="m")


class Message:
    def __init__(self, kind: str, data: Any, node_id: str) -> None:
        self.type, self.data, self.node_id = kind, data, node_id


class Server:
    """Reads frames as Locust 2.47 does (and importing it would patch this process)."""

    def __init__(self) -> None:
        self.frames: list[list[bytes]] = []

    def recv_from_client(self) -> tuple[str, Message]:
        data = [b"w_1", *self.frames.pop(0)]
        return data[0].decode(), Message(*msgpack.loads(data[1], raw=False, strict_map_key=False))


class Runner:
    """A master with workers that answer as `workers` say: Locust's side, as far as the crew meets it."""

    def __init__(self) -> None:
        self.clients: dict[str, Any] = {}
        self.listeners: dict[str, Callable[..., None]] = {}
        self.handled: list[str] = []
        self.starts: list[object] = []
        self.errors: dict[str, str | None] = {}  # of reaching the server; None: says nothing
        self.asked: dict[str, dict[str, Any]] = {}
        self.server = Server()
        self.most = -1
        self.sent: list[tuple[str, str]] = []

    def register_message(self, kind: str, listener: Callable[..., None]) -> None:
        self.listeners[kind] = listener

    def get_worker_index(self, client: str) -> int:
        return list(self.clients).index(client)

    def send_message(self, kind: str, data: dict[str, Any], client: str) -> None:
        self.sent.append((kind, client))
        if kind == CLOCK:
            told = data["sent_ns"] + 5_000_000_000
            answer = data | {"heard_ns": told, "answered_ns": told}
            gevent.spawn(self.listeners[CLOCK], msg=Message(CLOCK, answer, client))
        elif kind == REACH:
            self.asked[client] = data
            if (error := self.errors.get(client, "")) is not None:
                answer = {"number": data["number"], "error": error}
                gevent.spawn(self.listeners[REACHED], msg=Message(REACHED, answer, client))

    def start(self, *_: object) -> None:
        self.starts.append(gevent.getcurrent())

    def handle_message(self, _client: str, msg: Message) -> None:
        self.handled.append(msg.type)
        if msg.type == "client_ready":
            self.start(1, 1)

    def joins(self, client: str, said: dict[str, Any] | None) -> None:
        self.clients[client] = object()
        if said:
            self.listeners[HERE](msg=Message(HERE, said, client))


class Environment:
    def __init__(self) -> None:
        self.runner = Runner()


@pytest.fixture
def turned_away() -> list[tuple[str, str, int]]:
    return []


@pytest.fixture
def crew(turned_away: list[tuple[str, str, int]], monkeypatch: pytest.MonkeyPatch) -> tuple[Crew, Runner]:
    monkeypatch.setattr(_crew, "HELLO_S", 0.2)
    monkeypatch.setattr(_crew, "READY_S", 0.2)
    environment = Environment()
    runner = environment.runner
    made = Crew(
        environment, lambda *what: turned_away.append(what), lambda: len(runner.clients) == runner.most
    )
    return made, environment.runner


def ours() -> dict[str, Any]:
    return {"version": "1", "code": code(), "cost": [1.0, 2.0]}


def test_workers_of_one_code_that_reach_the_server_may_begin(crew: tuple[Crew, Runner]) -> None:
    made, runner = crew
    for client in ("a_1", "b_2"):
        runner.joins(client, ours())
    made.meet(["a_1", "b_2"])
    made.make_ready(["a_1", "b_2"], ASK)
    assert [runner.asked[client]["place"] for client in ("a_1", "b_2")] == [0, 1]
    assert {asked["of"] for asked in runner.asked.values()} == {2}
    assert [clock["worker"] for clock in made.offsets()] == ["a-0", "b-1"]
    for clock in made.offsets():
        assert abs(int(clock["offset_ns"]) - 5_000_000_000) < 100_000_000
    assert len(made.costs(["a_1", "b_2"])) == 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"version": "0.9", "code": "other", "cost": [1, 2]},
            "worker b-1: found Tokenswarm 0.9 (code other)",
        ),
        (None, "worker b-1: says nothing of its code"),
    ],
)
def test_one_of_other_code_or_of_none_stops_all(
    crew: tuple[Crew, Runner], said: dict[str, Any] | None, expected: str
) -> None:
    made, runner = crew
    runner.joins("a_1", ours())
    runner.joins("b_2", said)
    with pytest.raises(CrewError) as error:
        made.meet(["a_1", "b_2"])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_stranger_says_is_one_line_without_control_characters(
    crew: tuple[Crew, Runner], turned_away: list[tuple[str, str, int]]
) -> None:
    made, runner = crew
    runner.joins("\x1b[2Jb_2", {"version": "\x1b]0;x\a9\n", "code": "\x1b[31m", "cost": [1, 2]})
    with pytest.raises(CrewError) as error:
        made.meet(["\x1b[2Jb_2"])
    assert str(error.value).isprintable()
    assert turned_away[0][1].isprintable()


def test_the_clock_of_one_that_was_not_asked_is_nobodys(crew: tuple[Crew, Runner]) -> None:
    made, runner = crew
    runner.joins("a_1", ours())
    runner.clients["stranger_2"] = object()
    year_2033 = {"sent_ns": 0, "heard_ns": 2 * 10**18, "answered_ns": 2 * 10**18}
    runner.listeners[CLOCK](msg=Message(CLOCK, year_2033, "stranger_2"))
    made.meet(["a_1"])
    runner.listeners[CLOCK](msg=Message(CLOCK, year_2033, "stranger_2"))
    assert [clock["worker"] for clock in made.offsets()] == ["a-0"]


def test_those_that_do_not_reach_the_server_are_named_and_the_rest_counted(crew: tuple[Crew, Runner]) -> None:
    made, runner = crew
    clients = [f"host{number}_x" for number in range(6)]
    for client in clients:
        runner.joins(client, ours())
        runner.errors[client] = "no route"
    runner.errors[clients[0]] = ""
    runner.errors[clients[1]] = None
    made.meet(clients)
    with pytest.raises(CrewError) as error:
        made.make_ready(clients, ASK)
    assert str(error.value) == (
        "worker host1-1: is not ready after 0.2 s; worker host2-2: no route; worker host3-3: no route; "
        "and 2 more"
    )


def test_reports_of_strangers_go_nowhere_and_are_counted(
    crew: tuple[Crew, Runner], turned_away: list[tuple[str, str, int]]
) -> None:
    _, runner = crew
    runner.joins("a_1", ours())
    report = Message("stats", {"tokenswarm": [{}, {}]}, "")
    runner.handle_message("a_1", report)
    runner.handle_message("orphan_9", report)
    runner.handle_message("orphan_9", Message("stats", {}, ""))
    assert runner.handled == ["stats"]
    assert turned_away == [("orphan_9", "a worker of another master", 2)]


def test_one_too_many_is_sent_away_and_locust_never_hears_of_it(crew: tuple[Crew, Runner]) -> None:
    _, runner = crew
    runner.most = 1
    runner.joins("a_1", ours())
    runner.sent.clear()
    for kind, data in (
        ("client_ready", None),
        (HERE, ours()),
        ("stats", {"tokenswarm": [{}]}),
        ("quit", None),
    ):
        runner.handle_message("b_2", Message(kind, data, "b_2"))
    assert runner.sent == [("ack", "b_2"), (SURPLUS, "b_2")]
    assert runner.handled == []
    runner.handle_message("a_1", Message("client_ready", None, "a_1"))  # its connection was broken
    assert runner.handled == ["client_ready"]


def test_start_in_the_receive_loop_does_not_hold_it_up(crew: tuple[Crew, Runner]) -> None:
    _, runner = crew
    runner.handle_message("a_1", Message("client_ready", None, "a_1"))
    assert runner.starts == []
    gevent.sleep(0.01)
    assert len(runner.starts) == 1
    assert runner.starts[0] is not gevent.getcurrent()


@pytest.mark.parametrize("frames", [[b"\x01"], [b""], [b"\x93\x01\x02"], [b"\x92\x01\x02"], []])
def test_what_is_no_message_is_one_line_and_the_next_is_heard(
    crew: tuple[Crew, Runner], caplog: pytest.LogCaptureFixture, frames: list[bytes]
) -> None:
    _, runner = crew
    runner.server.frames = [frames, [msgpack.dumps(["client_ready", 1, "w_1"])]]
    client, message = runner.server.recv_from_client()
    assert (client, message.type) == ("w_1", "client_ready")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
