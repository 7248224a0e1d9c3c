"""An SLA in a person's words: a YAML file with a name, a list of objectives, and a list for quality.

    objective  ::= ( latency | error-rate | budget | goodput | rate ) scope
    latency    ::= metric statistic upper number time
    error-rate ::= "error_rate" upper number "%"
    budget     ::= "error_budget" number "%" "of" number ( "h" | "days" )
    goodput    ::= "goodput" "(" limit { "," limit } ")" lower number "%"
    rate       ::= ( "requests_per_s" | "output_tokens_per_s" ) ( lower | upper ) number
    limit      ::= metric upper number time             a metric with one value per request
    metric     ::= "ttft" | "ttft_sent" | "ttfo" | "itl" | "itl_token" | "tpot" | "e2e" | "max_gap"
                 | "dispatch_lag"
    statistic  ::= "mean" | "p" number                  0 < number < 100
    upper      ::= "<" | "<="
    lower      ::= ">" | ">="
    time       ::= "us" | "ms" | "s"
    number     ::= digits [ "." digits ]

`itl` and `itl_token` are pooled over all gaps of all requests, so goodput cannot use them: there `tpot`
and `max_gap` speak about one request. Rates count the ok requests that were due in the window, and their
tokens; in an open loop that is what was offered, so a rate says something about the server in a closed one.
An error budget is an error rate that also says how long the period's budget would last at this run's share
of failures.

What of a run an objective is about; each clause may stand once, in any order, and none means all of it:

    scope      ::= { "in" scenario | "from" number span | "to" number span | "every" number span }
    scenario   ::= word | '"' any text '"'
    span       ::= "s" | "min" | "h"

Times count from the start of the judged window. `every 60 s` must hold in each whole stretch of 60 s: the
objective is worth what its worst stretch is (`analysis/scopes.py` says how sure that is).

What a candidate may lose against its baseline (`tokenswarm quality`); one of the two lists may be left out:

    quality    ::= ( "ppl_ratio" | "kl" ) upper number [ "warn" number ]
                 | ( "top1" | "prefix_match" ) lower number "%" [ "warn" number "%" ]
                 | "length_ratio" ( upper | lower ) number [ "warn" number ]
                 | ( "empty_rate" | "loop_rate" ) upper number "%" [ "warn" number "%" ]

`prefix_match` is the share of the baseline's answers, token by token, that the candidate's begin with, too.
The two rates are points above the baseline's own. `warn` is the nearer limit at which a PASS gets a remark.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from .sla_words import NS, PERIOD_NS, SPAN_NS, SlaError, Words, expected

__all__ = ["SlaError"]

REQUEST_METRICS = ("ttft", "ttft_sent", "ttfo", "tpot", "e2e", "max_gap", "dispatch_lag")
"""Metrics with one value per request."""

POOLED_METRICS = ("itl", "itl_token")
"""Metrics with one value per gap, kept as histograms."""

RATES = ("requests_per_s", "output_tokens_per_s")
"""What is counted per second of the window: ok requests, and their tokens."""

CLAUSES = ("in", "from", "to", "every")
"""What of a run an objective is about."""

UPPER, LOWER = ("<", "<="), (">", ">=")

QUALITY = {
    "ppl_ratio": UPPER,
    "kl": UPPER,
    "top1": LOWER,
    "prefix_match": LOWER,
    "length_ratio": (*UPPER, *LOWER),
    "empty_rate": UPPER,
    "loop_rate": UPPER,
}
"""What can be limited in a comparison with a baseline, and from which side."""

SHARES = ("top1", "prefix_match", "empty_rate", "loop_rate")
"""Those of them that are written in percent."""

DEFAULT_YAML = """\
name: sub-100ms
objectives:
  - ttft p95 < 100 ms
  - itl p99 < 20 ms
  - error_rate < 0.1 %
  - goodput(ttft < 100 ms, tpot < 20 ms) >= 95 %
quality:
  - ppl_ratio <= 1.03 warn 1.015
  - kl <= 0.05
  - top1 >= 90 % warn 93 %
  - length_ratio >= 0.9
  - length_ratio <= 1.1
  - empty_rate <= 10 %
  - loop_rate <= 10 %
"""
"""The SLA that is judged when none is given.

What its quality list stands on. Ratio, divergence, agreement: llama.cpp's tables for models of 8 billion
parameters give 1.007, 0.0047 and 96.5 % for Q5_K_M, and 1.037, 0.043 and 89.9 % for IQ4_XS; the limits are
near the latter. Lengths: MLPerf's 90 to 110 %. Rates: the bounds of 60 prompts reach 4 points where no answer
differs and up to 9 where a few change to either side, so 10 points is the least that they can show.
"""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Limit:
    """What one request must keep: metric < limit_ns, or <= where not strict."""

    metric: str
    strict: bool
    limit_ns: int


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a run an objective is about; times are ns from the start of the judged window."""

    scenario: str | None = None
    start_ns: int = 0
    end_ns: int | None = None
    every_ns: int | None = None


