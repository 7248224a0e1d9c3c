import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtri
from scipy.stats import binom

from analysis.histogram import Histogram, Interval, bin_low
from analysis.samples import gap_tally, pooled_gaps, share_tally
from analysis.sla import Limit
from analysis.statistics import (
    autocorrelation_time,
    cluster_effect,
    mean_of,
    samples_needed,
    share_at_least,
    share_at_most,
    share_bounds,
    small_sample_factor,
    trend,
)

FloatArray = NDArray[np.float64]

# Largest count that passes and smallest that fails, of n independent events (None: no count passes).
ZONES = [
    (200, 0.05, 4, 16),
    (500, 0.05, 16, 34),
    (1000, 0.05, 38, 63),
    (3000, 0.05, 130, 171),
    (5000, 0.05, 224, 277),
    (10000, 0.05, 463, 537),
    (200, 0.01, None, 6),
    (500, 0.01, 1, 10),
    (1000, 0.01, 4, 16),
    (3000, 0.01, 20, 40),
    (10000, 0.01, 83, 118),
    (1000, 0.001, None, 4),
    (3000, 0.001, 0, 7),
    (5000, 0.001, 1, 10),
    (10000, 0.001, 4, 16),
]


@pytest.mark.parametrize(("n", "allowed", "passes", "fails"), ZONES)
def test_bounds_give_the_published_zones(n: int, allowed: float, passes: int | None, fails: int) -> None:
    bounds = [share_bounds(bad, bad, n) for bad in range(fails + 1)]
    passing = [bad for bad, (_, upper) in enumerate(bounds) if upper < allowed]
    failing = [bad for bad, (lower, _) in enumerate(bounds) if lower >= allowed]
    assert (passing[-1] if passing else None) == passes
    assert failing == [fails]


@given(st.integers(1, 2000), st.data())
def test_bounds_are_those_at_which_the_count_becomes_improbable(n: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, n))
    lower, upper = share_bounds(bad, bad, n)
    assert 0 <= lower <= bad / n <= upper <= 1
    if bad < n:
        assert binom.cdf(bad, n, upper) == pytest.approx(0.05, rel=1e-6)
    if bad > 0:
        assert binom.sf(bad - 1, n, lower) == pytest.approx(0.05, rel=1e-6)


@given(st.integers(1, 500), st.data())
def test_more_undecided_only_widens(n: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, n))
    undecided = data.draw(st.integers(0, n - bad))
    lower, upper = share_bounds(bad, bad, n)
    wide_lower, wide_upper = share_bounds(bad, bad + undecided, n)
    assert wide_lower == lower
    assert wide_upper >= upper


def ar1(n: int, phi: float, rng: np.random.Generator) -> FloatArray:
    """Return a stationary AR(1) series of standard normal values."""
    noise = rng.standard_normal(n) * np.sqrt(1 - phi**2)
    noise[0] = rng.standard_normal()
    return np.asarray(lfilter([1.0], [1.0, -phi], noise))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_the_autocorrelation_time_of_an_ar1_series_is_known(phi: float) -> None:
    found = autocorrelation_time(ar1(60_000, phi, np.random.default_rng(7)))
    assert found == pytest.approx((1 + phi) / (1 - phi), rel=0.15)


@pytest.mark.parametrize("series", [[], [1.0], [3.0] * 100, [0.0, 1.0] * 50])
def test_a_series_without_positive_dependence_has_time_one(series: list[float]) -> None:
    assert autocorrelation_time(np.array(series)) == 1.0


@given(st.lists(st.booleans(), max_size=80))
def test_the_autocorrelation_time_is_finite_and_at_least_one(series: list[bool]) -> None:
    assert 1.0 <= autocorrelation_time(np.array(series)) < 200


def test_clusters_that_are_all_alike_have_no_effect() -> None:
    rng = np.random.default_rng(3)
    effect = cluster_effect(rng.binomial(1000, 0.01, 400), np.full(400, 1000))
    assert effect.deff == pytest.approx(1.0, abs=0.25)


def test_the_design_effect_of_beta_binomial_clusters_is_known() -> None:
    rng, size, within = np.random.default_rng(4), 500, 0.02
    share = rng.beta(0.05 * (1 / within - 1), 0.95 * (1 / within - 1), 5000)
    effect = cluster_effect(rng.binomial(size, share), np.full(5000, size))
    assert effect.deff == pytest.approx(1 + (size - 1) * within, rel=0.1)


def test_few_clusters_are_worth_less() -> None:
    assert small_sample_factor(9) == pytest.approx((1.6449 / 1.8331) ** 2, rel=1e-3)
    assert small_sample_factor(9) < small_sample_factor(50) < small_sample_factor(1e6) <= 1.0


