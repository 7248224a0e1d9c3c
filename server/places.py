"""Where environments, models and checkpoints live: one folder of the user's, shared by all checkouts.

TOKENSWARM_HOME, or XDG_CACHE_HOME/tokenswarm, or ~/.cache/tokenswarm
    environments/NAME/      a virtual environment for an engine
    models/NAME/            a model in the Hugging Face format
    logs/                   what the programs that made them printed
"""

import os
from pathlib import Path


def home() -> Path:
    """Return the folder; it need not exist."""
    named = os.environ.get("TOKENSWARM_HOME")
    if named:
        return Path(named).expanduser().resolve()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "tokenswarm"


def environments() -> Path:
    """Return where the engines' virtual environments are."""
    return home() / "environments"


def models() -> Path:
    """Return where models and quantized checkpoints are."""
    return home() / "models"


def logs() -> Path:
    """Return where the output of installing, converting and quantizing is kept."""
    return home() / "logs"
