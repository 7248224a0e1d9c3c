"""The report as HTML: what it says, that it stays the same, and that nothing in it comes from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.charts import Judged
from analysis.compare import compare
from analysis.rundir import load
from analysis.sentences import paragraphs
from analysis.sla import default
from analysis.verdict import judge
from analysis.web_report import write_html
from tests.experiments import experiment
from tests.run_directories import Load, write_run

EVIL = '<script>alert(1)</script><img src="https://example.org/x">'


def judged(folder: Path, **knobs: Any) -> Judged:
    run = load(write_run(folder, Load(**{"seconds": 25, "rate": 25.0, "tokens": 10} | knobs)))
    return run, judge(run, default())


class Page(HTMLParser):
    """What a browser would see of the page: its tags with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_it_says_what_the_verdict_says(tmp_path: Path) -> None:
    one = judged(tmp_path / "run", name="production", failures={"http_5xx": 0.2})
    page = Page(write_html([one], tmp_path).read_text())
    verdict = one[1]
    assert verdict.status == "FAIL"
    texts = [result.text for result in verdict.objectives]
    for text in (verdict.status, "production", *verdict.reasons, *texts):
        assert text in page.words
    assert "SIMULATED" not in page.words
    for gate in verdict.gates:
        assert gate.found in page.words
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3
    assert all(image["alt"] for image in images)


def test_names_and_errors_are_text_and_nothing_is_fetched(tmp_path: Path) -> None:
    one = judged(tmp_path / "run", name=EVIL, scenario=EVIL.replace(",", ""), simulated=True)
    text = write_html([one], tmp_path).read_text()
    page = Page(text)
    assert EVIL in page.words
    assert "SIMULATED" in page.words
    assert "script" not in {tag for tag, _ in page.tags}
    addresses = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in {"src", "href", "action", "data", "style"} and value
    ]
    assert addresses
    assert all(re.match(r"data:image/svg\+xml;base64,|#run-\d+$", address) for address in addresses)
    assert "default-src 'none'" in text


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    one = judged(tmp_path / "run")
    first = write_html([one], tmp_path).read_bytes()
    assert write_html([one], tmp_path).read_bytes() == first


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    folder = tmp_path_factory.mktemp("pair")
    return experiment(folder, {"base": {}, "awq": {"ttft_ms": 90.0}}, levels=(10,), blocks=1)


@pytest.mark.parametrize("quality", [None, {"awq": {"status": "FAIL", "reasons": ["kl <= 0.05: 0.3"]}}])
def test_an_experiment_begins_with_the_comparison_in_words(
    pair: list[Judged], tmp_path: Path, quality: dict[str, Any] | None
) -> None:
    found = compare(pair)
    page = Page(write_html(pair, tmp_path, None, found, quality).read_text())
    head, rest = paragraphs(found, quality)[0]
    assert f"{head}: {rest}" in page.words
    assert ("kl <= 0.05: 0.3" in page.words) == bool(quality)
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == [f"run-{number}" for number in range(1, len(pair) + 1)]
