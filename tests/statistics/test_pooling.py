import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.objective import UNTIMED, WORTH_UNKNOWN, ObjectiveResult
from analysis.pooled_worth import MIN_RUNS, worth, worth_low
from analysis.pooling import pooled
from analysis.statistics import (
    MEAN_LEVELS,
    POOL_LEVELS,
    freedom,
    mean_error,
    runs_bounds,
    share_at_least,
    share_at_most,
    small_sample_factor,
    t_bounds,
)
from tests.statistics.results import averaged, counted


def runs(*bad: int, n: int = 1000, **figures: Any) -> list[ObjectiveResult]:
    given = {"bounds": (0.0, 0.1), **figures}
    return [counted(n=n, bad=count, **given) for count in bad]


def test_counts_are_summed_and_five_alike_pass_what_one_cannot_show() -> None:
    one, _ = pooled(runs(42))
    found, spread = pooled(runs(42, 43, 41, 42, 42))
    assert (found.n, found.bad, found.status) == (5000, 210, "PASS")
    assert one.status == "INCONCLUSIVE"
    lower, upper = (small_sample_factor(4, level) for level in POOL_LEVELS)
    assert found.n_eff == pytest.approx(5000 * upper)
    assert found.bound_high == pytest.approx(share_at_most(210 * upper, 5000 * upper))
    assert found.n_eff_low == pytest.approx(5000 * lower)
    assert found.bound_low == pytest.approx(share_at_least(210 * lower, 5000 * lower))
    assert spread.sd_between == 0.0
    assert spread.sd_within == pytest.approx(math.sqrt(0.042 * 0.958 / 1000))


def test_the_lower_bound_takes_what_is_bad_as_it_is() -> None:
    """How alike bad ones are in each run, by the root mean square; of five or more, how runs differ, too."""
    known = [counted(n=1000, bad=bad, n_eff=20.0, n_eff_low=low) for bad, low in ((50, 500.0), (50, 100.0))]
    root = math.sqrt((2**2 + 10**2) / 2)
    assert worth_low(known) == pytest.approx(2000 / root)
    bounded = [replace(one, bound_high=1.0, degrees=1.0) for one in known]
    assert pooled(bounded)[0].bound_low == pytest.approx(share_at_least(100 / root, 2000 / root))
    assert worth_low([*known, *known, known[0]]) == pytest.approx(
        5000 / math.sqrt((3 * 2**2 + 2 * 10**2) / 5)
    )
    far = [
        replace(one, bad=bad) for one, bad in zip([*known, *known, known[0]], (0, 99, 0, 99, 0), strict=True)
    ]
    assert worth_low(far) < 100


def differing(scatter: float, sizes: Sequence[int], pools: int = 2000) -> tuple[float, float]:
    """Return how often upper and lower bounds hold over runs whose shares are lognormal about 5 %."""
    rng = np.random.default_rng(6)
    shares = 0.05 * np.exp(scatter * rng.standard_normal((pools, len(sizes))) - scatter**2 / 2)
    drawn = rng.binomial(sizes, np.minimum(1, shares)).tolist()
    found = [
        pooled([one for n, count in zip(sizes, bad, strict=True) for one in runs(count, n=n)])[0]
        for bad in drawn
    ]
    upper = float(np.mean([(one.bound_high or 0) >= 0.05 for one in found]))
    lower = float(np.mean([(one.bound_low or 0) <= 0.05 for one in found]))
    print(f"\n  {sizes}, shares scatter by {scatter:.0%}: upper {upper:.1%} lower {lower:.1%}", end="")
    return upper, lower


