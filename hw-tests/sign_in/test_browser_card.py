"""A card on a web page: the portal in a real Chromium, the bridge, the command line, and a card on the real pcscd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import chromium
from tokenbridge.rig.workplace import Ran, Workplace

pytestmark = [pytest.mark.pcscd, pytest.mark.foreign]


@pytest.fixture(scope="module")
def browser(workplace: Workplace) -> Iterator[Browser]:
    with chromium(workplace.directory / "server") as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    opened = context.new_page()
    yield opened
    context.close()


def choose_the_card(page: Page, workplace: Workplace, username: str = "") -> str:
    """To the page that offers the link, which a desktop would open by the bridge."""
    page.goto(f"{workplace.origin}/sign-in")
    page.get_by_label("User name").fill(username)
    page.get_by_role("button", name="Use my smartcard").click()
    link = page.get_by_role("link", name="Open tokenbridge").get_attribute("href")
    assert link is not None
    return link


def hand_over(workplace: Workplace, link: str, *options: str, pin: str = "123456") -> Ran:
    words = ("hand-over", link, "--ca", str(workplace.ca_file), "--no-open", "--json", *options)
    return workplace.run(*words, secrets={"--pin-fd": pin})


def onward(ran: Ran) -> str:
    assert ran.code == 0, ran.output
    return str(json.loads(ran.output.splitlines()[-1])["continue"])


def test_insert_the_card_choose_the_button_and_be_signed_in(workplace: Workplace, page: Page, rig_card: Any) -> None:
    link = choose_the_card(page, workplace)
    page.goto(onward(hand_over(workplace, link, "--yes")))
    expect(page.get_by_role("heading", name="You are signed in")).to_be_visible()
    said = page.locator("#why").inner_text()
    assert "AAL3: card signature, PIN enforced by the issuer; no text message or app code needed" in said


def test_without_consent_nothing_is_signed(workplace: Workplace, page: Page, rig_card: Any) -> None:
    link = choose_the_card(page, workplace)
    ran = hand_over(workplace, link)
    assert (ran.code, json.loads(ran.output.splitlines()[-1])["error"]["code"]) == (130, "cancelled")
    gone = hand_over(workplace, link, "--yes")
    assert json.loads(gone.output.splitlines()[-1])["error"]["code"] == "not-found"


def test_a_link_that_was_sent_signs_in_neither(
    workplace: Workplace, page: Page, browser: Browser, rig_card: Any
) -> None:
    link = choose_the_card(page, workplace)
    address = onward(hand_over(workplace, link, "--yes"))
    victims = browser.new_context()
    other = victims.new_page()
    answer = other.goto(address)
    assert answer is not None
    assert answer.status == 404
    expect(other.locator("main")).to_contain_text("begun in another browser")
    page.goto(f"{workplace.origin}/profile")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    victims.close()


def test_a_wrong_pin_costs_one_try_and_the_page_can_begin_again(
    workplace: Workplace, page: Page, rig_card: Any
) -> None:
    wrong = hand_over(workplace, choose_the_card(page, workplace), "--yes", pin="654321")
    assert (wrong.code, "2 tries are left" in wrong.output) == (4, True)
    page.goto(onward(hand_over(workplace, choose_the_card(page, workplace), "--yes")))
    expect(page.get_by_role("heading", name="You are signed in")).to_be_visible()
