import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from analysis.charts import (
    Axes,
    Figure,
    Judged,
    draw_itl,
    draw_ttft,
    save_png,
    shortened,
    style,
    width_in,
    wrapped,
)
from analysis.charts_timeline import draw_timeline
from analysis.curves import gap_edges, gap_shares, percentile_curve, ttft_buckets
from analysis.histogram import Histogram
from analysis.page import chart_figures
from analysis.rundir import load
from analysis.sla import default
from analysis.verdict import judge
from tests.run_directories import Load, write_run


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    run = load(
        write_run(tmp_path_factory.mktemp("run"), Load(seconds=25, rate=30, failures={"http_5xx": 0.02}))
    )
    return run, judge(run, default())


# The arrays that are drawn


@given(st.lists(st.floats(1e5, 1e10), min_size=4, max_size=300), st.integers(0, 3))
def test_a_percentile_curve_rises_and_holds_the_samples_own_values(values: list[float], failed: int) -> None:
    curve = percentile_curve(np.array(values + [math.inf] * failed))
    n = len(values) + failed
    assert np.all(np.diff(curve.values_ms) >= 0)
    assert set(curve.values_ms) <= {value / 1e6 for value in values}
    assert np.all(np.isfinite(curve.values_ms))
    assert curve.failed_from == (pytest.approx(len(values) / n * 100) if failed else None)
    if failed == 0:
        assert curve.nines[0] == pytest.approx(math.log10(2))
        assert curve.nines[-1] == pytest.approx(math.log10(n))
        assert curve.values_ms[0] == sorted(values)[math.ceil(n / 2) - 1] / 1e6


def test_too_few_values_are_no_curve() -> None:
    assert len(percentile_curve(np.array([1.0, 2.0, 3.0])).nines) == 0


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200), st.floats(1.0, 1000.0))
def test_all_gaps_lie_in_a_class_and_the_limit_is_an_edge(values: list[int], limit_ms: float) -> None:
    pooled = Histogram()
    pooled.record(values)
    edges = gap_edges([pooled], [limit_ms])
    assert np.all(np.diff(edges) > 0)
    assert np.min(np.abs(edges - limit_ms)) < 1e-9 * limit_ms
    shares = gap_shares(pooled, edges)
    assert shares.sum() == pytest.approx(1.0)
    beyond = shares[np.searchsorted(edges, limit_ms * 0.999999) :].sum() * pooled.count
    certain, undecided = pooled.count_at_or_above(round(limit_ms * 1e6))
    assert certain - 1e-6 <= beyond <= certain + undecided + 1e-6


def test_ttft_buckets_hold_twenty_requests_each_and_their_own_p95() -> None:
    due = np.arange(600) * 1e8  # ten a second, for a minute
    buckets = ttft_buckets(due, np.where(due < 30e9, 50e6, 80e6), 0)
    assert buckets.width_s == 2
    assert buckets.at_s.tolist() == list(range(1, 61, 2))
    assert buckets.p95_ms.tolist() == [50.0] * 15 + [80.0] * 15
    assert len(ttft_buckets(np.array([]), np.array([]), 0).at_s) == 0


# What reaches the axes


def test_the_ttft_chart_shows_the_curve_the_limit_and_where_failures_begin(one: Judged) -> None:
    _, verdict = one
    with style():
        ax = Figure().add_axes((0.1, 0.1, 0.8, 0.8))
        draw_ttft(ax, [one], ["x "])
    texts = " ".join(text.get_text() for text in [*ax.texts, *ax.get_legend().get_texts()])
    ttft = next(result for result in verdict.objectives if result.metric == "ttft")
    assert f"p95 {ttft.observed:.3g}" in texts
    assert "p95 < 100 ms" in texts
    assert "failed from p9" in texts
    corner = [line for line in ax.lines if list(line.get_ydata())[:2] == [100.0, 100.0]]
    assert corner[0].get_xdata()[1] == pytest.approx(-math.log10(0.05))