def test_the_lower_bound_knows_how_bad_ones_come_together_and_half_of_the_rest() -> None:
    """Slow waves in which a tenth is too slow: neighbours are alike, those that are too slow hardly are."""
    rng = np.random.default_rng(14)
    slow = np.repeat(rng.random(200) < 0.3, 50)
    values = rng.random(len(slow)) + slow
    bad = slow & (rng.random(len(slow)) < 0.1)
    tally = share_tally(bad, bad, [values], 0.05)
    assert tally.alike > 5 * autocorrelation_time(bad)
    assert tally.alike_low == pytest.approx(math.sqrt(autocorrelation_time(bad) * tally.alike))
    low, high = tally.bounds()
    assert low == pytest.approx(share_at_least(tally.bad / tally.alike_low, tally.n / tally.alike_low))
    assert high == pytest.approx(share_at_most(tally.bad * tally.n_eff / tally.n, tally.n_eff))
    assert share_tally(bad, bad | slow, [values], 0.05).alike_low >= tally.alike_low


@pytest.mark.parametrize(("allowed", "needed"), [(0.05, 59), (0.01, 299), (0.001, 2995)])
def test_without_any_bad_event_the_classical_numbers_are_needed(allowed: float, needed: int) -> None:
    assert samples_needed(0.0, allowed) == pytest.approx(needed, rel=2e-3)


@given(st.floats(0, 0.3), st.sampled_from([0.001, 0.01, 0.05]))
def test_the_number_that_is_needed_decides_and_half_of_it_does_not(share: float, allowed: float) -> None:
    needed = samples_needed(share, allowed)
    if needed is None:
        assert share == pytest.approx(allowed, rel=1e-3)
        return

    def undecided(n: float) -> bool:
        lower, upper = share_bounds(share * n, share * n, n)
        return lower < allowed <= upper

    assert not undecided(needed * 1.01)
    assert needed <= 3 or undecided(needed * 0.5)


def test_an_observed_share_on_the_limit_is_never_decided() -> None:
    assert samples_needed(0.05, 0.05) is None


def coverage(found: list[tuple[float, float] | None], truth: float) -> tuple[float, float, int]:
    """Return how often the truth is below the upper and above the lower bound, and of how many bounds."""
    bounds = [one for one in found if one is not None]
    below = sum(upper >= truth for _, upper in bounds) / len(bounds)
    above = sum(lower <= truth for lower, _ in bounds) / len(bounds)
    return below, above, len(bounds)


@pytest.mark.parametrize(("phi", "allowed"), [(0.0, 0.05), (0.8, 0.05), (0.8, 0.01)])
def test_bounds_on_a_share_cover_the_truth_as_often_as_they_say(phi: float, allowed: float) -> None:
    rng, runs, n = np.random.default_rng(11), 300, 4000
    threshold = ndtri(1 - allowed)

    def naive(bad: NDArray[np.bool_]) -> tuple[float, float]:
        return share_bounds(int(bad.sum()), int(bad.sum()), n)

    def ours(values: FloatArray) -> tuple[float, float] | None:
        bad = values > threshold
        tally = share_tally(bad, bad, [values], allowed)
        return None if tally.refusal else tally.bounds()

    samples = [ar1(n, phi, rng) for _ in range(runs)]
    below, above, given_bounds = coverage([ours(values) for values in samples], allowed)
    naive_below, naive_above, _ = coverage([naive(values > threshold) for values in samples], allowed)
    print(
        f"\nphi {phi} share {allowed}: upper {below:.3f} lower {above:.3f} of {given_bounds} (nominal 0.95)"
    )
    print(f"  taken as independent: upper {naive_below:.3f} lower {naive_above:.3f}")
    assert given_bounds >= 0.9 * runs
    assert below > 0.91  # 0.95 less three standard errors of 300 runs
    assert above > 0.91
    if phi:
        assert min(naive_below, naive_above) < 0.91


