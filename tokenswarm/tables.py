"""What a person sees in the terminal: progress while it works, a table at the end."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

STYLES = {
    "PASS": "bold green",
    "FAIL": "bold red",
    "OVERSATURATED": "bold red",
    "INCONCLUSIVE": "bold yellow",
    "INVALID": "bold magenta",
}


class Progress(NamedTuple):
    """What is known of a run while it goes on: the last complete second of its timeline."""

    server: str
    elapsed_s: float
    total_s: float
    row: dict[str, str]
    doing: str = ""  # before it is loaded
    last: bool = False  # a word that must not be lost
    ahead: str = ""  # where it stands in the whole experiment


SIDE_BY_SIDE = 3
"""So many runs still fit beside each other in a terminal."""

ONCE = "Measured once: how runs differ is in none of the intervals (an experiment's `blocks: 5` finds out)"

LONG_NAME = 24
"""A run's name up to here stays on its line."""


@contextmanager
def progress(console: Console) -> Iterator[Any]:
    """Show one line that moves (on a terminal), or one every ten seconds (in a log)."""
    if not console.is_terminal:
        yield _Log(console)
        return
    with Live(console=console, transient=True, refresh_per_second=4) as live:

        def show(state: Progress) -> None:
            if state.last:
                console.print(_line(state))
            else:
                live.update(_line(state))

        yield show


