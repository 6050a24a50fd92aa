"""The card page and the port at which it looks for the bridge, in Chromium: nobody there, and whoever may be there.

The bridge's own door is in hw-tests, with a card. Here strangers sit at the port: the page must not believe them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import chromium, launch
from tests.patience import SECONDS, until
from tests.server.conftest import Databases
from tests.server.portal.conftest import Portal, portal_at
from tests.server.portal.test_browser import SCREENS, Window
from tokenbridge.rig.ports import free_port

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.parametrize("databases", ["sqlite"], indirect=True, scope="session"),
]


class Stranger:
    """A program at the door's port, which says what a test wants it to say and notes what it hears."""

    def __init__(self, port: int) -> None:
        self.heard: list[dict[str, Any]] = []
        self.lines: list[bytes] = []
        self.status = 200
        self.location = ""
        self.silent = False
        self.go_on = threading.Event()
        self.left = threading.Event()
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def do_OPTIONS(self) -> None:
                self._head(204)
                self.end_headers()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                stranger.heard.append({**json.loads(body), "headers": {k.lower(): v for k, v in self.headers.items()}})
                if stranger.silent:
                    stranger.left.wait(20)
                    return
                self._head(stranger.status)
                if stranger.location:
                    self.send_header("location", stranger.location)
                self.end_headers()
                try:
                    for line in stranger.lines:
                        self.wfile.write(line)
                    if not stranger.lines:
                        self._until_it_goes()
                except ConnectionError:
                    stranger.left.set()

            def _until_it_goes(self) -> None:
                while not stranger.go_on.wait(0.05):
                    self.wfile.write(b" ")

            def _head(self, status: int) -> None:
                self.send_response(status)
                self.send_header("access-control-allow-origin", self.headers["origin"])
                self.send_header("access-control-allow-headers", "content-type")

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)

    def says(self, line: Any) -> None:
        self.lines = [json.dumps(line).encode() + b"\n"]

    @contextmanager
    def sitting(self) -> Iterator[Stranger]:
        self.thread.start()
        try:
            yield self
        finally:
            self.go_on.set()
            self.left.set()
            self.server.shutdown()
            self.thread.join(SECONDS)
            self.server.server_close()


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases, port: int) -> Iterator[Portal]:
    data = tmp_path_factory.mktemp("door") / "data"
    with portal_at(data, database=databases.new(), bridge_door=port) as made:
        yield made


@pytest.fixture(scope="module")
def browser(portal: Portal) -> Iterator[Browser]:
    SCREENS.mkdir(parents=True, exist_ok=True)
    with chromium(portal.bench.data) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Afterwards: nothing that the page did was against its own policy."""
    context = browser.new_context()
    opened, problems = context.new_page(), []
    opened.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    context.close()
    assert problems == []


@pytest.fixture
def stranger(port: int) -> Iterator[Stranger]:
    with Stranger(port).sitting() as made:
        yield made


def choose(page: Page, portal: Portal) -> None:
    page.goto(f"{portal.origin}/sign-in")
    page.get_by_label("User name").fill("ada")
    page.get_by_role("button", name="Use my smartcard").click()


def stop_the_clock(page: Page) -> None:
    """From now on the page's timers end when the test says so."""
    page.clock.install(time=1_000_000_000)
    page.clock.pause_at(1_000_000_001)


def message(page: Page) -> Any:
    return page.locator("[data-door-message]")


def link(page: Page) -> Any:
    return page.get_by_role("link", name="Open tokenbridge")


def look(page: Page, portal: Portal, name: str) -> None:
    Window(portal=portal, page=page, devtools=page.context.new_cdp_session(page)).look(name)


# --- nobody, or nobody that answers ------------------------------------------------------------------------------


def test_where_nobody_is_the_link_is_there_at_once(portal: Portal, page: Page):
    stop_the_clock(page)
    choose(page, portal)
    expect(link(page)).to_be_visible()
    expect(page.locator("[data-door]")).to_be_hidden()
    page.clock.resume()
    look(page, portal, "card-by-link")


