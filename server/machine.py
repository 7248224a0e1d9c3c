"""What this machine can run: asked once, before anything is started."""

import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Literal

from server.errors import UsageError
from server.profiles import Profile

QUERY = ("--query-gpu=name,compute_cap", "--format=csv,noheader")


@dataclass(frozen=True, slots=True)
class Machine:
    """The accelerator, if there is one: the first that nvidia-smi lists."""

    gpu: str = ""
    capability: float = 0.0

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """What engines call it."""
        return "cuda" if self.gpu else "cpu"


@cache
def here() -> Machine:
    """Look at this machine; one without nvidia-smi, or without a driver, has no GPU."""
    if not shutil.which("nvidia-smi"):
        return Machine()
    try:
        asked = subprocess.run(  # noqa: S603 - a fixed command
            ["nvidia-smi", *QUERY],  # noqa: S607 - found on PATH, as the driver installs it
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return Machine()
    return parse(asked.stdout)


def parse(listed: str) -> Machine:
    """Read nvidia-smi's answer: a line for each GPU, `name, capability`."""
    name, _, capability = listed.strip().partition("\n")[0].rpartition(",")
    try:
        return Machine(name.strip(), float(capability))
    except ValueError:
        return Machine()


def check(profile: Profile, machine: Machine) -> None:
    """Refuse a profile that this machine cannot run; raises UsageError with the reason."""
    if machine.capability >= profile.capability:
        return
    need = f"a CUDA GPU of compute capability {profile.capability:.1f} or more"
    found = f"{machine.gpu} ({machine.capability})" if machine.gpu else f"none on this {platform.machine()}"
    raise UsageError(f"profile {profile.name}: needs {need}, found {found}")
