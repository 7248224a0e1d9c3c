"""Starting, stopping, and the send log."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sim_server import ROOT, TIMEOUT_S, call, chat, post, running_sim, stream

COMMAND = [sys.executable, "-m", "server.sim", "--port", "0"]
FAST = {"ttft_ms": 1, "itl_ms": 1, "tokens": 5}


def fails(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_taken_port_is_one_line_and_6() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, error = fails("--port", port)
    assert code == 6
    assert error.count("\n") == 1
    assert f"127.0.0.1:{port}" in error


def test_a_log_that_cannot_be_written_is_one_line_and_6(tmp_path: Path) -> None:
    code, error = fails("--send-log", str(tmp_path / "missing" / "log"))
    assert (code, error.count("\n")) == (6, 1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--profile", "gptq"], "'awq', 'baseline'"),
        (["--script", "missing.json"], "missing.json"),
        (["--script", '{"ttft": 3}'], "ttft_ms"),
        (["--port", "x"], "'x'"),
        (["--prot", "1"], "--prot"),
    ],
)
def test_bad_usage_is_one_line_and_2(arguments: list[str], named: str) -> None:
    code, error = fails(*arguments)
    assert (code, error.count("\n")) == (2, 1), error
    assert named in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_a_finished_log(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "sends.jsonl"
    with running_sim("--send-log", str(log)) as sim:
        stream(sim.port, chat(), FAST)
        with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
            connection.sendall(post("/v1/chat/completions", chat(), FAST | {"endless": True}))
            assert connection.recv(1)
            start = time.monotonic()
            sim.process.send_signal(number)
            assert sim.process.wait(TIMEOUT_S) == 0
            assert time.monotonic() - start < 2
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", sim.port))
    ends = [json.loads(line)["end"] for line in log.read_text(encoding="utf-8").splitlines()]
    assert ends == ["done", "shutdown"]


def test_the_send_log_has_one_stamp_for_each_write_that_carried_tokens(tmp_path: Path) -> None:
    log = tmp_path / "sends.jsonl"
    with running_sim("--send-log", str(log)) as sim:
        before_ns, before_unix_ns = time.perf_counter_ns(), time.time_ns()
        headers = {"x-request-id": "mine-1", "x-sim-script": json.dumps(FAST | {"tokens_per_chunk": 2})}
        answer = call(sim.port, "/v1/chat/completions", chat(), headers=headers)
        assert b'"id":"chatcmpl-mine-1"' in answer.body
        stream(sim.port, {"prompt": "a", "max_tokens": 4, "stream": True})
        call(sim.port, "/v1/completions", {"prompt": "a", "max_tokens": 4})  # not streamed: not logged
        for fault in ({"truncate_at": 2}, {"reset_at": 1}, {"error_event_at": 1}, {"status": 500}):
            with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
                connection.sendall(post("/v1/chat/completions", chat(), FAST | fault, "connection: close"))
                try:
                    while connection.recv(65536):
                        pass
                except ConnectionResetError:
                    assert fault == {"reset_at": 1}
        with socket.create_connection(("127.0.0.1", sim.port), timeout=TIMEOUT_S) as connection:
            connection.sendall(post("/v1/chat/completions", chat(max_tokens=5000, ignore_eos=True)))
            assert connection.recv(1)
        time.sleep(0.2)
        after_ns, after_unix_ns = time.perf_counter_ns(), time.time_ns()
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    ends = [line["end"] for line in lines]
    assert ends == ["done", "done", "truncated", "reset", "error_event", "refused", "aborted"]
    assert [line["request_id"] for line in lines[:2]] == ["mine-1", None]
    assert [len(line["sends"]) for line in lines[:6]] == [3, 4, 2, 1, 1, 0]
    assert [line["tokens"] for line in lines[:6]] == [5, 4, 2, 1, 1, 0]
    for line in lines:
        moments = [before_ns, line["received_ns"], line["headers_sent_ns"], *line["sends"], after_ns]
        assert moments == sorted(moments)
        assert before_unix_ns < line["received_unix_ns"] < after_unix_ns


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent ended")
def test_it_ends_with_its_parent() -> None:
    parent = (
        "import subprocess, sys, time; command = [sys.executable, '-m', 'server.sim', '--exit-with-parent']; "
        "child = subprocess.Popen(command, stdout=subprocess.PIPE); "
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + TIMEOUT_S
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_can_listen_on_ipv6() -> None:
    if not socket.has_ipv6 or os.environ.get("NO_IPV6"):
        pytest.skip("no IPv6 here")
    with running_sim("--host", "::1") as sim:
        assert sim.banner["listening"].startswith("http://[::1]:")
