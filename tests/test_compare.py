import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.blocks import ROUNDING, crossings, holm, paired_ratio, pairs_needed, unpaired_ratio
from analysis.charts import Judged
from analysis.compare import MISSING, Comparison, compare
from analysis.effects import BETTER, EQUIVALENT, NO_DIFFERENCE, NO_RATIO, ONE_PAIR, WORSE, Effect
from analysis.reading import ERRORS, TOKENS, ComparisonError
from analysis.replications import replications
from analysis.rundir import load
from analysis.sentences import effect_of, sentences
from analysis.sla import default, parse
from analysis.verdict import INVALID, OVERSATURATED, judge
from analysis.weighing import weigh
from tests.experiments import experiment, measured
from tests.run_directories import MS, START_S, Requests, change_meta, gaps_of, make_record
from tokenswarm import judging

T_1 = 12.706204736  # 97.5 % quantile of Student's t with one degree of freedom
T_2 = 4.302652730  # with two
FIRST_TOKEN = parse("name: first\nobjectives: [ttft p95 < 100 ms]", "test")
STEADY = {"ttft_sigma": 0.02, "itl_sigma": 0.02}
SERVERS: dict[str, dict[str, Any]] = {"baseline": STEADY, "awq": {**STEADY, "ttft_ms": 80.0, "itl_ms": 10.0}}


# Blocks


def test_the_ratio_of_two_pairs_by_hand() -> None:
    found = paired_ratio([2.0, 24.0], [1.0, 3.0])  # ratios 2 and 8: their logarithms are ln 4 -+ ln 2
    assert found.ratio == pytest.approx(4.0)
    assert found.low == pytest.approx(4 * 2**-T_1)
    assert found.high == pytest.approx(4 * 2**T_1)
    assert found.p == pytest.approx(1 - 2 / math.pi * math.atan(2))  # t = ln 4 / ln 2, Cauchy's law


def test_the_ratio_of_three_pairs_by_hand() -> None:
    found = paired_ratio([math.e, 1.0, 1.0], [1.0, 1.0, math.e])  # logarithms 1, 0, -1
    assert found.ratio == pytest.approx(1.0)
    assert found.high == pytest.approx(math.exp(T_2 / math.sqrt(3)))
    assert found.p == pytest.approx(1.0)


def test_one_pair_has_a_ratio_and_no_interval() -> None:
    found = paired_ratio([190.0], [100.0])
    assert found.ratio == pytest.approx(1.9)
    assert (found.low, found.high, found.p) == (None, None, None)


def test_equal_blocks_are_no_certainty() -> None:
    found = paired_ratio([20.0, 20.0], [10.0, 10.0])
    assert found.high == pytest.approx(2 * math.exp(T_1 * ROUNDING / math.sqrt(2)))
    assert found.p is not None
    assert found.p > 0


def test_the_ratio_of_runs_that_are_no_pairs_by_hand() -> None:
    e = math.e
    found = unpaired_ratio(
        [e, e**3], [1.0, 1.0, 1.0]
    )  # logarithms 2 -+ 1 (variance 2) against 0 (rounding's)
    assert found.ratio == pytest.approx(e**2)
    assert found.freedom == pytest.approx(1.0, abs=1e-5)  # Welch: all of the error is the first side's
    assert found.high == pytest.approx(math.exp(2 + T_1), rel=1e-4)
    assert (unpaired_ratio([2.0], [1.0, 1.0]).ratio, unpaired_ratio([2.0], [1.0, 1.0]).p) == (
        pytest.approx(2.0),
        None,
    )


def test_many_ratios_at_once_are_wider() -> None:
    alone, of_five = (paired_ratio([2.0, 24.0], [1.0, 3.0], at_once) for at_once in (1, 5))
    assert of_five.high == pytest.approx(4 * 2 ** math.tan(math.pi * (0.995 - 0.5)))  # Cauchy's law
    assert (of_five.p, of_five.high_90) == (alone.p, alone.high_90)


