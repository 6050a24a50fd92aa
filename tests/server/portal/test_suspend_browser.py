"""Suspending, lifting and removing a card or key in Debian's Chromium, by its owner and by the help desk."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.server.conftest import Person
from tests.server.portal.conftest import Portal
from tests.server.portal.test_admin import granted, number
from tests.server.portal.test_browser import KEY, Window, browser, window
from tests.server.portal.test_recovery_browser import register_key
from tokenbridge.server.store.roles import Role

__all__ = ["browser", "window"]

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.parametrize("databases", ["sqlite"], indirect=True, scope="session"),
]

UID = "750000000001"


@pytest.fixture(scope="module", autouse=True)
def helper(portal: Portal) -> Person:
    """Made before the browser starts, which runs an event loop in this thread."""
    portal.bench.trust(map_nhs_uid=True)
    return granted(portal, Role.HELPDESK)


@pytest.fixture(scope="module", autouse=True)
def owner(portal: Portal, helper: Person) -> Person:
    """With an app, an enrolled card, and an issuer who says whose other cards are."""
    return portal.bench.person(nhs_uid=UID)


@pytest.fixture(scope="module", autouse=True)
def carrier(portal: Portal, helper: Person) -> Person:
    return portal.bench.person()


def by_app(window: Window, person: Person) -> None:
    window.sign_in(person.username)
    window.fill("Code of your authenticator app", person.code())
    window.press("Continue")
    expect(window.page.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_lost_card_is_suspended_by_keyboard_from_a_weak_session(window: Window, owner: Person):
    by_app(window, owner)
    window.open("/self-service/lost")
    window.page.get_by_label("My smartcard").check()
    window.press("Continue")
    window.at("/self-service/lost/card")
    window.look("suspend-weak")
    window.page.get_by_role("checkbox").first.focus()
    expect(window.page.get_by_role("checkbox").first).to_be_checked()
    for _ in range(2):
        window.page.keyboard.press("Tab")
    expect(window.page.get_by_role("button", name="Suspend what is chosen")).to_be_focused()
    window.page.keyboard.press("Enter")
    expect(window.page.get_by_role("heading", level=1)).to_have_text("Suspended")
    window.look("suspended")
    window.open("/self-service/lost/card")
    window.look("suspend-weak-done")
    window.open("/self-service/keys")
    expect(window.page.locator("main")).to_contain_text("Suspended since")
    window.look("keys-suspended")
    window.page.get_by_role("link", name="Lift the suspension").first.click()
    expect(window.page.locator("main")).to_contain_text("(AAL3) first")
    window.look("lift-weak")


def test_a_key_is_suspended_and_lifted_by_another(window: Window):
    name = window.portal.newcomer()
    window.sign_in(name)
    with window.key(**KEY):
        register_key(window, "blue key")
        window.open("/self-service")
        window.press("Sign out")
        window.open("/sign-in")
        window.press("Use a security key or passkey")
        expect(window.page.get_by_role("button", name="Sign out")).to_be_visible()
        window.open("/self-service/keys")
        window.look("keys-in-use")
        window.page.get_by_role("link", name=re.compile("^Suspend")).first.click()
        window.look("suspend-ask")
        window.press("Suspend")
        expect(window.page.locator("#codes li")).to_have_count(10)
        window.look("suspended-codes")
        window.open("/self-service/keys/add")
        expect(window.page.locator("main")).to_contain_text("You have signed in with a card or key that is suspended")
        window.look("suspended-by-itself")
        window.open("/self-service")
        window.press("Sign out")
        window.open("/sign-in")
        window.press("Use a security key or passkey")
        expect(window.page.locator("main")).to_contain_text("suspended")
        window.look("sign-in-suspended")


def test_the_help_desk_lifts_it_and_removes_it(window: Window, owner: Person, helper: Person, portal: Portal):
    by_app(window, helper)
    window.open(f"/admin/accounts/{number(portal, owner.username)}")
    window.look("admin-account-suspended")
    window.page.get_by_role("link", name=re.compile("^Lift the suspension of")).first.click()
    window.look("admin-lift")
    window.press("Lift the suspension")
    expect(window.page.locator("main")).to_contain_text("The suspension is lifted")
    window.page.get_by_role("link", name=re.compile("^Remove ")).first.click()
    window.look("admin-remove-device")
    window.press("Remove")
    expect(window.page.locator("main")).to_contain_text("It is removed from the account")


def test_one_removes_the_own_card(window: Window, carrier: Person):
    """Which a session by the app may not: the page says how."""
    by_app(window, carrier)
    window.open("/self-service/keys")
    window.page.get_by_role("link", name=re.compile("^Remove")).first.click()
    expect(window.page.locator("main")).to_contain_text("(AAL3) first")
    window.look("remove-card-weak")
