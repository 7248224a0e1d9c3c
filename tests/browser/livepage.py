"""The live page as its user handles it, and what it should say by a run directory."""

from collections.abc import Callable
from typing import Any

from analysis.histogram import Histogram
from tests.browser.looking import Tab
from tests.end_to_end.locusts import Result

NOTHING = "\N{EN DASH}"
PATIENCE_MS = 40_000  # a condition's, on a machine that does other things too


class LivePage:
    """A tab that shows /llm/."""

    def __init__(self, tab: Tab) -> None:
        """Take a tab that has opened it."""
        self.tab = tab
        self.page = tab.page
        self.page.set_default_timeout(PATIENCE_MS)
        self.controls = self.page.locator("#controls")
        self.sla = self.page.locator("#sla")
        self.markers = self.controls.get_by_role("list", name="Markers")

    def field(self, name: str) -> Any:
        """Return an input by its label."""
        return self.controls.get_by_label(name, exact=True)

    def button(self, name: str) -> Any:
        """Return one of the controls' buttons."""
        return self.controls.get_by_role("button", name=name, exact=True)

    def wait_for_state(self, word: str) -> None:
        """Wait until headline and controls say so: Ready, Running, Stopped."""
        for place in ("#state", "#controls .state"):
            self.page.locator(place, has_text=word).wait_for()

    def wait_until_free(self) -> None:
        """Wait until a run can be started."""
        self.wait_for("() => document.querySelector('#control-start button').disabled === false")

    def start(self) -> None:
        """Press Start, and wait until a run is on and shown."""
        before = self.page.locator("#about").inner_text()
        self.button("Start").click()
        self.button("Stop").wait_for()
        self.wait_for("text => document.getElementById('about').textContent !== text", before)

    def stop(self) -> None:
        """Press Stop, and wait until the page has the run's last numbers."""
        self.button("Stop").click()
        self.wait_for_state("Stopped")
        self.wait_until_free()

    def wait_for_requests(self, more: int = 0) -> int:
        """Wait until the headline counts more requests than so many; returns how many."""
        count = "Number(document.getElementById('requests').textContent.replace(/\\D/g, ''))"
        self.wait_for(f"() => {count} > {more}")
        return int(self.page.evaluate(count))

    def wait_for(self, condition: str, value: str = "") -> None:
        """Wait until a function of JavaScript says yes to a value."""
        self.page.wait_for_function(condition, arg=value, timeout=PATIENCE_MS)

    def wait_for_focus(self, text: str) -> None:
        """Wait until what has the focus begins with a text."""
        self.wait_for("text => document.activeElement.textContent.startsWith(text)", text)

    def wait_until_final(self) -> None:
        """Wait until the lights are those of the whole run."""
        self.sla.locator(".sla-standing", has_text=", final").wait_for()

    def light(self, text: str) -> Any:
        """Return an objective's light."""
        return self.objective(text).locator(".sla-light")

    def objective(self, text: str) -> Any:
        """Return the line of an objective with its light."""
        return self.sla.locator(".sla-objective").filter(has_text=text)

    def headline(self) -> dict[str, str]:
        """Return what the headline says, by the elements' names."""
        return dict(
            self.page.evaluate(
                "[...document.querySelectorAll('#headline dd')].map(d => [d.id, d.textContent])"
            )
        )

    def table(self) -> dict[str, str]:
        """Return the cells of the one scenario, by their headings."""
        return dict(
            self.page.evaluate(
                "[...document.querySelectorAll('#table tbody tr > *')]"
                ".map(cell => [cell.dataset.heading, cell.textContent])"
            )
        )


def expected(run: Result, ttft_limit_ns: int | None) -> dict[str, tuple[float, float]]:
    """Return the table's figures by the run directory: heading -> figure, and its share that may differ.

    Logs have bins of 0.1 %; what the records say is exact but for the last digit that the page prints.
    """
    records, meta = run.records, run.meta
    elapsed_s = (meta["ended_unix_ns"] - meta["started_unix_ns"]) / 1e9
    ok = [record for record in records if record.outcome == "ok"]
    firsts, gaps, lag = Histogram(), run.log("itl"), run.log("lag")
    firsts.record([record.first_ns for record in records if record.first_ns is not None])
    tokens = sum(
        record.chunks if record.output_tokens is None else record.output_tokens for record in records
    )
    chunks = sum(record.chunks for record in records)
    found = {
        "Requests": (len(records), 0.0),
        "TTFT p50 (ms)": (firsts.quantile(0.5) / 1e6, 0.0),
        "TTFT p95 (ms)": (firsts.quantile(0.95) / 1e6, 0.0),
        "TTFT p99 (ms)": (firsts.quantile(0.99) / 1e6, 0.0),
        "ITL p50 (ms)": (gaps.quantile(0.5) / 1e6, 0.001),
        "ITL p99 (ms)": (gaps.quantile(0.99) / 1e6, 0.001),
        "ITL max (ms)": (max(record.gap_max_ns or 0 for record in records) / 1e6, 0.0),
        "Tokens/s": (tokens / elapsed_s, 0.0),
        "Ok/s": (len(ok) / elapsed_s, 0.0),
        "Errors (%)": (100 * (len(records) - len(ok)) / len(records), 0.0),
        "Lag p99 (ms)": (lag.quantile(0.99) / 1e6, 0.001),
        "Coalesced (%)": (100 * sum(record.coalesced for record in records) / chunks, 0.0),
    }
    if ttft_limit_ns is not None:
        good = sum((record.first_ns or 0) < ttft_limit_ns for record in ok)
        found["Goodput (/s)"] = (good / elapsed_s, 0.0)
    return found


def check_says(page: LivePage, run: Result, ttft_limit_ns: int | None = None) -> None:
    """Table and headline say of a run that has ended what its directory says; AssertionError otherwise."""
    shown = page.table()
    for heading, (figure, share) in expected(run, ttft_limit_ns).items():
        assert abs(float(shown.pop(heading)) - figure) <= 0.0051 + share * figure, heading
    assert shown.pop("TPOT p50 (ms)") != NOTHING
    assert shown.pop("Scenario") == "chat"
    assert set(shown) <= {"Goodput (/s)"}
    assert all(cell == NOTHING for cell in shown.values())
    headline = page.headline()
    failed = sum(record.outcome != "ok" for record in run.records)
    seconds = int((run.meta["ended_unix_ns"] - run.meta["started_unix_ns"]) / 1e9)
    assert headline["requests"] == f"{len(run.records):,}"
    assert headline["failed"] == f"{failed:,}"
    minutes, rest = (int(part) for part in headline["elapsed"].split(":"))
    assert abs(60 * minutes + rest - seconds) <= 1  # it rounds before it cuts
    assert {headline[name] for name in ("in_flight", "ok_per_s", "tokens_per_s")} == {NOTHING}  # of now


def drawn(tab: Tab, holds: Callable[[str], bool]) -> list[str]:
    """Return the titles of the charts that have written such a text."""
    written = tab.page.evaluate("Object.entries(window.written).map(([title, texts]) => [title, [...texts]])")
    return [title for title, texts in written if any(holds(text) for text in texts)]
