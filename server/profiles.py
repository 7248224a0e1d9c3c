"""What can be served: one frozen description of a server, from which the command line follows.

The built-in profiles are in profiles.yaml; a file of the same form adds more or changes them:

    my-int8:
      like: int8                    # everything else as there
      model: /models/llama-8b-w8a8  # a folder, a hub id with `revision`, smollm2 or tiny
      options: {max-num-seqs: 64}   # the engine's own, added to those of `like`
      variables: {OMP_NUM_THREADS: "2"}
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from server.errors import UsageError

BUILT_IN = Path(__file__).with_name("profiles.yaml")
OURS = {"host", "port", "model", "revision", "served-model-name", "served_model_name"}
"""Options that we set ourselves: a second one would win over ours."""

SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|AUTH|CREDENTIALS)$", re.IGNORECASE)
"""How the names of variables end whose values no file and no process list may show."""

USER_IN_URL = re.compile(r"://[^/\s]*@")
OPTION = re.compile(r"\w[\w.-]*")

INSTEAD = ": keys belong into this program's environment, which engines inherit (VLLM_API_KEY, HF_TOKEN)"

Name = Annotated[str, Meta(pattern=r"^\w[\w.-]*$")]


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way to serve a model."""

    name: Name
    engine: Literal["vllm", "transformers", "tensorrt-llm", "sim"]
    model: str = "smollm2"
    revision: str = ""  # of a hub id: the commit
    quantization: str = ""  # what the weights are: a recipe of `tokenswarm quantize`, "" for full precision
    dtype: str = ""
    options: dict[str, Any] = {}  # engine arguments: {max-model-len: 2048} is --max-model-len 2048
    variables: dict[str, str] = {}  # environment variables
    kernel: dict[str, list[str]] = {}  # by device: how the name in the log may begin, or the run says so
    capability: float = 0.0  # CUDA compute capability needed; 0 where the CPU will do


def built_in() -> Mapping[str, Profile]:
    """Return the profiles that come with the project, by name."""
    return _read(BUILT_IN)


def find(name: str, file: Path | None = None) -> Profile:
    """Return a profile of the built-in ones or of a file; raises UsageError, one line."""
    known = dict(built_in()) | (_read(file) if file else {})
    if name not in known:
        raise UsageError(f"profile: found {name!r}, expected one of {', '.join(known)}")
    return known[name]


def changed(profile: Profile, **new: Any) -> Profile:
    """Return the profile with other values; options and variables are added to its own."""
    for field in ("options", "variables"):
        new[field] = getattr(profile, field) | (new.get(field) or {})
    made = msgspec.structs.replace(profile, **new)
    refuse(made, f"profile {profile.name}")
    return made


def refuse(profile: Profile, where: str) -> None:
    """Raise UsageError where a profile sets what is not its to set: our own options, or secrets."""
    for name, value in profile.options.items():
        if not OPTION.fullmatch(name):
            raise UsageError(f"{where}: options: found {name!r}, expected an option's name alone")
        if name in OURS:
            raise UsageError(f"{where}: options: found {name}, which is not the engine's to be told here")
        if name.replace("_", "-") in {"api-key", "hf-token"}:
            raise UsageError(f"{where}: options: found {name}, a secret{INSTEAD}")
        if value is None:
            raise UsageError(f"{where}: options: found nothing for {name}, expected a value")
    for name in profile.variables:
        if SECRET.search(name):
            raise UsageError(f"{where}: variables: found {name}, a secret{INSTEAD}")
        if name == "VLLM_SERVER_DEV_MODE":
            raise UsageError(f"{where}: variables: found {name}, which experiments alone set, on loopback")
    for kind, found in (("options", profile.options), ("variables", profile.variables)):
        for name, value in found.items():
            if USER_IN_URL.search(str(value)):
                raise UsageError(f"{where}: {kind}: found a URL with a user in {name}, a secret{INSTEAD}")


def is_secret(name: str, value: str) -> bool:
    """Say whether a variable's value must not be shown."""
    return bool(SECRET.search(name) or USER_IN_URL.search(value))


@cache
def _read(file: Path) -> dict[str, Profile]:
    try:
        plain = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{file}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(plain, dict) or not all(isinstance(entry, dict) for entry in plain.values()):
        raise UsageError(f"{file}: expected profiles: a name, and below it what to start")
    known = {} if file == BUILT_IN else dict(_read(BUILT_IN))
    found: dict[str, Profile] = {}
    for name, entry in plain.items():
        found[str(name)] = known[str(name)] = _profile(f"{file}: {name}", str(name), entry, known)
    return found


def _profile(where: str, name: str, entry: dict[str, Any], known: Mapping[str, Profile]) -> Profile:
    entry = dict(entry)
    like = entry.pop("like", None)
    whole: dict[str, Any] = {}
    if like is not None:
        if like not in known:
            raise UsageError(f"{where}: like: found {like!r}, expected one of {', '.join(known)}")
        whole = msgspec.to_builtins(known[like])
    for field in ("options", "variables"):
        if isinstance(entry.get(field), dict):
            entry[field] = whole.get(field, {}) | entry[field]
    try:
        profile = msgspec.convert(whole | entry | {"name": name}, Profile)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from None
    refuse(profile, where)
    return profile
