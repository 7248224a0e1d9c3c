"""One server's API as the quality gate uses it: JSON in, JSON out, and one clear line where it goes wrong."""

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests

from server import keys
from server.errors import ServerError, UsageError

CONNECT_S = 10.0
ANSWER_S = 600.0  # thousands of log probabilities of a long text take a CPU a minute


class RefusalError(ServerError):
    """The server answered, with an error: its status and its own reason."""

    def __init__(self, text: str, status: int, reason: str) -> None:
        """Keep what the server said apart from the line for a person."""
        super().__init__(text)
        self.status = status
        self.reason = reason


class Api:
    """A server by its base URL, with or without /v1 at its end. Good for many threads."""

    def __init__(self, url: str) -> None:
        """Take a URL. Raises UsageError where it is none, or where the key holds what no header can."""
        parts = _parts(url)
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
        self.url = plain.geturl().rstrip("/").removesuffix("/v1")
        self._headers = keys.header()
        host = parts.hostname or ""
        here = host in {"localhost", "::1"} or host.startswith("127.")
        self._proxies = {"http": "", "https": "", "all": ""} if here else None

    def get(self, path: str) -> Any:
        """Return the JSON at a path. Raises ServerError, RefusalError where the server says no."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the JSON answer to a JSON body. Raises as `get` does."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        where = self.url + path
        try:
            reply = requests.request(
                method,
                where,
                json=body,
                headers=self._headers,
                timeout=(CONNECT_S, ANSWER_S),
                allow_redirects=False,
                auth=_unchanged,
                proxies=self._proxies,
            )
        except requests.exceptions.ReadTimeout:
            raise ServerError(f"{where}: no answer within {ANSWER_S:g} s") from None
        except requests.RequestException as error:
            raise ServerError(f"{where}: cannot be reached ({_cause(error)})") from None
        if reply.status_code != 200:
            reason = _reason(reply)
            raise RefusalError(f"{where}: HTTP {reply.status_code}: {reason}", reply.status_code, reason)
        try:
            return reply.json()
        except ValueError:
            raise ServerError(f"{where}: expected JSON, found {_line(reply.text)!r}") from None


def _parts(url: str) -> SplitResult:
    """Take a URL apart. Raises UsageError where it is none."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no port, half an IPv6 address
        fits = False
    if not fits:
        raise UsageError(f"URL: found {url!r}, expected http://HOST[:PORT] or https://HOST[:PORT]")
    return parts


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave the headers alone: without this, requests puts a ~/.netrc entry in the API key's place."""
    return request


def _reason(reply: requests.Response) -> str:
    """Return the server's own words; vLLM and OpenAI put them into error.message."""
    try:
        found = reply.json()
        error = found.get("error", found)
        said = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        said = reply.text
    return _line(str(said)) or reply.reason


def _cause(error: Exception) -> str:
    """Return what is behind an error of requests, which wraps urllib3's, which wraps the system's."""
    inner: Any = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner
    said = str(inner.args[-1] if isinstance(inner, Exception) and inner.args else inner)
    return _line(re.sub(r"^\[Errno -?\d+\] ", "", said.rpartition(": ")[2])) or type(error).__name__


def _line(text: str, limit: int = 200) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"
