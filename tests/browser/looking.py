"""A browser's tab that takes note of everything that must not happen in it."""

import importlib.util
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.end_to_end.locusts import ROOT

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 780}, "has_touch": True},
}
SHOTS = ROOT / "out" / "browser"
# What a chart writes into its canvas is in no DOM: take note of it, by the chart's title.
LISTEN = """
window.written = {};
window.placed = {}; // title -> [{text, left, right, top, bottom}] of what is to be seen now
const { fillText, clearRect } = CanvasRenderingContext2D.prototype;
const titleOf = (context) => context.canvas.closest("figure")?.querySelector("strong").textContent;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y, ...more) {
  const title = titleOf(this);
  if (title) {
    (window.written[title] ??= new Set()).add(text);
    const size = this.measureText(text);
    (window.placed[title] ??= []).push({
      text,
      left: x - size.actualBoundingBoxLeft,
      right: x + size.actualBoundingBoxRight,
      top: y - size.actualBoundingBoxAscent,
      bottom: y + size.actualBoundingBoxDescent,
    });
  }
  return fillText.call(this, text, x, y, ...more);
};
CanvasRenderingContext2D.prototype.clearRect = function (...all) {
  window.placed[titleOf(this)] = [];
  return clearRect.apply(this, all);
};
"""


class Tab:
    """One page: Playwright's `page`, the errors it printed, the hosts it asked."""

    def __init__(self, page: Any, look: str) -> None:
        """Listen from the first request on."""
        self.page = page
        self.look = look
        self.problems: list[str] = []
        self.hosts: set[str] = set()
        self._own = ""
        page.on("console", self._printed)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("response", self._answered)
        page.add_init_script(LISTEN)

    def _printed(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def go(self, url: str) -> None:
        """Load a URL of the server that the tab stays with."""
        self._own = urlsplit(url).netloc
        self.page.goto(url)

    def dress(self, look: str) -> None:
        """Show the same page in another of LOOKS."""
        self.look = look
        self.page.emulate_media(color_scheme=LOOKS[look]["color_scheme"])
        self.page.set_viewport_size(LOOKS[look]["viewport"])

    def check_looks(self, name: str) -> None:
        """In every look: a screenshot, no serious barrier, nothing too wide, no words over others."""
        for look in ("dark", "phone", "light"):
            self.dress(look)
            self.shoot(name)
            findings = self.serious_findings()
            assert not findings, (name, look, findings)
            self.check_fits()
            self.check_words()

    def wait_for_writing(self, title: str, text: str) -> None:
        """Wait until a chart has written a text into its canvas; Playwright's TimeoutError otherwise."""
        self.page.wait_for_function(
            "([title, text]) => window.written[title]?.has(text)", arg=[title, text], timeout=15_000
        )

    def check_clean(self) -> None:
        """Nothing went wrong, and nobody else was asked; AssertionError otherwise."""
        assert not self.problems, "\n".join(self.problems)
        assert self.hosts - {""} == {self._own}, self.hosts  # "" is a data: URL

    def shoot(self, name: str) -> Path:
        """Keep a screenshot of the whole page."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}-{self.look}.png"
        self.page.screenshot(path=path, full_page=True)
        return path

    def check_fits(self) -> None:
        """Nothing makes the page wider than the screen; AssertionError otherwise."""
        width, seen = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= seen, f"{width} px of page on {seen} px of screen"

    def check_words(self) -> None:
        """No words in a chart lie over others; AssertionError otherwise."""
        for title, words in self.page.evaluate("window.placed").items():
            for one, other in combinations(words, 2):
                beside = one["right"] <= other["left"] or other["right"] <= one["left"]
                apart = one["bottom"] <= other["top"] or other["bottom"] <= one["top"]
                assert beside or apart, (self.look, title, one, other)

    def serious_findings(self) -> list[str]:
        """Return what axe-core finds to be a serious or critical barrier, one line each."""
        self.page.evaluate(_axe())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{rule['id']}: {rule['help']}: {[node['target'] for node in rule['nodes']]}"
            for rule in found["violations"]
            if rule["impact"] in {"serious", "critical"}
        ]


def _axe() -> str:
    """Return axe-core's source, as the package axe-playwright-python brings it."""
    spec = importlib.util.find_spec("axe_playwright_python")
    assert spec is not None, "axe-playwright-python is not installed"
    assert spec.origin is not None
    (file,) = Path(spec.origin).parent.rglob("axe.min.js")
    return file.read_text(encoding="utf-8")
