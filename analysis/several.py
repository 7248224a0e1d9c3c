"""Several tests at once: how sure a FAIL stays when an objective must hold in each of many stretches.

To PASS, every stretch must pass; a false PASS needs luck in the one that is bad, so each is tested at 95 %
and the whole is as sure (an intersection-union test: Berger 1982, "Multiparameter hypothesis testing and
acceptance sampling"). To FAIL, one stretch is enough; of many good ones one may look bad by chance, so the
bound that shows it bad is taken at 1 - 5 % / tests (Bonferroni).
"""

from .statistics import CONFIDENCE, share_at_least


def failing_share(bad: float, n: float, tests: int) -> float:
    """Return the lower bound on a share, from `bad` of n, that holds in `tests` tests at once."""
    return share_at_least(bad, n, 1 - (1 - CONFIDENCE) / tests)


def reach(freedom: float, tests: int, level: float = CONFIDENCE) -> float:
    """Return by what a one-sided bound by Student's t must be moved off to hold in `tests` at once.

    `level` is what the bound is taken at, which for a skewed mean is more than the 95 % that it holds.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - costs 0.1 s that only a judge needs

    return float(stdtrit(freedom, 1 - (1 - level) / tests) / stdtrit(freedom, level))


def more_events(tests: int) -> float:
    """Return by what factor n must grow for a bound to stay as near when it must hold in `tests` at once."""
    from scipy.special import ndtri  # noqa: PLC0415 - as above

    return float((ndtri(1 - (1 - CONFIDENCE) / tests) / ndtri(CONFIDENCE)) ** 2)
