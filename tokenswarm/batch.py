"""Throughput without a server: one batch of prompts through the engine, as an offline job would run it."""

import random
from typing import Any

from rich.console import Console
from rich.table import Table

from locustfiles._workload import WORDS
from server import locate, offline, places
from server.errors import UsageError
from server.making import Say
from server.profiles import Profile

PROMPT_WORDS = 40


def measure(profile: Profile, requests: int, max_tokens: int, say: Say) -> dict[str, Any]:
    """Run `requests` prompts of 40 random words as one batch; returns the engine's figures and the profile.

    Raises UsageError for an engine that has no batch interface, ServerError if the engine fails.
    """
    if profile.engine != "vllm":
        raise UsageError(f"profile {profile.name}: found the engine {profile.engine}, expected vllm")
    place = locate.place(profile, say=say)
    drawn = random.Random(1)
    prompts = [" ".join(drawn.choices(WORDS, k=PROMPT_WORDS)) for _ in range(requests)]
    log = places.logs() / f"offline-{profile.name}.log"
    figures = offline.offline(profile, place, prompts, max_tokens, log, say)
    return {
        "profile": profile.name,
        "model": place.model,
        "prompts": requests,
        "max_tokens": max_tokens,
    } | figures


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures for a person."""
    table = Table(
        title=f"{figures['profile']}: {figures['prompts']} prompts in one batch", title_justify="left"
    )
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, unit in (
        ("requests_per_s", "requests/s"),
        ("output_tokens_per_s", "output tokens/s"),
        ("total_tokens_per_s", "tokens/s, prompts included"),
        ("seconds", "s for the batch"),
        ("load_s", "s to load the model"),
    ):
        if name in figures:
            table.add_row(unit, f"{figures[name]:,.2f}")
    console.print(table)
