"""When tokens leave, against when they were due; and the two profiles, through the real server."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

import pytest

from server.sim.profiles import PROFILES
from tests.sim_server import call, chat, running_sim, stream

TTFT_MS, ITL_MS, TOKENS, STREAMS = 40, 10, 80, 20
TRIES = 4  # a busy machine delays the server, too
pytestmark = pytest.mark.alone


def lateness_ms(log: Path) -> list[float]:
    script = {"ttft_ms": TTFT_MS, "itl_ms": ITL_MS, "tokens": TOKENS}
    with running_sim("--send-log", str(log)) as sim, ThreadPoolExecutor(STREAMS) as pool:
        list(pool.map(lambda _: stream(sim.port, chat(), script), range(STREAMS)))
    late_ms = []
    for line in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
        for number, sent_ns in enumerate(line["sends"]):
            due_ns = line["received_ns"] + (TTFT_MS + number * ITL_MS) * 1_000_000
            late_ms.append((sent_ns - due_ns) / 1e6)
    percentiles = quantiles(late_ms, n=100)
    print(
        f"{STREAMS} streams, {len(late_ms)} tokens: late by p50 {median(late_ms):.3f}, "
        f"p99 {percentiles[98]:.3f}, max {max(late_ms):.3f} ms"
    )
    return late_ms


def test_scripted_tokens_leave_when_they_are_due(tmp_path: Path) -> None:
    for attempt in range(TRIES):
        late_ms = lateness_ms(tmp_path / f"{attempt}.jsonl")
        assert len(late_ms) == STREAMS * TOKENS
        assert min(late_ms) >= 0  # never early
        if median(late_ms) < 1:
            return
    pytest.fail("late, every time")


def test_lateness_does_not_add_up() -> None:
    """A stream of 400 gaps ends on time: each write is due after the first one, not after the one before."""
    script = {"ttft_ms": 0, "itl_ms": 1, "tokens": 401}
    for _ in range(TRIES):
        with running_sim() as sim:
            stream(sim.port, chat(), script)
            metrics = call(sim.port, "/metrics").body.decode()
        end_to_end_s = float(metrics.split("vllm:e2e_request_latency_seconds_sum{")[1].split()[1])
        assert end_to_end_s >= 0.4
        if end_to_end_s < 0.42:  # 0.05 ms of drift a token would be 0.42
            return
    pytest.fail(f"400 gaps of 1 ms took {end_to_end_s} s")


def measured_itl_ms(profile: str, streams: int, log: Path) -> float:
    with running_sim("--profile", profile, "--send-log", str(log)) as sim, ThreadPoolExecutor(1) as pool:
        body = chat(max_tokens=60, n=streams, ignore_eos=True)
        pool.submit(stream, sim.port, body).result()
    sends = json.loads(log.read_text(encoding="utf-8"))["sends"]
    firsts = sends[::streams]  # the first choice's token of each step
    return median(later - earlier for earlier, later in pairwise(firsts)) / 1e6


def test_awq_is_faster_alone_and_slower_in_a_crowd_through_the_real_server(tmp_path: Path) -> None:
    for streams in (1, 96):
        itl_ms = {name: measured_itl_ms(name, streams, tmp_path / f"{name}-{streams}") for name in PROFILES}
        expected_ms = {name: profile.step_ms(streams, streams * 35) for name, profile in PROFILES.items()}
        print(f"batch {streams}: measured {itl_ms}, computed {expected_ms}")
        assert (itl_ms["awq"] < itl_ms["baseline"]) == (streams == 1)
        for name in PROFILES:
            assert abs(itl_ms[name] / expected_ms[name] - 1) < 0.05


def test_a_prefill_delays_everybodys_next_token(tmp_path: Path) -> None:
    log = tmp_path / "sends.jsonl"
    with running_sim("--send-log", str(log)) as sim, ThreadPoolExecutor(2) as pool:
        running = pool.submit(stream, sim.port, chat(max_tokens=100, ignore_eos=True))
        while b'running{engine="0",model_name="sim"} 1' not in call(sim.port, "/metrics").body:
            pass
        call(sim.port, "/v1/completions", {"prompt": list(range(1500)), "max_tokens": 1})
        running.result()
    sends = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["sends"]
    gaps_ms = [(later - earlier) / 1e6 for earlier, later in pairwise(sends)]
    assert max(gaps_ms) > 1500 * PROFILES["baseline"].per_prefill_token_ms
    assert median(gaps_ms) < 20
