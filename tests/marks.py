"""Parameters that a plain run does without: of the same kind as others that it has."""

from functools import partial

import pytest

more = partial(pytest.param, marks=pytest.mark.slow)
