"""How heavy pages are, and how soon there is something to see: Chromium with an empty cache, at a real server."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp
from playwright.sync_api import Browser, BrowserContext

from benchmarks.bench import table
from benchmarks.server_load import serving
from tests.foreign.webauthn.conftest import _browser
from tests.server.conftest import PASSWORD
from tests.server.portal.test_phone_app_browser import PHONE
from tokenbridge.rig.ports import free_port
from tokenbridge.server.operator import office, people
from tokenbridge.server.store.accounts import NewAccount

TIMES = 5
GOAL_BYTES, GOAL_SECONDS = 500_000, 1.0
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


@dataclass(frozen=True, kw_only=True)
class View:
    """Bytes on the wire and unpacked, and milliseconds until something of the page is seen."""

    sent: int
    unpacked: int
    painted: float


def run(*, times: int = TIMES) -> None:
    with tempfile.TemporaryDirectory(prefix="tb-pages-") as name:
        data, port = Path(name) / "data", free_port()
        office.initialise(data, origin=f"https://localhost:{port}")
        with office.opened(data) as opened:
            people.add(opened, NewAccount(username="ada", display_name="Ada Lovelace"), PASSWORD)
            app = pyotp.TOTP(people.new_app(opened, "ada").secret)
        with serving(data, 1, port=port) as (load, _), _browser(data) as browser:
            member = _signed_in(browser, load.url, app)
            rows = [
                _row("sign-in", [_seen(browser.new_context(), f"{load.url}/sign-in") for _ in range(times)]),
                _row("self-service", [
                    _seen(browser.new_context(storage_state=member), f"{load.url}/self-service") for _ in range(times)
                ]),
                _row("phone app, on a phone", [
                    _seen(browser.new_context(**PHONE), f"{load.url}/phone/") for _ in range(times)
                ]),
            ]  # fmt: skip
    print(f"median of {times}, the largest in brackets; goals: {GOAL_BYTES // 1000} kB, {GOAL_SECONDS:g} s\n")
    print(table(("page", "kB sent", "kB unpacked", "first paint, ms"), rows))


def _signed_in(browser: Browser, url: str, app: pyotp.TOTP) -> Any:
    """The cookies of somebody who is signed in."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{url}/sign-in")
    page.get_by_label("User name").fill("ada")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_label("Code of your authenticator app").fill(app.now())
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("link", name="Self-Service").first.wait_for()
    state = context.storage_state()
    context.close()
    return state


def _seen(context: BrowserContext, url: str) -> View:
    """One view of a page in a window that has seen nothing yet."""
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    sent: list[int] = []
    unpacked: list[int] = []
    devtools.on("Network.loadingFinished", lambda event: sent.append(int(event["encodedDataLength"])))
    devtools.on("Network.dataReceived", lambda event: unpacked.append(int(event["dataLength"])))
    page.goto(url)
    page.wait_for_load_state("networkidle")
    if page.url != url:
        raise RuntimeError(f"{url} led to {page.url}")
    found = View(sent=sum(sent), unpacked=sum(unpacked), painted=float(page.evaluate(PAINTED)))
    context.close()
    return found


def _row(name: str, views: list[View]) -> tuple[str, ...]:
    def told(values: list[float]) -> str:
        return f"{statistics.median(values):.0f} ({max(values):.0f})"

    return (
        name,
        told([view.sent / 1000 for view in views]),
        told([view.unpacked / 1000 for view in views]),
        told([view.painted for view in views]),
    )