def test_the_pairs_that_decide_by_hand() -> None:
    logs = [0.01, 0.03, 0.05, -0.01, -0.03, -0.05]
    found = paired_ratio(np.exp(logs).tolist(), [1.0] * 6)
    spread = math.sqrt(sum(one**2 for one in logs) / 5)
    assert found.spread == pytest.approx(spread)
    t_test, t_power = 2.570581836, 0.919543780  # 97.5 % and 80 % quantiles of Student's t with five degrees
    expected = math.ceil(((t_test + t_power) * spread / math.log(1.05)) ** 2)
    assert pairs_needed(found, 6, 0.05) == expected == 8
    assert pairs_needed(found, 8, 0.05) == 9  # more than there are, whatever the formula says
    assert pairs_needed(found, 6, 0.01) > 100
    assert pairs_needed(found, 6, 0.05, tests=4) > expected
    with pytest.raises(ValueError, match="without an interval"):
        pairs_needed(paired_ratio([1.0], [1.0]), 1, 0.05)


@pytest.mark.parametrize("blocks", [2, 3, 5])
def test_the_interval_holds_the_truth_in_95_of_100_experiments(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    trials, truth = 4000, 1.3
    machine = np.exp(rng.normal(0, 0.2, (trials, blocks)))  # drift that a pair shares
    noise = np.exp(rng.normal(0, 0.03, (2, trials, blocks)))
    found = [paired_ratio(truth * machine[i] * noise[0, i], machine[i] * noise[1, i]) for i in range(trials)]
    covered = sum((one.low or 0) <= truth <= (one.high or 0) for one in found) / trials
    assert covered == pytest.approx(0.95, abs=0.011)  # three standard errors of 4,000 trials


def test_several_metrics_without_a_difference_are_rarely_called_one() -> None:
    rng = np.random.default_rng(7)
    called = 0
    for _ in range(2000):
        logs = rng.normal(0, 0.03, (5, 4))  # five metrics, four blocks
        p_values = [paired_ratio(np.exp(one).tolist(), [1.0] * 4).p or 0.0 for one in logs]
        called += min(holm(p_values)) < 0.05
    assert called / 2000 <= 0.065
    assert called / 2000 >= 0.03  # and the correction is no wider than it must be


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.6], [1.0, 1.0]),
    ],
)
def test_holm_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


@pytest.mark.parametrize(
    ("signs", "found"),
    [
        ([], ()),
        ([(1, -1), (4, -1)], ()),
        ([(1, -1), (4, 1)], ((1, 4),)),
        ([(1, -1), (2, 0), (4, 1)], ((1, 4),)),
        ([(1, 0), (2, 0), (4, 1)], ()),
        ([(1, 1), (2, -1), (4, 0), (8, 1)], ((1, 2), (2, 8))),
    ],
)
def test_crossings(signs: list[tuple[float, int]], found: tuple[tuple[float, float], ...]) -> None:
    assert crossings(signs) == found


# Runs


def requests(ttft_ms: float, failed: int = 0) -> Requests:
    """Sixty requests, five a second; all alike, and the first few of the window fail."""
    made = []
    for i in range(60):
        due = START_S * 10**9 + i * 200 * MS
        record = make_record(due, ttft_ms, [10.0] * 9, "http_5xx" if 10 <= i < 10 + failed else "ok")
        made.append((record, gaps_of(record, [10.0] * 9)))
    return made


def runs_of(folder: Path, ttft_ms: Mapping[str, list[float]], **knobs: Any) -> list[Judged]:
    """Judge an experiment of which each run has one first-token time."""
    baseline = next(iter(ttft_ms))
    made = []
    for server, blocks in ttft_ms.items():
        for block, value in enumerate(blocks, 1):
            given = requests(value, knobs.get("failed", {}).get(server, 0))
            path = measured(folder, server, baseline=baseline, block=block, requests=given, seconds=12)
            run = load(path)
            made.append((run, judge(run, knobs.get("sla", FIRST_TOKEN))))
    return made


