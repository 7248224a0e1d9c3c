"""The server under test, seen from beside the load: what it is, what it serves, what it counts."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import gevent
import requests
import urllib3

from locustfiles._errors import reason, shown
from locustfiles._options import api_headers
from locustfiles._portable import proxies_for, unchanged
from locustfiles._scrape import MetricsLog, ServerCounts, counts, read_metrics

LOOK_S = 10.0
PORTS = {"http": 80, "https": 443}
NAMED_MAX = 8
SIMULATOR = "tokenswarm-sim"


class TargetError(Exception):
    """The target cannot be load-tested: one line that says what was found and what was expected."""


class ModelError(TargetError):
    """The target answers, but not for this model."""


class KeyRule:
    """Which servers may be sent the API key: those that were named when this process was started.

    A page can name any server, its user's own among them, whose log would then hold the key.
    """

    def __init__(self, named: Iterable[str]) -> None:
        """Take URLs; what is none names no server."""
        self._named = {server for url in named if (server := _server(url))}

    def check(self, url: str) -> None:
        """Raise TargetError where a key is set and this server must not see it."""
        if api_headers() and (server := _server(url)) and server not in self._named:
            raise TargetError(
                f"--host: found {shown(_plain(url))}, expected a server that was named at the start: an API "
                "key is set, and a page must not send it elsewhere (--host or --key-hosts names servers)"
            )


@dataclass
class Target:
    """One server. `first` and `last` are its counters before and after the run."""

    url: str  # without credentials
    model: str
    server: str
    simulated: bool
    verify: bool
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    _log: MetricsLog | None = None

    @classmethod
    def look(cls, url: str, *, verify: bool, model: str) -> "Target":
        """Ask what is served; raises TargetError if nothing answers or the model is not among it."""
        plain, response = _ask(url, verify=verify)
        owners = _owners(plain, response) if response.status_code == 200 else {}
        if not owners and not model:
            raise TargetError(f"{_no_list(plain, response)}; if the server has none, name one with --model")
        if model and owners and model not in owners:
            raise ModelError(f"{plain}: expected the model {model!r}, found {_named(model, list(owners))}")
        return cls(
            url=plain,
            model=model or next(iter(owners)),
            server=response.headers.get("server", ""),
            simulated=SIMULATOR in owners.values(),
            verify=verify,
        )

    def _read(self) -> dict[str, float]:
        try:
            response = requests.get(
                f"{self.url}/metrics",
                timeout=LOOK_S,
                verify=self.verify,
                auth=unchanged,
                proxies=proxies_for(self.url),
            )
            return read_metrics(response.text) if response.status_code == 200 else {}
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError):
            return {}

    def open_log(self, directory: Path) -> None:
        """Take the first reading; a server without vLLM's metrics leaves no file."""
        asked_unix_ns = time.time_ns()
        self.first = self._read()
        if self.first:
            self._log = MetricsLog(directory / "server_metrics.csv")
            self._keep(asked_unix_ns, self.first)

    def watch(self) -> None:
        """Read once a second until killed."""
        while self._log:
            gevent.sleep(1.0 - time.time() % 1.0)
            self._keep(time.time_ns(), self._read())

    def finish(self) -> ServerCounts | None:
        """Take the last reading; returns what the server counted, or None if it does not count."""
        if not self._log:
            return None
        self._keep(time.time_ns(), self._read())
        self._log.close()
        return counts(self.first, self.last)

    def _keep(self, asked_unix_ns: int, row: dict[str, float]) -> None:
        if row and self._log:
            self.last = row
            self._log.append(asked_unix_ns, time.time_ns(), row)


def served(url: str, *, verify: bool) -> list[str]:
    """Return the models that a server lists, in its order; raises TargetError where there is no list."""
    plain, response = _ask(url, verify=verify)
    owners = _owners(plain, response) if response.status_code == 200 else {}
    if not owners:
        raise TargetError(_no_list(plain, response))
    return list(owners)


def _ask(url: str, *, verify: bool) -> tuple[str, requests.Response]:
    """Ask for the list of models; returns the URL without credentials and the answer."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname or not _has_fit_port(parts):
        raise TargetError(f"--host: found {url!r}, expected http://HOST[:PORT] or https://HOST[:PORT]")
    plain = _plain(url)
    with _explained(plain):
        response = requests.get(
            f"{plain}/v1/models",
            headers=api_headers(),
            timeout=LOOK_S,
            verify=verify,
            allow_redirects=False,
            auth=unchanged,
            proxies=proxies_for(plain),
        )
    return plain, response


def _plain(url: str) -> str:
    """Return a URL without credentials and without the API's /v1."""
    parts = urlsplit(url)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    return plain.removesuffix("/v1")


def _server(url: str) -> tuple[str, str, int] | None:
    """Return scheme, name and port; None where it is no URL of a server."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, PORTS[parts.scheme] if port is None else port


def _no_list(url: str, response: requests.Response) -> str:
    found = shown(response.content) if response.ok else f"HTTP {response.status_code}"
    return f"{url}/v1/models: expected a list of models, found {found}"


def _named(model: str, served: list[str]) -> str:
    """Name what is served, the nearest first where one is meant, and not more than fits a line."""
    near = get_close_matches(model, served, n=1)
    order = near + [name for name in served if name not in near]
    more = f" and {len(order) - NAMED_MAX} more" if len(order) > NAMED_MAX else ""
    return ", ".join(order[:NAMED_MAX]) + more


def _has_fit_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _owners(url: str, response: requests.Response) -> dict[str, str]:
    """Return model -> owner; raises TargetError where the answer is no list of models."""
    try:
        return {str(entry["id"]): str(entry.get("owned_by")) for entry in response.json()["data"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        found = shown(response.content)
        raise TargetError(f"{url}/v1/models: expected a list of models, found {found!r}") from None


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise TargetError(f"{url}: TLS failed ({reason(error)})") from None
    except requests.exceptions.Timeout:
        raise TargetError(f"{url}: no answer within {LOOK_S:g} s") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
        raise TargetError(f"{url}: cannot be reached ({reason(error)})") from None
