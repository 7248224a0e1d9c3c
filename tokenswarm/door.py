"""The port that workers of other hosts come to, held from an experiment's begin to its end.

While a run lasts, Locust's master listens there. Before, between and after runs we do, and say nothing: who
has connected waits without asking again, and is cut off when the port changes hands. So a worker tells three
things apart by one connection: nobody is there, the experiment goes on, a master wants workers.
"""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Self

from tokenswarm import EXIT_NOT_STARTED, EXIT_USAGE, TokenswarmError
from tokenswarm.experiment import Experiment

BACKLOG = 4096  # connections that nobody accepts: a worker each, and Kubernetes' probes
CONNECT_S = 5.0
GREETING = b"\xff"  # of ZeroMQ, which sends it as soon as somebody has connected
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # a host that vanishes says no goodbye

FOUR_ONLY = "0.0.0.0 hears nobody who has IPv6 only: --listen [::]"

Found = Literal["nobody", "door", "master"]


class Address(NamedTuple):
    """Where the master listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it was written."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(text: str, where: str) -> Address:
    """Read HOST:PORT, or [HOST]:PORT, which an error says was found at `where`. Raises TokenswarmError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host.replace(":", " ")
    if not host or " " in host or not port.isdecimal() or not 0 < int(port) < 65536:
        six = ", an IPv6 address in brackets: [::]:5557" if text.count(":") > 1 else ""
        raise TokenswarmError(f"{where}: found {text!r}, expected HOST:PORT{six}", EXIT_USAGE)
    return Address(host, int(port))


def look(at: Address) -> Found:
    """Say who is there; where the door stands open, after it was closed."""
    try:
        with socket.create_connection(at, CONNECT_S) as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEPALIVE.items():
                if hasattr(socket, name):  # Linux has all three
                    found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            found.settimeout(None)
            try:
                return "master" if found.recv(1) == GREETING else "door"
            except OSError:
                return "door"  # it was closed, and we were not let in
    except OSError:
        return "nobody"


def open_for(plan: Experiment, text: str, wait_s: int) -> "Door":
    """Return the door to an experiment at HOST:PORT. Raises TokenswarmError where workers were no use."""
    door = Door(address(text, "--listen"), wait_s)
    ours = [server.name for server in plan.servers if not server.url]
    if ours and not door.is_local:
        found = f"--listen {door.at}: found server {ours[0]}, which we start on 127.0.0.1"
        raise TokenswarmError(f"{found}; expected a url that workers of other hosts can reach", EXIT_USAGE)
    return door


class Door:
    """Our side of the port; use it in a `with` block. Raises TokenswarmError where it cannot be had."""

    def __init__(self, at: Address, wait_s: int) -> None:
        """Workers have `wait_s` to come to a run."""
        self.at = at
        self.wait_s = wait_s
        self._socket: socket.socket | None = None
        try:
            family, *_, where = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise self._refusal(error) from None
        self._family, self._host = family, str(where[0])

    def _refusal(self, error: OSError) -> TokenswarmError:
        return TokenswarmError(
            f"--listen: cannot listen at {self.at}: {error.strerror or error}", EXIT_NOT_STARTED
        )

    @property
    def is_local(self) -> bool:
        """Whether only this host's workers can come."""
        return ipaddress.ip_address(self._host).is_loopback

    def __enter__(self) -> Self:
        """Open it."""
        everywhere = self._host == "::" and socket.has_dualstack_ipv6()  # as Locust's master has it
        try:
            self._socket = socket.create_server(
                (self._host, self.at.port),
                family=self._family,
                backlog=BACKLOG,
                dualstack_ipv6=everywhere,
            )
        except OSError as error:
            raise self._refusal(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        """Close it: whoever waits there is cut off."""
        if self._socket:
            self._socket.close()
            self._socket = None

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Leave the port to Locust's master for the length of a `with` block."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def locust_options(self, workers: int) -> list[str]:
        """Return what makes a Locust the master of workers that come by themselves."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        options = ["--master", "--master-bind-host", host, "--master-bind-port", str(self.at.port)]
        options += ["--expect-workers", str(workers), "--no-more-workers"]
        return [*options, "--expect-workers-max-wait", str(self.wait_s)]

    def missed(self, log: Path) -> str:
        """Return what Locust's log says of workers that did not come; empty where all came."""
        said = log.read_text(errors="replace")
        if "Gave up waiting for workers" not in said:
            return ""
        came = re.findall(r"Waiting for workers to be ready, (\d+ of \d+) connected", said)
        found = f"found {came[-1] if came else 'too few'} workers at {self.at} within {self.wait_s} s"
        four_only = self._host == str(ipaddress.IPv4Address(0))
        return found + (f" ({FOUR_ONLY}:{self.at.port})" if four_only else "")
