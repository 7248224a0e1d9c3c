"""The words of an SLA: taken from the front one by one; what is none is named with what was expected.

What a person may have meant is said, too: `=<` is near `<=`, `TTFT` near `ttft`, `95th` near `p95`.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

NS = {"us": 10**3, "ms": 10**6, "s": 10**9}
"""Units of a latency."""

SPAN_NS = {"s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
"""Units of a time within a run."""

PERIOD_NS = {"h": 3600 * 10**9, "days": 24 * 3600 * 10**9}
"""Units of the period of an error budget."""

_TOKEN = re.compile(
    r"""\s*(?: ("(?:[^"\s]|[ ])*"|'(?:[^'\s]|[ ])*') | ([<>=!\u2264\u2265]+ | [(),%]) | ([0-9]+(?:\.[0-9]+)?)
             | ([^\W\d][\w./:-]*) | (\S) )""",
    re.VERBOSE,
)
_STATISTIC = re.compile(r"[pP]?_?([0-9]+(?:\.[0-9]+)?)(?:th|st|nd|rd|%)?")
_MAX_DIGITS = 15

STATISTICS = ("mean", "p50", "p90", "p95", "p99", "p99.9")
"""Those that an error names; any percentile up to the highest is one."""

HIGHEST_PERCENTILE = 99.999999

_MEANT = {
    "<=": ("\u2264", "=<"),
    ">=": ("\u2265", "=>"),
    "us": ("\u00b5s", "\u03bcs", "usec", "microseconds"),
    "ms": ("msec", "millis", "milliseconds"),
    "s": ("sec", "secs", "second", "seconds"),
    "min": ("m", "mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
    "days": ("d", "day"),
    "%": ("percent", "pct"),
    "mean": ("avg", "average"),
    "p50": ("median",),
    "e2e": ("latency", "response_time", "e2el"),
    "tpot": ("time_per_output_token",),
    "ttft": ("time_to_first_token", "first_token"),
    "itl": ("inter_token_latency", "tbt", "gap"),
    "max_gap": ("stall",),
    "error_rate": ("errors", "failures", "failure_rate"),
    "requests_per_s": ("rps", "qps", "requests/s", "req/s"),
    "output_tokens_per_s": ("tps", "tokens/s", "tok/s", "tokens_per_s", "throughput"),
    "in": ("scenario", "for", "on"),
    "from": ("after", "between", "during", "since"),
    "to": ("until", "and"),
    "every": ("each", "per"),
}
_NAMES = {name: word for word, names in _MEANT.items() for name in names}


class SlaError(ValueError):
    """An SLA that cannot be read: says the file, the objective's number, what was found and expected."""


