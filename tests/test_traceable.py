"""Every number that a report shows is in verdict.json, rounded and in another unit perhaps.

What says where it comes from (addresses, versions, times of day) is in run.json, and ticks of axes are no
results.
"""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from analysis import report
from analysis.sla import default
from tests.experiments import experiment
from tests.run_directories import Load, write_run
from tokenswarm import judging

NUMBER = re.compile(r"(?<![\w.:])\d[\d,]*(?:\.\d+)?(?![\w:]|\.\d)")
PROVENANCE = re.compile(r"run 20260921-run-1.* UTC|target http\S+|python [\d.]+")
UNITS = (1, 100, 1e-3, 1e-6, 1e-9)
"""A share in percent, ns in us, ms and s."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("traceable")
    judged = experiment(made, {"base": {}, "awq": {"ttft_ms": 60.0}}, blocks=1)
    with pytest.MonkeyPatch.context() as without:
        without.setattr(report, "write_report", lambda *_: None)  # of each run; `single` has one
        judging.conclude([run.path for run, _ in judged], default(), made)
    return made


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_run(tmp_path_factory.mktemp("traceable") / "run", Load(failures={"http_5xx": 0.01}))
    judging.conclude([made], default(), made)
    return made


@pytest.mark.parametrize("what", ["single", "folder"])
def test_every_number_of_a_report_is_in_the_verdict(what: str, request: pytest.FixtureRequest) -> None:
    made: Path = request.getfixturevalue(what)
    verdict = json.loads((made / "verdict.json").read_text())
    for text in (of_html(made / "report.html"), of_pdf(made / "report.pdf")):
        shown = NUMBER.findall(text)
        assert len(shown) > 60
        assert missing(shown, verdict) == []


def test_a_number_that_is_not_there_is_noticed(single: Path) -> None:
    verdict = json.loads((single / "verdict.json").read_text())
    shown = [one for one in NUMBER.findall(of_html(single / "report.html")) if len(one.replace(".", "")) > 3]
    other = [f"{float(one.replace(',', '')) * 1.37:.{len(one.partition('.')[2])}f}" for one in shown]
    assert len(missing(other, verdict)) > 0.8 * len(other)


def of_html(path: Path) -> str:
    text = re.sub(r"<style.*?</style>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return PROVENANCE.sub("", unescape(re.sub(r"<[^>]+>", " ", text)))


def of_pdf(path: Path) -> str:
    lines = [line for page in PdfReader(path).pages for line in page.extract_text().splitlines()]
    told = [line for line in lines if re.search(r"[A-Za-z%]", line)]  # ticks stand alone
    return "\n".join(PROVENANCE.sub("", line) for line in told)


def missing(shown: list[str], verdict: Any) -> list[str]:
    """Return the numbers that are neither in a text of the verdict nor one of its numbers, rounded."""
    texts, numbers = [], []
    for leaf in leaves(verdict):
        (texts if isinstance(leaf, str) else numbers).append(leaf)
    said = set(NUMBER.findall(" ".join(texts)))
    return [one for one in shown if one not in said and not any(is_rounded(one, of) for of in numbers)]


def is_rounded(shown: str, of: float) -> bool:
    half = 0.500001 * 10.0 ** -len(shown.partition(".")[2])
    value = float(shown.replace(",", ""))
    return any(abs(abs(of) * unit - value) <= half for unit in UNITS)


def leaves(value: Any) -> Iterator[str | float]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield value
