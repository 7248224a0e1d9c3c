"""https, with a real certificate and a real handshake: the portable path, checked as strictly as ever."""

import contextlib
import socket
import ssl
import statistics
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.end_to_end.locusts import (
    check_accounts,
    check_server,
    command,
    finished,
    metrics,
    result,
    simulator,
)
from tests.sim_server import Sim

QUICK = '{"ttft_ms": 30, "itl_ms": 10, "tokens": 12}'
RUN = ("-u", "4", "-r", "4", "-t", "3", "--run-dir", "run")


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _in_tls(port: int, certificate: trustme.LeafCert) -> Iterator[int]:
    """Serve what listens on a port under TLS, too; yields the other port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(plain: socket.socket) -> None:
        with contextlib.suppress(OSError):  # a client that does not trust us hangs up
            near = context.wrap_socket(plain, server_side=True)
            far = socket.create_connection(("127.0.0.1", port))
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_pump, args=(far, near), daemon=True).start()
            _pump(near, far)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, Path, Sim]]:
    """The simulator under https, and the file of the authority that vouches for it."""
    authority = trustme.CA()
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with simulator(QUICK) as (_, sim), _in_tls(sim.port, authority.issue_cert("127.0.0.1")) as port:
        yield f"https://127.0.0.1:{port}", bundle, sim


def test_https_is_measured_by_the_portable_path(secure: tuple[str, Path, Sim], tmp_path: Path) -> None:
    url, bundle, sim = secure
    order = command("chat", url, *RUN)
    code, locust = finished(order, tmp_path / "log", REQUESTS_CA_BUNDLE=str(bundle))
    assert code == 0, locust.said
    run = result(tmp_path / "run")
    check_accounts(run)
    check_server(run, metrics(sim))
    assert run.meta["transport"] == "portable"
    assert run.outcomes().keys() == {"ok"}
    assert {record.connection for record in run.records} == {"new", "reused"}
    assert min(record.first_ns or 0 for record in run.records) > 30e6
    assert 9e6 < statistics.median(record.gap_sum_ns / record.gaps for record in run.records) < 12e6


def test_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(
    secure: tuple[str, Path, Sim], tmp_path: Path
) -> None:
    url, _, sim = secure
    code, locust = finished(command("chat", url, *RUN), tmp_path / "log")
    assert code == 6, locust.said
    assert "Traceback" not in locust.said
    (line,) = locust.errors()
    assert "certificate" in line.lower()
    assert metrics(sim)["finished"] == 0


def test_certificate_that_need_not_be_checked(secure: tuple[str, Path, Sim], tmp_path: Path) -> None:
    url, _, _ = secure
    nothing = tmp_path / "no-authority.pem"
    nothing.write_text(trustme.CA().cert_pem.bytes().decode())
    order = command("chat", url, *RUN, "--insecure")
    code, locust = finished(order, tmp_path / "log", REQUESTS_CA_BUNDLE=str(nothing))
    assert code == 0, locust.said
    assert result(tmp_path / "run").outcomes().keys() == {"ok"}
    assert "InsecureRequestWarning" not in locust.said
