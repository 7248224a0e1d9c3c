"""What a person sees of a search in the terminal: between which loads each server's limit lies, and why."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokenswarm.searching import Found, Searched, contradictions
from tokenswarm.tables import STYLES


def conclusion(found: Found, console: Console) -> None:
    """Print what came out of a search."""
    title = f"Highest load within SLA {found.sla}, {found.unit}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in ("server", "verdict", "confirmed up to", "not from", "certainly beyond at", "runs"):
        table.add_column(heading, justify="left" if heading in ("server", "verdict") else "right")
    for one in found.searched:
        table.add_row(one.server.name, Text(one.status, style=STYLES[one.status]), *_loads(one))
    console.print(table)
    for one in found.searched:
        reason = one.done.reason if one.done else "the search was not finished"
        console.print(Text(f"{one.server.name}: {reason}"), style="dim", soft_wrap=True)
        for words in contradictions(one, found.settings):
            console.print(Text(f"{one.server.name}: {words}"), style="yellow", soft_wrap=True)
    for name, quality in found.quality.items():
        text = Text(f"{name}: quality ")
        text.append(quality.status, style=STYLES[quality.status])
        console.print(text.append(": " + "; ".join(quality.reasons)), soft_wrap=True)
    for name, reason in found.unasked.items():
        console.print(Text(f"{name}: quality not judged: {reason}"), style="yellow", soft_wrap=True)


def _loads(one: Searched) -> tuple[str, str, str, str]:
    done = one.done
    loads = (done.low, done.high, done.fails_from) if done else (None, None, None)
    low, high, fails_from = ("-" if load is None else f"{load:g}" for load in loads)
    return low, high, fails_from, str(len(one.runs))
