"""A real vLLM for the tests in this folder, one for the whole session.

The first run makes two environments and the model (about 4 minutes, 5 GB in server.places), and the server
needs 30 to 80 s: give the modules here `pytest.mark.timeout(1800)`, for a session's first test waits for all
of it.
"""

from collections.abc import Iterator

import pytest

from server.environments import unsupported
from tests.absent import absent
from tests.real.vllm_server import Real, VllmServer, prepare, running


@pytest.fixture(scope="session")
def real() -> Real:
    """vLLM's interpreter and the model's folder; a failure to make them is an error, not a skip."""
    reason = unsupported()
    if reason:
        absent(f"real vLLM: {reason}")
    return prepare()


@pytest.fixture(scope="session")
def vllm(real: Real) -> Iterator[VllmServer]:
    """A running server; its end is checked: a process that stays fails the session.

    In float32: on CPUs with AMX vLLM's bfloat16 answers something else to the question about France.
    """
    with running(real, ["--dtype", "float32"]) as server:
        yield server
