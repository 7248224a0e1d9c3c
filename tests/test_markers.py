"""Markers: what may be one, what the verdict makes of a load that changed, and where a report shows them."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Annotation
from pypdf import PdfReader

from analysis.page import chart_figures
from analysis.report import write_report
from analysis.rundir import RunError, load
from analysis.sla import default
from analysis.verdict import Verdict, judge
from locustfiles._markers import TEXT_MAX, MarkerError, read_text
from tests.run_directories import START_S, Load, change_meta, write_run

SMALL = Load(seconds=25, rate=25, tokens=10, warmup_s=5)
NS = 10**9


def marker(at_s: float, text: str, kind: str = "note", until_s: float | None = None) -> dict[str, Any]:
    until = None if until_s is None else int((START_S + until_s) * NS)
    return {"unix_ns": int((START_S + at_s) * NS), "until_unix_ns": until, "text": text, "kind": kind}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), SMALL)


def judged(folder: Path, *markers: dict[str, Any]) -> Verdict:
    change_meta(folder, {"markers": list(markers)})
    return judge(load(folder), default())


def changes(verdict: Verdict) -> tuple[bool, str, str]:
    found = next(gate for gate in verdict.gates if gate.name == "load changes")
    return found.ok, found.found, found.severity


@pytest.mark.parametrize("text", ["deployed the new build", "  Größe 7 → 8 ", "x" * TEXT_MAX])
def test_a_word_is_a_marker(text: str) -> None:
    assert read_text(text) == text.strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" ", "found nothing, expected 1 to 200 characters"),
        ("x" * 201, "found 201 characters"),
        ("two\nlines", r"found the character U\+000A"),
        ("bell\x07", r"found the character U\+0007"),
        ("turned\u202eround", r"found the character U\+202E"),
    ],
)
def test_what_is_no_word_is_refused_in_one_line(text: str, expected: str) -> None:
    with pytest.raises(MarkerError, match=expected) as caught:
        read_text(text)
    assert "\n" not in str(caught.value)


def test_a_run_older_than_markers_has_none(tmp_path: Path) -> None:
    run = load(write_run(tmp_path / "run", SMALL))
    assert "markers" not in run.meta
    assert run.markers == ()
    assert changes(judge(run, default())) == (True, "none", "warning")


def test_a_load_that_changed_while_it_was_measured_is_a_warning(folder: Path) -> None:
    verdict = judged(folder, marker(8, "deployed"), marker(12, "users 20 -> 40", "load", 13))
    ok, found, severity = changes(verdict)
    assert (ok, severity) == (False, "warning")
    assert found.startswith("users 20 -> 40 at ")
    assert found.endswith(", 7 s into the window")
    assert verdict.status == judged(folder).status  # it warns, and decides nothing


@pytest.mark.parametrize(
    ("change", "ok"),
    [
        (marker(12, "deployed"), True),  # a word is no load
        (marker(2, "users 1 -> 2", "load", 4), True),  # over before the window
        (marker(2, "users 1 -> 2", "load", 5), True),  # over as it begins
        (marker(2, "users 1 -> 2", "load", 6), False),  # still ramping in it
        (marker(2, "users 1 -> 2", "load"), False),  # never got there
        (marker(26, "users 1 -> 2", "load"), True),  # after it
    ],
)
def test_only_the_window_counts(folder: Path, change: dict[str, Any], ok: bool) -> None:
    assert changes(judged(folder, change))[0] == ok


@pytest.mark.parametrize("odd", [{}, [1], [{"unix_ns": "x", "text": "t", "kind": "note"}], [{"unix_ns": 1}]])
def test_markers_that_are_none_are_one_line(folder: Path, odd: Any) -> None:
    change_meta(folder, {"markers": odd})
    with pytest.raises(RunError, match=r"run\.json: found .*marker"):
        load(folder)
    change_meta(folder, {"markers": []})


def test_a_report_draws_and_lists_them(folder: Path, tmp_path: Path) -> None:
    verdict = judged(folder, marker(12, "deployed <b>build</b>"), marker(15, "users 20 -> 40", "load", 16))
    run = load(folder)
    first_s = run.first_s
    panels = chart_figures([(run, verdict)])["timeline"].axes
    for panel in panels:
        drawn = {text.get_text(): text.xy[0] for text in panel.texts if isinstance(text, Annotation)}
        assert drawn == {"1": START_S + 12 - first_s, "2": START_S + 15 - first_s}
        at = {line.get_xdata()[0] for line in panel.lines if len(line.get_xdata()) == 2}
        assert {START_S + 12 - first_s, START_S + 15 - first_s} <= at
    pdf = PdfReader(write_report([(run, verdict)], tmp_path))
    text = pdf.pages[0].extract_text()
    assert f"1 at {START_S + 12 - first_s} s: deployed <b>build</b>" in text
    assert f"2 at {START_S + 15 - first_s} s: users 20 -> 40" in text
    html = (tmp_path / "report.html").read_text()
    assert "UTC: deployed &lt;b&gt;build&lt;/b&gt;</li>" in html


def test_two_runs_tell_whose_marker_it_is(folder: Path) -> None:
    verdict = judged(folder, marker(12, "deployed"))
    run = load(folder)
    panel = chart_figures([(run, verdict), (run, verdict)])["timeline"].axes[0]
    assert {"A1", "B1"} <= {text.get_text() for text in panel.texts}
