import pytest
from scipy.stats import binom

from analysis.early_stopping import EarlyStopping, early_stopping, queries_needed
from tests.statistics.results import counted

LATE = (0, 1, 2, 5, 10, 50)
# Queries in all, for so many late ones; 662 is the number that LoadGen's own documents give.
NEEDED = [
    (0.99, 95, (90, 130, 165, 259, 398, 1372)),
    (0.99, 99, (459, 662, 838, 1307, 2010, 6898)),
    (0.99, 99.9, (4603, 6636, 8403, 13105, 20140)),
    (0.95, 95, (59, 93, 124, 208, 336, 1260)),
    (0.95, 99, (299, 473, 628, 1049, 1693, 6323)),
    (0.95, 99.9, (2995, 4742, 6294, 10511, 16959)),
]


@pytest.mark.parametrize(("confidence", "percentile", "needed"), NEEDED)
def test_it_needs_what_loadgen_needs(confidence: float, percentile: float, needed: tuple[int, ...]) -> None:
    found = [queries_needed(late, percentile, confidence) for late in LATE[: len(needed)]]
    assert tuple(found) == needed


def test_the_number_is_the_least_at_which_so_few_late_ones_are_improbable() -> None:
    n = queries_needed(3, 99)
    assert binom.cdf(3, n, 0.01) <= 0.01 < binom.cdf(3, n - 1, 0.01)


def test_a_tolerance_makes_it_easier() -> None:
    assert queries_needed(5, 99, tolerance=0.005) < queries_needed(5, 99)


def test_percentiles_are_asked_and_nothing_else() -> None:
    share = counted("error_rate < 1 %", n=900, bad=0, statistic="share")
    late = counted("ttft p99 < 100 ms", n=700, bad=0, undecided=1, statistic="p99")
    many = counted("ttft p99 < 50 ms", n=700, bad=2, statistic="p99")
    assert early_stopping([share, late, many]) == [
        EarlyStopping("ttft p99 < 100 ms", 1, 700, 662),
        EarlyStopping("ttft p99 < 50 ms", 2, 700, 838),
    ]
    met, short = early_stopping([late, many])
    assert met.line() == "ttft p99 < 100 ms: met (1 late of 700, needs 662)"
    assert short.line() == "ttft p99 < 50 ms: not met, 138 more (2 late of 700, needs 838)"
