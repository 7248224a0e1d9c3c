"""Locust's page and ours in a real browser: no error, no request to anybody else, nobody shut out."""

from collections.abc import Callable

import pytest

from tests.browser.looking import LOOKS, Tab
from tests.end_to_end.weblocust import Served

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "master and workers"])
def test_locusts_page_and_ours(live: Callable[..., Served], page: Callable[..., Tab], workers: int) -> None:
    served = live(workers=workers)
    locusts = page(served.url + "/")
    locusts.page.get_by_role("button", name="Start").first.wait_for()
    ours = page(served.url + "/llm/")
    assert "Tokenswarm" in ours.page.title()
    served.start(users=5)
    locusts.page.reload()
    locusts.page.get_by_role("button", name="Stop").first.wait_for()
    served.stop()
    ours.page.reload()


@pytest.mark.parametrize("look", LOOKS)
def test_nobody_is_shut_out(live: Callable[..., Served], page: Callable[..., Tab], look: str) -> None:
    served = live()
    served.start(users=5)
    tab = page(served.url + "/llm/", look)
    tab.page.wait_for_timeout(1500)  # a poll or two
    tab.shoot("live")
    assert tab.serious_findings() == []
    tab.check_fits()


def test_a_clean_tab_is_not_clean_by_accident(live: Callable[..., Served], page: Callable[..., Tab]) -> None:
    served = live()
    tab = page(served.url + "/llm/")
    tab.check_clean()
    tab.page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: '1'}))")
    tab.page.evaluate("fetch('http://localhost:9/').catch(() => 0)")
    tab.page.evaluate("document.body.append(document.createElement('img'))")
    (finding,) = tab.serious_findings()
    assert finding.startswith("image-alt")
    with pytest.raises(AssertionError, match="Content Security Policy"):
        tab.check_clean()
    tab.problems.clear()
    tab.hosts.clear()
    tab.go(served.url + "/llm/")