class Words:
    """The words of one objective, taken from the front."""

    def __init__(self, text: str) -> None:
        """Cut a text into words; what stands between quotes is one."""
        matches = _TOKEN.finditer(text)
        self.rest = [match.group(match.lastindex) for match in matches if match.lastindex]
        self.text = _written(self.rest)

    def take(self, what: str, known: Iterable[str]) -> str:
        """Take one of the known words."""
        word, known = self._next(), tuple(known)
        if word is None or word not in known:
            raise SlaError(f"found {_found(word)} as {what}, {expected(word, known)}")
        return word

    def metric(self, known: Iterable[str]) -> str:
        """Take a metric; the error takes one apart that is tied to its statistic (`ttft_p95`, `p95 ttft`)."""
        word, known = self._next(), tuple(known)
        if word is not None and word in known:
            return word
        glued = re.fullmatch(r"(?:(.+)[_.-])?(p[0-9.]+|mean)(?:[_.-](.+))?", (word or "").lower())
        if glued:
            name = nearest(glued[1] or glued[3] or (self.rest or [""])[0], known)
            if name:
                raise SlaError(
                    f"found {_found(word)} as a metric, expected a metric and behind it a statistic; "
                    f"did you mean '{name} {glued[2]}'?"
                )
        raise SlaError(f"found {_found(word)} as a metric, {expected(word, known)}")

    def number(self) -> Fraction:
        """Take a number that is not negative."""
        word = self._next()
        if word is None or not _is_number(word):
            raise SlaError(f"found {_found(word)} as a limit, expected a number")
        if len(word) > _MAX_DIGITS:
            raise SlaError(f"found a number of {len(word)} digits, expected at most {_MAX_DIGITS}")
        return Fraction(word)

    def time_ns(self, units: dict[str, int]) -> int:
        """Take a number and its unit of time; return ns."""
        number = self.number()
        return round(number * units[self.take("a unit of time", units)])

    def share(self) -> Fraction:
        """Take a share in percent; return it between 0 and 1."""
        share = self.number() / 100
        self.take("a unit", ("%",))
        if not 0 < share < 1:  # 0 % and 100 % can be refuted but no number of requests can show them
            raise SlaError(f"found a limit of {float(share * 100):g} %, expected one between 0 % and 100 %")
        return share

    def positive(self, what: str) -> float:
        """Take a number above 0 that has no unit."""
        number = float(self.number())
        if number <= 0:
            raise SlaError(f"found a limit of {number:g} for {what}, expected more than 0")
        return number

    def statistic(self) -> float | None:
        """Take a percentile between 0 and 100, or None for the mean."""
        word = self._next()
        if word == "mean":
            return None
        if word and _is_number(word) and self.rest and self.rest[0] in {"th", "st", "nd", "rd", "%"}:
            word += self.rest[0]
        match = _STATISTIC.fullmatch(word or "")
        if not match or not 0 < float(match[1]) <= HIGHEST_PERCENTILE:
            raise SlaError(f"found {_found(word)} as a statistic, {expected(word, STATISTICS)}")
        if word != f"p{match[1]}":
            hint = f"expected {_listed(STATISTICS)}; did you mean 'p{match[1]}'?"
            raise SlaError(f"found {_found(word)} as a statistic, {hint}")
        return float(match[1])

    def name(self, what: str, reserved: Iterable[str]) -> str:
        """Take a name: a plain word that is not reserved, or anything between quotes."""
        word = self._next()
        if word and word[0] in "\"'" and len(word) > 2:
            return word[1:-1]
        if word is None or word in reserved or not re.match(r"[^\W\d]", word):
            hint = "expected a name, in quotes unless it is a plain word"
            raise SlaError(f"found {_found(word)} as {what}, {hint}")
        return word

    def end(self) -> None:
        """Demand that nothing is left."""
        if self.rest:
            raise SlaError(f"found {' '.join(self.rest)!r} behind the limit, expected nothing more")

    def _next(self) -> str | None:
        return self.rest.pop(0) if self.rest else None


def expected(word: str | None, known: Sequence[str]) -> str:
    """Say what was expected, and which of it was probably meant."""
    near = nearest(word or "", known)
    return f"expected {_listed(known)}" + (f"; did you mean {near!r}?" if near else "")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant: another writing, another name, or few letters off."""
    plain = {name.lower(): name for name in known}
    writings = (word.lower(), word.lower().replace("-", "_"))
    for writing in (*writings, *(_NAMES.get(one, "") for one in writings)):
        if writing in plain:
            return plain[writing]
    near = difflib.get_close_matches(writings[0], plain, 1)
    return plain[near[0]] if near else None


def _listed(known: Sequence[str]) -> str:
    return f"{', '.join(known[:-1])} or {known[-1]}" if len(known) > 1 else known[0]


def _found(word: str | None) -> str:
    return "nothing" if word is None else repr(word)


def _is_number(word: str) -> bool:
    return "0" <= word[0] <= "9"


def _written(words: list[str]) -> str:
    text = ""
    for word in words:
        tight = not text or text.endswith("(") or word in {"(", ")", ","}
        text += word if tight else f" {word}"
    return text
