"""The command line: arguments only. What is done is in experiment, judging, calibrate, probe."""

import json
import signal
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tokenswarm import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_NOT_STARTED, EXIT_USAGE, ROOT, TokenswarmError
from tokenswarm.cli_capacity import capacity
from tokenswarm.cli_comparing import compare
from tokenswarm.cli_history import history
from tokenswarm.cli_importing import bring
from tokenswarm.cli_plan import plan
from tokenswarm.cli_serving import install, offline, quality, quantize, serve

EXIT_HELP = """
\b
Exit codes: 0 PASS · 1 internal error · 2 wrong usage · 3 FAIL or OVERSATURATED
            4 INCONCLUSIVE · 5 INVALID · 6 could not start
"""

machine_option = click.option("--json", "machine", is_flag=True, help="Print the verdict as JSON on stdout.")
out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the results (default: out/<time>).",
)
markdown_option = click.option(
    "--markdown",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write a summary for a pull request into this file; - is stdout (the table then goes to stderr).",
)
run_argument = click.argument("run_dir", type=click.Path(path_type=Path))
sla_option = click.option(
    "--sla", type=click.Path(path_type=Path), help="SLA file (YAML); default: the run's own, else sub-100ms."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_HELP)
@click.version_option(package_name="tokenswarm")
def cli() -> None:
    """Load-test streamed LLM servers and hand back a verdict that can be defended.

    \b
    tokenswarm demo                  see it work: two simulated servers, a verdict, a report
    tokenswarm run experiment.yaml   measure servers of your own (docs: tokenswarm run --help)
    tokenswarm verdict RUN_DIR       judge a run again, by another SLA
    tokenswarm capacity DIR          how many replicas a demand needs, from an experiment's runs
    tokenswarm compare DIR DIR       runs against earlier ones: is anything worse?
    tokenswarm import FILE           another tool's results, as a run that can be judged
    tokenswarm plan SLA --rate 20    how long to measure, and how often, to decide it
    tokenswarm probe URL             ten quick requests: does it answer, and how fast
    tokenswarm calibrate             what this machine's instrument is worth
    tokenswarm history add RUN_DIR   keep what was judged; history check: what changed over time
    tokenswarm install vllm          an engine, in an environment of its own
    tokenswarm quantize MODEL awq    make a checkpoint that is smaller or faster
    tokenswarm serve PROFILE         start a server: baseline, awq, int8, transformers, sim …
    tokenswarm quality URL URL       what quantization cost: same tokens, two servers
    tokenswarm offline PROFILE       throughput without a server: one batch

    Locust works without this front door, too:
    locust -f locustfiles/chat.py --host http://127.0.0.1:8000 --headless -u 20 -t 60
    """


@cli.command()
@out_option
@machine_option
def demo(out: Path | None, *, machine: bool) -> None:
    """Run the main job on the built-in simulator: baseline and awq, two workers, about 75 s.

    Everything is real except the servers: processes, sockets, Locust, statistics, report. The results say
    SIMULATED.
    """
    _experiment(ROOT / "tokenswarm" / "demo.yaml", out, machine=machine)


@cli.command()
@click.argument("experiment", type=click.Path(path_type=Path))
@out_option
@click.option(
    "--resume",
    type=click.Path(file_okay=False, path_type=Path),
    help="Go on with the experiment in this directory: what is whole there is kept.",
)
@click.option(
    "--budget-minutes",
    type=click.FloatRange(0, min_open=True),
    help="Cut the runs so that all fit into this time; what that cannot decide is INCONCLUSIVE, never PASS.",
)
@markdown_option
@machine_option
def run(experiment: Path, out: Path | None, **asked: Any) -> None:
    """Measure the servers of an EXPERIMENT file under the same load, judge them, write report.pdf.

    The smallest file, everything else has a default:

    \b
        servers:
          - {name: mine, url: "http://127.0.0.1:8000"}
        load: {loop: open, rate: 20, duration_s: 60}
        sla: {name: sub-100ms, objectives: ["ttft p95 < 100 ms", "error_rate < 0.1 %"]}

    tokenswarm/demo.yaml is a longer one; tokenswarm/experiment.py lists every key. An API key comes from the
    environment: TOKENSWARM_API_KEY, OPENAI_API_KEY or VLLM_API_KEY (which a vLLM that we start inherits).

    With `search: {from: 1, to: 200}` in it, it looks for the highest load that each server bears within
    the SLA.
    """
    _experiment(experiment, out, **asked)


