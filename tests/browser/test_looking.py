"""What every browser test relies on: a tab that is called clean, is."""

from collections.abc import Callable

import pytest

from tests.browser.looking import Tab
from tests.end_to_end.weblocust import Served

pytestmark = pytest.mark.browser


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
