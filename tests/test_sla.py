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
    SlaError,
    default,
    load,
    parse,
    parse_objective,
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
