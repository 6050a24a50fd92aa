"""The pages in Debian's Chromium: every way in, setting things up, narrow screens, keyboard alone, accessibility."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyotp
import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from tests.browsing import chromium
from tests.looks import SCREENS, look
from tests.server.conftest import PASSWORD, now
from tests.server.portal.conftest import Portal
from tokenbridge.server.operator import security_keys

# What the browser sees does not depend on the database; the pages over HTTP are tested on both.
pytestmark = [
    pytest.mark.foreign,
    pytest.mark.parametrize("databases", ["sqlite"], indirect=True, scope="session"),
]

KEY = {"hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True}


@dataclass(kw_only=True)
class Window:
    """One person's browser window. Every page that is looked at is judged and kept as a picture."""

    portal: Portal
    page: Page
    devtools: CDPSession
    problems: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(self.portal.origin + path)

    def at(self, path: str) -> None:
        expect(self.page).to_have_url(re.compile(re.escape(self.portal.origin + path) + r"(\?.*)?$"))

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).first.click()

    def look(self, name: str) -> None:
        """No violation by axe-core, nothing cut off at 375 px, and a picture of both widths."""
        look(self.page, name)

    def sign_in(self, name: str) -> None:
        self.open("/sign-in")
        self.fill("User name", name)
        self.fill("Password", PASSWORD)
        self.press("Sign in")

    @contextmanager
    def key(self, **options: Any) -> Iterator[None]:
        """A virtual security key, plugged in for as long as the block lasts."""
        usual = {"protocol": "ctap2", "ctap2Version": "ctap2_1", "transport": "usb"}
        usual |= {"automaticPresenceSimulation": True}
        added = self.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": {**usual, **options}})
        try:
            yield
        finally:
            self.devtools.send("WebAuthn.removeVirtualAuthenticator", added)


@pytest.fixture(scope="module")
def browser(portal: Portal) -> Iterator[Browser]:
    SCREENS.mkdir(parents=True, exist_ok=True)
    with chromium(portal.bench.data) as started:
        yield started


@pytest.fixture
def window(portal: Portal, browser: Browser) -> Iterator[Window]:
    """Afterwards: no other site was asked for anything, and the console has no complaint about what a page holds."""
    context = browser.new_context()
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    made = Window(portal=portal, page=page, devtools=devtools)
    page.on("request", lambda request: made.problems.append(request.url) if not _ours(request.url, portal) else None)
    page.on("console", lambda said: made.problems.append(said.text) if "Content Security" in said.text else None)
    page.on("pageerror", lambda error: made.problems.append(str(error)))
    yield made
    context.close()
    assert made.problems == []


def _ours(url: str, portal: Portal) -> bool:
    return url.startswith((portal.origin + "/", "blob:"))


def app_of(window: Window) -> pyotp.TOTP:
    """The app that has scanned the page's secret."""
    return pyotp.TOTP(window.page.locator("#secret").inner_text().replace(" ", ""))


def test_a_newcomer_enrols_as_staff_guidance_says(window: Window):
    name = window.portal.newcomer(mfa=False, email=f"n{time.time_ns()}@example.org")
    window.open("/")
    window.look("sign-in")
    window.sign_in(name)
    window.at("/signed-in")
    window.look("signed-in-by-password")
    window.follow("Profile")
    window.look("profile")
    window.follow("My Profile")
    window.look("my-profile")
    window.page.locator("main").get_by_role("link", name="Self-Service").click()
    window.look("self-service")
    window.follow("Self-enrol for MFA")
    window.look("mfa")
    window.press("Confirm")
    email = re.search(r"n\d+@example\.org", window.page.locator("footer").inner_text())
    assert email is not None
    expect(window.page.locator("#success")).to_have_text(f"success: MFA enabled successfully for {email[0]}")
    window.look("mfa-done")
    window.follow("Set up an authenticator app")
    window.look("app-download")
    window.follow("Next: scan the QR code")
    window.look("app-scan")
    window.fill("Code that the app shows now", "000000")
    window.press("Done")
    expect(window.page.locator(".nhsuk-error-summary")).to_contain_text("The code is wrong")
    expect(window.page.locator(".nhsuk-error-summary")).to_be_focused()
    window.look("app-scan-wrong-code")
    app = app_of(window)
    window.fill("Code that the app shows now", app.at(now()))
    window.press("Done")
    codes = window.page.locator("#codes li").all_inner_texts()
    assert len(codes) == 10
    window.look("recovery-codes")
    with window.page.expect_download() as saved:
        window.press("Download")
    assert all(code in saved.value.path().read_text() for code in codes)
    window.press("Sign out")
    window.at("/signed-out")
    window.look("signed-out")

    window.sign_in(name)
    window.at("/sign-in/step")
    window.look("step-app")
    window.fill("Code of your authenticator app", "111111")
    window.press("Continue")
    expect(window.page.locator(".nhsuk-error-summary")).to_contain_text("The code is wrong")
    window.look("step-app-wrong-code")
    window.follow("Use a recovery code")
    window.look("step-recovery")
    window.fill("Recovery code", codes[0].lower())
    window.press("Continue")
    expect(window.page.locator("#why")).to_contain_text("password and recovery code")


