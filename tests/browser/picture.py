"""Make README's picture of the live page: a simulated server that gets more to do than its SLA allows.

python tests/browser/picture.py tokenswarm/live.png
"""

import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.browser.livepage import LivePage
from tests.browser.looking import Tab
from tests.end_to_end.weblocust import serving
from tests.sim_server import running_sim

SLA = "name: chat\nobjectives:\n  - ttft p95 < 250 ms\n  - itl p95 < 40 ms\n"
SIZE = {"width": 1280, "height": 1000}


def play(ours: LivePage, target: str) -> None:
    """Start, say what was done, raise the load."""
    ours.wait_until_free()
    for name, text in (("Target", target), ("SLA", SLA), ("Arrivals", "4"), ("Ramp", "100")):
        ours.field(name).fill(text)
    ours.field("Answer length").fill("60-140")
    ours.start()
    ours.wait_for_requests(100)
    ours.field("Marker").fill("deployed the new build")
    ours.button("Set marker").click()
    ours.wait_for_requests(150)
    ours.field("Change the load to").fill("12")
    ours.button("Apply").click()
    ours.wait_for_requests(480)


def main(path: Path) -> None:
    """Play, and keep the charts' upper half below the lights."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only who makes it needs it

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sim = stack.enter_context(running_sim("--profile", "baseline"))
        served = stack.enter_context(serving(folder))
        driver: Any = stack.enter_context(sync_playwright())
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        ours = LivePage(Tab(page, "light"))
        ours.tab.go(f"{served.url}/llm/")
        play(ours, f"http://127.0.0.1:{sim.port}")
        page.evaluate("document.getElementById('controls').hidden = true")  # as scrolled past
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(2500)
        page.screenshot(path=path)
        browser.close()
        served.post("/stop")
        served.locust.wait_until_it_says("Results are in")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
