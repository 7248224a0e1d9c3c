"""API keys: from the environment alone, and never quoted."""

import os

from server.errors import UsageError

ENGINES = "VLLM_API_KEY"
"""What a vLLM that we start inherits, and then asks for."""

KEYS = ("TOKENSWARM_API_KEY", "OPENAI_API_KEY", ENGINES)
"""Where a key is looked for, as the load does: the first that is set is sent."""


def header() -> dict[str, str]:
    """Return the header with the key, {} without one; raises UsageError where no header can hold it."""
    for name in KEYS:
        if key := _key(name):
            return {"authorization": f"Bearer {key}"}
    return {}


def check_engine() -> None:
    """Raise UsageError if an engine would ask for another key than will be sent, or for an odd one."""
    asked, sent = _key(ENGINES), header()
    if os.environ.get(ENGINES, "") != asked:
        raise UsageError(f"{ENGINES}: found blanks or a line end around the key, expected the key alone")
    if asked and sent != {"authorization": f"Bearer {asked}"}:
        raise UsageError(f"found another key than {ENGINES} to send, expected the same in {KEYS[0]}")


def _key(name: str) -> str:
    key = os.environ.get(name, "").strip()
    if not all("!" <= mark <= "~" for mark in key):
        raise UsageError(f"{name}: found a character that no key holds, expected plain ASCII in one word")
    return key