def _experiment(  # noqa: PLR0913 - the options of `run`
    path: Path,
    out: Path | None,
    resume: Path | None = None,
    *,
    machine: bool,
    budget_minutes: float | None = None,
    markdown: Path | None = None,
) -> None:
    from tokenswarm import budget, experiment, judging, running, tables  # noqa: PLC0415 - --help must not wait

    if out and resume:
        raise TokenswarmError("found --out and --resume, expected one of them", EXIT_USAGE)
    console = tables.console(machine=_stdout_is_taken(markdown, machine=machine))
    plan = experiment.read(path)
    if budget_minutes is not None and (said := budget.cut(plan, budget_minutes)):
        console.print(said)
    sla = judging.experiment_sla(plan, path)
    out = resume or out or Path("out") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if not resume:
        _refuse_to_overwrite(out, [run.name for run in experiment.schedule(plan)])
    order = running.Order(plan, path, sla, out)
    found = running.run(order, console, resume=bool(resume))
    _conclude(found, out, machine=machine, markdown=markdown, goes_on_with=order.goes_on_with())


def _refuse_to_overwrite(out: Path, names: list[str]) -> None:
    for name in names or [file.parent.name for file in out.glob("*/run.json")]:  # a search plans no names
        if (out / name / "run.json").exists():
            text = f"--out: {out / name} already holds a run, expected a new directory (or --resume {out})"
            raise TokenswarmError(text, EXIT_USAGE)


@cli.command()
@run_argument
@sla_option
@click.option(
    "--early-stopping", "early", is_flag=True, help="Also print what MLPerf's early-stopping test says."
)
@markdown_option
@machine_option
def verdict(run_dir: Path, sla: Path | None, *, early: bool, markdown: Path | None, machine: bool) -> None:
    """Judge the run in RUN_DIR by an SLA; writes verdict.json and junit.xml beside it.

    RUN_DIR may also be an experiment's directory: then all of its runs, replications together, the comparison
    and the quality. Or a folder with Locust's CSVs of one run (FOLDER/PREFIX where there are several), or a
    file of vllm bench's without --save-detailed: these are judged as far as their percentiles reach.

    \b
    An SLA file:
        name: sub-100ms
        objectives:
          - ttft p95 < 100 ms
          - itl p99 < 20 ms
          - error_rate < 0.1 %
          - goodput(ttft < 100 ms, tpot < 20 ms) >= 95 %
          - output_tokens_per_s >= 500 in chat every 5 min    # per scenario, per time (analysis/sla.py)
    """
    from tokenswarm import importing, rejudging, tables  # noqa: PLC0415 - as above

    taken = _stdout_is_taken(markdown, machine=machine)
    found = importing.percentiles(run_dir, sla) or rejudging.again(run_dir, sla, report=False)
    if early:
        tables.early_stopping(found, tables.console(machine=taken))
    _conclude(found, run_dir, machine=machine, markdown=markdown)


@cli.command()
@run_argument
@sla_option
def report(run_dir: Path, sla: Path | None) -> None:
    """Write report.pdf and charts/*.png for the run, or the experiment, in RUN_DIR."""
    from tokenswarm import importing, rejudging  # noqa: PLC0415 - as above

    importing.refuse_percentiles(run_dir)
    rejudging.again(run_dir, sla, report=True)
    whole = run_dir / "report.pdf"
    for file in [whole] if whole.exists() else sorted(run_dir.glob("*/report.pdf")):
        click.echo(file)


@cli.command()
@machine_option
def calibrate(*, machine: bool) -> None:
    """Measure the instrument itself against a server whose send times are known; about 25 s.

    Prints the error of TTFT and ITL, the CPU time a token costs, and how many tokens a second one worker of
    this machine can be trusted with.
    """
    from tokenswarm import calibrate as calibration  # noqa: PLC0415 - as above
    from tokenswarm import tables  # noqa: PLC0415

    figures = calibration.calibrate()
    if machine:
        click.echo(json.dumps(figures, indent=2))
    else:
        calibration.show(figures, tables.console(machine=False))


