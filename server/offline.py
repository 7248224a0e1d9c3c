"""Throughput without a server: one batch of prompts through vLLM, in its own environment."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server import argv, enginelog, programs
from server.argv import Place
from server.errors import ServerError
from server.making import Say
from server.profiles import Profile

SCRIPT = Path(__file__).parent / "inside" / "offline_vllm.py"
LIMIT_S = 3600


def offline(  # noqa: PLR0913, PLR0917 - what is run, where, on what, and where it is told
    profile: Profile,
    place: Place,
    prompts: Sequence[str],
    max_tokens: int,
    log: Path,
    say: Say = lambda _line: None,
) -> dict[str, Any]:
    """Run the prompts as one batch on the engine that `profile` would serve with, and return its figures.

    They are requests_per_s, output_tokens_per_s, total_tokens_per_s, prompt_tokens, output_tokens, seconds,
    load_s, and the kernels that the log names. Raises ServerError if the engine fails.
    """
    command = argv.command(profile, place)
    served = command.argv[command.argv.index("--model") :]
    with tempfile.TemporaryDirectory(prefix="tokenswarm-") as scratch:
        given = Path(scratch) / "prompts.json"
        given.write_text(json.dumps(list(prompts)), encoding="utf-8")
        say(f"{profile.name}: loading {place.model}, then {len(prompts)} prompts (the output is in {log})")
        script: list[str | Path] = [place.program, SCRIPT, given, str(max_tokens), *served]
        try:
            printed = programs.run(script, log, limit_s=LIMIT_S, variables=command.variables)
        except programs.FailedError as error:
            reason = enginelog.failure(log.read_text(encoding="utf-8").splitlines(), error.code)
            raise ServerError(f"{profile.name}: {reason} (see {log})") from None
    lines = printed.splitlines()
    found = next((line for line in reversed(lines) if line.startswith("{")), None)
    if found is None:
        raise ServerError(f"{profile.name}: found no figures in what it printed, expected some (see {log})")
    figures: dict[str, Any] = json.loads(found)
    return figures | {"kernels": list(enginelog.kernels(lines))}
