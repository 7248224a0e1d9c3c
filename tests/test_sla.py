from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.sla import (
    DEFAULT_YAML,
    POOLED_METRICS,
    RATES,
    REQUEST_METRICS,
    ErrorRate,
    Goodput,
    Latency,
    Limit,
    QualityLimit,
    Rate,
    Scope,
    Sla,
    SlaError,
    default,
    load,
    parse,
    parse_objective,
    parse_quality,
    refuse_unmeasured,
)


@pytest.mark.parametrize(
    ("text", "limit", "percentile"),
    [
        ("ttft p95<100ms", Limit("ttft", strict=True, limit_ns=100_000_000), 95.0),
        ("itl p99 <= 20 ms", Limit("itl", strict=False, limit_ns=20_000_000), 99.0),
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
    found = parse_objective(text)
    assert found == Latency(found.text, limit, percentile)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (" ttft  p95<100ms ", "ttft p95 < 100 ms"),
        ("goodput (ttft<1 s ,tpot<=20ms )>=95%", "goodput(ttft < 1 s, tpot <= 20 ms) >= 95 %"),
        ("""error_rate<1% in  "a  (b) , c" every 1min""", """error_rate < 1 % in "a  (b) , c" every 1 min"""),
    ],
)
def test_an_objective_is_written_with_a_space_between_its_words(text: str, written: str) -> None:
    assert parse_objective(text).text == written
    assert parse_objective(written) == parse_objective(text)


def test_a_percentile_allows_the_rest() -> None:
    assert [parse_objective(f"ttft p{p} < 1 s").allowed_share for p in (50, 95, 99, 99.9)] == [
        0.5,
        0.05,
        0.01,
        0.001,
    ]


def test_error_rate() -> None:
    assert parse_objective("error_rate < 0.1 %") == ErrorRate("error_rate < 0.1 %", 0.001)


def test_an_error_budget_has_a_period() -> None:
    text = "error_budget 0.1 % of 30 days"
    assert parse_objective(text) == ErrorRate(text, 0.001, period_h=720.0)
    assert parse_objective("error_budget 1 % of 1.5 h") == ErrorRate("error_budget 1 % of 1.5 h", 0.01, 1.5)


@pytest.mark.parametrize(
    ("text", "metric", "upper", "limit"),
    [
        ("requests_per_s >= 10", "requests_per_s", False, 10.0),
        ("output_tokens_per_s > 512.5", "output_tokens_per_s", False, 512.5),
        ("requests_per_s < 40", "requests_per_s", True, 40.0),
    ],
)
def test_rates(text: str, metric: str, upper: bool, limit: float) -> None:
    assert parse_objective(text) == Rate(text, metric, upper, limit)


