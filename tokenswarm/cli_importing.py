"""The command line of imports: arguments only, as in cli."""

from pathlib import Path
from typing import Any

import click

TOOLS = ("vllm bench", "guidellm", "aiperf", "genai-bench", "inference-perf", "vegeta", "k6")


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The run directory to make.",
)
@click.option("--tool", type=click.Choice(TOOLS), help="Whose file it is; default: what it looks like.")
@click.option(
    "--loop",
    type=click.Choice(["open", "closed"]),
    help="Where the file does not say: closed if users waited.",
)
@click.option("--server", help="Make it a run of the experiment in --out; the first server is the baseline.")
@click.option(
    "--level", type=click.FloatRange(min=0, min_open=True), help="Its rate or users; default: the file's."
)
@click.option("--block", type=click.IntRange(1), help="Its block; default: the next one.")
def bring(path: Path, out: Path, **asked: Any) -> None:
    """Make a run directory of another tool's results, so that verdict, comparison and report work on them.

    PATH is the file with a value for each request, or the folder with that file in it:

    \b
    vllm bench serve --save-result --save-detailed     its JSON
    guidellm                                           benchmarks.json
    aiperf                                             profile_export.jsonl
    genai-bench                                        the JSON of one level
    inference-perf                                     per_request_lifecycle_metrics.json
    vegeta encode                                      JSON or CSV
    k6 run --out json=FILE                             (or csv=FILE)

    \b
    tokenswarm import bf16.json --out out/cmp --server bf16
    tokenswarm import awq.json --out out/cmp --server awq
    tokenswarm verdict out/cmp

    What the tool's words mean, where they are not ours, is kept with the run and printed in its report. Of a
    file that was cut off or damaged the requests that are whole are imported, and the run is INVALID.
    """
    from tokenswarm import importing  # noqa: PLC0415 - --help must not wait for it

    server, level, block = (asked.pop(name) for name in ("server", "level", "block"))
    if server is None and (level or block):
        raise click.UsageError("--level and --block are of an experiment's run: give --server, too")
    place = {"server": server, "level": level, "block": block} if server is not None else None
    for made, missing in importing.bring(path, out, place=place, **asked):
        click.echo(made)
        for line in missing:
            click.echo(f"INVALID: {line}", err=True)