@contextmanager
def telling(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield what takes a line of progress: on a terminal it replaces the one before, in a log it follows."""
    if not console.is_terminal:
        yield console.print
        return
    with console.status("") as status:
        yield lambda line: status.update(Text(line))


class _Log:
    """Progress for files: a line every ten seconds, and whenever something else begins."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = ("", False)
        self._next_s = 0.0

    def __call__(self, state: Progress) -> None:
        step, now_s = (state.server, bool(state.row)), time.monotonic()
        if step != self._said or now_s >= self._next_s or state.last:
            self._said, self._next_s = step, now_s + 10
            self._console.print(_line(state))


def _line(state: Progress) -> Text:
    done = min(1.0, state.elapsed_s / state.total_s)
    bar = "━" * round(24 * done)
    text = Text(f"{state.server:>12} ")
    text.append(bar, style="cyan")
    text.append("─" * (24 - len(bar)), style="grey37")  # another line, as a log has no colours
    row = state.row
    if not row:
        text.append(f"  {state.doing or 'starting'}")
        return _ahead(text, state)
    text.append(f" {state.elapsed_s:3.0f}/{state.total_s:.0f} s")
    text.append(f"  {row['ok']:>4} done/s  {row['in_flight']:>4} in flight  {row['tokens']:>6} tokens/s")
    if row["failed"] != "0":
        text.append(f"  {row['failed']} failed", style="red")
    return _ahead(text, state)


def _ahead(text: Text, state: Progress) -> Text:
    return text.append(f"  [{state.ahead}]", style="dim") if state.ahead and not state.last else text


def conclusion(found: Any, console: Console) -> None:
    """Print what came out of one run or of an experiment: verdicts, and in words what they mean together."""
    if found.together:
        _replications(found.together, console)
    elif len(found.verdicts) <= SIDE_BY_SIDE:
        verdict_table(found.verdicts, console)
        _reasons([(one.name, one) for one in found.verdicts], console)
    else:
        _run_by_run(found.verdicts, console)
        _reasons([(one.name, one) for one in found.verdicts], console)
    for name, quality in found.quality.items():
        text = Text(f"{name}: quality ")
        text.append(quality.status, style=STYLES[quality.status])
        console.print(text.append(": " + "; ".join(quality.reasons)), soft_wrap=True)
    for name, reason in found.unasked.items():
        console.print(Text(f"{name}: quality not judged: {reason}"), style="yellow", soft_wrap=True)
    if found.missing:
        console.print(Text(f"not measured: {', '.join(found.missing)}"), style="yellow", soft_wrap=True)
    if not found.together and not any(one.imported for one in found.verdicts):
        console.print(Text(ONCE), style="dim", soft_wrap=True)
    for sentence in found.said:
        console.print(Text(sentence), soft_wrap=True)


def _reasons(named: list[tuple[str, Any]], console: Console) -> None:
    for name, verdict in named:
        for reason in verdict.reasons if verdict.status != "PASS" else verdict.reasons[1:]:
            console.print(Text(f"{name}: {reason}"), style="dim", soft_wrap=True)


def _run_by_run(verdicts: list[Any], console: Console) -> None:
    """Print many runs, a line each."""
    rate = _rate("output_tokens_per_s")
    _line_by_line("run", [(v.name, v, rate(v)) for v in verdicts], console)


def _replications(together: Sequence[Any], console: Console) -> None:
    """Print each server at each level, a line for all of its runs together, and why they are judged so."""
    rows = []
    several = len({one.level for one in together}) > 1
    for one in together:
        at = f" at {one.level:g}{' users' if one.loop == 'closed' else '/s'}" if several else ""
        runs = f"{len(one.runs)} run{'s' if len(one.runs) > 1 else ''}"
        tokens = "-" if one.output_tokens_per_s is None else f"{one.output_tokens_per_s:,.1f}"
        rows.append((f"{one.server}{at}, {runs}", one, tokens))
    _line_by_line("replications", rows, console)
    _reasons([(name, one) for name, one, _ in rows], console)


def _line_by_line(what: str, rows: Sequence[tuple[str, Any, str]], console: Console) -> None:
    """Print (name, verdict, output tokens/s), a line each."""
    verdicts = [verdict for _, verdict, _ in rows]
    table = Table(title=f"SLA {verdicts[0].sla}", title_justify="left", title_style="bold")
    head = what + ("  (SIMULATED)" if any(v.simulated for v in verdicts) else "")
    longest = max(len(name) for name, _, _ in rows)
    table.add_column(head, overflow="fold", min_width=min(longest, LONG_NAME))  # the headings can give way
    table.add_column("verdict")
    objectives = max((v.objectives for v in verdicts), key=len)  # an INVALID whole has none
    for result in objectives:
        table.add_column(result.text, justify="right")
    table.add_column("output tokens/s", justify="right")
    for name, verdict, tokens in rows:
        cells = [_cell(result) for result in verdict.objectives] or [Text("-")] * len(objectives)
        table.add_row(name, Text(verdict.status, style=STYLES[verdict.status]), *cells, tokens)
    console.print(table)


def verdict_table(verdicts: list[Any], console: Console) -> None:
    """Print runs side by side: the verdict, each objective with its value, and what stands behind it."""
    table = Table(title=f"SLA {verdicts[0].sla}", title_justify="left", title_style="bold")
    table.add_column("objective")
    for verdict in verdicts:
        mark = "  (SIMULATED)" if verdict.simulated else "  (IMPORTED)" if verdict.imported else ""
        table.add_column(verdict.name + mark, justify="right")
    table.add_row("verdict", *(Text(v.status, style=STYLES[v.status]) for v in verdicts), end_section=True)
    for results in zip(*(v.objectives for v in verdicts), strict=True):
        table.add_row(results[0].text, *(_cell(result) for result in results))
    table.add_section()
    for label, value in _SUMMARY:
        table.add_row(label, *(value(v) for v in verdicts))
    console.print(table)


def early_stopping(found: Any, console: Console) -> None:
    """Print beside each percentile what MLPerf's test says of it."""
    from analysis.early_stopping import early_stopping as ask  # noqa: PLC0415 - nobody else waits for it

    words = (
        "MLPerf's early stopping, 99 % confidence; it supposes independent requests and changes no verdict:"
    )
    console.print(Text(words), soft_wrap=True)
    for one in found.together or found.verdicts:
        for line in (answer.line() for answer in ask(one.objectives)):
            console.print(Text(f"  {one.name}: {line}"), soft_wrap=True)


def _cell(result: Any) -> Text:
    if result.observed is None:
        value = "no value"
    elif math.isinf(result.observed):
        value = "∞ (failures)"
    elif result.unit == "ms":
        value = f"{result.observed:.1f} ms"
    elif result.statistic == "rate":
        value = f"{result.observed:,.1f} {result.unit}"
    else:
        value = f"{result.observed * 100:.2f} %"
    text = Text(f"{value}  ")
    text.append(result.status, style=STYLES[result.status])
    return text


def _counts(verdict: Any) -> str:
    failed = sum(sum(scenario.failed.values()) for scenario in verdict.scenarios)
    return f"{sum(scenario.ok for scenario in verdict.scenarios):,} / {failed:,}"


def _rate(name: str) -> Any:
    def cell(verdict: Any) -> str:
        known = [getattr(one, name) for one in verdict.scenarios if getattr(one, name) is not None]
        return f"{sum(known):,.1f}" if known else "-"

    return cell


def _percentiles(metric: str) -> Any:
    def cells(verdict: Any) -> str:
        if len(verdict.scenarios) != 1 or not verdict.scenarios[0].latencies:
            return "-"
        found = verdict.scenarios[0].latencies[metric].all
        values = [found[key] for key in ("p50", "p95", "p99")]
        return " / ".join("-" if x is None else "∞" if math.isinf(x) else f"{x:.1f}" for x in values)

    return cells


_SUMMARY = (
    ("requests (ok / failed)", _counts),
    ("requests/s", _rate("requests_per_s")),
    ("output tokens/s", _rate("output_tokens_per_s")),
    ("TTFT p50 / p95 / p99, ms", _percentiles("ttft")),
    ("ITL p50 / p95 / p99, ms", _percentiles("itl")),
    ("E2E p50 / p95 / p99, ms", _percentiles("e2e")),
)


def console(*, machine: bool) -> Console:
    """Return where people read: stdout, or stderr when stdout is for machines."""
    return Console(file=sys.stderr if machine else sys.stdout, highlight=False, markup=False, soft_wrap=True)
