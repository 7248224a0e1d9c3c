"""An SLA in a person's words: a YAML file with a name, a list of objectives, and a list for quality.

    objective  ::= latency | error-rate | goodput
    latency    ::= metric statistic upper number time
    error-rate ::= "error_rate" upper number "%"
    goodput    ::= "goodput" "(" limit { "," limit } ")" lower number "%"
    limit      ::= metric upper number time             a metric with one value per request
    metric     ::= "ttft" | "ttft_sent" | "ttfo" | "itl" | "itl_token" | "tpot" | "e2e" | "max_gap"
                 | "dispatch_lag"
    statistic  ::= "mean" | "p" number                  0 < number < 100
    upper      ::= "<" | "<="
    lower      ::= ">" | ">="
    time       ::= "us" | "ms" | "s"
    number     ::= digits [ "." digits ]

`itl` and `itl_token` are pooled over all gaps of all requests, so goodput cannot use them: there `tpot`
and `max_gap` speak about one request.

What a candidate may lose against its baseline (`tokenswarm quality`); one of the two lists may be left out:

    quality    ::= ( "ppl_ratio" | "kl" ) upper number [ "warn" number ]
                 | ( "top1" | "prefix_match" ) lower number "%" [ "warn" number "%" ]
                 | "length_ratio" ( upper | lower ) number [ "warn" number ]
                 | ( "empty_rate" | "loop_rate" ) upper number "%" [ "warn" number "%" ]

`prefix_match` is the share of the baseline's answers, token by token, that the candidate's begin with, too.
The two rates are points above the baseline's own. `warn` is the nearer limit at which a PASS gets a remark.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

REQUEST_METRICS = ("ttft", "ttft_sent", "ttfo", "tpot", "e2e", "max_gap", "dispatch_lag")
"""Metrics with one value per request."""

POOLED_METRICS = ("itl", "itl_token")
"""Metrics with one value per gap, kept as histograms."""

QUALITY = {
    "ppl_ratio": ("<", "<="),
    "kl": ("<", "<="),
    "top1": (">", ">="),
    "prefix_match": (">", ">="),
    "length_ratio": ("<", "<=", ">", ">="),
    "empty_rate": ("<", "<="),
    "loop_rate": ("<", "<="),
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
_NS = {"us": 10**3, "ms": 10**6, "s": 10**9}
_TOKEN = re.compile(r"\s*(?:(<=|>=|<|>|\(|\)|,|%)|(\d+(?:\.\d+)?)|([A-Za-z_][\w.]*)|(\S))")


class SlaError(ValueError):
    """An SLA that cannot be read: says the file, the objective's number, what was found and expected."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What one request must keep: metric < limit_ns, or <= where not strict."""

    metric: str
    strict: bool
    limit_ns: int


@dataclass(frozen=True, slots=True)
class Latency:
    """A percentile or, where `percentile` is None, the mean of a metric below a limit."""

    text: str
    limit: Limit
    percentile: float | None

    @property
    def allowed_share(self) -> float:
        """The share of values that may lie beyond the limit: 0.05 for p95."""
        return 1.0 if self.percentile is None else round(1 - self.percentile / 100, 12)


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """The share of requests that may fail."""

    text: str
    allowed_share: float


@dataclass(frozen=True, slots=True)
class Goodput:
    """All limits at once, kept by all but `allowed_share` of the requests."""

    text: str
    limits: tuple[Limit, ...]
    allowed_share: float


Objective = Latency | ErrorRate | Goodput


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
            raise SlaError(f"{file}: found the key {key!r}, {_expected(str(key), keys)}")
    name = found.get("name")
    if not isinstance(name, str) or not name.strip():
        raise SlaError(f"{file}: found name {name!r}, expected a text")
    if "quality" not in found or "objectives" in found:
        objectives = _listed(file, "objectives", found.get("objectives"), parse_objective)
    else:
        objectives = ()
    quality = _listed(file, "quality", found["quality"], parse_quality) if "quality" in found else ()
    return Sla(name.strip(), objectives, quality)


def parse_objective(text: str) -> Objective:
    """Parse one objective. Raises SlaError without the file's name."""
    words = _Words(text)
    metric = words.take("a metric", (*REQUEST_METRICS, *POOLED_METRICS, "error_rate", "goodput"))
    if metric == "error_rate":
        words.take("an upper limit", ("<", "<="))
        objective: Objective = ErrorRate(" ".join(text.split()), float(words.share()))
    elif metric == "goodput":
        objective = _goodput(words, text)
    else:
        statistic = words.statistic()
        objective = Latency(" ".join(text.split()), words.limit(metric), statistic)
    words.end()
    return objective


