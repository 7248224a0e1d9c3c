"""The command line of Kubernetes: arguments only, as in cli."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def _meant(command: Command) -> Command:
    """Add the arguments that say which run is meant."""
    return click.argument("overlay")(click.argument("run_id", default="")(command))


experiment_option = click.option(
    "--experiment",
    "own",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Another experiment than the overlay's; its workers and its length decide the Jobs' too.",
)


@click.group()
def k8s() -> None:
    """Run an experiment in a Kubernetes cluster: thin wrappers, each shows the kubectl commands it runs.

    OVERLAY is baseline, awq or ci (the folders of k8s/overlays), or a folder with a kustomization.yaml.
    RUN_ID gives a run Jobs of its own; without one they are named as `kubectl apply -k` would name them.

    \b
    tokenswarm k8s apply ci monday       begin: server, master, workers
    tokenswarm k8s logs ci monday -f     what the master says
    tokenswarm k8s wait ci monday        until it has ended; its exit code is the run's
    tokenswarm k8s fetch ci monday       its results, checked
    tokenswarm k8s clean ci monday       its Jobs; results and server stay (--all: nothing stays)

    The cluster is the one that kubectl goes to (KUBECONFIG, its current context).
    """


@k8s.command()
@_meant
@experiment_option
def render(overlay: str, run_id: str, own: Path | None) -> None:
    """Print the manifests of OVERLAY, for `kubectl apply -f -` or to read."""
    from tokenswarm import rendering  # noqa: PLC0415 - --help must not wait

    click.echo(rendering.render(overlay, run_id, own)[0], nl=False)


@k8s.command()
@_meant
@experiment_option
def apply(overlay: str, run_id: str, own: Path | None) -> None:
    """Begin a run: create the server where it is not there yet, and the run's Jobs."""
    from tokenswarm import cluster, rendering  # noqa: PLC0415 - as above

    cluster.apply(*rendering.render(overlay, run_id, own))
    click.echo(f"Wait for it: tokenswarm k8s wait {overlay} {run_id}".rstrip(), err=True)


@k8s.command()
@_meant
@click.option(
    "--timeout", "limit_s", default=86_400, show_default=True, type=click.IntRange(1), help="Seconds at most."
)
def wait(overlay: str, run_id: str, limit_s: int) -> None:
    """Wait until a run has ended, well or not; the exit code is its own.

    Both conditions of its Job are waited for: `kubectl wait --for=condition=complete` alone waits for ever
    where a run FAILs. A run that was killed, or whose pod is gone, is INVALID (5).
    """
    from tokenswarm import cluster, rendering  # noqa: PLC0415 - as above

    sys.exit(cluster.wait(rendering.meant(overlay, run_id), limit_s))


@k8s.command()
@_meant
@click.option("--workers", is_flag=True, help="What the workers said, not the master.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
def logs(overlay: str, run_id: str, *, workers: bool, follow: bool) -> None:
    """Show what a run's master said, or its workers."""
    from tokenswarm import EXIT_NOT_STARTED, cluster, rendering  # noqa: PLC0415 - as above

    if cluster.logs(rendering.meant(overlay, run_id), workers=workers, follow=follow):
        sys.exit(EXIT_NOT_STARTED)


@k8s.command()
@_meant
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the results (default: out/<the master's pod>).",
)
def fetch(overlay: str, run_id: str, out: Path | None) -> None:
    """Copy a run's results to this machine, by a pod that reads their volume, and check every file.

    Exit code 5 where the run has not come to its end (no DONE), or a file is missing or changed.
    """
    from tokenswarm import cluster, rendering  # noqa: PLC0415 - as above

    where, code = cluster.fetch(rendering.meant(overlay, run_id), out)
    click.echo(f"{where}: all there; the run's exit code is {code}")


@k8s.command()
@_meant
@click.option(
    "--all", "everything", is_flag=True, help="The whole namespace: server, and every run's results."
)
def clean(overlay: str, run_id: str, *, everything: bool) -> None:
    """Delete a run's Jobs and pods; what it measured stays on its volume."""
    from tokenswarm import cluster, rendering  # noqa: PLC0415 - as above

    cluster.clean(rendering.meant(overlay, run_id), everything=everything)