def test_without_a_script_the_link_is_there(portal: Portal, browser: Browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    choose(page, portal)
    expect(link(page)).to_be_visible()
    expect(page.locator("[data-door]")).to_be_hidden()
    context.close()


def test_who_does_not_answer_costs_three_seconds(portal: Portal, browser: Browser, stranger: Stranger):
    stranger.silent = True
    context = browser.new_context()
    context.add_init_script("navigator.permissions.query = async () => ({ state: 'granted' })")
    page = context.new_page()
    stop_the_clock(page)
    choose(page, portal)
    expect(page.locator("[data-door]")).to_be_visible()
    until(lambda: stranger.heard, "a knock at the door")
    page.clock.run_for(2900)
    expect(page.locator("[data-door]")).to_be_visible()
    page.clock.run_for(200)
    expect(link(page)).to_be_visible()
    context.close()


def test_who_refuses_leaves_the_link(portal: Portal, page: Page, stranger: Stranger):
    stranger.status = 403
    stranger.says({})
    choose(page, portal)
    expect(link(page)).to_be_visible()
    expect(page.locator("[data-door]")).to_be_hidden()


# --- somebody ----------------------------------------------------------------------------------------------------


def test_the_person_is_told_where_to_look_and_can_stop_it(portal: Portal, page: Page, stranger: Stranger):
    choose(page, portal)
    expect(message(page)).to_contain_text("Look at the window of tokenbridge on this computer")
    expect(link(page)).to_be_hidden()
    look(page, portal, "card-door")
    page.get_by_role("button", name="Cancel").press("Enter")
    expect(message(page)).to_contain_text("You stopped it")
    expect(message(page)).to_be_focused()
    assert stranger.left.wait(SECONDS)
    expect(link(page)).to_be_visible()
    look(page, portal, "card-door-stopped")
    (heard,) = stranger.heard
    assert heard["link"] == link(page).get_attribute("href")
    assert heard["headers"]["origin"] == portal.origin
    assert not {"cookie", "authorization", "referer"} & set(heard["headers"])


def test_a_page_that_is_left_hangs_up(portal: Portal, page: Page, stranger: Stranger):
    choose(page, portal)
    expect(message(page)).to_contain_text("Look at the window")
    page.get_by_role("link", name="Other ways to sign in").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert stranger.left.wait(SECONDS)


def test_who_said_no_begins_again_with_a_new_link(portal: Portal, page: Page, stranger: Stranger):
    stranger.says({"event": "error", "error": {"code": "cancelled"}})
    choose(page, portal)
    expect(message(page)).to_contain_text("cancelled in the window of tokenbridge")
    expect(link(page)).to_be_hidden()  # the bridge has made it void
    look(page, portal, "card-door-declined")
    page.get_by_role("button", name="Try again").click()
    expect(message(page)).to_contain_text("cancelled in the window of tokenbridge")
    first, second = (heard["link"] for heard in stranger.heard)
    assert first != second


def test_a_busy_bridge_is_said_to_be_busy(portal: Portal, page: Page, stranger: Stranger):
    stranger.status = 409
    stranger.says({"error": {"code": "device-busy"}})
    choose(page, portal)
    expect(message(page)).to_contain_text("busy with another sign-in")
    expect(link(page)).to_be_visible()


LIES: dict[str, Any] = {
    "another site": {"event": "done", "continue": "https://evil.example/sign-in/card/x"},
    "a site that begins alike": {"event": "done", "continue": "{origin}.evil.example/sign-in/card/x"},
    "a site behind a name": {"event": "done", "continue": "{origin}@evil.example/sign-in/card/x"},
    "a script": {"event": "done", "continue": "javascript:document.title='x'"},
    "data": {"event": "done", "continue": "data:text/html,x"},
    "a path alone": {"event": "done", "continue": "/sign-in/card/x"},
    "another page of ours": {"event": "done", "continue": "{origin}/sign-out"},
    "a page that climbs": {"event": "done", "continue": "{origin}/sign-in/card/../../sign-out"},
    "more than a page": {"event": "done", "continue": "{origin}/sign-in/card/x?next=/admin"},
    "plain HTTP": {"event": "done", "continue": "http://localhost/sign-in/card/x"},
    "no text": {"event": "done", "continue": {"href": "x"}},
    "nothing": {"event": "done"},
    "markup": {"event": "error", "error": {"code": "<img src=x onerror=alert(1)>", "message": "<b>x</b>"}},
    "null": None,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_the_page_opens_nothing_that_is_not_its_own(portal: Portal, page: Page, stranger: Stranger, lie: Any):
    stranger.says(json.loads(json.dumps(lie).replace("{origin}", portal.origin)))
    choose(page, portal)
    expect(message(page)).to_contain_text("tokenbridge could not do it")
    assert page.url == f"{portal.origin}/sign-in/card"
    assert "<b>" not in page.locator("main").inner_html().replace(f"<b>{portal.origin}</b>", "")


def test_no_end_of_an_answer_is_waited_for(portal: Portal, page: Page, stranger: Stranger):
    stranger.lines = [b" " * 1000] * 100
    choose(page, portal)
    expect(message(page)).to_contain_text("tokenbridge could not do it")


def test_no_redirect_is_followed(portal: Portal, page: Page, stranger: Stranger):
    stranger.status, stranger.location = 307, f"{portal.origin}/sign-out"
    choose(page, portal)
    expect(link(page)).to_be_visible()
    assert page.url == f"{portal.origin}/sign-in/card"


def test_a_code_that_was_not_made_for_this_browser_signs_nobody_in(portal: Portal, page: Page, stranger: Stranger):
    stranger.says({"event": "done", "continue": f"{portal.origin}/sign-in/card/{'x' * 43}"})
    choose(page, portal)
    expect(page.locator("main")).to_contain_text("begun in another browser")
    # In a page of its own: going on in the middle of another one's arrival is aborted.
    profile = page.context.new_page()
    profile.goto(f"{portal.origin}/profile")
    expect(profile.get_by_role("heading", name="Sign in")).to_be_visible()


# --- the browser's own permission --------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [True, False])
def test_a_public_portal_reaches_the_door_only_with_the_persons_permission(
    portal: Portal, browser: Browser, stranger: Stranger, allowed: bool
):
    """Local Network Access: Chromium takes the portal's address for a public one here."""
    address = portal.origin.rpartition(":")[2]
    stranger.says({"event": "error", "error": {"code": "cancelled"}})
    public = f"--ip-address-space-overrides=127.0.0.1:{address}=public,[::1]:{address}=public"
    started = launch(browser.browser_type, portal.bench.data, public)
    context = started.new_context()
    if allowed:
        context.grant_permissions(["local-network-access"], origin=portal.origin)
    page = context.new_page()
    choose(page, portal)
    if allowed:
        expect(message(page)).to_contain_text("cancelled in the window of tokenbridge")
    else:
        expect(link(page)).to_be_visible()
    assert len(stranger.heard) == allowed
    started.close()
