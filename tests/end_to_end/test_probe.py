"""The quick look: a process of its own against the simulator, whose send times are known."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.locusts import environment, free_port, simulator
from tests.marks import more
from tests.sim_server import Sim

ROOT = Path(__file__).resolve().parents[2]
STREAM = '{"ttft_ms": 100, "itl_ms": 10, "tokens": 11}'


def probe(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    order = [sys.executable, "-m", "tokenswarm", "probe", *arguments]
    found = subprocess.run(
        order,
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in found.stdout + found.stderr, found.stderr
    return found


def figures(*arguments: str) -> dict[str, Any]:
    found = probe(*arguments, "--json")
    assert found.returncode == 0, found.stderr
    return dict(json.loads(found.stdout))


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Sim]]:
    with simulator(STREAM) as running:
        yield running


@pytest.mark.parametrize("path", ["", more("/v1/"), more("/v1/chat/completions"), "/v1/completions"])
def test_stream(server: tuple[str, Sim], path: str) -> None:
    found = figures(server[0] + path, "-n", "6", "-c", "3")
    assert (found["requests"], found["ok"], found["failed"]) == (6, 6, {})
    assert found["simulated"]
    assert 100 <= found["ttft_p50_ms"] < 160
    assert 200 <= found["e2e_p50_ms"] < 300
    assert found["ttft_p50_ms"] <= found["ttft_p95_ms"] <= found["ttft_max_ms"]
    assert 0.4 < found["seconds"] < 1.5, "two turns of three"
    assert found["output_tokens_per_s"] == pytest.approx(66 / found["seconds"])


def test_whole_answer(server: tuple[str, Sim]) -> None:
    found = figures(server[0], "-n", "4", "--no-stream")
    assert found["ok"] == 4
    assert found["ttft_p50_ms"] is None
    assert found["e2e_p50_ms"] > 100
    assert found["output_tokens_per_s"] == pytest.approx(44 / found["seconds"])


def test_people_get_a_table_that_claims_no_more_than_it_knows(server: tuple[str, Sim]) -> None:
    found = probe(server[0], "-n", "3")
    assert found.returncode == 0
    assert "SIMULATED. 3 of 3 answered" in found.stdout
    assert "first token" in found.stdout
    assert "decide no percentile" in found.stdout


class _Generate(BaseHTTPRequestHandler):
    """An API of its own: takes any JSON by POST, and keeps it."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str, str | None]] = []  # noqa: RUF012 - emptied by the one test that reads it

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.asked.append((self.path, body, self.headers["authorization"]))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_any_endpoint_that_takes_json() -> None:
    _Generate.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Generate) as generate:
        threading.Thread(target=generate.serve_forever, daemon=True).start()
        found = probe(
            f"http://127.0.0.1:{generate.server_port}/generate",
            *("-n", "2", "-c", "1", "--prompt", 'say "hi"', "--max-tokens", "7"),
            *("--body", '{"inputs": "{prompt}", "parameters": {"max_new_tokens": {max_tokens}}}'),
            TOKENSWARM_API_KEY="sk-secret",
        )
        generate.shutdown()
    assert found.returncode == 0, found.stdout
    assert "2 of 2 answered" in found.stdout
    body = '{"inputs": "say \\"hi\\"", "parameters": {"max_new_tokens": 7}}'
    assert _Generate.asked == [("/generate", body, "Bearer sk-secret")] * 2
    assert "sk-secret" not in found.stdout + found.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ftp://host"], 2, "URL: found 'ftp://host', expected http://"),
        (["SIM/generate", "--body", "{prompt}"], 2, "--body: found '{prompt}', expected JSON"),
        more(["SIM", "-n", "0"], 2, "0 is not in the range"),
        (["SIM", "--model", "other"], 6, "expected the model 'other'"),
        (["SIM/generate"], 6, "HTTP 404"),
        more(["NOTHING"], 6, "cannot be reached (Connection refused)"),
        (["NOTHING/generate"], 6, "Connection refused"),
    ],
)
def test_mistakes(server: tuple[str, Sim], arguments: list[str], code: int, words: str) -> None:
    nothing = f"http://127.0.0.1:{free_port()}"
    order = [part.replace("SIM", server[0]).replace("NOTHING", nothing) for part in arguments]
    found = probe(*order)
    assert found.returncode == code, found.stderr
    assert words in found.stdout + found.stderr
