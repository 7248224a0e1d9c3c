"""One process's load: sends requests, times them and keeps the account. Knows sockets only by its transport.

No Locust in here: what Locust must hear of a finished request goes through one callback.
"""

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from analysis.record import RequestRecord
from locustfiles._ledger import Ledger
from locustfiles._options import Settings, api_headers
from locustfiles._portable import PortableTransport, proxies_for
from locustfiles._reply import Call, Ending
from locustfiles._timer import StreamTimer
from locustfiles._wire import WireTransport, wall_offset_ns
from locustfiles._workload import WorkloadError


def choose_transport(target: str, settings: Settings) -> str:
    """Return which transport goes to the target: the wire where it can (plain http, no proxy).

    Raises WorkloadError where the target is no URL, or the wire was asked for and cannot go there.
    """
    url = urlsplit(target)
    try:
        port = url.port
    except ValueError:
        port = -1
    if url.scheme not in {"http", "https"} or not url.hostname or port == -1:
        raise WorkloadError(f"--host: found {target!r}, expected http://HOST[:PORT] or https://HOST[:PORT]")
    proxies = proxies_for(target)
    wire_fits = url.scheme == "http" and not (proxies.get("http") or proxies.get("all"))
    if settings.transport == "wire" and url.scheme == "https":
        raise WorkloadError("--transport: found wire for an https host, expected portable or auto")
    if settings.transport == "auto":
        return "wire" if wire_fits else "portable"
    return settings.transport


def open_transport(target: str, settings: Settings) -> WireTransport | PortableTransport:
    """Make the transport that choose_transport names; raises what it raises."""
    url = urlsplit(target)
    if choose_transport(target, settings) == "wire":
        return WireTransport(str(url.hostname), url.port or 80)
    return PortableTransport(f"{url.scheme}://{url.netloc.rpartition('@')[2]}", verify=settings.verify)


class Load:
    """The load of one process during one run."""

    def __init__(
        self,
        settings: Settings,
        target: str,
        ledger: Ledger,
        worker_index: int,
        heard: Callable[[RequestRecord], None],
    ) -> None:
        """Open the transport; `heard` is told of every request that ended."""
        self.settings = settings
        self.ledger = ledger
        self.worker_index = worker_index
        self.transport = open_transport(target, settings)
        self._prefix = urlsplit(target).path.rstrip("/").removesuffix("/v1")
        self._headers = api_headers()
        self._heard = heard

    def request(self, due_at_ns: int) -> str:
        """Send one request that is (or was) due at this monotonic time; returns its outcome.

        It is accounted for however it ends.
        Never raises, unless the greenlet is killed.
        """
        timer = StreamTimer(due_at_ns)
        due_unix_ns = due_at_ns + wall_offset_ns()
        number = self.ledger.begin(timer)
        workload = self.settings.workload
        request = workload.request(self.ledger.run, self.worker_index, number, self._headers)
        if self._prefix:
            request = request._replace(path=self._prefix + request.path)
        ended = partial(self._account, number, timer, due_unix_ns)
        return self.transport.exchange(Call(request, timer, self.settings.deadlines, workload.choices, ended))

    def _account(self, number: int, timer: StreamTimer, due_unix_ns: int, ending: Ending) -> None:
        gaps_ns = timer.gaps_ns

        def since_due(at_ns: int) -> int | None:
            # Before it was due is where a wall clock that was set back put it; clock_jump_ns says so.
            return None if at_ns < 0 else max(0, at_ns - timer.due_at_ns)

        record = RequestRecord(
            worker=self.ledger.worker,
            scenario=self.settings.scenario,
            request=number,
            due_unix_ns=due_unix_ns,
            sent_ns=since_due(timer.sent_at_ns),
            connect_ns=timer.connect_ns,
            first_ns=since_due(timer.first_at_ns),
            visible_ns=since_due(timer.visible_at_ns),
            last_ns=since_due(timer.last_at_ns),
            end_ns=ending.end_at_ns - timer.due_at_ns,
            prompt_tokens=timer.prompt_tokens,
            output_tokens=timer.output_tokens,
            chunks=timer.chunks,
            gaps=len(gaps_ns),
            gap_sum_ns=sum(gaps_ns),
            gap_max_ns=max(gaps_ns, default=0),
            reads=ending.reads,
            coalesced=timer.coalesced,
            lag_max_ns=max(ending.lags_ns, default=0),
            body_bytes=ending.body_bytes,
            status=ending.status,
            connection=ending.connection,
            clock=ending.clock,
            clock_jump_ns=ending.clock_jump_ns,
            outcome=ending.outcome,
            detail=ending.detail,
        )
        self.ledger.end(timer, record, ending.lags_ns)
        self._heard(record)

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()