@pytest.mark.parametrize(
    ("clauses", "scope"),
    [
        ("in chat", Scope(scenario="chat")),
        ("in qwen/7b-chat:awq", Scope(scenario="qwen/7b-chat:awq")),
        ("in '7b \"chat\"'", Scope(scenario='7b "chat"')),
        ('in "every"', Scope(scenario="every")),
        ("from 60 s to 2 min", Scope(start_ns=60 * 10**9, end_ns=120 * 10**9)),
        ("from 0 s to 1.5 s", Scope(end_ns=1_500_000_000)),
        ("to 1 h", Scope(end_ns=3600 * 10**9)),
        ("every 1 s", Scope(every_ns=10**9)),
        ("every 30 s to 60 s in chat", Scope("chat", end_ns=60 * 10**9, every_ns=30 * 10**9)),
    ],
)
@pytest.mark.parametrize(
    "limit",
    [
        "ttft p95 < 100 ms",
        "e2e mean < 1 s",
        "error_rate < 1 %",
        "error_budget 1 % of 2 days",
        "goodput(ttft < 1 s) >= 95 %",
        "requests_per_s >= 10",
    ],
)
def test_any_objective_may_be_about_a_part_of_the_run(limit: str, clauses: str, scope: Scope) -> None:
    found = parse_objective(f"{limit} {clauses}")
    assert found == replace(parse_objective(limit), text=f"{limit} {clauses}", scope=scope)


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
        ("ttft p95 < 100 ms please", "found 'please' as what follows the limit, expected in, from, to or ev"),
        ("error_rate < 0.1 ms", "found 'ms' as a unit, expected %"),
        ("error_rate < 0 %", "found a limit of 0 %, expected one between 0 % and 100 %"),
        ("error_rate > 1 %", "found '>' as an upper limit"),
        ("goodput(ttft < 100 ms) < 95 %", "found '<' as a lower limit, expected > or >="),
        ("goodput(ttft < 100 ms >= 95 %", "found '>=' as the next limit or the end"),
        ("goodput(itl < 20 ms) >= 95 %", "found 'itl' in goodput, which judges single requests"),
        ("goodput() >= 95 %", r"found '\)' as a metric"),
        ("goodput(ttft < 1 s) >= 100 %", "found a limit of 100 %"),
        ("requests_per_s >= 0", "found a limit of 0 for requests_per_s, expected more than 0"),
        ("requests_per_s = 10", "found '=' as a comparison, expected >, >=, < or <="),
        ("error_budget < 1 % of 2 days", "found '<' as a limit, expected a number"),
        ("error_budget 1 % in 2 days", "found 'in' as what follows the budget, expected of"),
        ("error_budget 1 % of 0 h", "found a period of 0 h, expected more"),
        ("error_budget 1 % of 30 d", "found 'd' as a unit of time, expected h or days; did you mean 'days'"),
        ("", "found nothing as a metric"),
    ],
)
def test_what_is_no_objective_is_named_with_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(SlaError, match=f"^{message}") as raised:
        parse_objective(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("TTFT p95 < 100 ms", "ttft"),
        ("ttft_p95 < 100 ms", "ttft p95"),
        ("ttft.p99.9 < 100 ms", "ttft p99.9"),
        ("p95 ttft < 100 ms", "ttft p95"),
        ("max-gap p95 < 100 ms", "max_gap"),
        ("latency p95 < 1 s", "e2e"),
        ("throughput >= 3", "output_tokens_per_s"),
        ("error-rate < 1 %", "error_rate"),
        ("error rate < 1 %", "error_rate"),
        ("ttft 95th < 100 ms", "p95"),
        ("ttft P95 < 100 ms", "p95"),
        ("ttft p99th < 100 ms", "p99"),
        ("ttft 99.9% < 100 ms", "p99.9"),
        ("ttft p999 < 100 ms", "p99.9"),
        ("ttft median < 100 ms", "p50"),
        ("ttft avg < 100 ms", "mean"),
        ("ttft p95 =< 100 ms", "<="),
        ("ttft p95 \u2264 100 ms", "<="),
        ("requests_per_s => 10", ">="),
        ("ttft p95 < 100 \u00b5s", "us"),
        ("ttft p95 < 100 MS", "ms"),
        ("ttft p95 < 1 second", "s"),
        ("error_rate < 1 percent", "%"),
        ("ttft p95 < 1 s during 60 s", "from"),
        ("ttft p95 < 1 s until 60 s", "to"),
        ("ttft p95 < 1 s each 60 s", "every"),
        ("ttft p95 < 1 s evry 60 s", "every"),
        ("ttft p95 < 1 s scenario chat", "in"),
        ("ttft p95 < 1 s every 5 minutes", "min"),
    ],
)
def test_what_was_meant_is_said(text: str, meant: str) -> None:
    with pytest.raises(SlaError) as raised:
        parse_objective(text)
    assert str(raised.value).endswith(f"; did you mean {meant!r}?")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("clauses", "message"),
    [
        ("in", "found nothing as a scenario, expected a name, in quotes unless it is a plain word"),
        ("in every 60 s", "found 'every' as a scenario"),
        ("in 7b-chat", "found '7' as a scenario"),
        ("in ''", "found \"''\" as a scenario"),
        ("in 'chat", 'found "\'" as a scenario'),
        ("in chat in long", "found 'in' twice, expected it once"),
        ("from 60", "found nothing as a unit of time, expected s, min or h"),
        ("from 60 ms", "found 'ms' as a unit of time, expected s, min or h"),
        ("from 60 s to 60 s", "found an end at 60 s, expected one after 60 s"),
        ("to 0 s", "found an end at 0 s, expected one after 0 s"),
        ("every 0.5 s", "found stretches of 0.5 s, expected at least 1 s"),
        (
            "from 1 min to 2 min every 90 s",
            "found stretches of 90 s, expected at least 1 s and at most the 60 s",
        ),
        ("chat", "found 'chat' as what follows the limit, expected in, from, to or every"),
    ],
)
def test_a_part_of_a_run_that_is_none_is_named(clauses: str, message: str) -> None:
    with pytest.raises(SlaError) as raised:
        parse_objective(f"ttft p95 < 1 s {clauses}")
    assert str(raised.value).startswith(message)


WORDS = [
    *REQUEST_METRICS,
    *POOLED_METRICS,
    *RATES,
    "goodput",
    "error_rate",
    "error_budget",
    "p95",
    "mean",
    "of",
]
WORDS += [
    "(",
    ")",
    ",",
    "%",
    "<",
    "<=",
    ">",
    ">=",
    "in",
    "from",
    "to",
    "every",
    "ms",
    "s",
    "min",
    "days",
    "chat",
]
WORDS += ["5", "0.1", "99999999999999999999", "\u00b2", "\u0663", "'", '"', "'a b'", "p99.9999999999999999"]