def test_the_itl_chart_shows_the_stall_share_of_the_verdict(one: Judged) -> None:
    with style():
        ax = Figure().add_axes((0.1, 0.1, 0.8, 0.8))
        draw_itl(ax, [one], [""])
    itl = next(result for result in one[1].objectives if result.metric == "itl")
    (label,) = (text.get_text() for text in ax.get_legend().get_texts())
    assert itl.bad is not None
    assert f"{itl.bad / itl.n * 100:.3g} % beyond" in label


def test_every_chart_is_a_png_of_at_least_150_dots_an_inch(one: Judged, tmp_path: Path) -> None:
    for name, figure in chart_figures([one]).items():
        image = imread(save_png(figure, tmp_path / f"{name}.png"))
        assert image.shape[1] >= 150 * figure.get_size_inches()[0]
        assert image[..., :3].std() > 0.01
    assert {path.stem for path in tmp_path.iterdir()} == {"ttft", "itl", "timeline", "instrument"}


def ttft_panel(judged: list[Judged]) -> Axes:
    with style():
        panels = [Figure().add_axes((0.1, 0.1, 0.8, 0.8)) for _ in range(4)]
        draw_timeline(panels, judged)
    return panels[2]


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"rate": 0.4, "seed": 1}, r"\d+ requests: too few for a p95, it takes 20"),
        ({"rate": 0.0}, "no requests"),
        (
            {"rate": 10.0, "meta": {"imported": {"tool": "x", "unknown": ["ttft"]}}},
            "not in the imported file",
        ),
        (
            {"rate": 10.0, "meta": {"imported": {"tool": "x", "timed": False}}},
            "the imported file has no times",
        ),
    ],
)
def test_a_panel_without_a_p95_says_why(knobs: dict[str, Any], words: str, tmp_path: Path) -> None:
    run = load(write_run(tmp_path, Load(seconds=25, **knobs)))
    (text,) = ttft_panel([(run, judge(run, default()))]).texts
    assert re.fullmatch(words, text.get_text().replace("\n", " "))


def test_a_panel_with_a_p95_says_nothing_and_shows_it_even_where_it_is_one(
    one: Judged, tmp_path: Path
) -> None:
    run = load(write_run(tmp_path, Load(seconds=25, rate=2)))
    few = replace(run, requests=run.requests[:20])
    assert not ttft_panel([one]).texts
    assert not ttft_panel([one, (few, judge(few, default()))]).texts
    panel = ttft_panel([(few, judge(few, default()))])
    assert not panel.texts
    (curve,) = [line for line in panel.lines if len(line.get_xdata()) == 1]
    assert curve.get_marker() == "."


# Texts that must fit


@settings(max_examples=50)
@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=80), st.floats(0.3, 5))
def test_a_shortened_text_fits_its_room(text: str, room_in: float) -> None:
    found = shortened(text, 9, room_in)
    assert width_in(found, 9) <= max(room_in, width_in("W…", 9))
    assert found == " ".join(text.split()) or found.endswith("…")


@settings(max_examples=30)
@given(st.lists(st.text("abcdefgh", min_size=1, max_size=14), max_size=30), st.integers(1, 4))
def test_wrapped_lines_fit_and_lose_nothing_unmarked(words: list[str], lines: int) -> None:
    found = wrapped(" ".join(words), 9, 2.0, lines)
    assert len(found) <= lines
    assert all(width_in(line, 9) <= 2.0 for line in found)
    assert " ".join(found).split() == words or any(line.endswith("…") for line in found)


def test_gaps_that_are_all_zero_have_classes_too() -> None:
    together = Histogram()
    together.record([0] * 50)
    edges = gap_edges([together], [])
    assert np.all(np.diff(edges) > 0)
    assert gap_shares(together, edges).sum() == pytest.approx(1.0)
