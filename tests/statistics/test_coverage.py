"""Coverage of every interval that is printed, on queues whose truth is known.

    pytest tests/statistics/test_coverage.py -s             a few figures
    pytest tests/statistics/test_coverage.py -s -m slow     the table

Nominal are 95 % for each side. An upper bound that covers less often would let a bad server PASS, a lower one
would FAIL a good one.
"""

import numpy as np
import pytest

from analysis.objective import ObjectiveResult
from tests.statistics.coverage import (
    FloatArray,
    bounds_of,
    covered,
    of_gaps,
    of_mean,
    of_share,
    pools,
)
from tests.statistics.queues import batching, mm1, mm1_quantile

LEAST = 0.93


def floor(found: int) -> float:
    """Return the least coverage that is not less than 93 % by three standard errors."""
    return LEAST - 3 * float(np.sqrt(LEAST * (1 - LEAST) / found))


def shares(rho: float, n: int, runs: int, allowed: float, seed: int = 1) -> list[ObjectiveResult]:
    limit = mm1_quantile(rho, 1 - allowed)
    return [of_share(values, limit, allowed) for values in mm1(rho, n, runs, np.random.default_rng(seed))]
