"""A page that waits for a code, in Debian's Chromium: it says by itself that the message did not get there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import pytest
from playwright.sync_api import expect

from tests.patience import until
from tests.server.conftest import Databases
from tests.server.portal.conftest import Portal
from tests.server.portal.test_browser import Window, browser, window
from tests.server.portal.test_deliveries import by_notify, by_twilio, reporting, sent, service, with_phone
from tests.server.portal.test_text_instead import SAID, texted
from tests.server.test_senders import Service

__all__ = ["browser", "service", "window"]

SLOW = 60_000
"""Milliseconds: the page asks less and less often."""

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.parametrize("databases", ["sqlite"], indirect=True, scope="session"),
]


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases, service: Service) -> Iterator[Portal]:
    """As in the tests without a browser, and calls are made too."""
    folder = tmp_path_factory.mktemp("delivery-browser")
    with reporting(folder, databases, service, twilio_voice_from="+447700900002") as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def names(portal: Portal, service: Service) -> list[str]:
    """People with a confirmed number. Made before the browser starts, which runs an event loop in this thread."""
    made = []
    for _ in range(7):
        visitor = portal.visitor()
        with visitor.http:
            made.append(with_phone(portal, visitor, service).username)
    return made


def begun(window: Window, service: Service, name: str, by: str, button: str) -> None:
    window.sign_in(name)
    window.open(f"/sign-in/step?by={by}")
    service.will(201, {"id": "2", "sid": "SM2"})
    window.press(button)
    expect(window.page.locator("#code")).to_be_visible()


def test_a_text_message_that_is_lost(window: Window, service: Service, names: list[str], portal: Portal):
    begun(window, service, names[0], "sms", "Send me a text message")
    window.look("message-waiting")
    by_notify(portal, sent(service)["reference"])
    heading = window.page.get_by_role("heading", name="The message could not be delivered")
    expect(heading).to_be_visible(timeout=20_000)
    window.look("message-undelivered")
    expect(window.page.locator("main")).to_contain_text("Use your authenticator app")


def test_after_whatsapp_the_text_message_comes_by_itself(
    window: Window, service: Service, names: list[str], portal: Portal
):
    begun(window, service, names[1], "whatsapp", "Send me a WhatsApp message")
    before = len(service.asked)
    service.will(201, {"id": "3"})
    by_twilio(portal, sent(service)["StatusCallback"])
    main = window.page.locator("main")
    expect(main).to_contain_text(SAID, timeout=SLOW)
    expect(main).to_contain_text("six digits by text message")
    window.look("whatsapp-replaced")
    window.fill("Code of the text message", texted(portal, service, before))
    window.press("Continue")
    window.at("/signed-in")


def test_whoever_is_typing_goes_on_typing(window: Window, service: Service, names: list[str], portal: Portal):
    begun(window, service, names[3], "whatsapp", "Send me a WhatsApp message")
    window.page.locator("#code").press_sequentially("1")
    before = len(service.asked)
    service.will(201, {"id": "3"})
    by_twilio(portal, sent(service)["StatusCallback"])
    expect(window.page.locator("[data-message-instead]")).to_contain_text(SAID.removesuffix("."), timeout=SLOW)
    expect(window.page.locator("#code")).to_have_value("1")
    window.look("whatsapp-replaced-while-typing")
    window.page.locator("#code").fill(texted(portal, service, before))
    window.press("Continue")
    window.at("/signed-in")


def test_where_the_text_message_can_not_be_sent_it_is_one_press_away(
    window: Window, service: Service, names: list[str], portal: Portal
):
    begun(window, service, names[4], "whatsapp", "Send me a WhatsApp message")
    service.will(403, {"errors": [{"error": "AuthError"}]})
    by_twilio(portal, sent(service)["StatusCallback"])
    until(lambda: not service.answers, "the attempt")
    # A page that has asked in the very moment of the attempt offers it in other words.
    button = window.page.get_by_role(
        "button", name=re.compile("Send me a text message instead|send another text message")
    )
    expect(button).to_be_visible(timeout=SLOW)
    window.look("whatsapp-undelivered")
    service.will(201, {"id": "3"})
    button.press("Enter")
    expect(window.page.locator("main")).to_contain_text("six digits by text message")


def test_a_call_that_nobody_takes(window: Window, service: Service, names: list[str], portal: Portal):
    calling(window, service, names[5])
    by_twilio(portal, sent(service)["StatusCallback"], CallStatus="busy")
    summary = window.page.get_by_role("alert")
    expect(summary).to_contain_text("Your phone was busy.", timeout=SLOW)
    expect(summary).to_contain_text("call again")
    expect(window.page.get_by_role("button", name="Call me again")).to_be_visible()
    window.look("call-busy")
    expect(window.page.locator("main")).to_contain_text("Use your authenticator app")


def test_after_star_nobody_is_called(window: Window, service: Service, names: list[str], portal: Portal):
    calling(window, service, names[6])
    form = sent(service)
    answers = ElementTree.fromstring(form["Twiml"]).find("Gather").attrib["action"]
    by_twilio(portal, answers, Digits="*")
    expect(window.page.get_by_role("alert")).to_contain_text("declined on the telephone", timeout=SLOW)
    expect(window.page.get_by_role("alert")).to_contain_text("change your password")
    expect(window.page.get_by_role("button", name="Call me")).to_have_count(0)
    window.look("call-declined")
    window.sign_in(names[6])
    window.open("/sign-in/step?by=voice")
    expect(window.page.locator("main")).to_contain_text("A request was declined on your phone")
    expect(window.page.get_by_role("button", name="Call me")).to_have_count(0)
    window.look("call-barred")


def calling(window: Window, service: Service, name: str) -> None:
    window.sign_in(name)
    window.open("/sign-in/step?by=voice")
    service.will(201, {"sid": "CA1", "status": "queued"})
    window.press("Call me")
    expect(window.page.locator("main")).to_contain_text("We are calling your phone")


def test_who_types_a_code_already_is_left_alone(window: Window, service: Service, names: list[str], portal: Portal):
    begun(window, service, names[2], "sms", "Send me a text message")
    window.page.locator("#code").fill("123")
    with window.page.expect_response("**/sign-in/message", timeout=20_000) as answer, ThreadPoolExecutor(1) as pool:
        pool.submit(by_notify, portal, sent(service)["reference"]).result()
    assert answer.value.json() == {"undelivered": True, "instead": False}
    window.page.wait_for_timeout(500)
    expect(window.page.locator("#code")).to_have_value("123")
