"""The phone app in Chromium: a computer's window and a phone's, from the QR code to signing in, and to "not me"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import chromium
from tests.patience import until
from tests.server.conftest import Databases, Person
from tests.server.portal.conftest import Portal, with_outbox
from tests.server.portal.test_browser import SCREENS, Window
from tokenbridge.server.store.approval_schema import Approval

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.parametrize("databases", ["sqlite"], indirect=True, scope="session"),
]

PHONE = {
    "viewport": {"width": 375, "height": 700},
    "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.0 Mobile/15E148 Safari/604.1",
    "has_touch": True,
    "is_mobile": True,
}
READ = """async () => {
    const opening = indexedDB.open("tokenbridge-phone", 1);
    const database = await new Promise((done) => { opening.onsuccess = () => done(opening.result); });
    const reading = database.transaction("keys").objectStore("keys").get("phone");
    const found = await new Promise((done) => { reading.onsuccess = () => done(reading.result); });
    const tried = async (how) => { try { await how(); return "read"; } catch (error) { return error.name; } };
    return [found.pair.privateKey.extractable, await tried(() => crypto.subtle.exportKey("jwk", found.pair.privateKey)),
            await tried(() => crypto.subtle.exportKey("pkcs8", found.pair.privateKey))];
}"""


SHOWN = "async () => (await (await navigator.serviceWorker.ready).getNotifications()).map((each) => each.title)"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, _pattern, databases: Databases) -> Iterator[Portal]:
    """With an outbox: its push service is the one that the phone subscribes to."""
    with with_outbox(_pattern, tmp_path_factory.mktemp("phone-app") / "data", databases) as made:
        yield made


@pytest.fixture(scope="module")
def browser(portal: Portal) -> Iterator[Browser]:
    SCREENS.mkdir(parents=True, exist_ok=True)
    with chromium(portal.bench.data) as started:
        yield started


def window_of(portal: Portal, browser: Browser, **options: Any) -> Window:
    page = browser.new_context(**options).new_page()
    made = Window(portal=portal, page=page, devtools=page.context.new_cdp_session(page))
    page.on("console", lambda said: made.problems.append(said.text) if "Content Security" in said.text else None)
    page.on("pageerror", lambda error: made.problems.append(str(error)))
    ours = (portal.origin + "/", "blob:")
    page.on("request", lambda asked: made.problems.append(asked.url) if not asked.url.startswith(ours) else None)
    return made


@pytest.fixture
def computer(portal: Portal, browser: Browser) -> Iterator[Window]:
    made = window_of(portal, browser)
    yield made
    made.page.context.close()
    assert made.problems == []


@pytest.fixture
def phone(portal: Portal, browser: Browser) -> Iterator[Window]:
    made = window_of(portal, browser, **PHONE)
    yield made
    made.page.context.close()
    assert made.problems == []


def title(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", level=1, name=text)).to_be_visible()


def sign_in(window: Window, person: Person, way: str) -> None:
    window.open("/sign-in")
    window.fill("User name", person.username)
    window.fill("Password", person.password)
    window.press("Sign in")
    window.at("/sign-in/step")
    window.page.goto(f"{window.portal.origin}/sign-in/step?by={way}")


def awake(phone: Window) -> None:
    """As when the person comes back to the app: it asks the server at once, and not when the next look is due."""
    phone.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def set_up(computer: Window, phone: Window, person: Person) -> None:
    sign_in(computer, person, "totp")
    computer.fill("Code of your authenticator app", person.code())
    computer.press("Continue")
    computer.at("/signed-in")
    computer.open("/self-service")
    computer.page.get_by_role("link", name="Manage phone app").click()
    computer.look("phone-apps-none")
    computer.press("Set up a phone")
    computer.look("phone-app-scan")
    code = computer.page.locator("#phone-code").inner_text()
    phone.open(f"/phone/#{code}")
    title(phone.page, "Set up this phone")
    phone.look("phone-start")
    expect(phone.page.get_by_label("Code on your computer")).to_have_value(code)
    expect(phone.page.get_by_label("Name of this phone")).to_have_value("iPhone")
    phone.press("Set up this phone")
    title(phone.page, "Type this number on your computer")
    phone.look("phone-number")
    assert code not in phone.page.url
    number = phone.page.locator(".portal-number").inner_text()
    phone.page.reload()
    title(phone.page, "Type this number on your computer")
    expect(phone.page.locator(".portal-number")).to_have_text(number)
    computer.fill("Number on your phone", number)
    computer.press("Done")
    expect(computer.page.get_by_text("Your phone is set up.")).to_be_visible()
    computer.look("phone-apps")
    expect(computer.page.get_by_text("Safari on iPhone.")).to_be_visible()
    title(phone.page, "Nothing to answer")


def request(computer: Window, person: Person) -> str:
    """A sign-in that waits for the phone; returns its number."""
    computer.page.context.clear_cookies()
    sign_in(computer, person, "number-match")
    computer.look("step-number-match")
    computer.press("Send a request to my phone")
    computer.at("/sign-in/step")
    computer.look("step-number-match-sent")
    return computer.page.locator("#number").inner_text()


def test_from_the_qr_code_to_signed_in_and_to_not_me(computer: Window, phone: Window):
    person = computer.portal.bench.person(enrol=False)
    set_up(computer, phone, person)
    phone.look("phone-ready")
    assert phone.page.evaluate(READ) == [False, "InvalidAccessError", "InvalidAccessError"]
    phone.press("Turn notifications on")
    expect(phone.page.get_by_text("Notifications are on.")).to_be_visible()

    number = request(computer, person)
    outbox = Window(portal=computer.portal, page=computer.page.context.new_page(), devtools=computer.devtools)
    outbox.open("/outbox")
    expect(outbox.page.get_by_text("Somebody signs in (sign-in).")).to_be_visible()
    outbox.look("outbox-push")
    expect(outbox.page.get_by_role("link", name="Open the phone app")).to_have_attribute("href", "/phone/")
    outbox.page.close()
    awake(phone)
    title(phone.page, "Is it you who signs in?")
    phone.look("phone-request")
    shown = phone.page.locator("dl").inner_text()
    for text in (person.username, "portal", "Chrome on Linux", "127.0.0.1"):
        assert text in shown
    wrong = "10" if number != "10" else "11"
    phone.fill("Number on the sign-in page", wrong)
    phone.press("Yes, sign me in")
    expect(phone.page.get_by_role("alert")).to_contain_text("2 tries left")
    phone.look("phone-wrong-number")
    phone.fill("Number on the sign-in page", number)
    phone.page.keyboard.press("Enter")
    title(phone.page, "Nothing to answer")
    # Nobody has touched the computer: its page went on by itself.
    computer.at("/signed-in")
    expect(computer.page.get_by_text("number matching")).to_be_visible()
    computer.look("signed-in-by-phone")

    with computer.portal.bench.office() as office, office.database.write() as tx:
        for row in tx.query(Approval):
            row.stage = "used"
    request(computer, person)
    awake(phone)
    title(phone.page, "Is it you who signs in?")
    phone.press("No, it's not me")
    title(phone.page, "That sign-in is stopped")
    phone.look("phone-declined")
    expect(computer.page.get_by_role("heading", name="There is a problem")).to_be_visible()
    expect(computer.page.get_by_text("The sign-in was declined on the telephone.")).to_be_visible()
    computer.look("declined")


def test_a_call_is_confirmed_on_the_test_phone(computer: Window, phone: Window):
    person = computer.portal.bench.person(enrol=False)
    sign_in(computer, person, "totp")
    computer.fill("Code of your authenticator app", person.code())
    computer.press("Continue")
    computer.at("/signed-in")
    computer.open("/self-service/phone/add")
    computer.fill("Mobile number", "07400 555123")
    computer.press("Send the code")
    phone.open("/outbox")
    text = phone.page.locator(".portal-message-text").first.inner_text()
    computer.fill("Code", text.split()[0])
    computer.press("Done")
    expect(computer.page.get_by_text("You may also be called.")).to_be_visible()
    computer.look("phones-with-calls")
    computer.page.context.clear_cookies()
    sign_in(computer, person, "voice")
    computer.look("step-voice")
    computer.press("Call me")
    expect(computer.page.get_by_text("We are calling your phone.")).to_be_visible()
    computer.look("step-voice-calling")
    phone.open("/outbox")
    phone.look("outbox-call")
    phone.press("Press #")
    expect(phone.page.get_by_text("The call says: Thank you.")).to_be_visible()
    phone.look("outbox-answered")
    # Nobody has touched the computer: its page went on by itself.
    computer.at("/signed-in")
    expect(computer.page.get_by_text("password and voice call")).to_be_visible()


def test_the_app_can_be_installed_and_wakes_up_by_a_push(computer: Window, phone: Window):
    person = computer.portal.bench.person(enrol=False)
    set_up(computer, phone, person)
    phone.page.context.grant_permissions(["notifications"], origin=computer.portal.origin)
    errors = phone.devtools.send("Page.getInstallabilityErrors")["installabilityErrors"]
    # The window of a test is as one of private browsing, which installs nothing; all else has to be there.
    assert [error["errorId"] for error in errors if error["errorId"] != "in-incognito"] == []
    scope = phone.page.evaluate("async () => (await navigator.serviceWorker.ready).scope")
    assert scope == f"{computer.portal.origin}/phone/"
    request(computer, person)
    push(phone)
    title(phone.page, "Is it you who signs in?")
    # The page asks as soon as it is told; what the service worker shows may come a moment later.
    assert until(lambda: phone.page.evaluate(SHOWN), "a notification") == ["Is it you who signs in?"]


def push(phone: Window) -> None:
    """As a push service would: Chromium hands it to the service worker."""
    devtools, versions = phone.devtools, []
    devtools.on("ServiceWorker.workerRegistrationUpdated", lambda told: versions.extend(told["registrations"]))
    devtools.send("ServiceWorker.enable")
    phone.page.wait_for_function("() => navigator.serviceWorker.controller !== null")
    for _ in range(50):
        if versions:
            break
        phone.page.wait_for_timeout(100)
    origin, registration = phone.portal.origin, versions[-1]["registrationId"]
    content = {"origin": origin, "registrationId": registration, "data": '{"kind":"sign-in"}'}
    devtools.send("ServiceWorker.deliverPushMessage", content)


def test_a_phone_that_was_removed_says_so(computer: Window, phone: Window):
    person = computer.portal.bench.person(enrol=False)
    set_up(computer, phone, person)
    computer.open("/self-service/phone-app")
    computer.page.get_by_role("link", name="Remove iPhone").click()
    computer.look("phone-app-remove")
    computer.press("Remove")
    expect(computer.page.get_by_text("does not sign you in any more")).to_be_visible()
    awake(phone)
    title(phone.page, "Set up this phone")
    expect(phone.page.get_by_role("alert")).to_contain_text("This phone is not set up here, or was removed.")


def test_the_second_step_works_without_scripts(portal: Portal, browser: Browser, computer: Window, phone: Window):
    person = portal.bench.person(enrol=False)
    set_up(computer, phone, person)
    plain = window_of(portal, browser, java_script_enabled=False)
    try:
        sign_in(plain, person, "number-match")
        plain.press("Send a request to my phone")
        plain.press("Continue")
        expect(plain.page.get_by_text("has not been answered yet").first).to_be_visible()
        number = plain.page.locator("#number").inner_text()
        awake(phone)
        phone.fill("Number on the sign-in page", number)
        phone.press("Yes, sign me in")
        title(phone.page, "Nothing to answer")
        plain.press("Continue")
        plain.at("/signed-in")
    finally:
        plain.page.context.close()
