"""The summary for a pull request: what it says, and that nothing from outside breaks out of it."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml
from markdown_it import MarkdownIt

from analysis.junit import Case, write_junit, write_junit_of_all
from analysis.markdown import Whole, escaped, markdown
from analysis.rundir import load
from analysis.sla import Sla, parse_objective
from analysis.verdict import Verdict, judge
from tests.experiments import measured
from tests.run_directories import Load, write_run
from tokenswarm import cli, judging

GOOD = Load(seconds=28, warmup_s=3, rate=70, tokens=12, seed=3)
SLA = Sla("test", tuple(map(parse_objective, ("ttft p95 < 100 ms", "itl p99 < 20 ms", "error_rate < 1 %"))))
HOSTILE = [
    "<script>alert(1)</script>",
    "[click](http://evil.example)",
    "![x](http://evil.example/x.png)",
    "a | b | c",
    "`code` **bold** _em_ ~~gone~~",
    "http://evil.example and www.evil.example",
    "@team #12 GH-3 someone@evil.example",
    "# heading\n\n- list\n\n---",
    "&lt;b&gt; &amp;",
    "$x$ \\ \\| end\\",
    "\N{RIGHT-TO-LEFT OVERRIDE}dlrow\x00\x1b[31m",
    "a" * 5000,
]

Judge = Callable[..., Verdict]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, Verdict] = {}

    def of(**changes: Any) -> Verdict:
        knobs = replace(GOOD, **changes)
        if repr(knobs) not in made:
            made[repr(knobs)] = judge(load(write_run(folder / str(len(made)), knobs)), SLA)
        return made[repr(knobs)]

    return of


def alone(verdict: Verdict) -> str:
    return markdown(Whole(verdict.status, [verdict]))


def dialect(**options: bool) -> MarkdownIt:
    """Return a parser of GitHub's dialect, in which a bare name that ends as a country's is no link."""
    made = MarkdownIt("gfm-like", options)
    assert made.linkify
    made.linkify.tlds(["invalid"])
    return made


GITHUB, WITHOUT_HTML = dialect(html=True), dialect()


def shown(text: str) -> tuple[str, list[str]]:
    """Return what a reader sees of Markdown, and the kinds of everything in it that is no plain text."""
    visible, kinds = [], []
    for token in GITHUB.parse(text):
        for child in token.children or []:
            if child.type in {"text", "text_special", "softbreak", "hardbreak"}:
                visible.append(child.content)
            else:
                kinds.append(child.type)
    return "".join(visible), kinds


def test_the_first_word_is_the_verdict(judged: Judge) -> None:
    assert alone(judged()).splitlines()[0] == "## ✅ PASS: test"
    assert alone(judged(ttft_ms=120.0)).startswith("## ❌ FAIL: test")
    assert alone(judged(simulated=True)).startswith("## ✅ SIMULATED: PASS: test")
    assert alone(judged(meta={"accounting": {"unaccounted": 1}})).startswith("## ⚠️ INVALID: test")


def test_the_table_has_a_row_for_each_objective_with_what_failed_first(judged: Judge) -> None:
    verdict = judged(ttft_ms=120.0)
    rows = [line for line in alone(verdict).splitlines() if line.startswith("|")][2:]
    assert len(rows) == 3
    assert "| ttft p95 &lt; 100 ms | ❌ FAIL |" in rows[0]
    result = next(one for one in verdict.objectives if one.metric == "ttft")
    assert f"{result.observed:.4g} ms of 100 ms" in rows[0]
    assert "5 % allowed" in rows[0]
    assert all("✅ PASS" in row for row in rows[1:])
    assert "bad, 5 % allowed" in rows[0].rpartition(" | ")[2]


def test_an_undecided_run_says_what_would_decide(judged: Judge) -> None:
    verdict = judged(seconds=23, rate=10.0)
    assert verdict.status == "INCONCLUSIVE"
    text = alone(verdict)
    assert "**To decide**" in text
    needed = max(one.more_requests or 0 for one in verdict.objectives)
    assert f"about {needed:,} more requests" in text
    assert "To decide" not in alone(judged())


def test_an_invalid_run_says_why(judged: Judge) -> None:
    assert "- unaccounted: found 1, limit 0" in alone(judged(meta={"accounting": {"unaccounted": 1}}))


def test_an_experiment_says_what_was_compared_what_lacks_and_what_quality_said(judged: Judge) -> None:
    whole = Whole(
        "FAIL",
        [judged(), judged(name="awq", ttft_ms=120.0)],
        said=["awq answers later than bf16: first token at p95 254 ms against 140 ms"],
        quality={"awq": ("FAIL", ["ppl_ratio <= 1.03: 1.2"])},
        missing=["awq-2"],
    )
    text, _ = shown(markdown(whole))
    assert "awq answers later than bf16" in text
    assert "awq: FAIL: ppl_ratio <= 1.03: 1.2" in text
    assert "Not measured" in text
    assert "awq-2" in text
    rows = [line for line in markdown(whole).splitlines() if line.startswith("|")]
    assert rows[0].startswith("| run | objective | verdict |")
    assert rows[2].startswith("| awq | ttft p95")


def same_text(text: str) -> str:
    """Return a text as `escaped` may change it: white space, joiners and letters without a shape aside."""
    return re.sub(r"[\N{WORD JOINER}\ufffd\s]", "", text)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_words_are_shown_and_do_nothing(hostile: str, judged: Judge) -> None:
    verdict = replace(judged(ttft_ms=120.0), name=hostile, sla=hostile, run=hostile)
    objectives = tuple(replace(one, text=hostile, reason=hostile) for one in verdict.objectives)
    whole = Whole("FAIL", [replace(verdict, objectives=objectives), verdict], [hostile], None, [hostile])
    text = markdown(whole)
    plain = markdown(Whole("FAIL", [judged(ttft_ms=120.0)] * 2, ["plain"], None, ["plain"]))
    assert sorted(set(shown(text)[1])) == sorted(set(shown(plain)[1]))
    assert text.count("\n") == plain.count("\n")
    assert (
        len({line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    )


@given(
    st.text(st.characters(codec="utf-8"), max_size=60) | st.text("\\`*_[]()<>!|~#@:/.w$&;-+=1a ", max_size=60)
)
@settings(max_examples=300)
def test_an_escaped_text_reads_as_it_was(text: str) -> None:
    visible, kinds = shown("- " + escaped(text))
    assert kinds == []
    assert len(WITHOUT_HTML.parse("- " + escaped(text))) in {4, 7}  # one item, empty or with a line
    assert "\n" not in escaped(text)
    letters = "".join(letter for letter in text if letter.isprintable() and not letter.isspace())
    assert same_text(visible) == same_text(letters) or not text.isprintable()


def test_mentions_issues_and_addresses_are_broken_up() -> None:
    assert "@team" not in escaped("@team")
    assert "#12" not in escaped("#12").replace("\\", "")
    assert "someone@evil" not in escaped("someone@evil.example")
    assert "http://" not in escaped("http://evil.example")
    assert "www." not in escaped("www.evil.example")


def test_a_page_of_an_error_message_is_cut() -> None:
    assert len(escaped("a" * 5000)) <= 500


def test_the_command_writes_it_to_a_file_or_to_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", Load(seconds=12, warmup_s=1, rate=20, tokens=4))

    def verdict(*words: str | Path) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokenswarm", "verdict", str(run), *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    code, out, err = verdict("--markdown", "-")
    assert code == 4
    assert out.startswith("## ❔ INCONCLUSIVE: sub-100ms")
    assert "Results:" in err
    code, table, _ = verdict("--markdown", tmp_path / "summary.md")
    assert (tmp_path / "summary.md").read_text() == out
    assert "Results:" in table
    code, out, err = verdict("--markdown", "-", "--json")
    assert (code, out) == (2, "")
    assert "--markdown -: found --json, too" in err


@pytest.mark.usefixtures("no_pages")
def test_an_experiment_has_both_summaries(tmp_path: Path) -> None:
    runs = [measured(tmp_path, server, baseline="bf16") for server in ("bf16", "awq")]
    found = judging.conclude(runs, SLA, tmp_path, unasked={"awq": "<no answer>"}, missing=["awq-2"])
    suites = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert [suite.name for suite in suites] == ["bf16-4-1: test", "awq-4-1: test", "experiment"]
    assert [case.name for case in list(suites)[2]] == ["quality of awq", "awq-2"]
    text = found.to_markdown()
    assert "- awq: INCONCLUSIVE: not judged: &lt;no answer&gt;" in text
    assert "- awq-2" in text
    assert "**Compared**" in text


# JUnit, as its readers read it


def test_a_reader_of_junit_finds_every_objective(judged: Judge, tmp_path: Path) -> None:
    verdict = judged(ttft_ms=120.0, name="a\x00<b>")
    found = JUnitXml.fromfile(str(write_junit(verdict, tmp_path / "junit.xml")))
    (suite,) = found
    assert (found.tests, found.failures, found.errors, suite.time) == (4, 1, 0, 25.0)
    results = {case.name: case.result for case in suite}
    assert list(results) == [*(one.text for one in verdict.objectives), "instrument"]
    (failure,) = results["ttft p95 < 100 ms"]
    assert isinstance(failure, Failure)
    assert failure.text == failure.message == f"FAIL: {verdict.objectives[0].reason}"
    assert results["itl p99 < 20 ms"] == []


def test_an_experiments_junit_has_a_suite_for_each_run_and_one_for_the_rest(
    judged: Judge, tmp_path: Path
) -> None:
    others = [
        Case("quality of awq", "FAIL", "kl"),
        Case("awq-2", "INCONCLUSIVE", "planned, and not measured"),
    ]
    verdicts = [judged(), judged(seconds=23, rate=10.0)]
    found = JUnitXml.fromfile(str(write_junit_of_all(verdicts, others, tmp_path / "junit.xml")))
    assert [suite.name for suite in found] == ["llama-8b: test", "llama-8b: test", "experiment"]
    undecided = sum(one.status == "INCONCLUSIVE" for one in verdicts[1].objectives)
    assert undecided
    assert (found.tests, found.failures, found.errors) == (10, 1, 1 + undecided)
    (last,) = list(list(found)[2])[1].result
    assert isinstance(last, Error)
