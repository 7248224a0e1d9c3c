"""What a run did over time: four panels, and what their marks mean."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from . import wording
from .charts import FAINT, INK, PAPER, RUNS, SOFT, STATUS, Axes, Judged, Look, limits_of, wrapped
from .curves import ttft_buckets
from .samples import request_sample


def draw_timeline(axes: Sequence[Axes], judged: Sequence[Judged], looks: Sequence[Look] = RUNS) -> None:
    """Draw four panels over time: requests a second, in flight, TTFT p95, tokens a second."""
    small = axes[0].get_window_extent().width < 2 * axes[0].figure.dpi
    missing = []
    for (run, verdict), (color, line, _) in zip(judged, looks, strict=False):
        start = run.first_s
        at = run.timeline.unix_s.to_numpy() - start
        drawn: Any = {"color": color, "linestyle": line, "linewidth": 0.9 if small else 1.3}
        if verdict.loop == "open":
            axes[0].plot(
                at, run.timeline.offered, color=FAINT, linewidth=2.5 if small else 3.5, drawstyle="steps-post"
            )
        for ax, column in ((axes[0], "started"), (axes[1], "in_flight"), (axes[3], "tokens")):
            ax.plot(at, run.timeline[column], drawstyle="steps-post", **drawn)
        failed = run.timeline[run.timeline.failed > 0]
        axes[0].plot(failed.unix_s - start, failed.failed, "x", color=STATUS["FAIL"][0], markersize=5)
        requests = run.requests[:0] if "ttft" in run.unknown or not run.timed else run.requests
        sample = request_sample(requests, "ttft")
        due = requests.due_unix_ns.to_numpy()[sample.defined]
        buckets = ttft_buckets(due, sample.worst(), start * 10**9)
        missing += [] if len(buckets.at_s) else [wording.no_p95(run, len(due))]
        finite = np.isfinite(buckets.p95_ms)
        point = "." if finite.sum() == 1 else None  # no line goes through it
        axes[2].plot(buckets.at_s[finite], buckets.p95_ms[finite], marker=point, **drawn)
        lost = buckets.at_s[~finite]
        top = axes[2].get_xaxis_transform()
        axes[2].plot(lost, np.full(len(lost), 0.9), "^", color=color, markersize=6, transform=top)
    for result in limits_of(judged, "ttft")[:1]:
        axes[2].axhline(result.limit, color=INK, linewidth=1.0)
    if len(missing) == len(judged) > 0:
        _say(axes[2], missing[0])
    _finish_timeline(axes, judged, looks)


def timeline_key(judged: Sequence[Judged]) -> str:
    """Say what the marks of a timeline mean that are drawn."""
    told = ["thick: offered"] if any(verdict.loop == "open" for _, verdict in judged) else []
    if any((run.timeline.failed > 0).any() for run, _ in judged):
        told += ["cross: failed", "triangle: so many that there is no p95"]
    return "   ".join([*told, "shaded: not judged"])


def _say(ax: Axes, sentence: str) -> None:
    """Write in a panel why there is nothing in it."""
    words = "\n".join(wrapped(sentence, 7.5, 0.9 * ax.get_window_extent().width / ax.figure.dpi, 3))
    middle: Any = {"transform": ax.transAxes, "ha": "center", "va": "center", "bbox": PAPER}
    ax.text(0.5, 0.5, words, fontsize=7.5, color=SOFT, **middle)


def _finish_timeline(axes: Sequence[Axes], judged: Sequence[Judged], looks: Sequence[Look]) -> None:
    windows = [[t / 1e9 - run.first_s for t in run.window_ns] for run, _ in judged]
    end = max([stop for _, stop in windows] + [len(run.timeline) for run, _ in judged])
    names = ("requests/s", "in flight", "TTFT p95, ms", "tokens/s")
    for ax, name in zip(axes, names, strict=True):
        for edges in ((0, min(start for start, _ in windows)), (max(stop for _, stop in windows), end)):
            ax.axvspan(*edges, color="#ececec", zorder=0, linewidth=0)
        for window_s, (color, line, _) in zip(windows, looks, strict=False):
            for edge in window_s:
                ax.axvline(edge, color=SOFT if len(windows) == 1 else color, linewidth=0.8, linestyle=line)
        ax.set(xlim=(0, max(end, 1)), ylim=(0, max(ax.get_ylim()[1] * 1.1, 1)))
        wide_in = ax.get_window_extent().width / ax.figure.dpi
        ax.xaxis.set_major_locator(MaxNLocator(max(2, min(6, int(wide_in / 0.4))), integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(3))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        ax.set_title(name, fontsize=8.5, weight="normal", pad=3)
