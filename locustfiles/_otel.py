"""What Locust's --otel exports of our requests: OpenTelemetry's GenAI metrics, from whoever measures.

Five values a request, when it has ended, and none a token: a value for each gap would cost the reader
more than the reading. Nothing of a prompt, an answer or a key is in them; without --otel none is imported.

The names are those of the GenAI semantic conventions where they have one. Times count from when a request was
due, as everywhere here; a client that sends when it is asked to has no other moment of issuing it.
"""

from typing import Any
from urllib.parse import urlsplit

from analysis.record import RequestRecord
from locustfiles._options import Settings

OPERATIONS = {"chat": "chat", "completions": "text_completion"}
PROVIDER = "openai"  # whose API is spoken, as the conventions have it, not who made the server
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
GAPS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
TOKENS = tuple(4**power for power in range(14))


class Telemetry:
    """The instruments of one process; a run gives them its attributes."""

    def __init__(self, meter: Any) -> None:
        """Make the instruments of an OpenTelemetry meter."""
        self._common: dict[str, str | int] = {}
        histogram = meter.create_histogram
        self._duration = histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="From when a request was due to its end",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._first = histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="From when a request was due to its first token-bearing chunk",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._tokens = histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Tokens in and out, as the server's usage says",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self._each = histogram(  # the conventions know it of a server alone
            "tokenswarm.time_per_output_token",
            unit="s",
            description="A request's mean time between tokens, after the first; ok requests only",
            explicit_bucket_boundaries_advisory=GAPS_S,
        )

    def begin(self, settings: Settings, target: str) -> None:
        """Take a run's attributes: few, and the same for all of its requests."""
        url = urlsplit(target)
        self._common = {
            "gen_ai.operation.name": OPERATIONS[settings.workload.endpoint],
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": settings.workload.model,
            "server.address": url.hostname or "",
            "server.port": url.port or (443 if url.scheme == "https" else 80),
            "tokenswarm.scenario": settings.scenario,
        }
        self._input = self._common | {"gen_ai.token.type": "input"}
        self._output = self._common | {"gen_ai.token.type": "output"}

    def note(self, record: RequestRecord) -> None:
        """Record a request that has ended."""
        failed = record.outcome != "ok"
        attributes = self._common | {"error.type": record.outcome} if failed else self._common
        self._duration.record(record.end_ns / 1e9, attributes)
        if record.first_ns is not None:
            self._first.record(record.first_ns / 1e9, attributes)
        if record.prompt_tokens is not None:
            self._tokens.record(record.prompt_tokens, self._input)
        if record.output_tokens is not None:
            self._tokens.record(record.output_tokens, self._output)
        if not failed and record.first_ns is not None and record.last_ns is not None:
            # Chunks less gaps is the number of choices that had tokens; each is a stream of its own.
            tokens = (record.output_tokens or 0) / max(1, record.chunks - record.gaps)
            if tokens >= 2:
                self._each.record((record.last_ns - record.first_ns) / 1e9 / (tokens - 1), self._common)


def open_telemetry(options: Any) -> Telemetry | None:
    """Return the instruments where --otel was given and Locust could set it up, else None.

    Where the packages are missing Locust has said so already.
    """
    if not options.otel:
        return None
    try:
        from opentelemetry import metrics  # noqa: PLC0415 - an extra of Locust's, imported where asked for
    except ImportError:
        return None
    return Telemetry(metrics.get_meter("tokenswarm"))