WHOLE = Scope()
"""All scenarios, all of the window."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A percentile or, where `percentile` is None, the mean of a metric below a limit."""

    text: str
    limit: Limit
    percentile: float | None
    scope: Scope = WHOLE

    @property
    def allowed_share(self) -> float:
        """The share of values that may lie beyond the limit: 0.05 for p95."""
        return 1.0 if self.percentile is None else round(1 - self.percentile / 100, 12)


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """The share of requests that may fail; `period_h` is that of an error budget."""

    text: str
    allowed_share: float
    period_h: float | None = None
    scope: Scope = WHOLE


@dataclass(frozen=True, slots=True)
class Goodput:
    """All limits at once, kept by all but `allowed_share` of the requests."""

    text: str
    limits: tuple[Limit, ...]
    allowed_share: float
    scope: Scope = WHOLE


@dataclass(frozen=True, slots=True)
class Rate:
    """So much a second, at most or at least."""

    text: str
    metric: str  # one of RATES
    upper: bool
    limit: float
    scope: Scope = WHOLE


Objective = Latency | ErrorRate | Goodput | Rate


@dataclass(frozen=True, slots=True)
class QualityLimit:
    """How far a candidate may be from its baseline; shares lie between 0 and 1."""

    text: str
    measure: str  # a key of QUALITY
    upper: bool
    limit: float
    warn: float | None = None


@dataclass(frozen=True, slots=True)
class Sla:
    """A name and what must hold."""

    name: str
    objectives: tuple[Objective, ...]
    quality: tuple[QualityLimit, ...] = ()

    def limits(self) -> tuple[Limit, ...]:
        """Return every latency limit of every objective."""
        found: list[Limit] = []
        for objective in self.objectives:
            if isinstance(objective, Latency):
                found.append(objective.limit)
            elif isinstance(objective, Goodput):
                found.extend(objective.limits)
        return tuple(found)