def the_effect(comparison: Comparison, metric: str = "ttft p95") -> Effect:
    (contrast,) = comparison.contrasts
    effect = effect_of(contrast, metric)
    assert effect is not None
    return effect


def test_a_ratio_and_its_interval_from_run_directories(tmp_path: Path) -> None:
    found = compare(runs_of(tmp_path, {"baseline": [100.0, 110.0], "awq": [190.0, 198.0]}))
    effect = the_effect(found)
    logs = [math.log(1.9), math.log(1.8)]
    middle, reach = sum(logs) / 2, T_1 * abs(logs[0] - logs[1]) / 2
    assert (effect.candidate, effect.baseline) == (194.0, 105.0)  # medians over blocks
    assert effect.ratio == pytest.approx(math.exp(middle))
    assert effect.low == pytest.approx(math.exp(middle - reach))
    assert effect.high == pytest.approx(math.exp(middle + reach))
    assert (effect.outcome, effect.limited) == (WORSE, True)
    (text, _) = sentences(found)
    assert text.startswith(
        "awq answers later than baseline at 4 users: first token at p95 194 ms against 105 ms "
    )
    assert "(1.85 x, 1.31-2.61, 2 pairs; by more than 5 %)" in text
    assert "One load only" in text


def test_one_pair_is_told_as_what_was_seen(tmp_path: Path) -> None:
    found = compare(runs_of(tmp_path, {"baseline": [100.0], "int8": [79.0]}))
    assert the_effect(found).outcome == ONE_PAIR
    assert the_effect(found, ERRORS).outcome == ONE_PAIR
    assert sentences(found)[0].startswith("int8 answered earlier than baseline at 4 users")
    assert "(0.79 x, one pair: no interval)" in sentences(found)[0]


def test_what_is_not_shown_is_not_claimed(tmp_path: Path) -> None:
    found = compare(runs_of(tmp_path, {"baseline": [100.0, 100.0], "awq": [95.0, 111.0]}))
    effect = the_effect(found)
    assert effect.outcome == NO_DIFFERENCE
    assert (effect.low or 9) < 1 < (effect.high or 0)
    assert sentences(found)[0].startswith("awq is not shown to differ from baseline at 4 users")


def test_what_the_sla_limits_is_tested_together(tmp_path: Path) -> None:
    ttft_ms = {"baseline": [100.0, 100.0], "awq": [150.0, 156.0]}
    alone = compare(runs_of(tmp_path / "alone", ttft_ms))
    both = parse("name: both\nobjectives: [ttft p95 < 100 ms, ttft p50 < 80 ms, itl p99 < 20 ms]", "test")
    among = compare(runs_of(tmp_path / "among", ttft_ms, sla=both))
    p, of_three = the_effect(alone).p, the_effect(among).p
    assert p is not None
    assert p < 0.05
    assert of_three == pytest.approx(3 * p)
    assert the_effect(alone).outcome == WORSE
    assert the_effect(among).outcome == NO_DIFFERENCE
    assert "alone it would count, among 3 limited metrics it does not" in sentences(among)[0]
    assert the_effect(alone, "ttft p50").outcome == WORSE  # not limited there: it describes


def test_percentiles_that_the_sla_limits_are_compared_too(tmp_path: Path) -> None:
    by = parse("name: ninety\nobjectives: [ttft p90 < 150 ms, e2e mean < 1 s]", "test")
    found = compare(runs_of(tmp_path, {"baseline": [100.0, 101.0], "awq": [190.0, 191.0]}, sla=by))
    assert found.limits_ms == {"ttft p90": 150.0}
    metrics = [effect.metric for effect in found.contrasts[0].effects]
    assert metrics[:3] == ["ttft p50", "ttft p90", "ttft p95"]


def test_more_tokens_are_better(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"meta": {"workload": {"max_tokens": 16}}}
    servers = {"baseline": asked, "int8": {**asked, "tokens": 16}}  # answers twice as much meanwhile
    found = compare(experiment(tmp_path, servers, blocks=3))
    effect = the_effect(found, TOKENS)
    assert (effect.ratio or 0) > 1.8
    assert effect.outcome == BETTER
    assert the_effect(found, "e2e p50").outcome == WORSE


