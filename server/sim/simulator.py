"""What the server answers to which path."""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

from . import OWNER
from .api import ApiError, Generation, check_model, error_body, parse_generation, parse_object, prompt_ids
from .chunks import Chunks, compact
from .clock import Alarm
from .connection import Connection, Request
from .engine import Engine
from .metrics import Stats
from .playback import Playback
from .profiles import Profile
from .replies import StreamedReply, WholeReply
from .script import Script, script_of
from .sendlog import SendLog, SendRecord


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for."""

    profile: Profile
    model: str
    seed: int = 0
    scripts: tuple[Script, ...] = ()  # for the requests in turn; none: model mode
    log: SendLog | None = None


class Simulator:
    """One server's state, and the handler of its requests."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        """Start with an idle engine."""
        self._settings = settings
        self._stats = Stats()
        self._alarm = Alarm(loop)
        self._engine = Engine(settings.profile, settings.seed, self._alarm, self._stats)
        self._random = random.Random(settings.seed)  # request ids
        self._created = int(time.time())
        self._requests = 0
        self._scripted = 0

    def handle(self, connection: Connection, request: Request) -> None:
        """Answer a request, now or token by token."""
        routes = {
            "/health": ("GET", self._health),
            "/version": ("GET", self._version),
            "/metrics": ("GET", self._metrics),
            "/sim/summary": ("GET", self._summary),
            "/v1/models": ("GET", self._models),
            "/tokenize": ("POST", self._tokenize),
            "/v1/completions": ("POST", self._generate),
            "/v1/chat/completions": ("POST", self._generate),
        }
        method, answer = routes.get(request.path, (None, None))
        if method is None or answer is None:
            connection.respond(404, error_body(404, "Not Found"))
        elif request.method != method:
            body = error_body(405, f"found {request.method}, expected {method}")
            connection.respond(405, body, headers=[("allow", method)])
        else:
            try:
                answer(connection, request)
            except ApiError as error:
                connection.respond(error.status, error.body())

    def _health(self, connection: Connection, _request: Request) -> None:
        connection.respond(200, b"", "text/plain")

    def _version(self, connection: Connection, _request: Request) -> None:
        connection.respond(200, compact({"version": "0.32.0+sim"}))

    def _models(self, connection: Connection, _request: Request) -> None:
        model = {
            "id": self._settings.model,
            "object": "model",
            "created": self._created,
            "owned_by": OWNER,
            "root": self._settings.model,
            "parent": None,
            "max_model_len": self._settings.profile.max_model_len,
        }
        connection.respond(200, compact({"object": "list", "data": [model]}))

    def _metrics(self, connection: Connection, _request: Request) -> None:
        text = self._stats.render(self._settings.model, self._engine.gauges(), self._engine.counters())
        connection.respond(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _summary(self, connection: Connection, _request: Request) -> None:
        summary: dict[str, Any] = {
            "simulated": True,
            "profile": self._settings.profile.name,
            "requests": self._requests,
            "tokens": self._stats.generation_tokens,
            "finished": self._stats.finished,
            "ttft_ms": None,
            "itl_ms": None,
        }
        if self._settings.log:
            summary |= self._settings.log.percentiles()
        connection.respond(200, compact(summary))

    def _tokenize(self, connection: Connection, request: Request) -> None:
        body = parse_object(request.body)
        check_model(body, self._settings.model)
        ids = prompt_ids(body)
        max_model_len = self._settings.profile.max_model_len
        answer = {"count": len(ids), "max_model_len": max_model_len, "tokens": ids, "token_strs": None}
        connection.respond(200, compact(answer))

    def _generate(self, connection: Connection, request: Request) -> None:
        settings = self._settings
        generation = parse_generation(
            parse_object(request.body),
            chat=request.path == "/v1/chat/completions",
            model=settings.model,
            max_model_len=settings.profile.max_model_len,
        )
        script = script_of(request.headers)
        if script is None and settings.scripts:
            script = settings.scripts[self._scripted % len(settings.scripts)]
            self._scripted += 1
        self._requests += 1
        record = SendRecord(
            request.headers.get("x-request-id"), request.received_unix_ns, request.received_ns
        )
        chunks = self._chunks(generation, record.request_id, script)
        if script is not None:
            Playback(
                script,
                generation,
                chunks,
                connection,
                request,
                self._alarm,
                self._stats,
                settings.log,
                record,
            ).start()
            return
        reply = (
            StreamedReply(connection, generation, chunks, settings.log, record)
            if generation.stream
            else WholeReply(connection, generation, chunks)
        )
        answer = self._engine.submit(generation, reply, request.received_ns)
        connection.on_lost = lambda: self._engine.abort(answer)

    def _chunks(self, generation: Generation, request_id: str | None, script: Script | None) -> Chunks:
        usage = "every" if generation.continuous_usage else "end" if generation.include_usage else "none"
        if script is not None and script.usage is not None:
            usage = script.usage
        return Chunks(
            generation,
            request_id=request_id or f"{self._random.getrandbits(64):016x}",
            model=self._settings.model,
            created=int(time.time()),
            line_end=b"\r\n" if script is not None and script.crlf else b"\n",
            usage=usage,
            reasoning_field=script.reasoning_field if script is not None else "reasoning",
            toy=(self._settings.seed, self._settings.profile.quality_noise),
        )
