"""The loopback door: the portal in a real Chromium, the bridge with its door open, a card on the real pcscd.

The person's answers come from a pinentry that a test writes, as it would be on a desktop.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import chromium
from tests.daemon.test_prompts import Pinentry
from tests.patience import SECONDS, until
from tokenbridge.rig.pcscd import PrivatePcscd
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.ports import free_port
from tokenbridge.rig.workplace import Workplace

from .conftest import USER, furnish

pytestmark = [
    pytest.mark.pcscd,
    pytest.mark.foreign,
    pytest.mark.skipif(os.getuid() != 0, reason="the door is an administrator's to open"),
]

ALL_ANSWERS: dict[str, Any] = {"GETPIN": ["D 123456", "OK"]}
NO: dict[str, Any] = {"CONFIRM": ["ERR 83886194 Not confirmed"]}
FETCH = """async ([address, link, simple]) => {
    const type = simple ? "text/plain" : "application/json";
    const options = {method: "POST", headers: {"content-type": type}, mode: simple ? "no-cors" : "cors"};
    try {
        const answer = await fetch(address, {...options, body: JSON.stringify({link})});
        return [answer.type, answer.status, await answer.text()];
    } catch (error) { return String(error); }
}"""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def desk(
    pcscd: PrivatePcscd, rig_pki: RigPki, port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A workplace whose administrator has opened the door for its portal."""
    place = Workplace(tmp_path_factory.mktemp("door"), pcscd)
    config = place.directory / "config" / "tokenbridge"
    config.mkdir(parents=True)
    (config / "bridge.toml").write_text(
        f'door_origins = ["{place.origin}"]\ndoor_port = {port}\nca_file = "{place.ca_file}"\n'
        f'pinentry = "{place.directory / "pinentry"}"\n'
    )
    place.environ["XDG_CONFIG_HOME"] = str(place.directory / "config")
    place.environ["TOKENBRIDGE_SERVER_BRIDGE_DOOR"] = str(port)
    furnish(place, rig_pki)
    yield place
    place.stop()


@pytest.fixture(scope="module")
def browser(desk: Workplace) -> Iterator[Browser]:
    with chromium(desk.directory / "server") as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    opened = context.new_page()
    yield opened
    context.close()


def somebody(desk: Workplace, **answers: Any) -> Pinentry:
    """Who sits there from now on."""
    person = Pinentry(desk.directory, **answers)
    person.log.unlink(missing_ok=True)
    return person


def choose(page: Page, desk: Workplace, username: str = USER) -> None:
    page.goto(f"{desk.origin}/sign-in")
    page.get_by_label("User name").fill(username)
    page.get_by_role("button", name="Use my smartcard").click()


def asked(person: Pinentry) -> None:
    """Wait until the window is there that asks whether to go on."""
    until(lambda: person.log.exists() and person.told()[-1] == "CONFIRM")


def message(page: Page) -> Any:
    return page.locator("[data-door-message]")


def test_insert_the_card_choose_the_button_agree_and_be_signed_in(
    desk: Workplace, page: Page, port: int, rig_card: Any
) -> None:
    assert f"door    open to web pages at 127.0.0.1:{port}" in desk.must("status").output
    person = somebody(desk, **ALL_ANSWERS)
    choose(page, desk)
    expect(page.get_by_role("heading", name="You are signed in")).to_be_visible()
    said = page.locator("#why").inner_text()
    assert "AAL3: card signature, PIN enforced by the issuer; no text message or app code needed" in said
    assert "asked by your browser" in "".join(person.told())


def test_who_says_no_is_not_signed_in_and_can_begin_again(desk: Workplace, page: Page, rig_card: Any) -> None:
    somebody(desk, **NO)
    choose(page, desk)
    expect(message(page)).to_contain_text("cancelled in the window of tokenbridge")
    somebody(desk, **ALL_ANSWERS)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="You are signed in")).to_be_visible()


def test_a_page_that_is_left_takes_the_window_away_and_the_card_is_free(
    desk: Workplace, page: Page, rig_card: Any
) -> None:
    person = somebody(desk, CONFIRM=["wait"])
    choose(page, desk)
    expect(message(page)).to_contain_text("Look at the window of tokenbridge")
    asked(person)
    assert f"will be signed in at {desk.origin}, as {USER}" in "".join(person.told())
    page.get_by_role("link", name="Other ways to sign in").click()
    somebody(desk, **ALL_ANSWERS)
    choose(page, desk)
    expect(page.get_by_role("heading", name="You are signed in")).to_be_visible()


def test_a_page_of_another_origin_gets_nothing(
    desk: Workplace, browser: Browser, page: Page, port: int, tmp_path: Path, rig_card: Any
) -> None:
    person = somebody(desk, CONFIRM=["wait"])
    choose(page, desk)
    expect(message(page)).to_contain_text("Look at the window of tokenbridge")
    link = page.locator("[data-link]").get_attribute("data-link")
    asked(person)
    begun = person.told()
    (tmp_path / "index.html").write_text("<title>another site</title>")
    handler = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            other = page.context.new_page()
            other.goto(f"http://localhost:{server.server_port}/")
            door = f"http://127.0.0.1:{port}/hand-over"
            assert "Failed to fetch" in other.evaluate(FETCH, [door, link, False])
            # Without a preflight it may be sent, but what comes back is opaque, and nothing was begun.
            assert other.evaluate(FETCH, [door, link, True]) == ["opaque", 0, ""]
            assert "Failed to fetch" in other.evaluate(FETCH, [f"http://127.0.0.1:{port}/v1/status", link, False])
            # The same name for it as the victim's own computer has, by a name that leads there.
            assert "Failed to fetch" in other.evaluate(FETCH, [door.replace("127.0.0.1", "localhost"), link, False])
        finally:
            server.shutdown()
            thread.join(SECONDS)
    assert person.told() == begun


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_where_the_door_is_shut_there_is_the_link(desk: Workplace, page: Page, port: int, rig_card: Any) -> None:
    """Somebody else has the port: the bridge goes on without, and the link signs in as ever; then it opens again."""
    desk.must("daemon", "stop")
    until(lambda: not desk.socket.exists())
    with socket.create_server(("127.0.0.1", port)):
        assert f"door    shut at 127.0.0.1:{port}" in desk.must("status").output
        # As in a managed browser, which does not ask the person: then who does not answer is given up soon.
        page.add_init_script("navigator.permissions.query = async () => ({ state: 'granted' })")
        choose(page, desk)
        link = page.get_by_role("link", name="Open tokenbridge")
        expect(link).to_be_visible()
        address = link.get_attribute("href")
        assert address is not None
    somebody(desk, **ALL_ANSWERS)
    ran = desk.run("hand-over", address, "--desktop", "--no-open")
    assert ran.code == 0, ran.output
    page.goto(ran.output.rpartition(" ")[2])
    expect(page.get_by_role("heading", name="You are signed in")).to_be_visible()
    assert f"door    open to web pages at 127.0.0.1:{port}" in desk.must("status").output
