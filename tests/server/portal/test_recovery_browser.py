"""Default method, password reset, lost things, an own card: in Debian's Chromium, from the first page to the last."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.server.conftest import Person
from tests.server.portal.conftest import Portal
from tests.server.portal.test_browser import KEY, Window, browser, window
from tests.server.portal.test_card_pages import bridge
from tests.server.portal.test_own_cards import holder
from tokenbridge.server.operator import security_keys

__all__ = ["browser", "window"]

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.parametrize("databases", ["sqlite"], indirect=True, scope="session"),
]

NEW = "three random words"


@pytest.fixture(scope="module", autouse=True)
def owner(portal: Portal) -> Person:
    """With an app and a card. Made before the browser starts, which runs an event loop in this thread."""
    portal.bench.trust()
    return portal.bench.person()


def register_key(window: Window, name: str) -> None:
    window.open("/self-service/keys/add")
    window.fill("Name of the key (optional)", name)
    window.press("Register the key")
    expect(window.page.locator("#codes li")).to_have_count(10)


def test_the_default_method_is_chosen(window: Window):
    name = window.portal.newcomer()
    window.sign_in(name)
    with window.key(**KEY):
        register_key(window, "blue key")
        window.open("/self-service")
        window.look("self-service-default")
        window.follow("Change asked for first")
        window.follow("Sign in again")
        window.press("Use a security key or passkey")
        window.at("/self-service/default-method")
        window.look("default-method")
        window.page.get_by_label("Security key").check()
        window.press("Save")
        window.at("/self-service")
        expect(window.page.locator("main")).to_contain_text("We begin with that from now on")


def test_a_forgotten_password_by_app_and_recovery_code(window: Window):
    person = window.portal.bench.person(enrol=False)
    with window.portal.bench.office() as office:
        codes = security_keys.new_recovery_codes(office, person.username)
    window.open("/sign-in")
    window.follow("Forgotten your password?")
    window.look("reset")
    window.fill("User name", person.username)
    window.press("Continue")
    window.look("reset-first")
    window.fill("Code of your authenticator app", "000000")
    window.press("Continue")
    expect(window.page.locator(".nhsuk-error-summary")).to_contain_text("The code is wrong")
    window.look("reset-first-wrong")
    window.fill("Code of your authenticator app", person.code())
    window.press("Continue")
    window.look("reset-second")
    window.fill("Recovery code", codes[0])
    window.press("Continue")
    window.at("/password-reset/new")
    window.look("reset-new")
    window.fill("New password", NEW)
    window.fill("New password again", "other words")
    window.press("Set the password")
    expect(window.page.locator(".nhsuk-error-summary")).to_contain_text("not typed the same")
    window.fill("New password", NEW)
    window.fill("New password again", NEW)
    window.press("Set the password")
    window.look("reset-done")
    window.follow("Sign in")
    window.fill("User name", person.username)
    window.fill("Password", NEW)
    window.press("Sign in")
    window.at("/sign-in/step")


def test_who_has_one_way_only_reads_what_to_do(window: Window):
    person = window.portal.bench.person(enrol=False)
    window.open("/password-reset")
    window.fill("User name", person.username)
    window.press("Continue")
    window.fill("Code of your authenticator app", person.code())
    window.press("Continue")
    expect(window.page.locator("h1")).to_have_text("There is no second way")
    window.look("reset-one")


def test_a_forgotten_password_by_a_key_and_a_recovery_code(window: Window):
    name = window.portal.newcomer()
    window.sign_in(name)
    with window.key(**KEY):
        register_key(window, "blue key")
        codes = window.page.locator("#codes li").all_inner_texts()
        window.press("Sign out")
        window.open("/password-reset")
        window.follow("Sign in with it")
        window.press("Use a security key or passkey")
        window.at("/self-service/password")
        window.look("password-forgotten")
        window.press("Forgotten your current password?")
        window.at("/password-reset/step")
        window.fill("Recovery code", codes[0])
        window.press("Continue")
        window.fill("New password", NEW)
        window.fill("New password again", NEW)
        window.press("Set the password")
        window.at("/password-reset/done")
    window.open("/profile")
    window.at("/sign-in")


def test_a_lost_phone_by_recovery_code(window: Window):
    person = window.portal.bench.person(enrol=False)
    with window.portal.bench.office() as office:
        codes = security_keys.new_recovery_codes(office, person.username)
    window.open("/lost")
    window.press("Continue")
    expect(window.page.locator(".nhsuk-error-summary")).to_contain_text("Choose what is lost")
    window.page.get_by_label("My phone").check()
    window.press("Continue")
    window.follow("My recovery codes")
    window.fill("User name", person.username)
    window.fill("Password", person.password)
    window.press("Sign in")
    window.fill("Recovery code", codes[0])
    window.press("Continue")
    window.at("/self-service/lost/phone")
    expect(window.page.get_by_label("The authenticator app")).to_be_checked()
    window.look("lost-remove")
    window.press("Remove what is chosen")
    expect(window.page.locator("#codes li")).to_have_count(10)
    window.look("lost-done")
    window.follow("An authenticator app")
    window.at("/self-service/app")


def test_a_lost_key_with_and_without_another_one(window: Window):
    person = window.portal.bench.person(enrol=False)
    window.sign_in(person.username)
    window.fill("Code of your authenticator app", person.code())
    window.press("Continue")
    with window.key(**KEY):
        register_key(window, "lost key")
        window.open("/self-service/lost/key")
        expect(window.page.get_by_label("The security key “lost key”")).to_be_checked()
        window.look("lost-key")
        window.page.get_by_label("My recovery codes may be lost too").check()
        window.press("Remove what is chosen")
        expect(window.page.locator("#codes li")).to_have_count(10)
    window.open("/self-service/keys")
    expect(window.page.locator("main")).to_contain_text("You have no security key yet")


def test_with_less_than_the_lost_card_it_is_suspended_and_the_phone_reported(window: Window, owner: Person):
    person = owner
    window.sign_in(person.username)
    window.fill("Code of your authenticator app", person.code())
    window.press("Continue")
    window.open("/self-service/lost/phone-card")
    window.look("lost-weak")
    window.press("Report it as lost")
    window.look("lost-reported")
    window.open("/self-service/lost/card")
    window.press("Suspend what is chosen")
    expect(window.page.locator("h1")).to_have_text("Suspended")


def test_without_javascript_and_by_keyboard(portal: Portal, browser: Browser):
    person = portal.bench.person(enrol=False)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{portal.origin}/password-reset")
    page.get_by_label("User name").focus()
    page.keyboard.type(person.username)
    page.keyboard.press("Enter")
    page.get_by_label("Code of your authenticator app").focus()
    page.keyboard.type(person.code())
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("There is no second way")
    page.goto(f"{portal.origin}/lost")
    page.get_by_label("My phone").focus()
    page.keyboard.press("Space")
    page.get_by_label("My smartcard").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{portal.origin}/lost/phone-card")
    context.close()


def test_adding_a_card_of_ones_own(window: Window):
    card = window.portal.bench.card()
    window.sign_in(window.portal.newcomer())
    window.open("/self-service/keys")
    window.look("keys-without-card")
    window.follow("Add a smartcard")
    window.look("card-add")
    window.press("Continue")
    window.look("card-add-link")
    link = window.page.get_by_role("link", name="Open tokenbridge").get_attribute("href") or ""
    onward = bridge(window.portal, parse_qs(urlsplit(link).query)["id"][0], holder(card)).json()["continue"]
    window.page.goto(onward)
    window.look("card-add-confirm")
    window.fill("Name of the card (optional)", "my badge")
    window.press("Add the card")
    window.look("card-added")
    window.open("/self-service/keys")
    expect(window.page.locator("main")).to_contain_text("my badge")
