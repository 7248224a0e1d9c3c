"""A real browser in front of real processes: Debian's chromium, driven by Playwright, which downloads none.

Where it is missing these tests are skipped and say so; in CI that is a failure, never a silent one.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.absent import absent
from tests.browser.looking import LOOKS, Tab
from tests.end_to_end.weblocust import Served, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")  # Playwright's event loop runs as long: no other file's could in this process
def browser() -> Iterator[Any]:
    """One browser for a file's tests; each tab has a context of its own."""
    if not CHROMIUM:
        absent("no `chromium` (Debian: apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - the tests are listed without it
    except ImportError:
        absent("no Python package playwright (pip install playwright)")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Open a URL in a look (light, dark, phone); at the end of the test every tab must have been clean."""
    with ExitStack() as stack:
        tabs: list[Tab] = []

        def open_tab(url: str, look: str = "light") -> Tab:
            context = browser.new_context(**LOOKS[look])
            stack.callback(context.close)
            tabs.append(Tab(context.new_page(), look))
            tabs[-1].go(url)
            return tabs[-1]

        yield open_tab
        for tab in tabs:
            tab.check_clean()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start a simulator and Locust with its page (see `serving`); all ends with the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(serving(tmp_path, *arguments, **options))
