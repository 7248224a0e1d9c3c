"""Hosts of our own: network namespaces on a bridge, joined by veth, each with its own name and address.

What runs in them meets a network: addresses that differ, links that can be cut, no loopback shortcut, and
monotonic clocks that began at other times (where the kernel has time namespaces). Needs
Linux, root and iproute2; `require` skips with the reason elsewhere, and fails where CI is set.

    with network("master", "worker") as hosts:
        process = hosts["worker"].start(["curl", "http://master:8000"])
        with hosts["worker"].cut():
            ...
"""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.absent import absent

PREFIX = "tsw"  # of the namespaces' names; the pid of their maker follows
MADE = re.compile(rf"{PREFIX}(\d+)-")
NAMES = Path("/etc/netns")  # `ip netns exec` puts what is here over /etc
HOSTNAME = 'echo "$0" >/proc/sys/kernel/hostname && exec "$@"'


class NoNetemError(RuntimeError):
    """The kernel has no netem: it cannot delay packets."""


def ip(*arguments: object) -> str:
    """Run ip(8); returns what it printed. Raises RuntimeError with its own words."""
    return _run("ip", *arguments)


def _run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


@functools.cache
def missing() -> str:
    """Say what is missing to make hosts here; empty where nothing is."""
    if not shutil.which("ip"):
        return "no `ip` (Debian: apt-get install iproute2)"
    if not shutil.which("unshare"):
        return "no `unshare` (Debian: apt-get install util-linux)"
    if os.geteuid() != 0:
        return "not root: namespaces cannot be made"
    name = f"{PREFIX}{os.getpid()}-probe"
    try:
        ip("netns", "add", name)
        try:
            ip("-n", name, "link", "add", "name", "one", "type", "veth", "peer", "name", "two")
            ip("-n", name, "link", "add", "name", "bridge", "type", "bridge")
        finally:
            ip("netns", "delete", name)
    except RuntimeError as error:
        return f"this kernel or container forbids namespaces ({error})"
    return ""


@functools.cache
def has_time_namespaces() -> bool:
    """Say whether hosts have monotonic clocks of their own."""
    return not subprocess.run(
        ["unshare", "--time", "--monotonic", "1", "true"], check=False, capture_output=True
    ).returncode


def require() -> None:
    """Skip the calling test where hosts cannot be made, and say why; under CI fail instead."""
    if reason := missing():
        absent(f"hosts of our own: {reason}")


@dataclass(frozen=True)
class Host:
    """One host: `name` is its hostname and how the others find it, `address` its only one."""

    name: str
    address: str
    namespace: str
    _switch: str
    _port: str

    def command(self, arguments: list[str]) -> list[str]:
        """Return the command line that runs another one here; its process is the program itself."""
        up_s = str(100_000 * int(self.address.replace(":", ".").rpartition(".")[2]))
        clock = ["--time", "--monotonic", up_s] if has_time_namespaces() else []
        inside = ["unshare", "--uts", *clock, "sh", "-c", HOSTNAME, self.name]
        return ["ip", "netns", "exec", self.namespace, *inside, *arguments]

    def start(self, arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program here; what still runs when the network is taken down is killed."""
        return subprocess.Popen(self.command(arguments), **options)

    def run(self, arguments: list[str], timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a program here to its end; returns its output as text."""
        return subprocess.run(
            self.command(arguments), capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def pull(self) -> None:
        """Pull the cable out: nothing comes or goes until it is plugged in; connections are not told."""
        ip("-n", self._switch, "link", "set", self._port, "down")

    def plug(self) -> None:
        """Plug the cable in again."""
        ip("-n", self._switch, "link", "set", self._port, "up")

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Keep the cable out for the length of the block."""
        self.pull()
        try:
            yield
        finally:
            self.plug()

    @contextlib.contextmanager
    def delayed(self, delay_ms: float) -> Iterator[None]:
        """Delay what leaves this host. Raises NoNetemError where the kernel cannot."""
        queue = ("dev", "eth0", "root")
        try:
            ip_tc(self.namespace, "qdisc", "add", *queue, "netem", "delay", f"{delay_ms}ms")
        except RuntimeError as error:
            raise NoNetemError(f"this kernel has no netem, packets cannot be delayed ({error})") from None
        try:
            yield
        finally:
            ip_tc(self.namespace, "qdisc", "delete", *queue)


def ip_tc(namespace: str, *arguments: object) -> str:
    """Run tc(8) in a namespace, as `ip` does."""
    return _run("tc", "-n", namespace, *arguments)


@contextlib.contextmanager
def network(*names: str, subnet: str = "198.18.0") -> Iterator[dict[str, Host]]:
    """Make hosts on one bridge, and take all down with the block, whatever runs there and however it ends.

    They know each other by name (/etc/hosts). `subnet` is the first three bytes of their addresses
    (198.18.0.0/15 is kept for tests by RFC 2544), or the first half of IPv6 ones, which then are their only
    ones; networks do not see each other, it need not differ.
    """
    _sweep()
    maker = f"{PREFIX}{os.getpid()}-{_count()}"
    switch = f"{maker}-bridge"
    hosts = {
        name: Host(
            name,
            f"{subnet}{'::' if ':' in subnet else '.'}{number + 1}",
            f"{maker}-{name}",
            switch,
            f"port{number}",
        )
        for number, name in enumerate(names)
    }
    known = "127.0.0.1 localhost\n" + "".join(f"{host.address} {host.name}\n" for host in hosts.values())
    try:
        ip("netns", "add", switch)
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for host in hosts.values():
            _join(host, known)
        yield hosts
    finally:
        for host in hosts.values():
            _remove(host.namespace)
        _remove(switch)


def _join(host: Host, known: str) -> None:
    names = NAMES / host.namespace / "hosts"
    names.parent.mkdir(parents=True, exist_ok=True)
    names.write_text(known, encoding="utf-8")
    ip("netns", "add", host.namespace)
    end = ("name", host._port, "netns", host._switch)
    ip("link", "add", "eth0", "netns", host.namespace, "type", "veth", "peer", *end)
    ip("-n", host._switch, "link", "set", host._port, "master", "bridge", "up")
    six = ":" in host.address
    inside = (f"{host.address}/64", "nodad") if six else (f"{host.address}/24",)
    ip("-n", host.namespace, "address", "add", *inside, "dev", "eth0")
    ip("-n", host.namespace, "link", "set", "lo", "up")
    ip("-n", host.namespace, "link", "set", "eth0", "up")


def _remove(namespace: str) -> None:
    """Kill what runs in a namespace and remove it; nothing happens where there is none."""
    with contextlib.suppress(RuntimeError):
        for pid in ip("netns", "pids", namespace).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        ip("netns", "delete", namespace)
    shutil.rmtree(NAMES / namespace, ignore_errors=True)


def _sweep() -> None:
    """Remove what a killed test run left behind: its pid is in the name."""
    left = {line.split()[0] for line in ip("netns", "list").splitlines() if line.strip()}
    left |= {path.name for path in NAMES.glob(f"{PREFIX}*")}
    for name in left:
        made = MADE.match(name)
        if made and not Path(f"/proc/{made[1]}").exists():
            _remove(name)


_made = iter(range(1 << 30))


def _count() -> int:
    return next(_made)
