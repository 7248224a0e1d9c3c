"""What a candidate lost against its baseline: measures with bounds, and a verdict on each limit.

PASS and FAIL need the bound, not only the value, on the right side of the limit. A candidate that is no
further off than the baseline is from itself (asked again, after a restart: the noise floor) never FAILs.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .answers import Answers, check_same_questions
from .divergence import Divergence, diverge
from .freerun import is_empty, is_loop, prefix_share
from .objective import FAIL, INCONCLUSIVE, PASS
from .paired import MIN_CLUSTERS, Bounds, excess, pooled
from .sla import SHARES, QualityLimit
from .verdict import EXIT_CODES

SCHEMA = 2
PERFECT = {
    "ppl_ratio": 1.0,
    "kl": 0.0,
    "top1": 1.0,
    "prefix_match": 1.0,
    "length_ratio": 1.0,
    "empty_rate": 0.0,
    "loop_rate": 0.0,
}
"""What a server that answers exactly like the baseline has."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure, its one-sided 95 % bounds, and the same figure of the baseline against itself.

    For kl, `value` is the least that agrees with both servers' lists and `most` the largest, as far as
    `analysis.divergence` can say; `low` bounds the one and `high` the other. Rates are points above the
    baseline's.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    floor: float | None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one limit."""

    text: str
    measure: str
    status: str
    reason: str
    warning: str


