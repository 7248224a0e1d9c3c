"""The verdict as Markdown, for whoever reviews a pull request: the word that decides, then what it stands on.

Names, reasons and details come from outside: servers, files, error messages. All of them are escaped, so that
none becomes a heading, a link, a mention of somebody or HTML. GitHub's dialect (tables) is what is written.
"""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import wording
from .objective import INCONCLUSIVE, PASS, ObjectiveResult
from .verdict import INVALID, OVERSATURATED, SEVERITY, Verdict

MARKS = {PASS: "✅", "FAIL": "❌", OVERSATURATED: "❌", INCONCLUSIVE: "❔", INVALID: "⚠️"}

MEANING = {
    PASS: "every objective holds, its bound included",
    "FAIL": "at least one objective certainly does not hold",
    OVERSATURATED: "more was asked than was answered, and the wait grew to the end",
    INCONCLUSIVE: "too little data to say",
    INVALID: "the measurement itself cannot be trusted",
}

LONGEST = 500
"""A text from outside is cut here: an error message may be a page."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]|~$#!])")
_FIRST = re.compile(r"^(\d*)([-+=.)])")  # what would begin a list
_LINKS = re.compile(r"(?<=@)(?=\w)|(?<=\w:)(?=//)|(?<=www)(?=\.)|(?<=#)(?=\d)|(?<=GH-)(?=\d)", re.IGNORECASE)
_JOINER = "\N{WORD JOINER}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is a row of the table: a run, or a server at a level over all of its runs."""

    name: str
    status: str
    reasons: Sequence[str]
    objectives: Sequence[ObjectiveResult]


@dataclass(frozen=True, slots=True)
class Whole:
    """What came out of a run or an experiment: the whole's status, what it follows from, and what was said.

    `verdicts` are those of the runs, `together` those on replications, where there are any. `quality` has a
    status and reasons for each candidate; `missing` are runs that were planned and not made.
    """

    status: str
    verdicts: Sequence[Verdict]
    said: Sequence[str] = ()
    quality: Mapping[str, tuple[str, Sequence[str]]] | None = None
    missing: Sequence[str] = ()
    together: Sequence[Judgement] = ()

    @property
    def judgements(self) -> Sequence[Judgement]:
        """What the whole's status follows from: replications, or else each run."""
        runs = [Judgement(one.name, one.status, one.reasons, one.objectives) for one in self.verdicts]
        return self.together or runs


def markdown(whole: Whole) -> str:
    """Return the summary; the same data give the same text."""
    quality = whole.quality or {}
    sla = " and ".join(dict.fromkeys(verdict.sla for verdict in whole.verdicts))
    simulated = "SIMULATED: " if any(verdict.simulated for verdict in whole.verdicts) else ""
    lines = [f"## {MARKS[whole.status]} {simulated}{whole.status}: {escaped(sla)}", ""]
    lines += [f"**{whole.status}** means: {MEANING[whole.status]}.", *_why(whole), ""]
    lines += _table(whole.judgements)
    lines += _listed("To decide", _needed(whole.judgements))
    lines += _listed("Compared", whole.said)
    words = [f"{name}: {status}: {'; '.join(why)}" for name, (status, why) in quality.items()]
    lines += _listed("Quality", words)
    lines += _listed("Not measured", whole.missing)
    lines += ["", *_provenance(whole.verdicts)]
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Return a text from outside as one line of Markdown that shows it and does nothing else."""
    line = " ".join(text.split())
    line = "".join("\N{REPLACEMENT CHARACTER}" if _is_control(letter) else letter for letter in line)
    if len(line) > LONGEST:
        line = line[: LONGEST - 1].rstrip() + "…"
    line = _LINKS.sub(_JOINER, line)
    line = _FIRST.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", line))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _is_control(letter: str) -> bool:
    """Say whether a character has no shape of its own, such as those that turn the direction of writing."""
    return unicodedata.category(letter).startswith("C")


def _why(whole: Whole) -> list[str]:
    """Tell the first reasons of the runs that gave the whole its status, where the table does not."""
    worst = [one for one in whole.judgements if one.status == whole.status]
    if whole.status not in {INVALID, OVERSATURATED}:
        return []
    return ["", *(f"- {_cell(one, whole)}{escaped(one.reasons[0])}" for one in worst)]


def _cell(one: Judgement, whole: Whole) -> str:
    return f"{escaped(one.name)}: " if len(whole.judgements) > 1 else ""


def _table(judgements: Sequence[Judgement]) -> list[str]:
    """Return a row for each objective of each run, what did not pass first."""
    several = len(judgements) > 1
    rows = [(one, result) for one in judgements for result in one.objectives]
    rows.sort(key=lambda row: SEVERITY.index(row[1].status))
    if not rows:
        return []
    heads = ["run"] * several + ["objective", "verdict", "observed", "bad share, 95 % bounds", "why"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for one, result in rows:
        cells = [escaped(one.name)] * several + [escaped(result.text)]
        cells += [f"{MARKS[result.status]} {result.status}", _observed(result), _bounds(result)]
        lines.append("| " + " | ".join([*cells, escaped(result.reason)]) + " |")
    return lines


def _observed(result: ObjectiveResult) -> str:
    if result.observed is None:
        return "no value"
    if math.isinf(result.observed):
        return "∞ (failures)"
    if result.unit == "ms":
        return f"{wording.observed(result)} of {result.limit:g} ms"
    return f"{wording.observed(result)} of {wording.figure(result, result.limit)}"


def _bounds(result: ObjectiveResult) -> str:
    found = wording.bounds(result)
    if result.bound_high is None or result.allowed is None or result.statistic in {"mean", "rate"}:
        return found
    return f"{found}, {wording.figure(result, result.allowed)} allowed"


def _needed(judgements: Sequence[Judgement]) -> list[str]:
    """Say how much longer each undecided run must be for its hungriest objective."""
    told = []
    for one in judgements:
        more = [
            (result.more_minutes, result.more_requests, result.text)
            for result in one.objectives
            if result.more_minutes is not None and result.more_requests is not None
        ]
        if one.status == INCONCLUSIVE and more:
            minutes, requests, text = max(more)
            time = f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes:,.0f} minutes"
            told.append(f"{one.name}: about {requests:,} more requests ({time}) at this load, for {text}")
    return told


def _listed(title: str, texts: Sequence[str]) -> list[str]:
    return ["", f"**{title}**", "", *(f"- {escaped(text)}" for text in texts)] if texts else []


def _provenance(verdicts: Sequence[Verdict]) -> list[str]:
    lines = []
    for verdict in verdicts:
        n = sum(scenario.n for scenario in verdict.scenarios)
        seconds = (verdict.window_end_unix_ns - verdict.window_start_unix_ns) / 1e9
        text = f"{verdict.name}: run {verdict.run}, {verdict.loop} loop, {n:,} requests in {seconds:,.0f} s"
        lines.append(f"<sub>{escaped(text)}</sub>  ")
    return lines
