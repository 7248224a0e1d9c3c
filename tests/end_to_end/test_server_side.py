"""Client against server, measured: simulators whose queue and prefill are known, /metrics read as they go."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis.gates_server import check_server
from analysis.rundir import Run, load
from analysis.server_side import ServerSide, join
from analysis.ttft_parts import TtftParts, stack
from tests.end_to_end.locusts import command, finished, side_by_side
from tests.sim_server import running_sim

LOAD = ("-u", "20", "-r", "20", "-t", "15", "--warmup", "2", "--run-dir", "run", "--max-tokens", "20")


def against(*arguments: str) -> Callable[[Path], Run]:
    """Return what loads a simulator started with these arguments, at 20 requests a second."""

    def play(path: Path) -> Run:
        with running_sim(*arguments) as sim:
            order = command("arrivals", f"http://127.0.0.1:{sim.port}", *LOAD)
            code, locust = finished(order, path / "locust.log")
            assert code == 0, locust.said
        return load(path / "run")

    return play


SCRIPT = '{"ttft_ms": 50, "itl_ms": 10, "tokens": 20}'
PLAYS = {"scripted": against("--script", SCRIPT), "batching": against("--profile", "baseline")}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Run]]:
    with side_by_side(PLAYS, tmp_path_factory) as runs:
        yield runs


def parts_of(side: ServerSide) -> TtftParts:
    assert side.whole is not None
    assert side.whole.ttft is not None
    return side.whole.ttft


@pytest.mark.parametrize("play", PLAYS)
def test_every_equation_holds(played: Callable[[str], Run], play: str) -> None:
    run = played(play)
    side = join(run)
    gates = check_server(run, side)
    print(f"\n{play}", *(gate.line() for gate in gates), sep="\n")
    assert all(gate.ok for gate in gates)
    assert side.client_law is not None
    assert side.server_law is not None
    assert (side.client_law.ok, side.server_law.ok) == (True, True)
    assert side.ttft_order is not None
    assert side.ttft_order.client_requests == side.ttft_order.server_requests == len(run.requests)


@pytest.mark.parametrize("play", PLAYS)
def test_the_whole_run_is_joined_from_before_it_to_after_it(played: Callable[[str], Run], play: str) -> None:
    run = played(play)
    whole, window = join(run).whole, join(run).window
    assert whole is not None
    assert window is not None
    assert whole.requests == whole.client_requests == len(run.requests)
    assert whole.generation_tokens == run.requests.output_tokens.sum()
    assert whole.from_unix_ns < window.from_unix_ns <= run.window_ns[0]
    assert run.window_ns[1] <= window.to_unix_ns <= whole.to_unix_ns


def test_a_script_spends_it_all_on_the_prefill(played: Callable[[str], Run]) -> None:
    parts = parts_of(join(played("scripted")))
    assert parts.prefill_ms == pytest.approx(50, abs=0.01)
    assert (parts.queue_ms, parts.handover_ms) == (0, pytest.approx(0, abs=1e-6))
    assert 0 < parts.network_ms < 20  # the sender's lateness on a busy machine, too
    assert sum(part.ms for part in stack(parts)) == pytest.approx(parts.client_ms)


def test_a_batching_engine_makes_arrivals_wait_for_the_running_step(played: Callable[[str], Run]) -> None:
    parts = parts_of(join(played("batching")))
    assert 1 < parts.queue_ms < 30  # a step takes 12 ms and more
    assert 12 < parts.prefill_ms < 60
    assert parts.handover_ms == pytest.approx(0, abs=1e-6)
    assert 0 < parts.network_ms < 20
    assert sum(part.ms for part in stack(parts)) == pytest.approx(parts.client_ms)