def load(path: Path | str) -> Sla:
    """Read an SLA file. Raises SlaError, one line, where it is none."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SlaError(f"{path}: cannot be read ({reason})") from None
    return parse(text, str(path))


@cache
def default() -> Sla:
    """Return the SLA that is judged when none is given."""
    return parse(DEFAULT_YAML, "default SLA")


def parse(text: str, file: str) -> Sla:
    """Parse an SLA's YAML; `file` is how messages name it. Raises SlaError."""
    import yaml  # noqa: PLC0415 - costs 20 ms that only a judge needs

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SlaError(f"{file}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(found, dict):
        raise SlaError(f"{file}: found {_kind(found)}, expected the keys name and objectives")
    keys = ("name", "objectives", "quality")
    for key in found:
        if key not in keys:
            raise SlaError(f"{file}: found the key {key!r}, {expected(str(key), keys)}")
    name = found.get("name")
    if not isinstance(name, str) or not name.strip():
        raise SlaError(f"{file}: found name {name!r}, expected a text")
    if "quality" not in found or "objectives" in found:
        objectives = _listed(file, "objectives", found.get("objectives"), parse_objective)
    else:
        objectives = ()
    quality = _listed(file, "quality", found["quality"], parse_quality) if "quality" in found else ()
    return Sla(name.strip(), objectives, quality)


def refuse_unmeasured(sla: Sla, file: str, scenarios: Sequence[str], window_s: float) -> None:
    """Raise SlaError where an objective is about a scenario or a time that a planned run will not have."""
    for number, objective in enumerate(sla.objectives, 1):
        scope, found, wanted = objective.scope, "", ""
        last = scope.end_ns or scope.start_ns + (scope.every_ns or 0)
        if scope.scenario is not None and scope.scenario not in scenarios:
            found, wanted = f"the scenario {scope.scenario!r}", expected(scope.scenario, scenarios)
        elif last > window_s * 1e9 or scope.start_ns >= window_s * 1e9:
            found, wanted = (
                f"a time at {last / 1e9:g} s",
                f"expected one within the {window_s:g} s of the run",
            )
        if found:
            raise SlaError(f"{file}: objective {number}: found {found}, {wanted} (in {objective.text!r})")


def parse_objective(text: str) -> Objective:
    """Parse one objective. Raises SlaError without the file's name."""
    words = Words(text)
    known = (*REQUEST_METRICS, *POOLED_METRICS, "error_rate", "error_budget", "goodput", *RATES)
    metric = words.metric(known)
    text = words.text
    if metric == "error_rate":
        words.take("an upper limit", UPPER)
        return ErrorRate(text, float(words.share()), scope=_scope(words))
    if metric == "error_budget":
        share = float(words.share())
        words.take("what follows the budget", ("of",))
        period_h = words.time_ns(PERIOD_NS) / PERIOD_NS["h"]
        if period_h <= 0:
            raise SlaError("found a period of 0 h, expected more")
        return ErrorRate(text, share, period_h, _scope(words))
    if metric == "goodput":
        limits = _limits(words)
        words.take("a lower limit", LOWER)
        return Goodput(text, limits, float(1 - words.share()), _scope(words))
    if metric in RATES:
        upper = words.take("a comparison", (*LOWER, *UPPER)) in UPPER
        return Rate(text, metric, upper, words.positive(metric), _scope(words))
    percentile = words.statistic()
    return Latency(text, _limit(words, metric), percentile, _scope(words))


def parse_quality(text: str) -> QualityLimit:
    """Parse one limit on what a candidate may lose. Raises SlaError without the file's name."""
    words = Words(text)
    measure = words.take("a measure of quality", QUALITY)
    upper = words.take("a comparison", QUALITY[measure]) in UPPER
    limit = _amount(words, measure)
    warn = None
    if words.rest:
        words.take("what follows the limit", ("warn",))
        warn = _amount(words, measure)
        if (warn >= limit) if upper else (warn <= limit):
            raise SlaError(f"found a warning that is no nearer than the limit of {measure}")
    words.end()
    return QualityLimit(words.text, measure, upper, limit, warn)


def _amount(words: Words, measure: str) -> float:
    return float(words.share()) if measure in SHARES else words.positive(measure)


def _limit(words: Words, metric: str) -> Limit:
    strict = words.take("an upper limit", UPPER) == "<"
    nanoseconds = words.time_ns(NS)
    if nanoseconds <= 0:
        raise SlaError(f"found a limit of {nanoseconds} ns for {metric}, expected at least 1 ns")
    return Limit(metric, strict, nanoseconds)


def _limits(words: Words) -> tuple[Limit, ...]:
    """Take goodput's limits and the parentheses around them."""
    words.take("limits in parentheses", ("(",))
    limits = []
    while True:
        metric = words.take("a metric", (*REQUEST_METRICS, *POOLED_METRICS))
        if metric in POOLED_METRICS:
            raise SlaError(f"found {metric!r} in goodput, which judges single requests: use tpot or max_gap")
        limits.append(_limit(words, metric))
        if words.take("the next limit or the end", (",", ")")) == ")":
            return tuple(limits)


def _scope(words: Words) -> Scope:
    """Take the clauses behind a limit, to the end."""
    scenario, times, seen = None, {"from": 0}, set[str]()
    while words.rest:
        clause = words.take("what follows the limit", CLAUSES)
        if clause in seen:
            raise SlaError(f"found {clause!r} twice, expected it once")
        seen.add(clause)
        if clause == "in":
            scenario = words.name("a scenario", CLAUSES)
        else:
            times[clause] = words.time_ns(SPAN_NS)
    start, end, every = times["from"], times.get("to"), times.get("every")
    if end is not None and end <= start:
        raise SlaError(f"found an end at {end / 1e9:g} s, expected one after {start / 1e9:g} s")
    longest = math.inf if end is None else end - start
    if every is not None and not SPAN_NS["s"] <= every <= longest:
        fitting = "" if end is None else f" and at most the {longest / 1e9:g} s that are judged"
        raise SlaError(f"found stretches of {every / 1e9:g} s, expected at least 1 s{fitting}")
    return Scope(scenario, start, end, every)


def _listed(file: str, key: str, items: object, read: Callable[[str], _Item]) -> tuple[_Item, ...]:
    if not isinstance(items, list) or not items:
        raise SlaError(f"{file}: found {key} {items!r}, expected a list with at least one")
    name = f"{file}: {key.removesuffix('s')}"
    return tuple(_numbered(f"{name} {number}", item, read) for number, item in enumerate(items, 1))


def _numbered(where: str, item: object, read: Callable[[str], _Item]) -> _Item:
    if not isinstance(item, str):
        example = "kl <= 0.05" if read is parse_quality else "ttft p95 < 100 ms"
        raise SlaError(f"{where}: found {_kind(item)}, expected a text: {example}")
    try:
        return read(item)
    except SlaError as error:
        raise SlaError(f"{where}: {error} (in {item!r})") from None


def _kind(found: object) -> str:
    return "nothing" if found is None else f"a {type(found).__name__}"
