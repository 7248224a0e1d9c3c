"""Download a model at a commit from its hub, or find it where it was downloaded; prints its folder, last.

ENV/bin/python fetch_model.py ORG/NAME COMMIT [FILE ...]    these files alone, or all that a model needs
"""

import sys

from huggingface_hub import snapshot_download

WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]


def main() -> int:
    hub, commit, *files = sys.argv[1:]
    try:
        print(snapshot_download(hub, revision=commit, allow_patterns=files or WANTED))
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller reads one line
        print(f"error: {hub}: {type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
