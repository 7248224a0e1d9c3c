"""What requests of a run that is planned will be worth to the judge, who must then estimate that."""

import math
from dataclasses import dataclass

from .statistics import BATCH_TAU, freedom, small_sample_factor

SCATTER = 0.2
"""So well a short run tells its autocorrelation time, and never below 1: of 10 to 100 independent values
it looks like 1.2 on average, of n more like 1 + 2 / sqrt(n) (tests/statistics)."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What a request of the planned run is worth to the judge, who must estimate that (`samples.Tally`).

    `events`: independent events, before they shrink for being estimated; `units`: independent requests, of
    pooled gaps seconds, from which they are; `most`: as many as that can be. A degree of freedom takes
    `per_degree` units, an interval `least`.
    """

    events: float
    units: float
    most: float
    per_degree: int
    least: int

    def seen(self, requests: float) -> float:
        """Return the units that the judge sees in so many requests."""
        most = requests * self.most
        return min(requests * self.units, most / (1 + min(SCATTER, 2 / math.sqrt(most))))

    def judged(self, requests: float) -> bool:
        """Say whether a run of so many requests is given an interval of its own, in 80 of 100 cases."""
        return self.seen(requests) >= (1 + SCATTER) * self.least

    def surely_judged(self, requests: float) -> bool:
        """Say whether each of many runs of so many requests is given one."""
        return self.seen(requests) >= 2 * self.least

    def within(self, requests: float) -> float:
        """Return the independent events of a run that other runs tell the worth of."""
        return self.seen(requests) * self.events / self.units

    def low(self, requests: float) -> float:
        """Return the independent events that such a run shows for a lower bound (`samples`).

        It pays for no estimate, of gaps for half of it.
        """
        within = self.within(requests)
        return within if self.per_degree == BATCH_TAU else math.sqrt(within * self.alone(requests))

    def alone(self, requests: float) -> float:
        """Return the independent events that a run of so many requests shows by itself."""
        return self.within(requests) * small_sample_factor(freedom(self.seen(requests), self.per_degree))