@pytest.mark.parametrize("scatter", [0.2, 0.35])
def test_pools_of_servers_that_differ_hold_what_they_say(
    scatter: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = differing(scatter, [2000] * 5)
    assert 0.93 <= min(held) <= max(held) <= 0.97
    monkeypatch.setattr("analysis.pooled_worth.POOL_LEVELS", (0.95, 0.95))
    upper, lower = differing(scatter, [2000] * 5)
    assert upper < held[0]
    assert lower > held[1]


@pytest.mark.parametrize("sizes", [[3000, 1000, 1000, 1000, 1000], [4000, 4000, *[1000] * 6]])
def test_a_long_run_among_short_ones_says_less_of_how_they_differ(sizes: list[int]) -> None:
    assert min(differing(0.35, sizes)) >= 0.92


def test_runs_that_differ_are_worth_less_than_what_they_are_worth_alone() -> None:
    found, spread = pooled(runs(0, 100, 0, 100, 0))
    assert found.n_eff is not None
    assert found.n_eff < 100
    assert found.status == "INCONCLUSIVE"
    sd_all = float(np.std([0.0, 0.1, 0.0, 0.1, 0.0], ddof=1))
    assert spread.sd_between is not None
    assert math.hypot(spread.sd_between, spread.sd_within or 0) == pytest.approx(sd_all)
    assert spread.more_runs is not None
    assert f"needs about {spread.more_runs:,} more runs" in found.reason


def test_five_short_runs_tell_together_how_alike_neighbours_are() -> None:
    short = {"n": 300, "n_eff": 30 * small_sample_factor(2), "degrees": 2.0}  # each is worth 30
    five, _ = pooled(runs(0, 0, 0, 0, 0, **short))
    assert five.n_eff == pytest.approx(150 * small_sample_factor(10))
    assert five.status == "PASS"
    refused, _ = pooled([*runs(0, 0, 0, 0, **short), *runs(0, **short, bounds=(None, None))])
    assert refused.n_eff == pytest.approx(5 * short["n_eff"])
    few, _ = pooled(runs(0, 0, 0, 0, **short))
    assert few.n_eff == pytest.approx(4 * short["n_eff"])


def test_a_run_whose_events_are_much_more_alike_counts_more_than_in_an_average() -> None:
    alike = (10.0, 10.0, 10.0, 10.0, 50.0)
    found = [
        *runs(0, 0, 0, 0, n=1000, n_eff=100 * small_sample_factor(4), degrees=4.0),
        *runs(0, n=1000, n_eff=20 * small_sample_factor(2), degrees=2.0),
    ]
    root = math.sqrt(sum(one**2 for one in alike) / 5)
    assert worth(found) == pytest.approx(5000 / root * small_sample_factor(18))
    assert worth(found[3:]) == pytest.approx(2000 / math.sqrt((10**2 + 50**2) / 2) * small_sample_factor(3))


@given(st.lists(st.integers(0, 50), min_size=2, max_size=12))
def test_a_pool_is_never_worth_more_than_its_runs(bad: list[int]) -> None:
    assert worth(runs(*bad, n_eff=200.0)) <= 200.0 * len(bad) + 1e-9


def test_few_runs_are_summed_and_the_reason_says_what_nobody_knows() -> None:
    found, spread = pooled(runs(10, 12, 80, n_eff=500.0))
    assert found.n_eff == 1500.0
    assert spread.sd_between is None
    assert "3 runs: differences between runs cannot be judged" in found.reason


def test_short_runs_need_to_be_five() -> None:
    few, spread = pooled(runs(2, 3, 1, 2, n=400, n_eff=40.0, bounds=(None, None)))
    assert (few.status, few.bound_high, spread.more_runs) == ("INCONCLUSIVE", None, 1)
    assert "4 of the runs have no interval of their own" in few.reason
    assert "needs about 1 more run like these" in few.reason
    enough, _ = pooled(runs(2, 3, 1, 2, 0, n=400, n_eff=40.0, bounds=(None, None)))
    assert enough.bound_high is not None


def test_a_run_without_data_adds_nothing_and_forbids_a_pass() -> None:
    empty = counted(n=0, bad=None, n_eff=None, observed=None, reason="no data")
    assert pooled(runs(10, 10))[0].status == "PASS"
    found, spread = pooled([*runs(10, 10), empty])
    assert (found.n, found.observed, found.status) == (2000, 90.0, "INCONCLUSIVE")
    assert "1 of 3 runs did not measure all of it: no data" in found.reason
    assert (spread.observed, spread.more_runs) == ((90.0, 90.0, None), None)
    assert pooled([*runs(900, 900), empty])[0].status == "FAIL"
    assert pooled([empty, empty])[0].reason == "no data"


def test_as_many_more_runs_decide_as_are_said_to() -> None:
    """Also where the fifth run changes what runs are worth."""
    for count, bad, n_eff in (
        (1, 42, 1000),
        (3, 46, 1000),
        (5, 46, 1000),
        (2, 56, 1000),
        (5, 42, 100),
        (6, 60, 50),
    ):
        found, spread = pooled(runs(*[bad] * count, n_eff=float(n_eff)))
        assert found.status == "INCONCLUSIVE"
        assert spread.more_runs is not None
        enough = count + spread.more_runs
        assert pooled(runs(*[bad] * enough, n_eff=n_eff))[0].status == ("PASS" if bad < 50 else "FAIL")
        assert pooled(runs(*[bad] * (enough - 1), n_eff=n_eff))[0].status == "INCONCLUSIVE"


def test_why_a_run_says_nothing_is_kept() -> None:
    unknown = counted(n=0, bad=None, n_eff=None, observed=None, reason="not known: the file has no ttft")
    assert pooled([unknown] * 5)[0].reason == "not known: the file has no ttft"
    assert pooled([*runs(10, 10), unknown])[0].reason.endswith(unknown.reason)


def test_a_stretch_without_data_forbids_a_pass() -> None:
    held = counted(n=1000, bad=1, status="PASS", stretches=4)
    empty = counted(n=0, bad=None, n_eff=None, observed=None, reason="no data", stretches=4)
    assert pooled([held] * 5)[0].status == "PASS"
    found, _ = pooled([*[held] * 4, empty])
    assert found.status == "INCONCLUSIVE"
    assert found.reason == "4 of 5 runs PASS, 0 FAIL; the worst: no data"


def test_what_one_run_did_not_measure_to_its_end_forbids_a_pass_and_mends_no_fail() -> None:
    *whole, cut = runs(10, 10, 10, 10, 10)
    cut = replace(cut, unmeasured=True, reason="the window ends after 10 s")
    found, _ = pooled([*whole, cut])
    assert (found.status, found.unmeasured) == ("INCONCLUSIVE", True)
    assert found.reason.endswith("1 of 5 runs did not measure all of it: the window ends after 10 s")
    assert pooled([*runs(900, 900, 900, 900), cut])[0].status == "FAIL"


@pytest.mark.parametrize("count", [2, 5])
def test_runs_without_times_never_pass_and_fail_where_the_least_worth_shows_it(count: int) -> None:
    knobs = {"n_eff": None, "bounds": (None, None)}
    good, _ = pooled(runs(*[0] * count, **knobs))
    assert (good.status, good.n_eff, good.bound_high) == ("INCONCLUSIVE", None, None)
    assert UNTIMED in good.reason
    bad, spread = pooled(runs(*[600] * count, **knobs))
    assert (bad.status, bad.bound_low, spread.more_runs) == ("FAIL", None, None)
    assert f"were all {count * 1000:,} worth {WORTH_UNKNOWN}" in bad.reason


def test_a_share_is_that_of_all_requests_and_a_percentile_the_median() -> None:
    shares = [
        counted("error_rate < 1 %", n=n, bad=bad, unit="share", observed=bad / n, limit=0.01, bounds=(0, 1))
        for n, bad in ((1000, 1), (3000, 9))
    ]
    found, _ = pooled(shares)
    assert (found.observed, found.resolution) == (pytest.approx(0.0025), 1 / 4000)
    times = [counted(n=1000, bad=1, observed=value, bounds=(0, 1)) for value in (80.0, 90.0, math.inf)]
    assert pooled(times)[0].observed == 90.0


def test_what_is_undecided_stays_undecided() -> None:
    found, spread = pooled(runs(20, 20, undecided=100))
    assert found.status == "INCONCLUSIVE"
    assert "200 of 2,000 cannot be told from the limit" in found.reason
    assert spread.more_runs is None


def test_means_take_the_run_as_the_unit() -> None:
    values = [90.0, 92.0, 88.0, 91.0, 89.0]
    found, spread = pooled([averaged(value, bounds=(value - 1, value + 1)) for value in values])
    assert (found.bound_low, found.bound_high) == pytest.approx(runs_bounds(values))
    assert found.status == "PASS"
    assert found.observed == 90.0
    assert spread.sd_between is not None
    assert spread.sd_between > (spread.sd_within or 0)


def test_few_means_take_their_own_errors_together() -> None:
    found, _ = pooled([averaged(value, bounds=(value - 3, value + 3)) for value in (90.0, 92.0)])
    assert found.bound_low is not None
    assert found.bound_high is not None
    one, half = mean_error(-3, 3, 1000) or 0.0, 1 / math.sqrt(2)
    low, high = t_bounds(91.0, one * half, freedom(2000), MEAN_LEVELS)
    assert (found.bound_low, found.bound_high) == pytest.approx((low, high))
    assert high - low == pytest.approx(6 * half, rel=0.01)
    refused, spread = pooled([averaged(90.0, bounds=(87.0, 93.0)), averaged(90.0)])
    assert (refused.status, spread.more_runs) == ("INCONCLUSIVE", MIN_RUNS - 2)


def test_failures_forbid_that_a_mean_passes_and_nothing_forbids_that_it_fails() -> None:
    failed = averaged(90.0, observed=math.inf)
    assert pooled([averaged(90.0)] * 3 + [averaged(91.0), failed])[0].status == "INCONCLUSIVE"
    late = [averaged(value) for value in (120.0, 121.0, 119.0, 122.0)]
    assert pooled([*late, averaged(120.0, observed=math.inf)])[0].status == "FAIL"


def test_nothing_but_a_finite_number_of_runs_is_asked_for() -> None:
    noisy = [averaged(value) for value in (1e152, -1e152, 1e152, -1e152, 500 + 1e-12)]
    found, spread = pooled(noisy)
    assert (found.status, spread.more_runs) == ("INCONCLUSIVE", None)
    cancelled = [replace(served(value), undecided=1, metric="output_tokens_per_s") for value in (99.0, 98.0)]
    assert pooled([replace(one, bound_high=math.inf) for one in cancelled])[1].more_runs is None


def served(rate: float, **figures: object) -> ObjectiveResult:
    """Return a rate of at least 100/s over ten seconds, as one run finds it."""
    known = {"metric": "requests_per_s", "statistic": "rate", "unit": "requests/s", "n_eff": 1000.0}
    bounds = {"n": round(rate * 10), "at_least": True, "bounds": t_bounds(rate, 1.5, 99.0, MEAN_LEVELS)}
    return averaged(rate, **{**known, **bounds, **figures})


RATES = (120.0, 121.0, 119.0, 122.0, 120.0)


def test_a_rate_may_have_a_lower_limit() -> None:
    assert pooled([served(value) for value in RATES])[0].status == "PASS"
    assert pooled([served(value, at_least=False) for value in RATES])[0].status == "FAIL"


@pytest.mark.parametrize("count", [2, 5])
def test_what_is_undecided_can_only_raise_a_rate(count: int) -> None:
    plain, _ = pooled([served(value) for value in RATES[:count]])
    bounds = [(low, high + 0.1) for low, high in (t_bounds(one, 1.5, 99.0, MEAN_LEVELS) for one in RATES)]
    cancelled = [
        served(value, undecided=1, status="PASS", bounds=own)
        for value, own in zip(RATES, bounds, strict=True)
    ]
    found, _ = pooled(cancelled[:count])
    assert found.status == "PASS", found.reason
    assert plain.bound_high is not None
    assert (found.bound_low, found.bound_high) == pytest.approx((plain.bound_low, plain.bound_high + 0.1))


@pytest.mark.parametrize("count", [2, 5])
def test_tokens_that_nobody_counted_leave_the_upper_side_unknown(count: int) -> None:
    tokens = {"metric": "output_tokens_per_s", "unit": "tokens/s", "undecided": 1}
    rates = [replace(served(value, **tokens), bound_high=math.inf) for value in RATES[:count]]
    found, _ = pooled(rates)
    assert (found.status, found.bound_high) == ("PASS", math.inf)
    plain, _ = pooled([served(value) for value in RATES[:count]])
    assert found.bound_low == pytest.approx(plain.bound_low)
    below = [replace(one, limit=200.0) for one in rates]
    assert pooled(below)[0].status == "INCONCLUSIVE"  # the cancelled may have brought what is missing
    assert pooled([replace(one, at_least=False, limit=200.0) for one in rates])[0].status == "INCONCLUSIVE"


def test_a_rate_of_nothing_is_a_fail_that_no_other_run_hides() -> None:
    nothing = served(0.0, status="FAIL", bounds=(0.0, 0.0), reason="between 0 and 0 requests/s")
    assert pooled([nothing] * 2)[0].status == "FAIL"
    found, spread = pooled([*[served(value) for value in RATES[:4]], nothing])
    assert found.status == "INCONCLUSIVE"
    assert found.observed == pytest.approx(96.4)
    assert spread.observed[-1] == 0.0


def test_an_error_budget_says_how_long_it_lasts() -> None:
    share = {"unit": "share", "limit": 0.1, "allowed": 0.1, "statistic": "share", "metric": "error_budget"}
    found, _ = pooled(runs(50, 50, 50, 50, 50, observed=0.05, **share), 720.0)
    assert found.budget_lasts_h == pytest.approx(1440.0)
    assert "at this rate the budget of 30 days is used to at most" in found.reason
    over, _ = pooled(runs(500, 500, 500, 500, 500, observed=0.5, **share), 720.0)
    assert over.budget_lasts_h == pytest.approx(144.0)
    assert "the budget of 30 days lasts at least" in over.reason
    unused, _ = pooled(runs(0, 0, observed=0.0, **share), 720.0)
    assert unused.budget_lasts_h == math.inf
