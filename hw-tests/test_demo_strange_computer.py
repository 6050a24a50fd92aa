"""`tokenbridge demo --keep`: a card from a computer that was never used before, and what its owner answers to that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyotp
import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import chromium
from tokenbridge.rig.demo.stage import USER

from .demo_kept import Kept
from .demo_people import Person

pytestmark = [pytest.mark.pcscd, pytest.mark.foreign]

ALONE = "card signature, PIN enforced by the issuer; no text message or app code needed"


@pytest.fixture(scope="module")
def browser(kept: Kept) -> Iterator[Browser]:
    with chromium(kept.directory / "server") as started:
        yield started


@pytest.fixture
def ada(kept: Kept, browser: Browser) -> Iterator[Person]:
    """Who has used her card before, in the terminal; it is put into the reader as the demo says."""
    with changed_card(kept):
        person = Person(kept, browser, USER)
        person.app = pyotp.TOTP(kept.printed(r"ada +an app \(its key: (\w+)\)"))
        yield person
        person.leave()


@contextmanager
def changed_card(kept: Kept) -> Iterator[None]:
    home = kept.printed(r"rig card insert ada --home (\S+)")
    commands = [("remove", "newcomer"), ("insert", "ada")], [("remove", "ada"), ("insert", "newcomer")]
    for what, whose in commands[0]:
        assert kept.run("rig", "card", what, whose, "--home", home).returncode == 0
    try:
        yield
    finally:
        for what, whose in commands[1]:
            kept.run("rig", "card", what, whose, "--home", home)


def by_card(person: Person) -> None:
    person.open("/sign-in")
    person.press("Use my smartcard")
    person.shows_card()


def test_there_a_card_is_not_enough_by_itself_and_its_owner_says_whether_it_was_she(ada: Person) -> None:
    by_card(ada)
    ada.sees("One more step")
    ada.reads("this account was not used from this device before")
    ada.picture("strange-computer")
    ada.takes("Use your authenticator app")
    ada.types_app_code()
    ada.signed_in_by("card signature")
    ada.picture("strange-computer-signed-in")
    assert "A sign-in from a new device" in ada.newest_message("from a new device")[1]
    ada.open("/activity")
    ada.picture("activity")
    ada.page.get_by_role("link", name="Was this you?").first.click()
    ada.sees("Was this you?")
    ada.picture("was-this-you")
    ada.follow("Yes, it was me")
    ada.sees("Recent activity")
    # From now on it is a computer like any other.
    ada.signs_out()
    by_card(ada)
    ada.signed_in_by(ALONE)
    says_that_it_was_somebody_else(ada)


def says_that_it_was_somebody_else(ada: Person) -> None:
    """Whoever did it is signed out; she is not."""
    stranger = Person(ada.kept, ada._browser, USER)
    try:
        stranger.app, stranger._code = ada.app, ada._code
        by_card(stranger)
        stranger.takes("Use your authenticator app")
        stranger.types_app_code()
        stranger.signed_in_by("card signature")
        ada.open("/activity")
        ada.page.get_by_role("link", name="Was this you?").first.click()
        ada.press("No, it was not me")
        ada.sees("Thank you for reporting it")
        ada.picture("reported")
        stranger.open("/profile")
        stranger.sees("Sign in")
        ada.open("/sessions")
        ada.picture("sessions")
        expect(ada.page.locator("main h2")).to_have_text([re.compile("This one")])
    finally:
        stranger.leave()
