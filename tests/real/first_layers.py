"""Cut the first layers off a model: real weights, but few. Runs in an environment that has safetensors.

ENV/bin/python first_layers.py MODEL FOLDER LAYERS
"""

import json
import shutil
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file


def main() -> None:
    source, folder, layers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    folder.mkdir()
    with safe_open(str(source / "model.safetensors"), "pt") as file:
        names = [
            name
            for name in file.keys()  # noqa: SIM118 - it is no dict
            if not name.startswith("model.layers.") or int(name.split(".")[2]) < layers
        ]
        weights = {name: file.get_tensor(name) for name in names}
    save_file(weights, str(folder / "model.safetensors"), {"format": "pt"})
    config = json.loads((source / "config.json").read_text()) | {"num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / name, folder)


if __name__ == "__main__":
    main()
