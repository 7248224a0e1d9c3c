"""Charts: data in, matplotlib Figures and axes out; beside the `charts_` modules the only one that knows it.

Colours are Okabe and Ito's, readable by the colour-blind; those of the verdicts are made lighter or darker,
so that good and bad differ in greyscale, too. Every colour is doubled by a line style, a marker or a word.
Files carry no time of creation: the same data give the same bytes.
"""

import base64
import math
import warnings
from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from fontTools.subset import Options  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from .curves import Curve, gap_edges, gap_shares, percentile_curve
from .histogram import Histogram
from .objective import ObjectiveResult, percent
from .rundir import Run, window, window_intervals
from .samples import rank_quantile, request_sample
from .verdict import INVALID, OVERSATURATED, Verdict, write_atomically

__all__ = ["Axes", "Figure"]

A4_IN = (8.27, 11.69)
INK, SOFT, FAINT = "#1a1a1a", "#666666", "#d9d9d9"
STATUS = {  # colour, colour of the text on it, symbol
    "PASS": ("#59C0A4", "black", "✓"),
    "FAIL": ("#AF4D00", "white", "✗"),
    "OVERSATURATED": ("#8F4A73", "white", "▲"),
    "INCONCLUSIVE": ("#F0E442", "black", "?"),
    "INVALID": ("black", "white", "⚠"),
}
Look = tuple[str, Any, str]
"""Colour, line style, marker."""

RUNS: tuple[Look, ...] = (
    ("#0072B2", "-", "o"),
    ("#E69F00", (0, (5, 1.5)), "s"),
    ("#009E73", (0, (1, 1)), "^"),
    ("#CC79A7", (0, (5, 1.5, 1, 1.5)), "D"),
    ("#56B4E9", (0, (3, 3)), "v"),
    ("#D55E00", (0, (8, 2)), "P"),
)

_STYLE: Any = {
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titley": 1.0,  # else every chart's tick labels are laid out once more to find its place
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "hatch.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8,
}

# A PDF says where each glyph goes: tables by which others lay out text would double the time to write it.
Options._drop_tables_default = [*Options._drop_tables_default, "GDEF", "GPOS", "GSUB"]  # noqa: SLF001

SIMULATED = "SIMULATED: a simulator answered, no model and no GPU"

PAPER: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}

Judged = tuple[Run, Verdict]


@contextmanager
def style() -> Iterator[None]:
    """Draw and save in our style, whatever this machine's matplotlibrc says."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script we have no font for: boxes
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG with 160 dots per inch."""
    content = BytesIO()
    with style():
        figure.savefig(content, format="png", dpi=160, metadata={"Software": None})
    return write_atomically(path, content.getvalue())


def save_pdf(pages: Sequence[Figure], path: Path, title: str) -> Path:
    """Write figures as the pages of a PDF with embedded fonts."""
    content = BytesIO()
    metadata = {"Title": title, "Creator": "Tokenswarm", "Producer": None, "CreationDate": None}
    with style(), PdfPages(content, metadata=metadata) as pdf:
        for page in pages:
            pdf.savefig(page)
    return write_atomically(path, content.getvalue())


