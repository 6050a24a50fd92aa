"""Looking at a page in the browser: nothing sticks out on a narrow screen, axe-core has no objection, and pictures."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

ROOT = Path(__file__).parents[1]
SCREENS = ROOT / "build" / "screens"
AXE = ROOT / ".node" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (375, 1100)


def look(page: Page, name: str, widths: tuple[int, ...] = WIDTHS) -> None:
    """At each of the widths in CSS pixels; the last one stays. Pictures go to build/screens/NAME-WIDTH.png."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    # A page that is just being replaced by the next one has nothing to be looked at.
    page.wait_for_load_state()
    expect(page.locator("main")).to_be_visible()
    for width in widths:
        page.set_viewport_size({"width": width, "height": 800})
        spill = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert spill <= 0, f"{name}: {spill} px stick out at {width} px"
        page.screenshot(path=SCREENS / f"{name}-{width}.png", full_page=True, timeout=60_000)
        page.evaluate(AXE.read_text())
        found = page.evaluate("async () => (await axe.run()).violations")
        told = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
        assert told == [], f"{name} at {width} px"
