"""The form of the live page as a person meets it: what is wrong is said beside its field, runs follow."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("tests.browser.looking")
pytestmark = pytest.mark.browser


@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "master and workers"])
def test_a_run_is_started_changed_marked_stopped_and_followed_by_another(
    live: Callable[..., Any], page: Callable[..., Any], workers: int
) -> None:
    served = live(workers=workers)
    tab = page(f"{served.url}/llm/")
    controls = tab.page.locator("#controls")
    start, stop = (controls.get_by_role("button", name=name, exact=True) for name in ("Start", "Stop"))
    state = controls.get_by_role("status")
    labelled = {
        name: controls.get_by_label(name, exact=True)
        for name in ("Model", "Prompt length", "Arrivals", "Ramp", "Marker", "Change the load to")
    }
    start.wait_for()

    labelled["Prompt length"].fill("many")
    start.click()
    assert labelled["Prompt length"].get_attribute("aria-invalid") == "true"
    assert _described(controls, labelled["Prompt length"]).endswith(
        "expected a number or LOW-HIGH, such as 16-128"
    )
    labelled["Prompt length"].fill("5-9")
    labelled["Model"].fill("nope")
    start.click()  # only the server knows that it has no such model
    controls.get_by_text("expected the model 'nope', found").first.wait_for()
    assert labelled["Model"].get_attribute("aria-invalid") == "true"
    assert served.runs() == []

    labelled["Model"].fill("")
    labelled["Arrivals"].fill("5")
    labelled["Ramp"].fill("50")
    start.click()
    stop.wait_for()
    labelled["Marker"].fill("deployed <b>the</b> new build")
    controls.get_by_role("button", name="Set marker").click()
    controls.get_by_text("deployed <b>the</b> new build").wait_for()  # as text
    labelled["Change the load to"].fill("12")
    controls.get_by_role("button", name="Apply").click()
    controls.get_by_text("arrivals/s 5 -> 12").wait_for()
    assert tab.serious_findings() == []
    tab.page.reload()
    controls.get_by_text("arrivals/s 5 -> 12").wait_for()
    stop.click()
    state.get_by_text("No run is on").wait_for()
    start.click()
    stop.wait_for()
    assert controls.get_by_text("arrivals/s 5 -> 12").count() == 0
    stop.click()
    state.get_by_text("No run is on").wait_for()
    assert len(served.runs()) == 2


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_the_form_shuts_nobody_out(live: Callable[..., Any], page: Callable[..., Any], look: str) -> None:
    tab = page(f"{live().url}/llm/", look)
    tab.page.locator("#controls").get_by_label("Model", exact=True).wait_for()
    tab.shoot("controls")
    assert tab.serious_findings() == []
    tab.check_fits()


def _described(controls: Any, field: Any) -> str:
    names = str(field.get_attribute("aria-describedby")).split()
    return " ".join(controls.locator(f"#{name}").inner_text() for name in names)
