"""Serve a profile until we are told to stop: what `tokenswarm serve` does."""

import json
import os
import re
import time
from typing import Any

import click
import msgspec
from rich.console import Console

from server import argv, launch, locate, machine, places, profiles
from server.errors import ServerError, UsageError
from server.profiles import Profile
from tokenswarm import EXIT_NOT_STARTED, EXIT_USAGE, TokenswarmError, tables

DEFAULT_PORT = 8000
ENGINES = re.compile(r"VLLM_|LD_PRELOAD|OMP_|KMP_|CUDA_VISIBLE_|PYTORCH_|TRTLLM_")
"""How the variables begin that change what an engine does."""


def refusal(error: ServerError) -> TokenswarmError:
    """Return what the front door says of an error of the serving side."""
    code = EXIT_USAGE if isinstance(error, UsageError) else EXIT_NOT_STARTED
    return TokenswarmError(str(error), code, getattr(error, "tail", ()))


def serve(
    profile: Profile, address: tuple[str, int], wait_s: float, console: Console, *, as_json: bool
) -> None:
    """Start a profile's server, say where it is, and keep it until Ctrl-C, SIGTERM or its own end.

    Raises TokenswarmError if it does not start or ends by itself.
    """
    host, port = address
    try:
        port = launch.free_port(port or DEFAULT_PORT, host, exact=bool(port))
        log = places.logs() / f"serve-{profile.name}-{port}.log"
        began = time.monotonic()
        with tables.telling(console) as tell:

            def say(line: str) -> None:
                tell(f"{profile.name}: {time.monotonic() - began:.0f} s: {line}")

            command = locate.command(profile, port, host, say=say)
            server = launch.start(command, log, say=say, limit_s=wait_s)
    except ServerError as error:
        raise refusal(error) from None
    try:
        _announce(profile, command, server, as_json=as_json, console=console)
        server.process.wait()
        reason = server.ended()
    except KeyboardInterrupt:
        console.print("stopping: requests that are running may finish")
        reason = None
    finally:
        server.stop()
    if reason is not None:
        raise TokenswarmError(f"{profile.name}: {reason} (see {log})", EXIT_NOT_STARTED)


def facts(profile: Profile, command: argv.Command, server: launch.Server) -> dict[str, Any]:
    """Return what a run must keep of its server: profile, command line, kernels, time to ready, memory."""
    return {
        "profile": msgspec.to_builtins(profile),
        "argv": list(command.argv),
        "variables": command.variables,
        "inherited": inherited(command),
        "gpu": machine.here().gpu,
        "kernels": list(server.kernels),
        "kernel_expected": expected_kernel(profile),
        "kernel_ok": kernel_ok(profile, server),
        "ready_s": round(server.ready_s, 3),
        "memory_mb": server.memory_mb,
    }


def inherited(command: argv.Command) -> dict[str, str]:
    """Return what else in our environment the engine goes by; no secrets."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if ENGINES.match(name) and name not in command.variables and not profiles.is_secret(name, value)
    }


def expected_kernel(profile: Profile) -> str:
    """Return what the log should name on this machine, "" where nothing is expected."""
    return " or ".join(profile.kernel.get(machine.here().device, ()))


def kernel_ok(profile: Profile, server: launch.Server) -> bool:
    """Say whether the log names a kernel that the profile expects, if it expects one."""
    expected = profile.kernel.get(machine.here().device, [])
    return not expected or any(is_expected(kernel, expected) for kernel in server.kernels)


def is_expected(kernel: str, expected: list[str]) -> bool:
    """Say whether a kernel's name begins as one of those expected."""
    return kernel.startswith(tuple(expected))


def _announce(
    profile: Profile, command: argv.Command, server: launch.Server, *, as_json: bool, console: Console
) -> None:
    if as_json:
        told = {"listening": server.url, "model": server.model} | facts(profile, command, server)
        click.echo(json.dumps(told))
        return
    kernels = ", ".join(server.kernels) or "not named by the engine's log"
    console.print(f"{profile.name} is ready after {server.ready_s:.1f} s: {server.url}  model {server.model}")
    console.print(f"  kernels {kernels}; memory {server.memory_mb:,} MB; log {server.log}", soft_wrap=True)
    if not kernel_ok(profile, server):
        slow = ": this will be slow" if server.kernels else ""
        console.print(f"  warning: expected the kernel {expected_kernel(profile)}{slow}", style="yellow")
    console.print("  Ctrl-C ends it; requests that are running may finish")