@cli.command()
@click.argument("url")
@click.option(
    "-n", "requests", default=10, show_default=True, type=click.IntRange(1, 100_000), help="Requests."
)
@click.option(
    "-c", "concurrency", default=10, show_default=True, type=click.IntRange(1, 10_000), help="At a time."
)
@click.option("--prompt", default="", help="Default: 40 random words, other ones for each request.")
@click.option(
    "--max-tokens", default=64, show_default=True, type=click.IntRange(1), help="Tokens to generate."
)
@click.option("--model", default="", help="Default: the first that the server lists.")
@click.option(
    "--stream/--no-stream", default=True, help="Stream the answer (default), or wait for all of it."
)
@click.option(
    "--body", default="", help="For other APIs: the JSON to post, with {prompt} and {max_tokens} in it."
)
@click.option("--insecure", is_flag=True, help="Do not check the server's certificate.")
@click.option("--json", "machine", is_flag=True, help="Print the figures as JSON on stdout.")
def probe(url: str, *, machine: bool, insecure: bool, **asked: Any) -> None:
    """Ask a server a few times and say how long it took: an answer in seconds, before any load test.

    URL is http://HOST:PORT (chat), the whole path of a chat or completions endpoint, or any other one that
    takes JSON by POST, such as http://HOST:PORT/generate.

    \b
    tokenswarm probe http://127.0.0.1:8000 -n 10 -c 10
    tokenswarm probe http://127.0.0.1:8000/generate --body '{"inputs": "{prompt}"}'
    """
    from gevent import monkey  # noqa: PLC0415 - here alone, and before anything that it changes is loaded

    monkey.patch_all()
    from tokenswarm import probe as probing  # noqa: PLC0415 - as above
    from tokenswarm import tables  # noqa: PLC0415

    figures = probing.ask(probing.Question(url=url, verify=not insecure, **asked))
    if machine:
        click.echo(json.dumps(figures, indent=2))
    else:
        probing.show(figures, tables.console(machine=False))
    if not figures["ok"]:
        sys.exit(EXIT_NOT_STARTED)


def _stdout_is_taken(markdown: Path | None, *, machine: bool) -> bool:
    """Say whether stdout is for something else than people; refuse two things at once."""
    summary = markdown == Path("-")
    if summary and machine:
        raise click.UsageError("--markdown -: found --json, too, expected one of them on stdout")
    return summary or machine


def _conclude(
    found: Any, where: Path, *, machine: bool, markdown: Path | None = None, goes_on_with: str = ""
) -> None:
    from tokenswarm import searching, tables, tables_search  # noqa: PLC0415 - as above

    if markdown:
        with click.open_file(str(markdown), "w", encoding="utf-8") as file:
            file.write(found.to_markdown())
    if machine:
        click.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        console = tables.console(machine=_stdout_is_taken(markdown, machine=machine))
        show = tables_search.conclusion if isinstance(found, searching.Found) else tables.conclusion
        show(found, console)
        console.print(f"Results: {where}", soft_wrap=True)
    if goes_on_with:
        tables.console(machine=machine).print(f"Go on with: {goes_on_with}", soft_wrap=True)
    sys.exit(found.exit_code)


cli.add_command(compare)
cli.add_command(bring)
cli.add_command(plan)
cli.add_command(serve)
cli.add_command(install)
cli.add_command(quantize)
cli.add_command(quality)
cli.add_command(offline)
cli.add_command(capacity)
cli.add_command(history)


def main() -> None:
    """Run the command line; a user's mistake is one line, ours is a traceback and exit code 1."""
    if not (ROOT / "locustfiles").is_dir():
        sys.exit("tokenswarm runs from its checkout, found none; install it with: pip install -e CHECKOUT")
    sys.path.insert(0, str(ROOT))  # before any `server` or `analysis` that somebody else installed
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an eviction is judged as Ctrl-C is
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TokenswarmError as error:
        for line in error.tail:
            click.secho(f"  {line}", dim=True, err=True)
        click.echo(f"tokenswarm: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        click.echo(f"tokenswarm: {error.filename or 'output'}: {error.strerror or error}", err=True)
        sys.exit(EXIT_USAGE)
    except Exception:  # noqa: BLE001 - the last resort, and it says so
        traceback.print_exc()
        sys.exit(EXIT_INTERNAL)
