from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.sla import (
    DEFAULT_YAML,
    POOLED_METRICS,
    REQUEST_METRICS,
    ErrorRate,
    Goodput,
    Latency,
    Limit,
    QualityLimit,
    SlaError,
    default,
    load,
    parse,
    parse_objective,
    parse_quality,
)


@pytest.mark.parametrize(
    ("text", "limit", "percentile"),
    [
        ("ttft p95 < 100 ms", Limit("ttft", strict=True, limit_ns=100_000_000), 95.0),
        ("itl p99<=20ms", Limit("itl", strict=False, limit_ns=20_000_000), 99.0),
        ("tpot p90 < 30 ms", Limit("tpot", strict=True, limit_ns=30_000_000), 90.0),
        ("e2e mean < 2 s", Limit("e2e", strict=True, limit_ns=2_000_000_000), None),
        ("max_gap p99.9 < 0.25 s", Limit("max_gap", strict=True, limit_ns=250_000_000), 99.9),
        ("  ttft_sent   p50 <  12.5 us ", Limit("ttft_sent", strict=True, limit_ns=12_500), 50.0),
        ("ttfo p95 < 1 s", Limit("ttfo", strict=True, limit_ns=10**9), 95.0),
        ("dispatch_lag p99 < 1 ms", Limit("dispatch_lag", strict=True, limit_ns=10**6), 99.0),
        ("itl_token p99 < 20 ms", Limit("itl_token", strict=True, limit_ns=20_000_000), 99.0),
    ],
)
def test_latency_objectives(text: str, limit: Limit, percentile: float | None) -> None:
    assert parse_objective(text) == Latency(" ".join(text.split()), limit, percentile)


def test_a_percentile_allows_the_rest() -> None:
    assert [parse_objective(f"ttft p{p} < 1 s").allowed_share for p in (50, 95, 99, 99.9)] == [
        0.5,
        0.05,
        0.01,
        0.001,
    ]


def test_error_rate() -> None:
    assert parse_objective("error_rate < 0.1 %") == ErrorRate("error_rate < 0.1 %", 0.001)


def test_goodput_has_limits_and_a_share_that_may_miss() -> None:
    text = "goodput(ttft < 100 ms, tpot <= 20 ms) >= 95 %"
    limits = (Limit("ttft", strict=True, limit_ns=10**8), Limit("tpot", strict=False, limit_ns=2 * 10**7))
    found = parse_objective(text)
    assert isinstance(found, Goodput)
    assert found.limits == limits
    assert found.allowed_share == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tttf p95 < 100 ms", "found 'tttf' as a metric, .*did you mean 'ttft'"),
        ("latency p95 < 100 ms", "found 'latency' as a metric, expected ttft, ttft_sent, "),
        ("ttft p59 < 100 msec", "found 'msec' as a unit of time, expected us, ms or s; did you mean 'ms'"),
        ("ttft median < 100 ms", "found 'median' as a statistic, expected mean, p50"),
        ("ttft p0 < 100 ms", "found 'p0' as a statistic"),
        ("ttft p100 < 100 ms", "found 'p100' as a statistic"),
        ("ttft max < 100 ms", "found 'max' as a statistic"),
        ("ttft p95 = 100 ms", "found '=' as an upper limit, expected < or <="),
        ("ttft p95 > 100 ms", "found '>' as an upper limit, expected < or <="),
        ("ttft p95 < ms", "found 'ms' as a limit, expected a number"),
        ("ttft p95 < 100", "found nothing as a unit of time"),
        ("ttft p95 < 100 %", "found '%' as a unit of time"),
        ("ttft p95 < 0 ms", "found a limit of 0 ns for ttft"),
        ("ttft p95 < 100 ms please", "found 'please' behind the limit"),
        ("error_rate < 0.1 ms", "found 'ms' as a unit, expected %"),
        ("error_rate < 0 %", "found a limit of 0 %, expected one between 0 % and 100 %"),
        ("error_rate > 1 %", "found '>' as an upper limit"),
        ("goodput(ttft < 100 ms) < 95 %", "found '<' as a lower limit, expected > or >="),
        ("goodput(ttft < 100 ms >= 95 %", "found '>=' as the next limit or the end"),
        ("goodput(itl < 20 ms) >= 95 %", "found 'itl' in goodput, which judges single requests"),
        ("goodput() >= 95 %", r"found '\)' as a metric"),
        ("goodput(ttft < 1 s) >= 100 %", "found a limit of 100 %"),
        ("", "found nothing as a metric"),
    ],
)
def test_what_is_no_objective_is_named_with_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(SlaError, match=f"^{message}") as raised:
        parse_objective(text)
    assert "\n" not in str(raised.value)


@given(st.text(max_size=40))
def test_any_text_is_an_objective_or_one_clear_line(text: str) -> None:
    message = "found nothing wrong"
    try:
        parse_objective(text)
    except SlaError as error:
        message = str(error)
    assert message.startswith("found ")


@given(
    st.sampled_from(REQUEST_METRICS + POOLED_METRICS),
    st.sampled_from(["mean", "p50", "p99.9"]),
    st.sampled_from(["<", "<="]),
    st.integers(1, 10**6),
    st.sampled_from([("us", 10**3), ("ms", 10**6), ("s", 10**9)]),
)
def test_every_combination_of_the_grammar_is_read(
    metric: str, statistic: str, operator: str, number: int, unit: tuple[str, int]
) -> None:
    found = parse_objective(f"{metric} {statistic} {operator} {number} {unit[0]}")
    assert isinstance(found, Latency)
    assert found.limit == Limit(metric, operator == "<", number * unit[1])
    assert found.percentile == (None if statistic == "mean" else float(statistic[1:]))