def test_failed_requests_that_reach_a_percentile_leave_no_ratio(tmp_path: Path) -> None:
    ttft_ms = {"baseline": [100.0, 110.0], "awq": [90.0, 91.0]}
    found = compare(runs_of(tmp_path, ttft_ms, failed={"awq": 12}))
    effect = the_effect(found)
    assert (effect.outcome, effect.reason) == (NO_RATIO, "failed requests reach that percentile")
    assert the_effect(found, "ttft p50").ratio == pytest.approx(math.sqrt(90 / 100 * 91 / 110))
    assert the_effect(found, ERRORS).outcome == WORSE
    text = sentences(found)[0]
    assert text.startswith("awq has no ratio to baseline")
    assert "Failed requests 24 % against none at 4 users (worse)." in text
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["readings"][0]["values"]["ttft p95"]


def test_a_few_failures_more_are_not_called_worse(tmp_path: Path) -> None:
    found = compare(runs_of(tmp_path, {"baseline": [99.0, 99.0], "awq": [99.0, 99.0]}, failed={"awq": 1}))
    assert the_effect(found, ERRORS).candidate == pytest.approx(1 / 50)
    assert the_effect(found, ERRORS).outcome == NO_DIFFERENCE


# The margin, and one verdict

NEAR = {"baseline": [100.0, 110.0, 120.0, 105.0], "awq": [101.0, 110.5, 120.0, 105.5]}


def test_what_differs_by_less_than_the_margin_is_equivalent(tmp_path: Path) -> None:
    found = compare(runs_of(tmp_path, NEAR))
    effect = the_effect(found)
    assert (effect.outcome, effect.within, effect.more_pairs) == (EQUIVALENT, True, None)
    assert sentences(found)[0].startswith("awq answers as soon as baseline (within 5 %) at 4 users: ")
    assert weigh(found)["awq"].status == "PASS"
    assert weigh(found)["awq"].reasons == ("nothing that the SLA limits is worse by 5 %",)
    narrow = compare(runs_of(tmp_path, NEAR), margin=0.005)
    assert the_effect(narrow).outcome == NO_DIFFERENCE
    assert the_effect(narrow).more_pairs is not None
    assert weigh(narrow)["awq"].status == "INCONCLUSIVE"


def test_a_difference_within_the_margin_is_told_and_does_not_count(tmp_path: Path) -> None:
    found = compare(runs_of(tmp_path, {"baseline": [100.0, 110.0, 120.0], "awq": [102.0, 112.0, 122.5]}))
    effect = the_effect(found)
    assert (effect.outcome, effect.within, effect.beyond) == (WORSE, True, False)
    assert sentences(found)[0].startswith("awq answers later than baseline (by less than 5 %) at 4 users: ")
    assert weigh(found)["awq"].status == "PASS"


def test_more_pairs_are_asked_for_where_nothing_is_shown(tmp_path: Path) -> None:
    found = compare(runs_of(tmp_path, {"baseline": [100.0, 100.0], "awq": [95.0, 111.0]}))
    more = the_effect(found).more_pairs
    assert more is not None
    assert more > 10
    assert f"about {more} more pairs would show 5 % or rule it out" in sentences(found)[0]
    (reason,) = weigh(found)["awq"].reasons
    assert reason.startswith("ttft p95 (1.03 x): no difference shown; about ")


def test_worse_is_a_fail_and_one_pair_proves_nothing(tmp_path: Path) -> None:
    worse = weigh(compare(runs_of(tmp_path / "worse", {"baseline": [100.0, 110.0], "awq": [190.0, 198.0]})))
    assert (worse["awq"].status, worse["awq"].exit_code) == ("FAIL", 3)
    assert worse["awq"].reasons == ("ttft p95 (1.85 x) worse, by more than 5 %",)
    one = weigh(compare(runs_of(tmp_path / "one", {"baseline": [100.0], "awq": [190.0]})))
    assert one["awq"].status == "INCONCLUSIVE"
    assert one["awq"].reasons == ("ttft p95 (1.9 x): one pair proves nothing",)