def test_new_accounts_are_led_to_the_set_up(window: Window):
    window.sign_in(window.portal.newcomer())
    window.at("/self-service/app")
    expect(window.page.locator("main")).to_contain_text("what you still need")


def test_a_key_from_registration_to_removal(window: Window):
    name = window.portal.newcomer()
    window.sign_in(name)
    with window.key(**KEY):
        window.open("/self-service/keys")
        window.look("keys-none")
        window.follow("Register a security key")
        window.look("key-add")
        window.fill("Name of the key (optional)", "blue key")
        window.press("Register the key")
        expect(window.page.locator("#codes li")).to_have_count(10)
        window.follow("I have saved them")
        window.open("/self-service/password")
        expect(window.page.locator("h1")).to_have_text("Sign in again for this")
        window.look("step-up")
        window.follow("Sign in again")
        window.look("sign-in-again")
        window.press("Use a security key or passkey")
        window.at("/self-service/password")
        window.open("/self-service/keys")
        expect(window.page.get_by_role("heading", name="blue key")).to_be_visible()
        window.look("keys")
        window.follow("Rename blue key")
        window.look("key-rename")
        window.fill("Name of the key", "red key")
        window.press("Save")
        window.follow("Remove red key")
        window.look("key-remove")
        window.press("Remove")
        expect(window.page.get_by_label("Remove it all the same.")).to_be_visible()
        window.look("key-remove-last")
        window.follow("Keep it")
        window.press("Sign out")

        window.open("/sign-in")
        window.press("Use a security key or passkey")
        window.at("/signed-in")
        expect(window.page.locator("#why")).to_contain_text(
            "security-key signature, PIN checked by the key; no text message"
        )
        window.look("signed-in-by-key")

        window.open("/self-service/keys")
        window.follow("Remove red key")
        window.press("Remove")
        window.page.get_by_label("Remove it all the same.").check()
        window.press("Remove")
        expect(window.page.locator("main")).to_contain_text("You have no security key yet")


def test_a_passkey_in_the_list_of_the_name_field(window: Window):
    window.sign_in(window.portal.newcomer())
    with window.key(transport="internal", **KEY):
        window.open("/self-service/keys/add")
        window.press("Register the key")
        expect(window.page.locator("#codes li")).to_have_count(10)
        window.press("Sign out")
        window.open("/sign-in")
        window.at("/signed-in")


def test_a_key_that_is_only_touched_follows_the_password(window: Window):
    name = window.portal.newcomer()
    window.sign_in(name)
    with window.key():
        window.open("/self-service/keys/add")
        window.press("Register the key")
        expect(window.page.locator("#codes li")).to_have_count(10)
        window.press("Sign out")
        window.sign_in(name)
        window.at("/sign-in/step")
        window.look("step-key")
        window.press("Use my security key")
        expect(window.page.locator("#why")).to_contain_text("password")
        window.press("Sign out")

        window.open("/sign-in")
        window.fill("User name", name)
        window.press("Use a security key or passkey")
        window.at("/sign-in/step")
        window.look("step-password")
        window.fill("Password", PASSWORD)
        window.press("Continue")
        window.at("/signed-in")


def test_what_goes_wrong_with_a_key_is_explained(window: Window):
    name = window.portal.newcomer()
    window.sign_in(name)
    with window.key(**KEY):
        window.open("/self-service/keys/add")
        window.press("Register the key")
        expect(window.page.locator("#codes li")).to_have_count(10)
        window.open("/sign-in?next=/self-service/keys/add")
        window.press("Use a security key or passkey")
        window.press("Register the key")
        expect(window.page.locator("[data-key-message]")).to_contain_text("registered for your account already")
        window.look("key-add-again")
        window.press("Sign out")
    with window.key(hasUserVerification=True, isUserVerified=False):
        window.open("/sign-in")
        fails = "void (navigator.credentials.get = () => Promise.reject(new DOMException('x', 'NotAllowedError')))"
        window.page.evaluate(fails)
        window.press("Use a security key or passkey")
        expect(window.page.locator("[data-key-message]")).to_contain_text("took too long")
        expect(window.page.get_by_role("button", name="Use a security key or passkey")).to_be_focused()
        window.look("sign-in-key-failed")


