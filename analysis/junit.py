"""The verdict as JUnit XML, for CI systems that show tests: a case per objective, one for the gates."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from .objective import FAIL, PASS
from .verdict import INVALID, OVERSATURATED, Verdict, write_atomically

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(verdict: Verdict, path: Path) -> Path:
    """Write junit.xml: FAIL is a failure; INCONCLUSIVE, OVERSATURATED and INVALID are errors."""
    cases = [(result.text, result.status, result.reason) for result in verdict.objectives]
    broken = "\n".join(gate.line() for gate in verdict.gates if not gate.ok and gate.severity == "invalid")
    cases.append(("instrument", INVALID if broken else PASS, broken))
    if verdict.status == OVERSATURATED:
        cases.append(("load", OVERSATURATED, verdict.reasons[0]))
    suite = ET.Element("testsuite", name=_text(f"{verdict.name}: {verdict.sla}"), tests=str(len(cases)))
    suite.set("failures", str(sum(status == FAIL for _, status, _ in cases)))
    suite.set("errors", str(sum(status not in {PASS, FAIL} for _, status, _ in cases)))
    for name, status, reason in cases:
        case = ET.SubElement(suite, "testcase", classname=_text(verdict.name), name=_text(name))
        if status != PASS:
            kind = "failure" if status == FAIL else "error"
            ET.SubElement(case, kind, message=_text(f"{status}: {reason}"), type=status)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return write_atomically(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