def test_better_but_without_the_quality_is_a_fail(tmp_path: Path) -> None:
    found = compare(runs_of(tmp_path, {"baseline": [100.0, 110.0], "awq": [50.0, 54.0]}))
    assert weigh(found)["awq"].status == "PASS"
    quality = {"awq": {"status": "FAIL", "reasons": ["kl <= 0.05: at least 0.31"]}}
    weighed = weigh(found, quality)["awq"]
    assert (weighed.status, weighed.reasons) == ("FAIL", ("quality FAIL: kl <= 0.05: at least 0.31",))
    assert (
        "against baseline: awq worse (quality FAIL: kl <= 0.05: at least 0.31)"
        in sentences(found, quality)[-1]
    )


def test_failures_that_the_sla_limits_are_weighed(tmp_path: Path) -> None:
    by = parse("name: few\nobjectives: [error_rate < 10 %]", "test")
    ttft_ms = {"baseline": [99.0, 99.0], "awq": [99.0, 99.0]}
    fine = compare(runs_of(tmp_path / "fine", ttft_ms, sla=by))
    assert (the_effect(fine, ERRORS).limited, the_effect(fine, ERRORS).outcome) == (True, EQUIVALENT)
    assert weigh(fine)["awq"].status == "PASS"
    some = compare(runs_of(tmp_path / "some", ttft_ms, sla=by, failed={"awq": 3}))
    assert the_effect(some, ERRORS).outcome == NO_DIFFERENCE
    assert weigh(some)["awq"].status == "INCONCLUSIVE"
    many = compare(runs_of(tmp_path / "many", ttft_ms, sla=by, failed={"awq": 12}))
    assert weigh(many)["awq"].status == "FAIL"


def test_a_load_of_which_no_run_counts_is_invalid(tmp_path: Path) -> None:
    judged = runs_of(tmp_path, {"baseline": [100.0], "awq": [190.0]})
    change_meta(judged[-1][0].path, {"accounting": {"unaccounted": 3}})
    run = load(judged[-1][0].path)
    weighed = weigh(compare([judged[0], (run, judge(run, FIRST_TOKEN))]))["awq"]
    assert (weighed.status, weighed.exit_code) == ("INVALID", 5)
    lost = "unaccounted: found 3, limit 0; look into the workers' logs, and measure again"
    assert weighed.reasons == (f"no run counts: awq: {lost}",)


def test_a_difference_that_is_one_of_many_loads_is_not_sure(tmp_path: Path) -> None:
    """Each load is a family of its own for what is told; the verdict is on all of them."""
    ttft_ms = {"baseline": [100.0, 100.0], "awq": [150.0, 158.0]}
    (only,) = compare(runs_of(tmp_path, ttft_ms)).contrasts
    found = compare(runs_of(tmp_path, ttft_ms))
    assert 0.017 < (the_effect(found).p_alone or 0) < 0.05
    levels = [replace(only, level=level) for level in (1.0, 2.0, 4.0)]
    several = replace(found, contrasts=tuple(levels), levels=(1.0, 2.0, 4.0))
    assert weigh(several)["awq"].status == "INCONCLUSIVE"
    reason = weigh(several)["awq"].reasons[0]
    assert reason.startswith("at 1 user: ttft p95 (1.54 x): worse at this load alone")


def test_the_margin_of_an_experiment_is_kept_with_its_runs(tmp_path: Path) -> None:
    judged = runs_of(tmp_path, NEAR)
    for run, _ in judged:
        change_meta(run.path, {"experiment": {"margin": 0.005}})
    again = [load(run.path) for run, _ in judged]
    found = compare([(run, judge(run, FIRST_TOKEN)) for run in again])
    assert (found.margin, the_effect(found).outcome) == (0.005, NO_DIFFERENCE)
    change_meta(again[0].path, {"experiment": {"margin": 5}})
    with pytest.raises(
        ComparisonError, match=r"found experiment.margin = 5, expected a number between 0 and 1"
    ):
        compare([(run, judge(run, FIRST_TOKEN)) for run in [load(run.path) for run in again]])


