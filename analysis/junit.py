"""Verdicts as JUnit XML, for CI systems that show tests: a suite for each run, in it a case per objective.

The format has no standard of its own; this is what Jenkins' schema (junit-10.xsd) allows and GitLab, GitHub's
reporters and junitparser read. The reason stands twice, for some show the message and some the text.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from .objective import FAIL, PASS
from .replications import Replications
from .verdict import INVALID, OVERSATURATED, Verdict, write_atomically

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Case(NamedTuple):
    """A test: its name, one of the verdict's five words, and why."""

    name: str
    status: str
    reason: str


def write_junit(verdict: Verdict, path: Path) -> Path:
    """Write a run's junit.xml: FAIL is a failure; INCONCLUSIVE, OVERSATURATED and INVALID are errors."""
    return write_junit_of_all([verdict], [], path)


def write_junit_of_all(
    verdicts: Sequence[Verdict],
    others: Sequence[Case],
    path: Path,
    together: Sequence[Replications] = (),
) -> Path:
    """Write an experiment's junit.xml: what it is judged by, run by run or, with replications, all together.

    Another suite has what no run is judged by.
    """
    root = ET.Element("testsuites")
    for one in together:
        root.append(_suite(f"{one.name}: {one.sla}", one.name, _pooled(one)))
    for verdict in () if together else verdicts:
        root.append(_suite(f"{verdict.name}: {verdict.sla}", verdict.name, _cases(verdict), verdict))
    if others:
        root.append(_suite("experiment", "experiment", others))
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, 0)) for suite in root)))
    ET.indent(root)
    return write_atomically(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def _cases(verdict: Verdict) -> list[Case]:
    cases = [Case(result.text, result.status, result.reason) for result in verdict.objectives]
    broken = "\n".join(gate.line() for gate in verdict.gates if not gate.ok and gate.severity == "invalid")
    cases.append(Case("instrument", INVALID if broken else PASS, broken))
    if verdict.status == OVERSATURATED:
        cases.append(Case("load", OVERSATURATED, verdict.reasons[0]))
    return cases


def _pooled(one: Replications) -> list[Case]:
    cases = [Case(result.text, result.status, result.reason) for result in one.objectives]
    if one.status in {INVALID, OVERSATURATED}:
        cases.append(Case("runs", one.status, "\n".join(one.reasons)))
    return cases


def _suite(name: str, of: str, cases: Sequence[Case], verdict: Verdict | None = None) -> ET.Element:
    suite = ET.Element("testsuite", name=_text(name), tests=str(len(cases)))
    suite.set("failures", str(sum(case.status == FAIL for case in cases)))
    suite.set("errors", str(sum(case.status not in {PASS, FAIL} for case in cases)))
    seconds = 0.0
    if verdict:
        start, end = verdict.window_start_unix_ns, verdict.window_end_unix_ns
        seconds = max(0, end - start) / 1e9
        suite.set("timestamp", f"{datetime.fromtimestamp(start / 1e9, UTC):%Y-%m-%dT%H:%M:%S}")
    suite.set("time", f"{seconds:.3f}")
    for case in cases:
        made = ET.SubElement(suite, "testcase", classname=_text(of), name=_text(case.name), time="0.000")
        if case.status != PASS:
            reason = _text(f"{case.status}: {case.reason}")
            kind = "failure" if case.status == FAIL else "error"
            ET.SubElement(made, kind, message=reason, type=case.status).text = reason
    return suite


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
