"""The report of one run, or of two side by side: report.pdf and the charts as PNGs."""

from collections.abc import Sequence
from pathlib import Path

from .rundir import Run
from .verdict import Verdict

MAX_RUNS = 2


class ReportError(ValueError):
    """A report that cannot be made: says what was found and what was expected."""


def write_report(judged: Sequence[tuple[Run, Verdict]], out: Path) -> Path:
    """Write report.pdf and charts/*.png into the folder `out`; return the PDF's path.

    The same runs give the same bytes. Raises ReportError for any number of runs but one or two.
    """
    if not 1 <= len(judged) <= MAX_RUNS:
        raise ReportError(f"found {len(judged)} runs, expected one, or two to compare")
    from . import charts, page  # noqa: PLC0415 - matplotlib costs a second that only a report needs

    (out / "charts").mkdir(parents=True, exist_ok=True)
    for name, figure in page.chart_figures(judged).items():
        charts.save_png(figure, out / "charts" / f"{name}.png")
    title = "Tokenswarm: " + " and ".join(verdict.name for _, verdict in judged)
    return charts.save_pdf([page.page(judged)], out / "report.pdf", title)