# Where in the distribution


def test_a_tail_that_grew_is_told_from_everything_being_slower(tmp_path: Path) -> None:
    def spread(late: float) -> Requests:
        """Two hundred requests between 50 and 150 ms; the last fifth is later by a factor."""
        made = []
        for i in range(200):
            ttft = (50 + 0.5 * i) * (late if i >= 160 else 1.0)
            record = make_record(START_S * 10**9 + i * 60 * MS, ttft, [10.0] * 9, "ok")
            made.append((record, gaps_of(record, [10.0] * 9)))
        return made

    judged = []
    for block in (1, 2, 3):
        for server, late in (("baseline", 1.0), ("awq", 2.0 + block / 50)):
            path = measured(
                tmp_path,
                server,
                baseline="baseline",
                block=block,
                requests=spread(late),
                seconds=12,
                warmup_s=0,
            )
            run = load(path)
            judged.append((run, judge(run, FIRST_TOKEN)))
    (contrast,) = compare(judged).contrasts
    (shift,) = [one for one in contrast.shifts if one.metric == "ttft"]
    signs = {one.percentile: one.sign for one in shift.points}
    assert signs == {**dict.fromkeys((10, 20, 30, 40, 50, 60, 70, 80), 0), 90: 1, 95: 1}
    assert shift.where == "slower at p90 to p95"
    assert "First token slower at p90 to p95." in sentences(compare(judged))[0]


# Levels


def test_a_crossover_lies_between_two_levels_that_show_it(tmp_path: Path) -> None:
    factors = {1: {"awq": 0.4}, 2: {"awq": 0.5}, 4: {"awq": 1.0}, 8: {"awq": 2.0}}
    found = compare(experiment(tmp_path, SERVERS, factors, blocks=2))
    (first,) = [one for one in found.crossovers if one.metric == "ttft p95"]
    assert (first.levels, first.between, first.better_below) == ((1, 2, 4, 8), ((2, 4),), True)
    (text, _) = sentences(found)
    assert text.startswith("awq answers earlier than baseline at 1 and 2 users, later at 4 and 8 users: ")
    assert "Crossover: first token between 2 and 4 users (better below)" in text


def test_no_crossover_is_said_too(tmp_path: Path) -> None:
    found = compare(experiment(tmp_path, SERVERS, [1, 4], blocks=2))
    assert "No crossover between 1 and 4 users." in sentences(found)[0]


def test_a_crossover_of_single_pairs_is_not_confirmed(tmp_path: Path) -> None:
    found = compare(experiment(tmp_path, SERVERS, {1: {"awq": 0.4}, 4: {}}, blocks=1))
    assert "Crossover (one pair: not confirmed): first token between 1 and 4 users" in sentences(found)[0]
    found = compare(experiment(tmp_path, SERVERS, [1, 4], blocks=1))
    assert "No crossover seen between 1 and 4 users." in sentences(found)[0]


def test_the_tokens_of_an_open_loop_cross_nothing(tmp_path: Path) -> None:
    open_loop = {name: {**knobs, "loop": "open"} for name, knobs in SERVERS.items()}
    found = compare(experiment(tmp_path, open_loop, [10, 20], blocks=1))
    assert found.unit == "arrivals/s"
    assert {one.metric for one in found.crossovers} == {"ttft p95", "itl p50", "e2e p50"}
    assert "at 10 and 20 arrivals/s" in sentences(found)[0]


# Runs that do not count


