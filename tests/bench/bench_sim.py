"""How many tokens a second the simulator sends from one core: python tests/bench/bench_sim.py.

The server is pinned to core 0; this client, which only drains sockets and counts, to core 1. Model mode runs
with a profile whose steps take next to no time, so that the server and not the profile is the limit. The load
is always more than the server can send.
"""

import asyncio
import json
import os
import selectors
import socket
import sys
import time
from dataclasses import replace
from multiprocessing import Process

import psutil

from server.sim.__main__ import listen, serve
from server.sim.profiles import BASELINE
from server.sim.script import parse_scripts
from server.sim.simulator import Settings

STREAMS, TOKENS, REQUESTS = 200, 500, 2
MARK = b'"finish_reason"'  # once in each token's chunk
END = b"0\r\n\r\n"


def run_server(listener: socket.socket, script: str) -> None:
    _pin(0)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - the line for a parent
    profile = replace(BASELINE, base_ms=1, per_sequence_ms=0, per_kv_token_ms=0, kv_tokens=10**7)
    asyncio.run(serve(listener, Settings(profile, "m", scripts=parse_scripts(script) if script else ())))


def drain(port: int) -> tuple[int, float]:
    """Return tokens seen and the seconds it took."""
    body = {"prompt": "x" * 200, "stream": True, "max_tokens": TOKENS, "ignore_eos": True}
    data = json.dumps(body | {"stream_options": {"include_usage": True}}).encode()
    request = b"POST /v1/completions HTTP/1.1\r\nhost: sim\r\ncontent-length: %d\r\n\r\n" % len(data) + data
    selector = selectors.DefaultSelector()
    left: dict[int, int] = {}
    tails: dict[int, bytes] = {}
    start = time.perf_counter()
    for _ in range(STREAMS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request)
        selector.register(connection, selectors.EVENT_READ)
        left[connection.fileno()], tails[connection.fileno()] = REQUESTS, b""
    tokens = 0
    while left:
        for key, _ in selector.select():
            connection = key.fileobj  # type: ignore[assignment]
            read = tails[key.fd] + connection.recv(1 << 18)
            tokens += read.count(MARK)
            tails[key.fd] = read[-len(MARK) + 1 :]  # a mark may be cut in two
            if read.endswith(END):
                left[key.fd] -= 1
                tails[key.fd] = b""
                if left[key.fd]:
                    connection.sendall(request)
                else:
                    del left[key.fd]
                    selector.unregister(connection)
                    connection.close()
    return tokens, time.perf_counter() - start


def measure(mode: str, script: str) -> None:
    listener = listen("127.0.0.1", 0)
    server = Process(target=run_server, args=(listener, script))
    server.start()
    process = psutil.Process(server.pid)
    time.sleep(1)  # imports and the first listen are not what is measured
    before_s = sum(process.cpu_times()[:2])
    tokens, seconds = drain(listener.getsockname()[1])
    cpu_s = sum(process.cpu_times()[:2]) - before_s
    server.terminate()
    server.join()
    listener.close()
    assert tokens == STREAMS * TOKENS * REQUESTS, tokens
    print(
        f"{mode:6}: {tokens} tokens in {seconds:.2f} s = {tokens / seconds:,.0f} tokens/s; "
        f"server {cpu_s / tokens * 1e6:.1f} us of CPU a token, {cpu_s / seconds:.0%} of a core"
    )


def _pin(core: int) -> None:
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > core:
        os.sched_setaffinity(0, {core})


if __name__ == "__main__":
    _pin(1)
    print(f"{STREAMS} streams x {REQUESTS} requests x {TOKENS} tokens")
    measure("script", json.dumps({"ttft_ms": 5, "itl_ms": 1}))
    measure("model", "")
