"""What --otel adds: the GenAI metrics of every request, over the real exporter to a receiver of our own."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.end_to_end.locusts import Result, check_accounts, command, finished, free_port, result, simulator
from tests.marks import more
from tests.test_doors import loaded_by

OURS = {
    "gen_ai.client.operation.duration",
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.client.token.usage",
    "tokenswarm.time_per_output_token",
}
KEY = "sk-otel-0123456789"
TURNS = '[{"ttft_ms": 20, "itl_ms": 5, "tokens": 12}, {"status": 500}]'


@contextmanager
def receiver() -> Iterator[tuple[str, list[bytes]]]:
    """Take what OTLP over HTTP sends; yields where, and the bodies."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            bodies.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()


Points = dict[str, list[tuple[dict[str, Any], int, float]]]
"""Metric -> (attributes, count, sum) of each of its points, by the last that each process sent."""


def points(bodies: list[bytes]) -> Points:
    latest: dict[tuple[str, Any, Any], tuple[str, dict[str, Any], int, float]] = {}
    for body in bodies:
        request = ExportMetricsServiceRequest.FromString(body)
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.histogram.data_points:
                        attributes = {
                            item.key: getattr(item.value, item.value.WhichOneof("value"))
                            for item in point.attributes
                        }
                        key = (metric.name, point.start_time_unix_nano, tuple(sorted(attributes.items())))
                        latest[key] = (metric.name, attributes, point.count, point.sum)
    found: Points = {}
    for name, attributes, count, total in latest.values():
        found.setdefault(name, []).append((attributes, count, total))
    return found


def total(found: Points, name: str, **wanted: str) -> tuple[int, float]:
    """Add up the points of a metric that have these attributes (dots are underscores)."""
    wishes = {key.replace("__", "."): value for key, value in wanted.items()}
    chosen = [point for point in found[name] if point[0] | wishes == point[0]]
    return sum(count for _, count, _ in chosen), sum(amount for _, _, amount in chosen)


@pytest.mark.parametrize("processes", [more(1), 2])
def test_every_request_is_told_once(tmp_path: Path, processes: int) -> None:
    with receiver() as (endpoint, bodies), simulator(TURNS) as (url, _):
        port = str(free_port())
        spread = ["--processes", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
        order = command("chat", url, "--otel", "-u", "4", "-r", "4", "-t", "3", "--run-dir", "run")
        order += [*spread, "--master-port", port] if processes > 1 else []
        code, locust = finished(
            order,
            tmp_path / "locust.log",
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{endpoint}/v1/metrics",
            OTEL_TRACES_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            TOKENSWARM_API_KEY=KEY,
        )
    assert code == 1, locust.said  # Locust's own, for a run with failures
    assert "OpenTelemetry enabled" in locust.said
    # A forked process ends with a KeyError of OpenTelemetry's reader, whose thread it has from the master.
    assert "Traceback" not in locust.said or processes > 1
    run = result(tmp_path / "run")
    check_accounts(run)  # the TTFT row of Locust's table among it
    check(points(bodies), run, url)
    assert not [body for body in bodies if KEY.encode() in body]


def check(found: Points, run: Result, url: str) -> None:
    good = [record for record in run.records if record.outcome == "ok"]
    bad = [record for record in run.records if record.outcome == "http_5xx"]
    assert good
    assert bad
    duration = "gen_ai.client.operation.duration"
    assert total(found, duration)[0] == len(run.records)
    assert total(found, duration, error__type="http_5xx")[0] == len(bad)
    assert total(found, duration)[1] == pytest.approx(sum(record.end_ns for record in run.records) / 1e9)
    count, seconds = total(found, "gen_ai.client.operation.time_to_first_chunk")
    begun = [record.first_ns for record in run.records if record.first_ns is not None]
    assert (count, seconds) == (len(begun), pytest.approx(sum(begun) / 1e9))
    for kind, tokens in (
        ("input", [record.prompt_tokens for record in good]),
        ("output", [record.output_tokens for record in good]),
    ):
        usage = total(found, "gen_ai.client.token.usage", gen_ai__token__type=kind)
        assert usage == (len(good), sum(number or 0 for number in tokens))
    each = [((r.last_ns or 0) - (r.first_ns or 0)) / 11 / 1e9 for r in good]
    count, seconds = total(found, "tokenswarm.time_per_output_token")
    assert (count, seconds) == (len(good), pytest.approx(sum(each)))
    # Locust's own counts requests, not their first tokens, too
    assert total(found, "locust.client.duration")[0] == len(run.records)
    host, port = url.removeprefix("http://").split(":")
    for name in OURS:
        for attributes, _, _ in found[name]:
            kept = {
                key: attributes[key] for key in attributes if key not in {"error.type", "gen_ai.token.type"}
            }
            assert kept == {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": run.meta["target"]["model"],
                "server.address": host,
                "server.port": int(port),
                "tokenswarm.scenario": "chat",
            }


def test_without_it_nothing_of_it_is_imported() -> None:
    assert "opentelemetry" not in loaded_by("import locustfiles._users")


def test_without_the_packages_locust_says_so_and_the_run_goes_on(tmp_path: Path) -> None:
    hide = tmp_path / "hide" / "opentelemetry"
    hide.mkdir(parents=True)
    (hide / "__init__.py").write_text("raise ImportError('hidden for this test')\n")
    with simulator('{"itl_ms": 5}') as (url, _):
        order = command("chat", url, "--otel", "-u", "1", "-t", "2", "--run-dir", "run")
        code, locust = finished(order, tmp_path / "locust.log", PYTHONPATH=str(hide.parent))
    assert code == 0, locust.said
    assert "OpenTelemetry SDK is not installed" in locust.said
    assert "Traceback" not in locust.said
    assert result(tmp_path / "run").outcomes().keys() == {"ok"}