def test_password_sessions_and_activity(window: Window):
    person = window.portal.bench.person(enrol=False)
    other = window.portal.visitor()
    with other.http:
        other.sign_in(person)
        window.sign_in(person.username)
        window.fill("Code of your authenticator app", person.code(1))
        window.press("Continue")
        window.at("/signed-in")
        window.open("/sessions")
        expect(window.page.locator("main")).to_contain_text("Chrome on Linux")
        window.look("sessions")
        window.press("End all other sessions")
        expect(window.page.locator("[role=alert]")).to_contain_text("signed out everywhere else")
        assert other.get("/profile").url.path == "/sign-in"
    window.open("/self-service/password")
    window.look("password")
    window.fill("Current password", "wrong password")
    window.fill("New password", "three random words")
    window.fill("New password again", "three random words")
    window.press("Change password")
    expect(window.page.locator(".nhsuk-error-summary")).to_contain_text("current password is wrong")
    window.look("password-wrong")
    window.fill("Current password", PASSWORD)
    window.fill("New password", "three random words")
    window.fill("New password again", "three random words")
    window.press("Change password")
    window.at("/self-service")
    window.open("/activity")
    expect(window.page.locator("main")).to_contain_text("Password changed")
    window.look("activity")
    window.page.get_by_role("link", name=re.compile("Was this you")).first.click()
    window.look("was-this-you")
    window.press("No, it was not me")
    window.at("/reported")
    window.look("reported")
    window.open("/self-service/recovery-codes")
    window.look("recovery-codes-ask")
    window.open("/self-service/app/remove")
    window.press("Remove")
    window.page.get_by_label("Remove it all the same.").check()
    window.press("Remove")
    window.at("/self-service")
    window.open("/nowhere")
    window.look("not-found")


@pytest.mark.parametrize("way", ["app", "key"])
def test_first_day(window: Window, way: str):
    name = window.portal.newcomer()
    with window.portal.bench.office() as office:
        code = security_keys.new_enrolment_code(office, name, 24).code
    window.open("/sign-in")
    window.follow("Set up your account with a one-time code")
    window.look("first-day")
    window.fill("User name", name)
    window.fill("One-time code", code)
    label = "An authenticator app on my phone" if way == "app" else "A security key or passkey"
    window.page.get_by_label(label).check()
    window.press("Continue")
    with window.key(**KEY):
        if way == "app":
            window.fill("Code that the app shows now", app_of(window).at(now()))
            window.press("Done")
        else:
            window.press("Register the key")
        expect(window.page.locator("#codes li")).to_have_count(10)
        window.look("first-day-done")
    window.open("/first-day/app")
    expect(window.page.locator("main")).to_contain_text("not known any more")


def test_by_keyboard_alone(window: Window):
    person = window.portal.bench.person(enrol=False)
    page = window.page
    window.open("/sign-in")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to main content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "username":
            break
    page.keyboard.type(person.username)
    page.keyboard.press("Tab")
    page.keyboard.type(person.password)
    page.keyboard.press("Enter")
    window.at("/sign-in/step")
    while page.evaluate("document.activeElement.id") != "code":
        page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline != "0px", "the focus can be seen"
    page.keyboard.type(person.code())
    page.keyboard.press("Enter")
    window.at("/signed-in")


def test_without_javascript(portal: Portal, browser: Browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{portal.origin}/")
    person = portal.bench.person(enrol=False)
    expect(page.get_by_role("button", name="Use a security key or passkey")).to_be_hidden()
    page.get_by_label("User name").fill(person.username)
    page.get_by_label("Password", exact=True).fill(person.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Code of your authenticator app").fill(person.code())
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("link", name="Self-Service").first.click()
    expect(page.get_by_role("heading", name="Self-Service")).to_be_visible()
    context.close()


def test_the_first_page_is_light(window: Window):
    sizes: list[int] = []
    window.page.on("response", lambda answer: sizes.append(len(answer.body())))
    window.open("/sign-in")
    window.page.wait_for_load_state("networkidle")
    assert 0 < sum(sizes) < 500_000, "bytes, unpacked"


def test_the_page_of_the_smartcard(window: Window):
    window.open("/sign-in")
    window.fill("User name", "ada")
    window.press("Use my smartcard")
    link = window.page.get_by_role("link", name="Open tokenbridge").get_attribute("href")
    assert link is not None
    assert link.startswith(f"tokenbridge://hand-over?site={window.portal.origin}&id=")
    asked = window.portal.server.http.get(f"/api/hand-over/{link.rpartition('=')[2]}").json()
    assert (asked["account"], asked["device"]) == ("ada", "Chrome on Linux")
    window.look("card")
    window.open("/sign-in/card/nothing-of-ours")
    window.look("card-gone")


def test_when_something_is_lost(window: Window):
    window.open("/sign-in")
    window.follow("Lost your phone, key or card?")
    window.look("lost")
    window.page.get_by_label("My phone").check()
    window.press("Continue")
    window.at("/lost/phone")
    window.look("lost-left")
    window.follow("None of these")
    window.look("lost-nothing")
    window.sign_in(window.portal.newcomer())
    window.open("/self-service/lost")
    window.look("lost-something")
    window.open("/self-service/app-passwords")
    window.look("app-passwords")