@given(st.text(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join))
def test_any_text_is_an_objective_or_one_clear_line(text: str) -> None:
    for parse_text in (parse_objective, parse_quality):
        message = "found what it expected"
        try:
            found = parse_text(text)
        except SlaError as error:
            message = str(error)
        else:
            assert parse_text(found.text) == found
        assert message.startswith("found ")
        assert len(message.splitlines()) == 1


NUMBERS = st.integers(1, 10**6).map(str) | st.decimals("0.001", "999", places=3).map(str)
SHARES = st.decimals("0.001", "99.999", places=3).map(str)
LIMITS = st.tuples(st.sampled_from(REQUEST_METRICS), st.sampled_from(["<", "<="]), NUMBERS).map(" ".join)
STATISTICS = st.sampled_from(["mean", "p50", "p99.9", "p12.5"])
HEADS = st.one_of(
    st.tuples(
        st.sampled_from(REQUEST_METRICS + POOLED_METRICS), STATISTICS, st.sampled_from(["<", "<="]), NUMBERS
    ).map(lambda parts: f"{' '.join(parts)} ms"),
    st.tuples(st.sampled_from(["error_rate <", "error_rate<=", "error_budget"]), SHARES).map(
        lambda parts: f"{' '.join(parts)} %" + (" of 3 days" if "budget" in parts[0] else "")
    ),
    st.tuples(st.lists(LIMITS.map(lambda limit: f"{limit}ms"), min_size=1, max_size=3), SHARES).map(
        lambda parts: f"goodput({','.join(parts[0])}) >= {parts[1]}%"
    ),
    st.tuples(st.sampled_from(RATES), st.sampled_from(["<", "<=", ">", ">="]), NUMBERS).map(" ".join),
)
SCENARIOS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="'"), min_size=1).filter(
    lambda name: name.strip()
)


@given(
    HEADS, SCENARIOS, st.integers(0, 99), st.permutations(["in", "from", "to", "every"]), st.integers(0, 4)
)
def test_every_objective_parses_to_itself_when_it_is_printed_again(
    head: str, scenario: str, start: int, order: list[str], clauses: int
) -> None:
    written = {"in": f"in '{scenario}'", "from": f"from {start} s", "to": "to 10 min", "every": "every  2 s"}
    found = parse_objective("  ".join([head, *(written[clause] for clause in order[:clauses])]))
    assert parse_objective(found.text) == found
    used = order[:clauses]
    assert found.scope == Scope(
        scenario if "in" in used else None,
        start * 10**9 if "from" in used else 0,
        600 * 10**9 if "to" in used else None,
        2 * 10**9 if "every" in used else None,
    )


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("ttft p95 < 1 s in chatt", "found the scenario 'chatt', expected chat or long; did you mean 'chat'"),
        ("ttft p95 < 1 s in other", "found the scenario 'other', expected chat or long"),
        ("ttft p95 < 1 s from 60 s", "found a time at 60 s, expected one within the 60 s of the run"),
        ("ttft p95 < 1 s to 61 s", "found a time at 61 s, expected"),
        ("ttft p95 < 1 s from 10 s every 1 min", "found a time at 70 s, expected"),
    ],
)
def test_what_a_planned_run_will_not_have_is_refused(objective: str, message: str) -> None:
    fitting = [parse_objective("ttft p95 < 1 s"), parse_objective("ttft p95 < 1 s in long from 0 s to 1 min")]
    refuse_unmeasured(Sla("x", tuple(fitting)), "x.yaml", ["chat", "long"], 60)
    with pytest.raises(SlaError) as raised:
        refuse_unmeasured(Sla("x", (*fitting, parse_objective(objective))), "x.yaml", ["chat", "long"], 60)
    assert str(raised.value).startswith(f"x.yaml: objective 3: {message}")


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
        (" kl<0.05  warn 0.02", QualityLimit("kl < 0.05 warn 0.02", "kl", upper=True, limit=0.05, warn=0.02)),
        ("top1 >= 90 %", QualityLimit("top1 >= 90 %", "top1", upper=False, limit=0.9)),
        ("length_ratio > 0.9", QualityLimit("length_ratio > 0.9", "length_ratio", upper=False, limit=0.9)),
        ("loop_rate <= 2.5%", QualityLimit("loop_rate <= 2.5 %", "loop_rate", upper=True, limit=0.025)),
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
