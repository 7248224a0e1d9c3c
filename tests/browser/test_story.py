"""The pages as a person meets them, from the empty form to the second run."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypdf
import pytest

from tests.browser.livepage import LivePage, check_says, drawn
from tests.browser.looking import Tab
from tests.end_to_end.locusts import Result, check_accounts, result, simulator
from tests.end_to_end.weblocust import STEADY, Served

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

TTFT = "ttft p95 < 9000 ms"  # far above what there is
ITL = "itl p95 < 15 ms"  # near it
ERRORS = "error_rate < 5 %"
SLA = f"name: story\nobjectives:\n  - {TTFT}\n  - {ITL}\n  - {ERRORS}\n"
NOTE = "deployed <b>v2</b>"
TTFT_CHART = "Time to first token (ms)"


def test_one_process_until_its_server_breaks(live: Callable[..., Served], page: Callable[..., Tab]) -> None:
    served = live()
    ours = LivePage(page(f"{served.url}/llm/"))
    ours.wait_until_free()
    ours.tab.check_looks("ready")
    _refuses_what_is_wrong(ours, served)

    ours.page.locator("#control-models option[value='sim']").wait_for(state="attached")  # asked of the server
    ours.controls.get_by_label("or read it from a file").set_input_files(
        {"name": "slo.yaml", "mimeType": "text/plain", "buffer": SLA.encode()}
    )
    ours.wait_for("text => document.getElementById('control-sla_text').value === text", SLA)
    ours.field("Arrivals").fill("10")
    ours.field("Ramp").fill("50")
    _start_by_keyboard(ours)
    ours.wait_for_state("Running")
    first = ours.wait_for_requests()
    ours.wait_for_requests(first + 10)
    _change_and_mark(ours, "10 -> 20")
    ours.tab.wait_for_writing(TTFT_CHART, f"{TTFT} ↑")
    ours.tab.wait_for_writing("Gap between tokens (ITL) (ms)", ITL)
    ours.objective(ERRORS).locator(".sla-figures").wait_for()
    assert "FAIL" not in ours.light(ERRORS).inner_text()
    with ours.page.expect_response(lambda answer: "span=recent" in answer.url):
        ours.page.get_by_label("Last 5 minutes", exact=True).check()
    ours.page.get_by_label("Whole run", exact=True).check()
    _locusts_own_page(page(f"{served.url}/"))
    ours.tab.check_looks("running")
    (so_far,) = served.runs()
    assert [one["text"] for one in _meta(so_far)["markers"]] == ["arrivals/s 10 -> 20", NOTE]

    served.sim.process.kill()  # the server breaks
    ours.light(ERRORS).get_by_text("FAIL", exact=True).wait_for()
    assert ours.objective(ERRORS).locator(".sla-reason").inner_text()
    ours.stop()
    ours.wait_until_final()
    light = ours.objective(ERRORS).inner_text()  # so short a failure may prove nothing of the whole run
    run = _ended(served, 1)
    assert set(run.outcomes()) >= {"ok", "connect"}
    check_says(ours, run, 9_000_000_000)
    assert drawn(ours.tab, lambda text: text == f"⚑ {NOTE}").count("Errors by outcome (/s)") == 1
    ours.tab.check_looks("ended")
    _downloads(ours, run)

    ours.page.reload()
    ours.wait_for_state("Stopped")
    ours.wait_until_free()
    check_says(ours, run, 9_000_000_000)
    ours.markers.get_by_text(NOTE).wait_for()
    ours.wait_until_final()
    assert ours.objective(ERRORS).inner_text() == light
    ours.tab.wait_for_writing(TTFT_CHART, f"⚑ {NOTE}")
    assert ours.field("SLA").input_value().strip() == SLA.strip()
    assert ours.field("Arrivals").input_value() == "20"  # as it was changed to

    _second_run(ours, served)


def _second_run(ours: LivePage, served: Served) -> None:
    with simulator(STEADY) as (target, _):
        ours.field("Target").fill(target)
        ours.field("SLA").fill("")
        ours.start()
        ours.wait_for_requests()
        ours.markers.get_by_role("listitem").first.wait_for(state="detached")  # the first run's are gone
        ours.stop()
    second = _ended(served, 2)
    assert set(second.outcomes()) == {"ok"}
    check_says(ours, second)
    ours.page.locator("#downloads .downloads-run").nth(1).wait_for()


@pytest.mark.slow
def test_master_and_workers_below_a_base_path(live: Callable[..., Served], page: Callable[..., Tab]) -> None:
    served = live(workers=2, base="/deep/down")
    ours = LivePage(page(f"{served.url}/llm/"))
    ours.wait_until_free()
    ours.field("Arrivals").fill("10")
    ours.start()
    ours.wait_for_requests(ours.wait_for_requests())
    _change_and_mark(ours, "10 -> 20")
    ours.page.reload()
    ours.markers.get_by_text(NOTE).wait_for()
    ours.wait_for_state("Running")
    ours.stop()
    run = _ended(served, 1)
    check_says(ours, run)
    assert len(run.meta["workers"]["seen"]) == 2


def _refuses_what_is_wrong(ours: LivePage, served: Served) -> None:
    ours.field("Prompt length").fill("many")
    ours.button("Start").click()
    assert ours.field("Prompt length").get_attribute("aria-invalid") == "true"
    described = str(ours.field("Prompt length").get_attribute("aria-describedby")).split()
    said = " ".join(ours.controls.locator(f"#{name}").inner_text() for name in described)
    assert said.endswith("expected a number or LOW-HIGH, such as 16-128")
    ours.field("Prompt length").fill("5-9")
    ours.field("Model").fill("nope")
    ours.button("Start").click()  # only the server knows that it has no such model
    ours.controls.get_by_text("expected the model 'nope', found").first.wait_for()
    assert ours.field("Model").get_attribute("aria-invalid") == "true"
    assert served.runs() == []
    ours.field("Model").fill("")
    ours.wait_until_free()


def _start_by_keyboard(ours: LivePage) -> None:
    ours.field("Target").focus()
    for _ in range(40):
        ours.page.keyboard.press("Tab")
        if ours.page.evaluate("document.activeElement.textContent") == "Start":
            break
    ours.page.keyboard.press("Enter")
    ours.button("Stop").wait_for()
    # who cannot see the page is told what became of it, and goes on from there
    ours.wait_for("role => document.activeElement.getAttribute('role') === role", "status")
    ours.page.keyboard.press("Tab")
    ours.wait_for_focus("Stop")


def _change_and_mark(ours: LivePage, change: str) -> None:
    ours.field("Change the load to").fill(change.rpartition(" ")[2])
    ours.button("Apply").click()
    ours.markers.get_by_text(f"arrivals/s {change}").wait_for()
    ours.field("Marker").fill(NOTE)
    ours.button("Set marker").click()
    ours.markers.get_by_text(NOTE).wait_for()  # as text
    ours.tab.wait_for_writing(TTFT_CHART, f"⚑ {NOTE}")
    ours.tab.wait_for_writing(TTFT_CHART, f"⚑ arrivals/s {change}")


def _locusts_own_page(tab: Tab) -> None:
    tab.page.get_by_role("tab", name="Statistics").click()
    tab.page.get_by_role("cell", name="ITL", exact=True).wait_for()
    rows = tab.page.evaluate(
        "[...document.querySelectorAll('tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    counts = {row[0] or row[1]: int(row[2]) for row in rows if row[2].isdigit()}
    assert counts["Aggregated"] == counts["POST"] > 0
    assert counts["ITL"] > counts["POST"]
    assert counts["TTFT"] > 0
    for name, words in (("LLM", "chat"), ("SLA", ERRORS)):
        tab.page.get_by_role("tab", name=name, exact=True).click()
        tab.page.get_by_role("cell", name=words, exact=True).wait_for()  # "chat" is in an address, too
        tab.shoot(f"locust-{name.lower()}")


def _ended(served: Served, runs: int) -> Result:
    served.locust.wait_until_it_says("Results are in", times=runs)
    assert len(served.runs()) == runs
    run = result(served.runs()[-1])
    check_accounts(run)
    return run


def _meta(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "run.json").read_text()))


def _downloads(ours: LivePage, run: Result) -> None:
    item = ours.page.locator("#downloads .downloads-run")
    with ours.page.expect_download() as zipped:
        item.get_by_role("link").click()
    with zipfile.ZipFile(zipped.value.path()) as file:
        names = {Path(name).name: name for name in file.namelist()}
        assert set(names) == {path.name for path in run.path.iterdir()}
        assert all(file.read(names[path.name]) == path.read_bytes() for path in run.path.iterdir())
    with ours.page.expect_download() as report:
        item.get_by_role("button").click()
    pages = pypdf.PdfReader(io.BytesIO(report.value.path().read_bytes())).pages
    text = "".join(each.extract_text() for each in pages)
    assert ERRORS in text
    assert NOTE in text