@dataclass(frozen=True, slots=True)
class Kind:
    """The texts of one kind; too few for bounds."""

    kind: str
    texts: int
    positions: int
    ppl_base: float
    ppl_ratio: float
    kl: float
    top1: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What is told and not judged. Shares lie between 0 and 1, divergences are in nats."""

    texts: int
    positions: int
    ppl_base: float
    ppl_candidate: float
    kl_median: float
    kl_p99: float
    max_dp: float
    prompts: int
    exact_match: float
    cut_base: float  # share of answers that ended at the token limit
    cut_candidate: float
    empty_base: float
    empty_candidate: float
    loop_base: float
    loop_candidate: float
    floor_exact_match: float | None


@dataclass(frozen=True, slots=True)
class QualityVerdict:
    """What a comparison says about an SLA's quality list."""

    status: str
    reasons: tuple[str, ...]
    sla: str
    simulated: bool
    base: str
    candidate: str
    floor: str  # how the baseline was asked again, or "not measured"
    limits: tuple[Judged, ...]
    measures: tuple[Measure, ...]
    figures: Figures
    kinds: tuple[Kind, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this verdict."""
        return EXIT_CODES[self.status]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite ratio is the text "inf", since JSON has no such number."""
        fields = {"schema": SCHEMA, "exit_code": self.exit_code, **asdict(self)}
        return {key: _plain(value) for key, value in fields.items()}


def judge(  # noqa: PLR0913 - three servers' answers, and what to call them
    base: Answers,
    candidate: Answers,
    limits: Iterable[QualityLimit],
    *,
    floor: Answers | None = None,
    how: str = "asked again",
    sla: str = "",
) -> QualityVerdict:
    """Judge a candidate by limits; `floor` is what the base said when it was asked again, `how` says how.

    Raises AnswersError where the servers were not asked the same.
    """
    for other in (candidate, *([floor] if floor else ())):
        check_same_questions(base, other)
    texts = [diverge(*pair) for pair in zip(base.texts, candidate.texts, strict=True)]
    found = _measures(base, candidate, texts)
    again: dict[str, float] = {}
    if floor:
        itself = [diverge(*pair) for pair in zip(base.texts, floor.texts, strict=True)]
        again = {name: bounds.value for name, (bounds, _) in _measures(base, floor, itself).items()}
    measures = {
        name: Measure(name, bounds.value, bounds.low, bounds.high, again.get(name), most)
        for name, (bounds, most) in found.items()
    }
    judged = tuple(_judge_limit(measures[limit.measure], limit) for limit in limits)
    status, reasons = _overall(judged)
    return QualityVerdict(
        status=status,
        reasons=reasons,
        sla=sla,
        simulated=base.simulated or candidate.simulated,
        base=base.url,
        candidate=candidate.url,
        floor=how if floor else "not measured",
        limits=judged,
        measures=tuple(measures.values()),
        figures=_figures(base, candidate, floor, texts),
        kinds=_kinds(base, texts),
    )


def _measures(
    base: Answers, other: Answers, texts: list[Divergence]
) -> dict[str, tuple[Bounds, float | None]]:
    """Return each measure's bounds, and for kl the most that it can be."""
    size = np.array([len(text.nll) for text in texts], dtype=np.float64)

    def over_texts(values: Callable[[Divergence], Any]) -> Bounds:
        return pooled(np.array([values(text).sum() for text in texts]), size)

    surprise = over_texts(lambda text: text.nll)
    least, most = over_texts(lambda text: text.kl_low), over_texts(lambda text: text.kl_high)
    lengths = [np.array([len(one.token_ids) for one in server.answers]) for server in (other, base)]
    kl_low = None if least.low is None else max(least.low, 0.0)
    return {
        "ppl_ratio": (_mapped(surprise, _exp), None),
        "kl": (Bounds(least.value, kl_low, most.high), most.value),
        "top1": (_mapped(over_texts(lambda text: text.agree), _share), None),
        "prefix_match": (_mapped(_prefixes(base, other), _share), None),
        "length_ratio": (pooled(*lengths), None),
        "empty_rate": (_excess(base, other, is_empty), None),
        "loop_rate": (_excess(base, other, is_loop), None),
    }


def _mapped(bounds: Bounds, by: Callable[[float], float]) -> Bounds:
    low, high = (None if bound is None else by(bound) for bound in (bounds.low, bounds.high))
    return Bounds(by(bounds.value), low, high)


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf


def _share(number: float) -> float:
    return min(max(number, 0.0), 1.0)


def _prefixes(base: Answers, other: Answers) -> Bounds:
    """Return the mean share of an answer that the other server's begins with, too."""
    pairs = zip(base.answers, other.answers, strict=True)
    shares = np.array([prefix_share(mine.token_ids, its.token_ids) for mine, its in pairs])
    return pooled(shares, np.ones(len(shares)))


def _excess(base: Answers, other: Answers, is_bad: Callable[[Any], bool]) -> Bounds:
    bad = [(is_bad(mine), is_bad(its)) for mine, its in zip(base.answers, other.answers, strict=True)]
    return excess(bad.count((False, True)), bad.count((True, False)), len(bad))


def _judge_limit(measure: Measure, limit: QualityLimit) -> Judged:
    sign = 1 if limit.upper else -1  # times a value: the larger, the worse
    best, worst = (measure.low, measure.high) if limit.upper else (measure.high, measure.low)
    warning = ""
    if best is None or worst is None:
        status, reason = INCONCLUSIVE, f"found too few texts or prompts, expected at least {MIN_CLUSTERS}"
    elif sign * worst <= sign * limit.limit:
        status, reason = PASS, f"{'at most' if limit.upper else 'at least'} {_shown(measure.name, worst)}"
        if limit.warn is not None and sign * measure.value > sign * limit.warn:
            warning = f"{_shown(measure.name, measure.value)} is beyond {_shown(measure.name, limit.warn)}"
    elif sign * best <= sign * limit.limit:
        bounds = " and ".join(_shown(measure.name, bound) for bound in sorted((best, worst)))
        status, reason = INCONCLUSIVE, f"between {bounds}"
    elif not _beyond_floor(measure, sign):
        floor = _shown(measure.name, measure.floor or 0.0)
        status, reason = INCONCLUSIVE, f"within the noise: the baseline against itself has {floor}"
    else:
        status, reason = FAIL, f"{'at least' if limit.upper else 'at most'} {_shown(measure.name, best)}"
    return Judged(limit.text, measure.name, status, reason, warning)


def _beyond_floor(measure: Measure, sign: int) -> bool:
    """Say whether a measure is further from perfect than the baseline's own, on the side that is judged."""
    perfect = PERFECT[measure.name]
    own = 0.0 if measure.floor is None else abs(measure.floor - perfect)
    return sign * (measure.value - perfect) > own


def _overall(judged: tuple[Judged, ...]) -> tuple[str, tuple[str, ...]]:
    for status in (FAIL, INCONCLUSIVE):
        concerned = [limit for limit in judged if limit.status == status]
        if concerned:
            return status, tuple(f"{limit.text}: {limit.reason}" for limit in concerned)
    if not judged:
        return INCONCLUSIVE, ("no limit was given",)
    return PASS, (f"all {len(judged)} limits hold",)


def _figures(base: Answers, candidate: Answers, floor: Answers | None, texts: list[Divergence]) -> Figures:
    kl = np.concatenate([text.kl_low for text in texts])
    surprise = [-np.concatenate([text.logprobs for text in one.texts]).mean() for one in (base, candidate)]

    def share(one: Answers, is_so: Callable[[Any], bool]) -> float:
        return sum(is_so(answer) for answer in one.answers) / len(one.answers)

    def is_cut(answer: Any) -> bool:
        return bool(answer.finish == "length")

    return Figures(
        texts=len(texts),
        positions=len(kl),
        ppl_base=_exp(float(surprise[0])),
        ppl_candidate=_exp(float(surprise[1])),
        kl_median=float(np.median(kl)),
        kl_p99=float(np.quantile(kl, 0.99)),
        max_dp=max(float(text.max_dp.max()) for text in texts),
        prompts=len(base.answers),
        exact_match=_exact(base, candidate),
        cut_base=share(base, is_cut),
        cut_candidate=share(candidate, is_cut),
        empty_base=share(base, is_empty),
        empty_candidate=share(candidate, is_empty),
        loop_base=share(base, is_loop),
        loop_candidate=share(candidate, is_loop),
        floor_exact_match=_exact(base, floor) if floor else None,
    )


def _exact(base: Answers, other: Answers) -> float:
    """Return the share of answers that are the same to their end."""
    same = [mine.token_ids == its.token_ids for mine, its in zip(base.answers, other.answers, strict=True)]
    return sum(same) / len(same)


def _kinds(base: Answers, texts: list[Divergence]) -> tuple[Kind, ...]:
    kinds = list(dict.fromkeys(text.kind for text in base.texts))
    found = []
    for kind in kinds:
        own = [pair for pair in zip(base.texts, texts, strict=True) if pair[0].kind == kind]
        size = sum(len(text.nll) for _, text in own)
        found.append(
            Kind(
                kind=kind,
                texts=len(own),
                positions=size,
                ppl_base=_exp(-sum(float(said.logprobs.sum()) for said, _ in own) / size),
                ppl_ratio=_exp(sum(float(text.nll.sum()) for _, text in own) / size),
                kl=sum(float(text.kl_low.sum()) for _, text in own) / size,
                top1=sum(int(text.agree.sum()) for _, text in own) / size,
            )
        )
    return tuple(found)


def _shown(measure: str, value: float) -> str:
    """Write a value for a person."""
    return f"{value * 100:.1f} %" if measure in SHARES else f"{value:.4g}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else None
    return value
