"""MLPerf's early-stopping test, as a second opinion that other people know.

LoadGen stops a run when enough queries kept the limit: of t late ones it wants h in time, so many that I(p -
d; h, t + 1) <= 1 - c. I is the regularised incomplete beta function: the probability of h or more in time out
of h + t, were the true share in time only p - d (MLPerf Inference rules, "Early stopping"; LoadGen has c =
0.99 and d = 0). The test supposes that queries are independent. Behind a queue they are not, so it is content
too early: it is printed beside our verdict and changes nothing about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .objective import ObjectiveResult

CONFIDENCE = 0.99
"""LoadGen's."""


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """What the test says about one percentile: `late` of `queries`, for which `needed` would be enough."""

    text: str
    late: int
    queries: int
    needed: int

    @property
    def met(self) -> bool:
        """Whether LoadGen would be content."""
        return self.queries >= self.needed

    def line(self) -> str:
        """Return what a person reads."""
        found = f"{self.late:,} late of {self.queries:,}"
        word = "met" if self.met else f"not met, {self.needed - self.queries:,} more"
        return f"{self.text}: {word} ({found}, needs {self.needed:,})"


def queries_needed(
    late: int, percentile: float, confidence: float = CONFIDENCE, tolerance: float = 0.0
) -> int:
    """Return the least number of queries, late ones included, that is enough with so many late ones.

    `percentile` is 99 for p99; `tolerance` is a share, below percentile / 100.
    """
    from scipy.special import betainc  # noqa: PLC0415 - costs 0.1 s that only a judge needs

    in_time = percentile / 100 - tolerance

    def enough(kept: int) -> bool:
        return bool(betainc(kept, late + 1, in_time) <= 1 - confidence)

    low, high = 0, 1  # of no queries nothing follows
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high + late


def early_stopping(results: Sequence[ObjectiveResult]) -> list[EarlyStopping]:
    """Ask the test about every percentile that has counts; what is undecided counts as late."""
    found = []
    for result in results:
        if result.bad is None or not result.statistic.startswith("p"):
            continue
        late, percentile = result.bad + result.undecided, float(result.statistic[1:])
        found.append(EarlyStopping(result.text, late, result.n, queries_needed(late, percentile)))
    return found
