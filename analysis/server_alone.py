"""May the server's counts be held against ours? Only if it counted our requests alone, and each once."""

from .readings import Readings
from .rundir import Run


def choices(run: Run) -> int:
    """Return how many answers each request asked for; vLLM counts each as a request of its own."""
    return int(run.meta["workload"].get("choices") or 1)


def why_not_alone(run: Run, readings: Readings) -> str:
    """Return why the server's counts are not those of our requests alone; nothing if they are."""
    counts = run.meta.get("server_counts")
    if not isinstance(counts, dict) or not counts.get("exclusive"):
        return "others used the server when the run began"
    if readings.restarts:
        return f"the server's counters fell back {readings.restarts:,} times"
    return "" if choices(run) == 1 else "it counts each choice of a request"