def test_the_default_is_the_shipped_text() -> None:
    sla = default()
    assert sla == parse(DEFAULT_YAML, "default SLA")
    assert sla.name == "sub-100ms"
    assert [one.text for one in sla.objectives] == [
        "ttft p95 < 100 ms",
        "itl p99 < 20 ms",
        "error_rate < 0.1 %",
        "goodput(ttft < 100 ms, tpot < 20 ms) >= 95 %",
    ]
    assert [limit.metric for limit in sla.limits()] == ["ttft", "itl", "ttft", "tpot"]
    assert [(one.measure, one.upper, one.limit, one.warn) for one in sla.quality] == [
        ("ppl_ratio", True, 1.03, 1.015),
        ("kl", True, 0.05, None),
        ("top1", False, 0.9, 0.93),
        ("length_ratio", False, 0.9, None),
        ("length_ratio", True, 1.1, None),
        ("empty_rate", True, 0.1, None),
        ("loop_rate", True, 0.1, None),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ppl_ratio <= 1.03", QualityLimit("ppl_ratio <= 1.03", "ppl_ratio", upper=True, limit=1.03)),
        (" kl<0.05  warn 0.02", QualityLimit("kl<0.05 warn 0.02", "kl", upper=True, limit=0.05, warn=0.02)),
        ("top1 >= 90 %", QualityLimit("top1 >= 90 %", "top1", upper=False, limit=0.9)),
        ("length_ratio > 0.9", QualityLimit("length_ratio > 0.9", "length_ratio", upper=False, limit=0.9)),
        ("loop_rate <= 2.5%", QualityLimit("loop_rate <= 2.5%", "loop_rate", upper=True, limit=0.025)),
    ],
)
def test_limits_of_quality(text: str, found: QualityLimit) -> None:
    assert parse_quality(text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ppl_ration <= 1.03", "found 'ppl_ration' as a measure of quality, .*did you mean 'ppl_ratio'"),
        ("perplexity <= 1.03", "found 'perplexity' as a measure of quality, expected ppl_ratio, kl, top1"),
        ("ttft p95 < 100 ms", "found 'ttft' as a measure of quality"),
        ("ppl_ratio >= 1.03", "found '>=' as a comparison, expected < or <="),
        ("top1 <= 90 %", "found '<=' as a comparison, expected > or >="),
        ("kl <= 5 %", "found '%' as what follows the limit, expected warn"),
        ("kl <= 0", "found a limit of 0 for kl, expected more than 0"),
        ("top1 >= 0.9", "found nothing as a unit, expected %"),
        ("top1 >= 100 %", "found a limit of 100 %"),
        ("ppl_ratio <= x", "found 'x' as a limit, expected a number"),
        ("ppl_ratio <= 1.03 warm 1.01", "found 'warm' as what follows the limit, .*did you mean 'warn'"),
        ("ppl_ratio <= 1.03 warn 1.05", "found a warning that is no nearer than the limit of ppl_ratio"),
        ("top1 >= 90 % warn 85 %", "found a warning that is no nearer than the limit of top1"),
        ("ppl_ratio <= 1.03 warn 1.01 now", "found 'now' behind the limit"),
        ("", "found nothing as a measure of quality"),
    ],
)
def test_what_is_no_limit_of_quality_is_named(text: str, message: str) -> None:
    with pytest.raises(SlaError, match=f"^{message}") as raised:
        parse_quality(text)
    assert "\n" not in str(raised.value)


@given(st.text(max_size=40))
def test_any_text_is_a_limit_of_quality_or_one_clear_line(text: str) -> None:
    message = "found nothing wrong"
    try:
        parse_quality(text)
    except SlaError as error:
        message = str(error)
    assert message.startswith("found ")


def test_objectives_and_quality_may_each_stand_alone() -> None:
    quality = parse("name: x\nquality: [kl <= 0.05]", "x")
    assert (quality.objectives, [one.measure for one in quality.quality]) == ((), ["kl"])
    speed = parse("name: x\nobjectives: [ttft p95 < 100 ms]", "x")
    assert (len(speed.objectives), speed.quality) == (1, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: x\nobjectives: [ttft p95 < 100 ms, itl p999 < 20 ms]",
            "objective 2: found 'p999' as a statistic",
        ),
        ("name: x\nobjectives:\n  - ttft: 100", "objective 1: found a dict, expected a text"),
        ("name: x\nobjective: []", "found the key 'objective', .*did you mean 'objectives'"),
        ("objectives: [ttft p95 < 100 ms]", "found name None, expected a text"),
        ("name: x", "found objectives None, expected a list"),
        ("name: x\nobjectives: []", r"found objectives \[\], expected a list with at least one"),
        ("name: x\nquality: []", r"found quality \[\], expected a list with at least one"),
        ("name: x\nquality:", "found quality None, expected a list with at least one"),
        ("name: x\nobjectives: []\nquality: [kl < 1]", r"found objectives \[\], expected a list"),
        ("name: x\nquality: [kl < 1, k < 1]", "quality 2: found 'k' as a measure of quality"),
        ("name: x\nquality:\n  - kl: 1", "quality 1: found a dict, expected a text: kl <= 0.05"),
        ("name: x\nqualities: []", "found the key 'qualities', .*did you mean 'quality'"),
        ("- a\n- b", "found a list, expected the keys name and objectives"),
        ("", "found nothing, expected the keys"),
        ("name: [", "not YAML"),
    ],
)
def test_a_bad_file_is_one_line_with_the_files_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sla.yaml"
    path.write_text(text)
    with pytest.raises(SlaError, match=f"sla.yaml: {message}") as raised:
        load(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SlaError, match=r"none\.yaml: cannot be read \(No such file or directory\)$"):
        load(tmp_path / "none.yaml")