def test_a_pair_that_is_invalid_is_left_out_with_its_reason(tmp_path: Path) -> None:
    judged = runs_of(tmp_path, {"baseline": [100.0, 100.0, 100.0], "awq": [190.0, 188.0, 1.0]})
    change_meta(judged[-1][0].path, {"accounting": {"unaccounted": 3}})
    run = load(judged[-1][0].path)
    found = compare([*judged[:-1], (run, judge(run, FIRST_TOKEN))])
    (contrast,) = found.contrasts
    assert contrast.blocks == (1, 2)
    assert the_effect(found).ratio == pytest.approx(math.sqrt(1.9 * 1.88))
    (left_out,) = contrast.left_out
    assert (left_out.block, left_out.server, left_out.what) == (3, "awq", INVALID)
    assert (
        "Not counted: awq INVALID in block 3 at 4 users (unaccounted: found 3, limit 0; look into"
        in sentences(found)[0]
    )
    assert found.readings[-1].values == {} or found.readings[-2].values == {}


def test_an_oversaturated_server_has_no_ratio_at_that_level(tmp_path: Path) -> None:
    steady = {"loop": "open", "seconds": 26}
    rising = {**steady, "ttft_rise_ms": 3000.0, "in_flight_rise": 300.0}
    judged = experiment(tmp_path, {"baseline": steady, "awq": steady}, [20], blocks=2)
    judged += experiment(tmp_path, {"baseline": steady, "awq": rising}, [40], blocks=2)
    found = compare(judged)
    assert [bool(one.effects) for one in found.contrasts] == [True, False]
    assert {one.what for one in found.contrasts[1].left_out} == {OVERSATURATED}
    assert "oversaturated at 40 arrivals/s" in sentences(found)[0]
    assert found.crossovers == ()


def test_what_was_not_measured_is_missing(tmp_path: Path) -> None:
    judged = runs_of(tmp_path, {"baseline": [100.0, 100.0], "awq": [190.0]})
    found = compare(judged)
    assert [(one.block, one.server, one.what) for one in found.contrasts[0].left_out] == [(2, "awq", MISSING)]
    assert the_effect(found).outcome == ONE_PAIR
    assert "Not counted: awq missing in block 2 at 4 users." in sentences(found)[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"load": {"seed": 9}}, "found load.seed 9, expected 1 as in .*baseline-4-1: they are no pair"),
        ({"load": {"users": 9}}, "found load.users 9, expected 4"),
        ({"workload": {"max_tokens": 9}}, "found workload.max_tokens 9, expected 8"),
        ({"workload": {"ignore_eos": True}}, "found workload.ignore_eos True, expected None"),
        ({"deadlines": {"total_s": 9}}, "found deadlines.total_s 9, expected 60"),
        ({"target": {"url": "http://gpu-7:8000"}}, "found target.host 'gpu-7', expected 'loopback'"),
        ({"experiment": {"baseline": "int8"}}, "found the baseline 'int8', expected 'baseline'"),
        ({"experiment": {"server": "baseline"}}, "found the same server, level and block as in "),
        ({"experiment": None}, "found experiment = None, expected an object with server, baseline, level"),
        ({"experiment": {"level": "4"}}, "expected an object with server"),
    ],
)
def test_runs_that_are_no_pair_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    judged = runs_of(tmp_path, {"baseline": [100.0], "awq": [190.0]})
    path = judged[1][0].path
    change_meta(path, change)
    other = load(path)
    with pytest.raises(ComparisonError, match=said) as refused:
        compare([judged[0], (other, judge(other, FIRST_TOKEN))])
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_nothing_to_compare_is_refused(tmp_path: Path) -> None:
    judged = runs_of(tmp_path, {"baseline": [100.0, 100.0], "awq": [190.0]})
    with pytest.raises(ComparisonError, match=r"^found no runs"):
        compare([])
    with pytest.raises(
        ComparisonError, match=r"^found runs of baseline, expected the baseline 'baseline' and"
    ):
        compare(judged[:2])
    with pytest.raises(ComparisonError, match=r"^found runs of awq, expected the baseline 'baseline' and"):
        compare(judged[2:])
    with pytest.raises(ComparisonError, match="found the SLA 'sub-100ms', expected 'first'"):
        compare([*judged[:2], (judged[2][0], judge(judged[2][0], default()))])


