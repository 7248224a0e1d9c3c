"""The master's side of the crew: who belongs to it, whether all are ready, and how far their clocks are off.

A run begins when every worker has said that it runs the same code, has reached the server, and has told its
clock. Whatever comes from a worker that did not (one of other code, an orphan of another master) is counted
and goes nowhere, not even into Locust's own tables.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gevent
from gevent.lock import RLock

from locustfiles._clocks import Offset, exchange
from locustfiles._cost import Cost
from locustfiles._errors import shown
from locustfiles._member import CLOCK, HERE, REACH, REACHED, SURPLUS, code
from locustfiles._meta import version

HELLO_S = 20.0  # for workers that have only just started; it ends as soon as all have spoken
READY_S = 20.0  # reaching the server may take 10 s
BURST = 5  # exchanges, one after another: the quickest says most
SAMPLE_S = 5.0
TOLD_MAX = 3
ERROR_MAX = 400  # characters

log = logging.getLogger("tokenswarm")


class CrewError(Exception):
    """The workers cannot begin: one line that says who, what was found and what was expected."""


class Ask(NamedTuple):
    """What workers must know to reach the server, and to send the same: a file, and its digest."""

    host: str
    verify: bool
    model: str
    prompts: str = ""
    digest: str = ""


class Crew:
    """A master's workers, by Locust's client ids."""

    def __init__(
        self, environment: Any, turned_away: Callable[[str, str, int], None], is_full: Callable[[], bool]
    ) -> None:
        """Listen; `turned_away` hears (client id, why, reports) of what comes from a worker that is none.

        While it `is_full`, whoever comes is sent away.
        """
        self._runner = environment.runner
        self._turned_away, self._is_full = turned_away, is_full
        self._surplus: set[str] = set()
        self._code = code()
        self._costs: dict[str, Cost] = {}  # of those that belong to it
        self._strangers: dict[str, str] = {}  # why they do not
        self._offsets: dict[str, Offset] = {}
        self._bursts: dict[str, int] = {}
        self._reached: dict[str, str] = {}
        self._number = 0
        self._runner.register_message(HERE, self._here)
        self._runner.register_message(REACHED, self._has_reached)
        self._runner.register_message(CLOCK, self._told)
        self._receiving: Any = None  # the greenlet of Locust's receive loop
        self._starting = RLock()
        self._locust_handle, self._locust_start = self._runner.handle_message, self._runner.start
        self._runner.handle_message, self._runner.start = self._handle, self._start
        self._locust_receive = self._runner.server.recv_from_client
        self._runner.server.recv_from_client = self._receive
        gevent.spawn(self._sample_forever)

    def name(self, client: str) -> str:
        """Return what we call a worker: its host and its index."""
        return f"{shown(client.rpartition('_')[0])}-{self._runner.get_worker_index(client)}"

    def costs(self, clients: list[str]) -> list[Cost]:
        """Return what a request and a token cost each of these workers at least."""
        return [self._costs[client] for client in clients if client in self._costs]

    def offsets(self) -> list[dict[str, int | str]]:
        """Return the clocks of this run's workers, for run.json."""
        found = [offset.plain(self.name(client)) for client, offset in self._offsets.items()]
        return sorted(found, key=lambda clock: str(clock["worker"]))

    def meet(self, clients: list[str]) -> None:
        """Wait until these have said what they are, and told their clocks; raises CrewError."""
        self._offsets.clear()
        self._wait(HELLO_S, lambda: all(client in self._costs.keys() | self._strangers for client in clients))
        silent = {
            client: f"says nothing of its code, expected Tokenswarm {version()} (code {self._code})"
            for client in clients
            if client not in self._costs
        }
        self._refuse(silent | {client: why for client, why in self._strangers.items() if client in clients})
        for client in clients:
            self._ping(client, BURST)
        self._wait(HELLO_S, lambda: all(self._has_told_clock(client) for client in clients))
        self._refuse({client: "does not tell its clock" for client in clients if client not in self._offsets})

    def _has_told_clock(self, client: str) -> bool:
        return client in self._offsets and self._offsets[client].samples >= BURST

    def make_ready(self, clients: list[str], ask: Ask) -> None:
        """Have each of these reach the server, and wait until all have; raises CrewError."""
        self._number += 1
        self._reached.clear()
        for place, client in enumerate(clients):
            known = {"place": place, "of": len(clients), "offset_ns": self._offsets[client].best.offset_ns}
            self._runner.send_message(REACH, ask._asdict() | known | {"number": self._number}, client)
        self._wait(READY_S, lambda: all(client in self._reached for client in clients))
        answers = {
            client: self._reached.get(client, f"is not ready after {READY_S:g} s") for client in clients
        }
        self._refuse({client: why for client, why in answers.items() if why})

    def _refuse(self, why: dict[str, str]) -> None:
        if why:
            told = [f"worker {self.name(client)}: {text}" for client, text in list(why.items())[:TOLD_MAX]]
            more = [f"and {len(why) - TOLD_MAX} more"] if len(why) > TOLD_MAX else []
            raise CrewError("; ".join([*told, *more]))

    @staticmethod
    def _wait(seconds: float, until: Callable[[], bool]) -> None:
        end_s = time.monotonic() + seconds
        while not until() and time.monotonic() < end_s:
            gevent.sleep(0.01)

    def _here(self, msg: Any, **_: Any) -> None:
        client, said = msg.node_id, msg.data
        if said["code"] == self._code:
            self._costs[client] = Cost(*said["cost"])
            self._ping(client, BURST)  # one that joins a run is not waited for
            return
        found = f"found Tokenswarm {shown(str(said['version']))} (code {shown(str(said['code']))})"
        why = self._strangers[client] = f"{found}, expected {version()} (code {self._code})"
        log.error("Worker %s: %s", self.name(client), why)
        self._turned_away(client, why, 0)

    def _has_reached(self, msg: Any, **_: Any) -> None:
        if msg.data["number"] == self._number:
            self._reached[msg.node_id] = shown(msg.data["error"], ERROR_MAX)

    def _ping(self, client: str, times: int) -> None:
        self._bursts[client] = times - 1
        self._runner.send_message(CLOCK, {"sent_ns": time.time_ns()}, client)

    def _told(self, msg: Any, **_: Any) -> None:
        back_ns, client, said = time.time_ns(), msg.node_id, msg.data
        if client not in self._bursts:
            return  # nobody asked it
        sample = exchange(said["sent_ns"], said["heard_ns"], said["answered_ns"], back_ns)
        if client in self._offsets:
            self._offsets[client].take(sample)
        else:
            self._offsets[client] = Offset(sample)
        if self._bursts.get(client):
            self._ping(client, self._bursts[client])

    def _sample_forever(self) -> None:
        while True:
            gevent.sleep(SAMPLE_S)
            for client in list(self._offsets):
                if client in self._runner.clients:
                    self._ping(client, BURST)

    def _receive(self) -> Any:
        """Receive as Locust does; what is no message must not end the loop that all workers are heard by."""
        while True:
            try:
                return self._locust_receive()
            except (TypeError, ValueError, IndexError) as error:  # those that Locust does not foresee
                log.error("Something came that is no message of Locust's: %s", shown(str(error)))

    def _handle(self, client: str, msg: Any) -> None:
        """Handle a message as Locust does, but no report of a worker that does not belong to the crew."""
        self._receiving = gevent.getcurrent()
        if msg.type == "client_ready" and client not in self._runner.clients and self._is_full():
            self._surplus.add(client)
            log.warning("Worker %s is sent away: all that are wanted are there", shown(client))
        if client in self._surplus:
            self._send_away(client, msg.type)
            return
        if msg.type == "stats" and client not in self._costs:
            reports = (msg.data or {}).get("tokenswarm") or []
            if reports:
                self._turned_away(
                    client, self._strangers.get(client, "a worker of another master"), len(reports)
                )
            return
        if msg.type == "quit":  # the last one ends the run, which waits for reports that come this very way
            gevent.spawn(self._locust_handle, client, msg)
        else:
            self._locust_handle(client, msg)

    def _send_away(self, client: str, said: str) -> None:
        """Answer one that is too many; Locust does not hear of it, so it gets no share of the load."""
        if said == "client_ready":
            self._runner.send_message("ack", {"index": 0}, client)  # until then it hears nothing else
        elif said == HERE:
            self._runner.send_message(SURPLUS, {}, client)

    def _start(self, *arguments: Any, **named: Any) -> None:
        """Start as Locust does; never in its receive loop, where it would wait for what that must receive."""
        if gevent.getcurrent() is self._receiving:  # a worker joined, left or is back
            gevent.spawn(self._start, *arguments, **named)
            return
        with self._starting:
            self._locust_start(*arguments, **named)
