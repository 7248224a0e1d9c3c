"""The portable transport: requests (what Locust's HttpUser is made of) and sseclient-py.

For https, for proxies (the usual environment variables), and as the reference that the wire transport is
tested against. A token's time is the time Python read it (clock "user"), and it costs several times the
wire's CPU. `read1` hands over what has arrived; `iter_lines` and `iter_content` may wait for more.
"""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.local
import requests
import sseclient
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from locustfiles._errors import StreamError, accounted, reason, shown
from locustfiles._http import BODY_BYTES_SHOWN, refusal
from locustfiles._reply import Call, Deadlines, Ending, Request, deadline, judge_end, take
from locustfiles._sse import EVENT_BYTES_MAX
from locustfiles._timer import StreamTimer

READ_BYTES = 65536
BACKLOG_NS = 50_000  # a read that comes sooner after another had waited for it: it shares its time
CONNECTIONS_MAX = 100_000  # never a limit: a wait for a connection would hide in the latency


_sending = gevent.local.local()  # `timer`: of the request that this greenlet is sending


class _Stamped:
    """Note how long connecting took, and when a request was written: just before its response is awaited."""

    requests_sent = 0

    def connect(self) -> None:
        began_ns = time.perf_counter_ns()
        try:
            super().connect()  # type: ignore[misc]  # HTTPConnection's, see below
        finally:
            _sending.timer.connect_ns += time.perf_counter_ns() - began_ns

    def getresponse(self) -> Any:
        _sending.timer.sent_at_ns = time.perf_counter_ns()
        self.requests_sent += 1
        return super().getresponse()  # type: ignore[misc]  # as above


class _Connection(_Stamped, HTTPConnection):
    pass


class _SecureConnection(_Stamped, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    """Make the stamped connections, also through a proxy."""

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **more)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave the headers alone: without this, requests puts a ~/.netrc entry in the API key's place."""
    return request


def proxies_for(url: str) -> dict[str, str]:
    """Return the proxies for a URL: none where the environment says so, and never one to this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return {"http": "", "https": "", "all": ""}
    return dict(get_environ_proxies(url))


class _Exchange:
    """One response being read: its bytes as they arrive, for SSEClient, and what was seen."""

    def __init__(self) -> None:
        self.raw: Any = None
        self.status: int | None = None
        self.connection = "new"
        self.at_ns = 0
        self.reads = 0
        self.body_bytes = 0
        self.pending_bytes = 0  # since the last complete event
        self.whole = False  # the body was read to its end

    def begin(self, response: requests.Response) -> None:
        self.raw = response.raw
        self.status = response.status_code
        self.connection = "new" if self.raw.connection.requests_sent == 1 else "reused"

    def arriving(self) -> Iterator[bytes]:
        read_ns = 0
        while data := self.raw.read1(READ_BYTES):
            now_ns = time.perf_counter_ns()
            if now_ns - read_ns > BACKLOG_NS:
                self.at_ns = now_ns
            read_ns = now_ns
            self.reads += 1
            self.body_bytes += len(data)
            self.pending_bytes += len(data)
            if self.pending_bytes > EVENT_BYTES_MAX:
                raise StreamError(
                    "protocol", f"an event of more than {EVENT_BYTES_MAX >> 20} MiB without an end"
                )
            yield data
        self.whole = True


class PortableTransport:
    """Connections to one server, shared by all users of a process."""

    clock = "user"

    def __init__(self, origin: str, *, verify: bool = True) -> None:
        """Keep the address, such as https://host:port; `verify` checks its certificate."""
        self.origin = origin.rstrip("/")
        self._session = requests.Session()
        self._verify = verify  # of the session, REQUESTS_CA_BUNDLE would overrule it
        self._session.auth = unchanged
        self._proxies = proxies_for(self.origin)
        adapter = _Adapter(pool_maxsize=CONNECTIONS_MAX)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def exchange(self, call: Call) -> str:
        """Send one request and read its stream; returns the outcome.

        What happened goes to `call.ended`, once. Never raises, unless the greenlet is killed: then `ended`
        hears "cancelled" and the kill goes on.
        """
        offset_ns = time.time_ns() - time.perf_counter_ns()
        seen = _Exchange()
        error: StreamError | None = StreamError("cancelled", "the run ended first")
        try:
            error = self._attempt(call.request, call.timer, call.deadlines, seen)
        except Exception as fault:  # noqa: BLE001 - whatever went wrong, the request is accounted for
            error = accounted(fault)
        finally:
            outcome, detail = judge_end(call.timer, call.choices, error)
            now_ns = time.perf_counter_ns()
            call.ended(
                Ending(
                    outcome=outcome,
                    detail=detail,
                    end_at_ns=now_ns,
                    status=seen.status,
                    body_bytes=seen.body_bytes,
                    reads=seen.reads,
                    lags_ns=[],
                    connection=seen.connection,
                    clock="user",
                    clock_jump_ns=time.time_ns() - now_ns - offset_ns,
                )
            )
        return outcome

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def _attempt(
        self, request: Request, timer: StreamTimer, limits: Deadlines, seen: _Exchange
    ) -> StreamError | None:
        began_ns = time.perf_counter_ns()
        alarm = _alarm(timer, began_ns, limits)
        _sending.timer = timer
        response: requests.Response | None = None
        try:
            response = self._session.post(
                self.origin + request.path,
                data=request.body,
                headers=request.headers,
                stream=True,
                allow_redirects=False,
                timeout=(limits.connect_ns / 1e9, None),
                proxies=self._proxies,
                verify=self._verify,
            )
            seen.begin(response)
            kind = response.headers.get("content-type", "").lower()
            if response.status_code != 200 or not kind.startswith("text/event-stream"):
                body = response.raw.read(BODY_BYTES_SHOWN, decode_content=True) or b""
                seen.body_bytes = len(body)
                return refusal(response.status_code, kind, body, response.headers.get("retry-after", ""))
            for event in sseclient.SSEClient(seen.arriving()).events():
                seen.pending_bytes = 0
                take([event.data.encode()], timer, seen.at_ns)
                alarm.close()
                alarm = _alarm(timer, began_ns, limits)
        except StreamError as error:
            if seen.whole:  # sseclient-py hands over the cut-off rest of a stream as if it were an event
                return StreamError("truncated", f"the stream ended in mid-event after {timer.chunks} tokens")
            return error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return self._translated(error, began=response is not None)
        except UnicodeDecodeError as error:
            return StreamError("protocol", f"expected UTF-8, found {shown(bytes(error.object))!r}")
        finally:
            alarm.close()
            if response is not None and not seen.whole:
                response.close()
        return None

    def _translated(self, error: Exception, *, began: bool) -> StreamError:
        text = reason(error)
        had_connection = bool(error.args) and isinstance(error.args[0], urllib3.exceptions.ProtocolError)
        if isinstance(error, requests.exceptions.SSLError):
            return StreamError("tls", f"{self.origin}: {text}")
        if began or had_connection:
            return StreamError("truncated", f"connection lost: {text}")
        if isinstance(error, requests.ConnectionError | requests.Timeout):
            return StreamError("connect", f"no connection to {self.origin}: {text}")
        return StreamError("protocol", text)


def _alarm(timer: StreamTimer, began_ns: int, limits: Deadlines) -> gevent.Timeout:
    when_ns, error = deadline(timer, began_ns, limits)
    return gevent.Timeout.start_new(max(0.0, (when_ns - time.perf_counter_ns()) / 1e9), error)