# Words


def test_what_is_known_of_the_servers_is_told(tmp_path: Path) -> None:
    def served(kernel: str, expected: str, memory_mb: int) -> dict[str, Any]:
        facts = {"kernels": [kernel], "kernel_expected": expected, "kernel_ok": expected in kernel}
        return {"meta": {"server": {**facts, "ready_s": 31.4, "memory_mb": memory_mb}}}

    servers = {
        "baseline": {},
        "awq": {**served("CPUWNA16LinearKernel", "WNA16", 1904), "simulated": True},
        "int8": served("SlowKernel", "CPUInt8", 2231),
    }
    found = compare(experiment(tmp_path, servers, blocks=1))
    assert [server.memory_mb for server in found.servers] == [None, 1904, 2231]
    assert found.servers[1].ready_s == 31.4
    quality = {
        "awq": {"status": "FAIL", "reasons": ["kl <= 0.05: at least 0.31", "top1"]},
        "int8": {"status": "PASS", "reasons": ["all 7 limits hold"]},
    }
    awq, int8, sla = sentences(found, quality)
    silent = replace(found.servers[1], kernels=())
    unknown, *_ = sentences(replace(found, servers=(found.servers[0], silent, found.servers[2])), quality)
    assert "Its log names no kernel; WNA16 was expected." in unknown
    assert "Its kernel is CPUWNA16LinearKernel." in awq
    assert "Quality FAIL: kl <= 0.05: at least 0.31 (and 1 more)." in awq
    assert "Its kernel is SlowKernel, not the expected CPUInt8." in int8
    assert "Quality PASS: all 7 limits hold." in int8
    assert all(text.startswith("SIMULATED: ") for text in (awq, int8, sla))
    assert "awq (FAILs on quality, too)" in sla


def test_the_sla_holds_up_to_a_level(tmp_path: Path) -> None:
    by = parse("name: quick\nobjectives: [ttft p50 < 60 ms]", "test")
    factors = {1: {}, 2: {"awq": 1.5}, 4: {"awq": 0.5, "baseline": 2.0}}
    found = compare(experiment(tmp_path, {"baseline": {}, "awq": {}}, factors, blocks=1, sla=by))
    assert sentences(found)[-1] == (
        "SLA quick: baseline holds it up to 2 users; awq holds it up to 1 user. "
        "By these limits, against baseline: "
        "awq undecided (at 1 user: ttft p50 (0.976 x): one pair proves nothing)."
    )


@pytest.mark.usefixtures("no_pages")
def test_one_server_alone_is_not_compared_and_nobody_expects_it(tmp_path: Path) -> None:
    judged = experiment(tmp_path, {"alone": STEADY}, levels=(4, 8), blocks=1)
    found = judging.conclude([run.path for run, _ in judged], default(), tmp_path)
    assert (found.comparison, found.said) == (None, [])
    assert [one.name for one in found.verdicts] == ["alone-4-1", "alone-8-1"]


def test_one_oversaturated_run_of_the_baseline_lets_no_slow_candidate_pass(tmp_path: Path) -> None:
    judged = []
    for block in range(1, 6):
        rising = {"ttft_rise_ms": 90.0, "in_flight_rise": 6.0} if block == 1 else {}
        for server, knobs in (("base", rising), ("awq", {"ttft_ms": 90.0})):
            own: dict[str, Any] = {"loop": "open", "seconds": 27, **knobs}
            run = load(measured(tmp_path, server, baseline="base", level=25, block=block, **own))
            judged.append((run, judge(run, default())))
    assert [verdict.status for _, verdict in judged].count("OVERSATURATED") == 1
    decided = {(one.server, one.level or 0.0): one.status for one in replications(judged, default())}
    found = weigh(compare(judged, decided=decided), None)["awq"]
    assert (found.status, found.reasons) == (
        "INCONCLUSIVE",
        ("some runs are oversaturated: nothing can be paired",),
    )