def test_bounds_on_pooled_gaps_cover_the_truth_though_whole_seconds_stall_together() -> None:
    rng, runs, seconds, per_second = np.random.default_rng(12), 200, 60, 1500
    limit = Limit("itl", strict=True, limit_ns=20_000_000)
    good, bad, truth = 8_000_000, 30_000_000, 0.01

    def draw() -> tuple[float, float] | None:
        intervals = []
        for stalled in rng.binomial(per_second, np.minimum(rng.gamma(1.0, truth, seconds), 1)):
            counts = [bin_low(good), per_second - int(stalled), bin_low(bad), int(stalled)]
            one = Histogram.from_plain([per_second, 0, good, bad, counts])
            intervals.append(Interval("", len(intervals), one))
        none_failed = pd.DataFrame({"due_unix_ns": [], "outcome": []}, dtype="int64")
        tally = gap_tally(pooled_gaps(intervals, none_failed, range(seconds)), limit, truth)
        assert tally.degrees == max(1.0, tally.independent / 6 - 1)
        deff_low = tally.alike_low**2 / tally.alike * small_sample_factor(tally.degrees)
        assert 1 <= deff_low <= tally.alike * (1 + 1e-9), "of the bad ones alone"
        return None if tally.refusal else tally.bounds()

    below, above, given_bounds = coverage([draw() for _ in range(runs)], truth)
    print(print(f"\npooled gaps: upper {below:.3f} lower {above:.3f} of {given_bounds} (nominal 0.95)"))
    assert given_bounds >= 0.9 * runs
    assert below > 0.90  # 0.95 less three standard errors of 200 runs
    assert above > 0.90


def test_bounds_on_a_mean_cover_the_truth() -> None:
    rng = np.random.default_rng(13)

    def draw() -> tuple[float, float]:
        return mean_of(np.exp(ar1(2000, 0.5, rng)), np.ones(2000)).bounds()

    below, above, _ = coverage([draw() for _ in range(400)], float(np.exp(0.5)))
    print(f"\nmean: upper {below:.3f} lower {above:.3f} (nominal 0.95)")
    assert below > 0.90
    assert above > 0.90


def test_a_mean_of_pooled_values_weighs_by_count() -> None:
    total, count = np.array([10.0, 300.0] * 50), np.array([1.0, 10.0] * 50)
    found = mean_of(total, count)
    assert found.value == pytest.approx(310 / 11)
    lower, upper = found.bounds()
    assert lower < 310 / 11 < upper
    alike = mean_of(10 * count, count)  # each term has the mean of the whole, whatever it weighs
    assert (alike.value, alike.error) == (10.0, 0.0)


SECONDS = np.arange(60)


def test_a_straight_rise_is_rising() -> None:
    found = trend(SECONDS, 20 + 2.0 * SECONDS + np.random.default_rng(1).standard_normal(60))
    assert found is not None
    assert found.rising
    assert found.start == pytest.approx(20, abs=2)
    assert found.end == pytest.approx(138, abs=2)


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("a start-up ramp that levels off", 30 * (1 - np.exp(-SECONDS / 4))),
        ("a small rise", 100 + 0.5 * SECONDS),
        ("a fall", 100 - SECONDS),
        ("an early step", np.where(SECONDS < 25, 10.0, 30.0)),
        ("a step in the middle", np.where(SECONDS < 30, 10.0, 30.0)),
        ("a late step", np.where(SECONDS < 45, 10.0, 30.0)),
        ("nothing at all", np.zeros(60)),
    ],
)
def test_what_is_no_overload_is_not_rising(what: str, values: FloatArray) -> None:
    noise = 0.3 * np.random.default_rng(2).standard_normal(60) if values.any() else 0
    found = trend(SECONDS, values + noise)
    assert found is not None
    assert not found.rising, what


def test_too_few_seconds_have_no_trend() -> None:
    assert trend(SECONDS[:19], SECONDS[:19] * 100.0) is None


def queue(rho: float, seconds: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return mean sojourn time and number in system per second of an M/M/1 queue that serves 50 a second."""
    due = np.cumsum(rng.exponential(1 / (50 * rho), int(60 * rho * seconds)))
    service, free, done = rng.exponential(1 / 50, len(due)), 0.0, np.empty(len(due))
    for i, (arrival, needs) in enumerate(zip(due, service, strict=True)):
        free = done[i] = max(free, arrival) + needs
    at = range(5, seconds)  # filled for 5 s before
    sojourn = np.array([np.mean((done - due)[(due >= s) & (due < s + 1)]) for s in at])
    in_system = np.array([np.sum((due <= s) & (done > s)) for s in at], dtype=np.float64)
    return sojourn, in_system


@pytest.mark.parametrize(
    ("rho", "at_least", "at_most"), [(0.5, 0.0, 0.03), (0.8, 0.0, 0.05), (1.3, 0.97, 1.0)]
)
def test_an_overloaded_queue_is_rising_and_a_stable_one_is_not(
    rho: float, at_least: float, at_most: float
) -> None:
    rng, flagged, runs = np.random.default_rng(5), 0, 60
    for _ in range(runs):
        trends = [trend(np.arange(len(values)), values) for values in queue(rho, 60, rng)]
        flagged += all(one is not None and one.rising for one in trends)
    print(f"\nM/M/1 rho {rho}: {flagged} of {runs} runs of 55 s called oversaturated")
    assert at_least <= flagged / runs <= at_most
