"""Run load_driver in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def drive(jobs: list[dict[str, Any]], timeout_s: float = 60, **more: Any) -> dict[str, Any]:
    """Run jobs (see load_driver) side by side; returns {"records": {job: [record, …]}, "rss_growth_kib"}."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.load_driver"],
        cwd=ROOT,
        input=json.dumps({"jobs": jobs, **more}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr, found.stderr
    return json.loads(found.stdout)
