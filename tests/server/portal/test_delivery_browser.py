"""A page that waits for a code, in Debian's Chromium: it says by itself that the message did not get there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect

from tests.server.portal.conftest import Portal
from tests.server.portal.test_browser import Window, browser, window
from tests.server.portal.test_deliveries import by_notify, by_twilio, portal, sent, service, with_phone
from tests.server.test_senders import Service

__all__ = ["browser", "portal", "service", "window"]

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.parametrize("databases", ["sqlite"], indirect=True, scope="session"),
]


@pytest.fixture(scope="module", autouse=True)
def names(portal: Portal, service: Service) -> list[str]:
    """People with a confirmed number. Made before the browser starts, which runs an event loop in this thread."""
    made = []
    for _ in range(3):
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


def test_after_whatsapp_the_text_message_is_one_press_away(
    window: Window, service: Service, names: list[str], portal: Portal
):
    begun(window, service, names[1], "whatsapp", "Send me a WhatsApp message")
    by_twilio(portal, sent(service)["StatusCallback"])
    button = window.page.get_by_role("button", name="Send me a text message instead")
    expect(button).to_be_visible(timeout=20_000)
    window.look("whatsapp-undelivered")
    service.will(201, {"id": "3"})
    button.press("Enter")
    expect(window.page.locator("main")).to_contain_text("six digits by text message")


def test_who_types_a_code_already_is_left_alone(window: Window, service: Service, names: list[str], portal: Portal):
    begun(window, service, names[2], "sms", "Send me a text message")
    window.page.locator("#code").fill("123")
    with window.page.expect_response("**/sign-in/message", timeout=20_000) as answer, ThreadPoolExecutor(1) as pool:
        pool.submit(by_notify, portal, sent(service)["reference"]).result()
    assert answer.value.json() == {"undelivered": True}
    window.page.wait_for_timeout(500)
    expect(window.page.locator("#code")).to_have_value("123")
