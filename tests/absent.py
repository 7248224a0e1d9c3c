"""What is missing here: a test that needs it is skipped; in CI, where nobody reads skips, it fails."""

import os
from typing import NoReturn

import pytest


def absent(what: str) -> NoReturn:
    """Skip the calling test, or fail it where nothing may be missing."""
    __tracebackhide__ = True
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