def svg_address(figure: Figure) -> str:
    """Return a figure in SVG as a data: address; text becomes outlines, for a reader's fonts are unknown."""
    content = BytesIO()
    with style(), mpl.rc_context({"svg.hashsalt": "tokenswarm", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": "Tokenswarm"})
    return f"data:image/svg+xml;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


@lru_cache(maxsize=4096)
def width_in(text: str, size_pt: float) -> float:
    """Return how wide a text is drawn (inches)."""
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    font.set_size(100, 72)  # large, since hinting rounds every letter to whole pixels
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64 / 72 * size_pt / 100


def shortened(text: str, size_pt: float, room_in: float) -> str:
    """Return a text that fits into the room, cut with an ellipsis where it must be."""
    text = " ".join(text.split())
    if width_in(text, size_pt) <= room_in:
        return text
    too_long = bisect(range(2, len(text)), room_in, key=lambda keep: width_in(text[:keep] + "…", size_pt))
    return text[: too_long + 1].rstrip() + "…"


def wrapped(text: str, size_pt: float, room_in: float, lines: int) -> list[str]:
    """Return a text broken into at most so many lines; the last is cut where it must be."""
    made, words = [""], text.split()
    while words:
        longer = f"{made[-1]} {words[0]}".strip()
        if width_in(longer, size_pt) <= room_in or not made[-1]:
            made[-1] = longer
            words.pop(0)
        elif len(made) < lines:
            made.append("")
        else:
            made[-1] = " ".join((made[-1], *words))
            break
    return [shortened(line, size_pt, room_in) for line in made]


def draw_ttft(ax: Axes, judged: Sequence[Judged], names: Sequence[str], looks: Sequence[Look] = RUNS) -> None:
    """Draw TTFT percentiles on an axis of nines; curves must stay out of the hatched corners of the SLA.

    `names` say which run a figure below belongs to: "baseline: ", or nothing for a single run.
    """
    highest, deepest, lowest = 0.0, 2.0, math.inf
    ends: list[tuple[str, Curve]] = []
    for (run, verdict), name, (color, line, marker) in zip(judged, names, looks, strict=False):
        if verdict.status == OVERSATURATED:
            ax.plot([], [], color=color, linestyle=line, label=f"{name}oversaturated: no percentiles")
            continue
        if "ttft" in run.unknown:
            ax.plot([], [], color=color, linestyle=line, label=f"{name}not in the imported file")
            continue
        values = request_sample(window(run), "ttft").worst()
        curve = percentile_curve(values)
        exact = {
            p: rank_quantile(values, p / 100) / 1e6 for p in (50, 95, 99) if len(values) * (100 - p) >= 100
        }
        known = {p: value for p, value in exact.items() if math.isfinite(value)}
        text = "  ".join(f"p{p} {_short(value)}" for p, value in known.items()) + " ms"
        if not known:
            text = "no data" if curve.failed_from is None else "too many failed"
        ax.plot(curve.nines, curve.values_ms, color=color, linestyle=line, label=name + text)
        ax.plot([_nines(p) for p in known], list(known.values()), marker, color=color, markersize=5)
        if len(curve.nines):
            highest, lowest = max(highest, curve.values_ms[-1]), min(lowest, curve.values_ms[0])
            deepest = max(deepest, curve.nines[-1])
            ends.append((color, curve))
    limits = limits_of(judged, "ttft")
    highest = max([highest, *(result.limit for result in limits)]) * 1.25 or 1.0
    log = highest / min([lowest, *(result.limit for result in limits)]) > 15
    ax.set(xlim=(_nines(50), deepest * 1.05), ylim=(lowest / 1.5 if log else 0, highest))
    if log:
        log_ticks(ax, "y")
    _corners(ax, limits, highest)
    for color, curve in ends:
        _mark_failures(ax, color, curve)
    ticks = [p for p in (50, 90, 95, 99, 99.9, 99.99, 99.999) if _nines(p) <= deepest * 1.05]
    ax.set_xticks([_nines(p) for p in ticks], [f"p{p:g}" for p in ticks])
    ax.set_title("TTFT by percentile, ms")
    _legend(ax)


def _mark_failures(ax: Axes, color: str, curve: Curve) -> None:
    if curve.failed_from is None:
        return
    x, y = float(curve.nines[-1]), float(curve.values_ms[-1])
    ax.plot([x], [y], "^", color=color, markersize=9)
    right = x > sum(ax.get_xlim()) / 2
    ax.annotate(
        f"failed from p{curve.failed_from:.4g}",
        (x, y),
        xytext=(-8, 4) if right else (8, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="bottom" if right else "center",
        bbox=PAPER,
    )


def _corners(ax: Axes, limits: Sequence[ObjectiveResult], top: float) -> None:
    """Hatch what a limit forbids: every percentile up to its own, at the limit and above."""
    left, lowest_pt = ax.get_xlim()[0], -math.inf
    for result in sorted(limits, key=lambda one: one.limit):
        x, limit = _nines(float(result.statistic[1:])), result.limit
        ax.fill_between([left, x], limit, top, facecolor="#f3f3f3", edgecolor=FAINT, hatch="////", zorder=0)
        ax.plot([left, x, x], [limit, limit, top], color=INK, linewidth=1.1, zorder=1)
        at_pt = float(ax.transData.transform((left, limit))[1]) / ax.figure.dpi * 72
        lowest_pt = max(at_pt + 4, lowest_pt)  # labels of near limits are stacked
        text = result.text.partition(" ")[2]  # the title names the metric
        beside: Any = {"xytext": (4, lowest_pt - at_pt), "textcoords": "offset points", "bbox": PAPER}
        ax.annotate(text, (left, limit), fontsize=8, zorder=1.5, **beside)  # curves pass over it
        lowest_pt += 11


def draw_itl(ax: Axes, judged: Sequence[Judged], names: Sequence[str], looks: Sequence[Look] = RUNS) -> None:
    """Draw the shares of the gaps by length, on two logarithmic axes; beyond the SLA's limit is hatched."""
    pooled = []
    for run, verdict in judged:
        saturated = verdict.status == OVERSATURATED
        pooled.append(Histogram() if saturated else window_intervals(run, "itl").pooled())
    limits = limits_of(judged, "itl")
    edges = gap_edges(pooled, [result.limit for result in limits])
    for (_, verdict), total, name, (color, line, _) in zip(judged, pooled, names, looks, strict=False):
        text = f"{name}no gaps"
        if total.count:
            known = [p for p in (50, 99) if total.count * (100 - p) >= 100]
            figures = "  ".join(f"p{p:g} {_short(total.quantile(p / 100) / 1e6)}" for p in known)
            text = f"{name}{figures} ms{_stalls(verdict, limits)}"
        ax.plot([], [], color=color, linestyle=line, label=text)
        if total.count:
            shares = gap_shares(total, edges)
            ax.stairs(shares, edges, color=color, linestyle=line, linewidth=1.6)
            ax.stairs(shares, edges, color=color, alpha=0.18, fill=True)
    fewest = min((1 / total.count for total in pooled if total.count), default=0.01)
    ax.set(yscale="log", ylim=(fewest / 2, 12), xscale="log", xlim=(edges[1] / 1.05, edges[-1]))
    for result in limits[:1]:
        ax.axvspan(result.limit, edges[-1], facecolor="#f3f3f3", edgecolor=FAINT, hatch="////", zorder=0)
        ax.axvline(result.limit, color=INK, linewidth=1.1, zorder=1)
        ax.annotate(
            result.text,
            (result.limit, 9),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            va="top",
            bbox=PAPER,
        )
    log_ticks(ax, "x")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share * 100:g} %" if share <= 1 else ""))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_title("ITL: share of gaps by length, ms")
    _legend(ax)


def _stalls(verdict: Verdict, limits: Sequence[ObjectiveResult]) -> str:
    """Return the share of a run's gaps beyond the first limit, as words."""
    for result in verdict.objectives:
        if limits and result.text == limits[0].text and result.bad is not None and result.n:
            return f"; {percent(result.bad / result.n)} beyond"
    return ""


def limits_of(judged: Sequence[Judged], metric: str) -> list[ObjectiveResult]:
    """Return the percentile objectives on a metric of the whole run, each text once."""
    found = {r.text: r for _, verdict in judged for r in verdict.objectives if r.metric == metric}
    return [result for result in found.values() if result.statistic.startswith("p") and not result.scope]


def _nines(percentile: float) -> float:
    return -math.log10(1 - percentile / 100)


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def log_ticks(ax: Axes, axis: str) -> None:
    """Make an axis ("x" or "y") logarithmic, with plain numbers at 1, 2 and 5."""
    which = ax.xaxis if axis == "x" else ax.yaxis
    (ax.set_xscale if axis == "x" else ax.set_yscale)("log")
    low, high = which.get_view_interval()
    which.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 200 else (1.0,)))
    which.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    which.set_minor_formatter(NullFormatter())


def _legend(ax: Axes) -> None:
    below = ScaledTranslation(0, -20 / 72, ax.figure.dpi_scale_trans)  # clear of the tick labels
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, 0),
        bbox_transform=ax.transAxes + below,
        borderaxespad=0,
        handlelength=2.2,
    )


def watermark(figure: Figure, judged: Sequence[Judged]) -> None:
    """Say SIMULATED across a figure where any run is, and INVALID where all are, faintly: all can be read."""
    words = ["SIMULATED"] if any(verdict.simulated for _, verdict in judged) else []
    words += ["INVALID"] if all(verdict.status == INVALID for _, verdict in judged) else []
    if words:
        figure.text(
            0.5,
            0.5,
            "\n".join(words),
            fontsize=60,
            color="black",
            alpha=0.06,
            rotation=30,
            ha="center",
            va="center",
            weight="bold",
        )
