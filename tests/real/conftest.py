"""A real vLLM for the tests in this folder, one for the whole session.

The first run makes vLLM's environment and the model (about 3 minutes, 5 GB in prepare.CACHE), and the server
needs 30 to 80 s: give the modules here `pytest.mark.timeout(1800)`, for a session's first test waits for all
of it.
"""

from collections.abc import Iterator

import pytest

from tests.real.prepare import Real, prepare, unsupported
from tests.real.vllm_server import VllmServer, running


@pytest.fixture(scope="session")
def real() -> Real:
    """vLLM's interpreter and the model's folder; a failure to make them is an error, not a skip."""
    reason = unsupported()
    if reason:
        pytest.skip(reason)
    return prepare()


@pytest.fixture(scope="session")
def vllm(real: Real) -> Iterator[VllmServer]:
    """A running server; its end is checked: a process that stays fails the session."""
    with running(real) as server:
        yield server
