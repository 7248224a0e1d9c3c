"""The command line of capacity planning: arguments only, as in cli."""

import json
import sys
from pathlib import Path
from typing import Any

import click


class Share(click.ParamType[float]):
    """A share: 30%, "30 %" or 0.3."""

    name = "share"

    def __init__(self, most: float) -> None:
        """Set the largest share that makes sense."""
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share as a number; 0.3 is 30 %."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail(f"found {value!r}, expected a share such as 30% or 0.3", param, ctx)
        if not 0 <= share <= self.most:
            hint = f"; did you mean {text}%?" if not text.endswith("%") and share > self.most else ""
            expected = f"expected a share between 0% and {self.most * 100:g}%{hint}"
            self.fail(f"found {value!r}, {expected}", param, ctx)
        return share


@click.command()
@click.argument("experiment_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--demand",
    required=True,
    metavar="NUMBER|TRACE",
    help="Requests/s at the peak, or a trace (.csv, .jsonl).",
)
@click.option("--growth", type=Share(10.0), default="0%", show_default=True, help="Growth to plan for.")
@click.option(
    "--utilisation",
    type=Share(1.0),
    default="70%",
    show_default=True,
    help="Of a replica's goodput, at the peak.",
)
@click.option("--spare", type=click.IntRange(0, 1000), default=1, show_default=True, help="N + k: the k.")
@click.option(
    "--zones", type=click.IntRange(1, 100), default=1, show_default=True, help="Of several, one may be lost."
)
@click.option(
    "--prices", type=click.Path(path_type=Path), help="Price file (YAML): analysis/prices.py has the form."
)
@click.option(
    "--reaction-s",
    type=click.FloatRange(0, 86400, min_open=True),
    default=60.0,
    show_default=True,
    help="Until an autoscaler's new replicas answer; a trace's peak is its highest rate over so long.",
)
@click.option("--server", default="", help="One server of the experiment; default: all, side by side.")
@click.option(
    "--sla", type=click.Path(path_type=Path), help="Another SLA file (YAML) than the experiment's own."
)
@click.option(
    "--by",
    type=click.Choice(["requests", "tokens"]),
    default="requests",
    show_default=True,
    help="tokens: scale a trace whose requests are longer or shorter than those measured.",
)
@click.option("--json", "machine", is_flag=True, help="Print the plan as JSON on stdout.")
def capacity(  # noqa: PLR0913 - each option is one number of the plan
    experiment_dir: Path,
    *,
    demand: str,
    growth: float,
    utilisation: float,
    spare: int,
    zones: int,
    prices: Path | None,
    reaction_s: float,
    server: str,
    sla: Path | None,
    by: str,
    machine: bool,
) -> None:
    """Say how many replicas a demand needs, from the runs of an experiment at several levels of load.

    Nothing is measured: ask again with other numbers as often as you like. Writes capacity.json,
    capacity.pdf, charts/capacity-*.png and, for a trace, replicas.csv into EXPERIMENT_DIR.

    \b
    tokenswarm capacity out/load --demand 120 --growth 30% --zones 3
    tokenswarm capacity out/load --demand trace.csv --prices prices.yaml

    A trace has one line for each request, with a column timestamp and, if known, its tokens; the Azure,
    BurstGPT and Mooncake traces are read as they are (analysis/demand.py lists the names). Exit code 0: a
    number of replicas; 3: no level holds the SLA; 4: none was shown to.
    """
    from analysis.fleet import Assumptions  # noqa: PLC0415 - --help must not wait for it
    from tokenswarm import sizing, tables, tables_capacity  # noqa: PLC0415

    if not utilisation:
        raise click.BadParameter("found 0%, expected more", param_hint="--utilisation")
    numbers = Assumptions(growth, utilisation, spare, zones, reaction_s)
    asked = sizing.Question(demand, numbers, sla, prices, server, by_tokens=by == "tokens")
    plan, judged = sizing.answer(experiment_dir, asked)
    sizing.write(plan, judged, experiment_dir)
    if machine:
        click.echo(json.dumps(plan.to_json(), indent=2, allow_nan=False))
    else:
        console = tables.console(machine=False)
        tables_capacity.show(plan, console)
        console.print(f"Results: {experiment_dir / sizing.PDF}", soft_wrap=True)
    sys.exit(plan.exit_code)
