"""What is read out of engines' logs; the logs are vLLM 0.32's own."""

from pathlib import Path

import pytest

from server import enginelog

GOLDEN = Path(__file__).parent / "golden"


def log(name: str) -> list[str]:
    return (GOLDEN / f"vllm-0.32-log-{name}.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("oom", "out of memory: ValueError: Available memory on node 0 (7.44/11.21 GiB)"),
        ("arch", "wrong architecture: ValidationError: Model architectures ['FooForCausalLM'] are not"),
        ("hub", "model missing: LocalEntryNotFoundError: Cannot find an appropriate cached snapshot"),
    ],
)
def test_the_first_exception_is_the_cause(name: str, begins: str) -> None:
    found = enginelog.failure(log(name), 1)
    assert found.startswith(begins)
    assert len(found) < enginelog.LIMIT + 40


CUDA = "torch.OutOfMemoryError: CUDA out of memory. Tried"
BIND = "OSError: [Errno 98] error while attempting to bind: address already in use"
WORDS = "api_server.py: error: unrecognized arguments: --x"


@pytest.mark.parametrize(
    ("lines", "code", "expected"),
    [
        ([], 1, "ended with code 1: it printed nothing"),
        ([], 137, "killed (SIGKILL), as the system does when memory is out"),
        ([CUDA], 1, "out of memory: OutOfMemoryError: CUDA out of memory. Tried"),
        ([BIND], 1, f"port taken: {BIND}"),
        ([WORDS], 2, f"wrong engine argument: {WORDS}"),
        (["INFO: fine"], None, "did not become ready: INFO: fine"),
    ],
)
def test_reasons(lines: list[str], code: int | None, expected: str) -> None:
    assert enginelog.failure(lines, code) == expected


INT8 = "[__init__.py:846] Selected CPUInt8ScaledMMLinearKernel for CompressedTensorsW8A8Int8"
MARLIN = "[auto_awq.py:451] Using MarlinLinearKernel for AutoAWQMarlinLinearMethod"
ATTENTION = "[cuda.py:1] Using FLASH_ATTN attention backend out of potential backends"


@pytest.mark.parametrize(
    ("line", "kernels"),
    [
        (INT8, ("CPUInt8ScaledMMLinearKernel",)),
        (MARLIN, ("MarlinLinearKernel",)),
        (ATTENTION, ("FLASH_ATTN",)),
        ("[utils.py:347] Using LBHNC KV cache layout.", ()),
        ("[model.py:2152] Using max model len 1024", ()),
    ],
)
def test_kernels(line: str, kernels: tuple[str, ...]) -> None:
    whole = f"(Worker pid=1) INFO 11-24 02:11:46 {line}"
    assert enginelog.kernels([whole, whole]) == kernels


def test_a_line_without_its_head() -> None:
    line = "(Worker pid=4321) INFO 11-24 00:50:06 [default_loader.py:501] Loading weights took 1.24 seconds"
    assert enginelog.plain(line) == "Loading weights took 1.24 seconds"
