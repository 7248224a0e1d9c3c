"""The command line: arguments only. What is done is in experiment, judging, calibrate, probe."""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from tokenswarm import (
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_NOT_STARTED,
    EXIT_USAGE,
    ROOT,
    TokenswarmError,
    evicted,
)
from tokenswarm.cli_capacity import capacity
from tokenswarm.cli_comparing import compare
from tokenswarm.cli_concluding import conclude, machine_option, markdown_option, stdout_is_taken
from tokenswarm.cli_history import history
from tokenswarm.cli_importing import bring
from tokenswarm.cli_k8s import k8s
from tokenswarm.cli_plan import plan
from tokenswarm.cli_running import demo, run
from tokenswarm.cli_serving import install, offline, quality, quantize, serve
from tokenswarm.cli_worker import worker

EXIT_HELP = """
\b
Exit codes: 0 PASS · 1 internal error · 2 wrong usage · 3 FAIL or OVERSATURATED
            4 INCONCLUSIVE · 5 INVALID · 6 could not start
"""

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
    tokenswarm worker HOST:PORT      send for an experiment that another host measures
    tokenswarm k8s apply OVERLAY     the same in a Kubernetes cluster

    Locust works without this front door, too:
    locust -f locustfiles/chat.py --host http://127.0.0.1:8000 --headless -u 20 -t 60
    """


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

    taken = stdout_is_taken(markdown, machine=machine)
    found = importing.percentiles(run_dir, sla) or rejudging.again(run_dir, sla, report=False)
    if early:
        tables.early_stopping(found, tables.console(machine=taken))
    conclude(found, run_dir, machine=machine, markdown=markdown)


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


cli.add_command(demo)
cli.add_command(run)
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
cli.add_command(worker)
cli.add_command(k8s)


def main() -> None:
    """Run the command line; a user's mistake is one line, ours is a traceback and exit code 1."""
    if not (ROOT / "locustfiles").is_dir():
        sys.exit("tokenswarm runs from its checkout, found none; install it with: pip install -e CHECKOUT")
    sys.path.insert(0, str(ROOT))  # before any `server` or `analysis` that somebody else installed
    evicted.listen()
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
