"""A capacity plan in the terminal: the decision, the curve, the way to the number, what would change it."""

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.capacity import Capacity
from analysis.capacity_plan import CapacityPlan, Fleet
from analysis.capacity_words import bounds, money, notes, sentences
from analysis.fleet import percent
from tokenswarm.tables import STYLES


def show(plan: CapacityPlan, console: Console) -> None:
    """Print the plan for a person."""
    for i, sentence in enumerate(sentences(plan)):
        first = i < 2 * len(plan.fleets) and i % 2 == 0
        console.print(Text(sentence, style="bold" if first else ""), soft_wrap=True)
    _summary(plan, console)
    for capacity in plan.capacities:
        _curve(capacity, console, simulated=plan.simulated)
    for fleet in plan.fleets:
        if fleet.lines:
            console.print(Text(f"How many of {fleet.server}"), style="bold")
        for line in fleet.lines:
            console.print(Text(f"  {line}"), soft_wrap=True)
    _sensitivity(plan, console)
    for note in notes(plan):
        console.print(Text(note), style="dim", soft_wrap=True)


def _summary(plan: CapacityPlan, console: Console) -> None:
    """Print the servers side by side, where there is more to tell than the sentences do."""
    rows = [row for row in _rows(plan) if any(cell != "-" for cell in row[1])]
    if not rows:
        return
    table = Table(title=f"Fleet, SLA {plan.sla}", title_justify="left", title_style="bold")
    table.add_column("for " + plan.demand.words)
    for fleet in plan.fleets:
        table.add_column(fleet.server, justify="right")
    for label, cells in rows:
        table.add_row(label, *cells)
    console.print(table)


def _rows(plan: CapacityPlan) -> list[tuple[str, list[str]]]:
    bills = [fleet.bill for fleet in plan.fleets]
    autoscaled = [fleet.autoscaled for fleet in plan.fleets]
    currency = next((bill.price.currency for bill in bills if bill), "")
    reaction = f"{plan.by.reaction_s:g} s"
    return [
        ("replicas", [str(one.sizing.replicas) if one.sizing else "-" for one in plan.fleets]),
        ("GPUs", [_gpus(one) for one in plan.fleets]),
        (f"{currency} an hour", [money(bill.per_hour) if bill else "-" for bill in bills]),
        (
            f"{currency} per million output tokens, at capacity",
            [money(b.at_capacity.per_million_output) if b and b.at_capacity else "-" for b in bills],
        ),
        (
            f"{currency} per million output tokens, at {percent(plan.by.utilisation)}",
            [money(b.at_utilisation.per_million_output) if b and b.at_utilisation else "-" for b in bills],
        ),
        (
            f"{currency} per million input tokens, at {percent(plan.by.utilisation)}",
            [_per_input(one) for one in plan.fleets],
        ),
        (
            f"autoscaled ({reaction}): highest / mean / lowest replicas",
            [f"{a.highest} / {a.mean:.1f} / {a.lowest}" if a else "-" for a in autoscaled],
        ),
        (
            "replica-hours a day, autoscaled / always the peak's",
            [
                f"{a.replica_hours_per_day:,.0f} / {a.static_replica_hours_per_day:,.0f}" if a else "-"
                for a in autoscaled
            ],
        ),
        (
            "GPU-hours a day, autoscaled / always the peak's",
            [_gpu_hours(one) for one in plan.fleets],
        ),
        ("requests that meet too few replicas", [percent(a.short_share) if a else "-" for a in autoscaled]),
        (
            f"{currency} an hour, autoscaled",
            [money(b.autoscaled_per_hour) if b and b.autoscaled_per_hour else "-" for b in bills],
        ),
    ]


def _gpus(fleet: Fleet) -> str:
    if not (fleet.bill and fleet.sizing):
        return "-"
    return f"{fleet.sizing.replicas * fleet.bill.price.gpus} x {fleet.bill.price.gpu}"


def _gpu_hours(fleet: Fleet) -> str:
    if not (fleet.bill and fleet.autoscaled):
        return "-"
    own, gpus = fleet.autoscaled, fleet.bill.price.gpus
    return f"{own.replica_hours_per_day * gpus:,.0f} / {own.static_replica_hours_per_day * gpus:,.0f}"


def _per_input(fleet: Fleet) -> str:
    cost = fleet.bill.at_utilisation if fleet.bill else None
    return money(cost.per_million_input) if cost and cost.per_million_input else "-"


COLUMNS = ("ttft p50", "ttft p95", "ttft p99", "itl p99")


def _curve(capacity: Capacity, console: Console, *, simulated: bool) -> None:
    """Print a line for each level: what became of it, goodput, throughput, latencies."""
    title = f"{capacity.server}, one replica, by load in {capacity.unit}, times in ms" + (
        "  (SIMULATED)" if simulated else ""
    )
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("load", justify="right")
    table.add_column("verdict", no_wrap=True)
    table.add_column("good requests/s, 95 %", justify="right", min_width=12)
    for head in ("tokens/s", "TTFT p50", "p95", "p99", "ITL p99"):
        table.add_column(head, justify="right")
    for level in capacity.levels:
        status = Text(level.status, style=STYLES[level.status])
        values = [_ms(level.values.get(name)) for name in COLUMNS]
        tokens = "-" if level.output_tokens_per_s is None else f"{level.output_tokens_per_s:,.0f}"
        table.add_row(f"{level.level:g}", status, bounds(level), tokens, *values)
    console.print(table)


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return "∞" if math.isinf(value) else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _sensitivity(plan: CapacityPlan, console: Console) -> None:
    """Print what a change of one number does to each server's replicas and their cost."""
    sized = [fleet for fleet in plan.fleets if fleet.variants]
    if not sized:
        return
    table = Table(title="If one number were another", title_justify="left", title_style="bold")
    table.add_column("replicas" + (" (and cost an hour)" if sized[0].bill else ""))
    for fleet in sized:
        table.add_column(fleet.server, justify="right")
    for rows in zip(*(fleet.variants for fleet in sized), strict=True):
        cells = []
        for one in rows:
            text = Text(f"{one.replicas:,}")
            text.append(f" {one.more:+d}" if one.more else "", style="dim")
            text.append(f"  {money(one.per_hour)}" if one.per_hour is not None else "")
            cells.append(text)
        table.add_row(rows[0].change, *cells)
    console.print(table)