def parse_quality(text: str) -> QualityLimit:
    """Parse one limit on what a candidate may lose. Raises SlaError without the file's name."""
    words = _Words(text)
    measure = words.take("a measure of quality", QUALITY)
    upper = words.take("a comparison", QUALITY[measure]) in ("<", "<=")
    limit = words.amount(measure)
    warn = None
    if words.rest:
        words.take("what follows the limit", ("warn",))
        warn = words.amount(measure)
        if (warn >= limit) if upper else (warn <= limit):
            raise SlaError(f"found a warning that is no nearer than the limit of {measure}")
    words.end()
    return QualityLimit(" ".join(text.split()), measure, upper, limit, warn)


def _goodput(words: "_Words", text: str) -> Goodput:
    words.take("limits in parentheses", ("(",))
    limits = []
    while True:
        metric = words.take("a metric", (*REQUEST_METRICS, *POOLED_METRICS))
        if metric in POOLED_METRICS:
            raise SlaError(f"found {metric!r} in goodput, which judges single requests: use tpot or max_gap")
        limits.append(words.limit(metric))
        if words.take("the next limit or the end", (",", ")")) == ")":
            break
    words.take("a lower limit", (">", ">="))
    return Goodput(" ".join(text.split()), tuple(limits), float(1 - words.share()))


class _Words:
    """The words of one objective, taken from the front."""

    def __init__(self, text: str) -> None:
        matches = _TOKEN.finditer(text)
        self.rest = [match.group(match.lastindex) for match in matches if match.lastindex]

    def take(self, what: str, known: Iterable[str]) -> str:
        word = self.rest.pop(0) if self.rest else None
        known = tuple(known)
        if word not in known:
            raise SlaError(f"found {_found(word)} as {what}, {_expected(word, known)}")
        return str(word)

    def number(self) -> Fraction:
        word = self.rest.pop(0) if self.rest else None
        if word is None or not word[0].isdigit():
            raise SlaError(f"found {_found(word)} as a limit, expected a number")
        return Fraction(word)

    def limit(self, metric: str) -> Limit:
        strict = self.take("an upper limit", ("<", "<=")) == "<"
        number = self.number()
        nanoseconds = round(number * _NS[self.take("a unit of time", _NS)])
        if nanoseconds <= 0:
            raise SlaError(f"found a limit of {nanoseconds} ns for {metric}, expected at least 1 ns")
        return Limit(metric, strict, nanoseconds)

    def share(self) -> Fraction:
        share = self.number() / 100
        self.take("a unit", ("%",))
        if not 0 < share < 1:  # 0 % and 100 % can be refuted but no number of requests can show them
            raise SlaError(f"found a limit of {float(share * 100):g} %, expected one between 0 % and 100 %")
        return share

    def amount(self, measure: str) -> float:
        if measure in SHARES:
            return float(self.share())
        number = float(self.number())
        if number <= 0:
            raise SlaError(f"found a limit of {number:g} for {measure}, expected more than 0")
        return number

    def statistic(self) -> float | None:
        word = self.rest.pop(0) if self.rest else None
        if word == "mean":
            return None
        match = re.fullmatch(r"p(\d+(?:\.\d+)?)", word or "")
        if match and 0 < float(match[1]) < 100:
            return float(match[1])
        known = ("mean", "p50", "p90", "p95", "p99", "p99.9")
        raise SlaError(f"found {_found(word)} as a statistic, {_expected(word, known)}")

    def end(self) -> None:
        if self.rest:
            raise SlaError(f"found {' '.join(self.rest)!r} behind the limit, expected nothing more")


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


def _found(word: str | None) -> str:
    return "nothing" if word is None else repr(word)


def _expected(word: str | None, known: tuple[str, ...]) -> str:
    expected = (
        f"expected {', '.join(known[:-1])} or {known[-1]}" if len(known) > 1 else f"expected {known[0]}"
    )
    near = difflib.get_close_matches(word or "", known, 1)
    return f"{expected}; did you mean {near[0]!r}?" if near else expected


def _kind(found: object) -> str:
    return "nothing" if found is None else f"a {type(found).__name__}"
