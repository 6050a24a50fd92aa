"""`tokenbridge demo --keep`: what a newcomer does on the pages, done by a browser, from nothing to a lost phone."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import chromium
from tests.patience import ended, until
from tokenbridge.rig.demo.stage import NEWCOMER
from tokenbridge.rig.workplace import PASSWORD

from .demo_kept import PROGRAM, Kept
from .demo_people import Person

pytestmark = [pytest.mark.pcscd, pytest.mark.foreign]

ROOT = 0


@pytest.fixture(scope="module")
def browser(kept: Kept) -> Iterator[Browser]:
    with chromium(kept.directory / "server") as started:
        yield started


@pytest.fixture
def me(kept: Kept, browser: Browser) -> Iterator[Person]:
    made = Person(kept, browser)
    yield made
    made.leave()


def test_from_nothing_to_a_lost_phone(me: Person) -> None:
    codes = me.enrols()
    me.signs_out()
    me.signs_in()
    me.signed_in_by("password and authenticator-app code")
    me.adds_a_phone_number()
    adds_the_phone_app(me)
    me.plugs_a_key_in()
    adds_the_key(me)
    adds_the_card(me)
    me.signs_out()
    for way in (by_text_message, by_voice_call, by_phone_app, by_key, by_card_and_link, by_card_and_door):
        way(me)
        me.signs_out()
    by_text_message_in_the_terminal(me.kept)
    me.uses_recovery_code(codes[0])
    me.signed_in_by("password and recovery code")
    me.signs_out()
    loses_the_phone(me)
    gets_a_new_phone(me)


def adds_the_phone_app(me: Person) -> None:
    me.open("/self-service")
    me.follow("Manage phone app")
    me.press("Set up a phone")
    code = me.page.locator("#phone-code").inner_text()
    me.phone.goto(me.kept.origin + "/phone/")
    me.phone.get_by_label("Code on your computer").fill(code)
    me.phone.get_by_role("button", name="Set up this phone").click()
    shown = me.phone.locator(".portal-number")
    expect(shown).to_have_text(re.compile(r"^\d{2}$"))
    me.fill("Number on your phone", shown.inner_text())
    me.press("Done")
    me.reads("Your phone is set up.")


def adds_the_key(me: Person) -> None:
    me.open("/self-service")
    me.follow("Manage security keys and cards", "Register a security key")
    me.fill("Name of the key (optional)", "blue key")
    me.press("Register the key")
    me.reads("Your security key is registered.")


def adds_the_card(me: Person) -> None:
    me.follow("Add a smartcard")
    me.picture("card-add")
    me.press("Continue")
    if me.kept.door_is_open:
        me.picture("card-at-the-door")
    me.shows_card()
    me.sees("Add this smartcard?")
    me.reads("000987654321")
    me.picture("card-confirm")
    me.fill("Name of the card (optional)", "my badge")
    me.press("Add the card")
    me.reads("Your smartcard is added.")
    me.reads("my badge")
    me.picture("keys-and-cards")


def by_text_message(me: Person) -> None:
    me.password_and("Get a text message")
    me.press("Send me a text message")
    me.reads("We sent six digits by text message")
    me.types_the_sent_code("Code of the text message")
    me.signed_in_by("password and text message")


def by_text_message_in_the_terminal(kept: Kept) -> None:
    """With the number that was confirmed on the pages."""
    (password, password_in), (code, code_in) = os.pipe(), os.pipe()
    os.write(password_in, PASSWORD.encode() + b"\n")
    command = [
        *(*PROGRAM, "sign-in", kept.origin, "--user", NEWCOMER, "--by", "sms"),
        *("--password-fd", str(password), "--code-fd", str(code), "--json"),
    ]
    trust = ssl.create_default_context(cafile=str(kept.directory / "server" / "tls" / "ca.pem"))
    with httpx.Client(verify=trust, trust_env=False) as client:

        def texts() -> list[str]:
            """Notices by mail may still be on their way."""
            found = client.get(f"{kept.origin}/api/outbox").json()["messages"]
            return [message["text"] for message in found if message["channel"] == "sms"]

        before = len(texts())
        started = subprocess.Popen(
            command, env=kept.environ, stdout=subprocess.PIPE, text=True, pass_fds=(password, code)
        )
        with ended(started):
            until(lambda: started.poll() is not None or len(texts()) > before, "the text message")
            assert started.poll() is None
            os.write(code_in, re.findall(r"\b\d{6}\b", texts()[0])[0].encode() + b"\n")
            output, _ = started.communicate(timeout=60)
    for descriptor in (password, password_in, code, code_in):
        os.close(descriptor)
    outcome = json.loads(output.splitlines()[-1])
    assert (outcome["decision"], outcome["sentence"]) == ("allow", "Signed in at AAL2: password and text message.")


def by_voice_call(me: Person) -> None:
    me.password_and("Get a voice call")
    me.press("Call me")
    me.reads("We are calling your phone.")
    me.answers_the_call("#")
    me.signed_in_by("password and voice call")


def by_phone_app(me: Person) -> None:
    me.password_and("Use the phone app")
    me.press("Send a request to my phone")
    number = me.page.locator("#number").inner_text()
    me.phone.get_by_role("button", name="Check now").click()
    me.phone.get_by_label("Number on the sign-in page").fill(number)
    me.phone.get_by_role("button", name="Yes, sign me in").click()
    me.signed_in_by("number matching")


def by_key(me: Person) -> None:
    me.open("/sign-in")
    me.press("Use a security key or passkey")
    me.signed_in_by("security-key signature")


CARD = "card signature, PIN enforced by the issuer; no text message or app code needed"


def by_card_and_link(me: Person) -> None:
    """The page of somebody who chooses Cancel while the door is looked for, or has none."""
    me.page.add_init_script("window.fetch = async () => { throw new TypeError('no way to the door'); }")
    me.open("/sign-in")
    me.press("Use my smartcard")
    me.shows_card_by_link()
    me.signed_in_by(CARD)


def by_card_and_door(me: Person) -> None:
    """The page finds the bridge by itself; nothing is copied."""
    if not me.kept.door_is_open:
        return
    page, me.page = me.page, me.context.new_page()
    me.open("/sign-in")
    me.press("Use my smartcard")
    me.signed_in_by(CARD)
    me.page.close()
    me.page = page


def loses_the_phone(me: Person) -> None:
    """By the flow for that, begun before the sign-in: authenticator app, phone app and number go with the phone."""
    me.open("/sign-in")
    me.follow("Lost your phone, key or card?")
    me.page.get_by_label("My phone", exact=True).check()
    me.press("Continue")
    me.sees("What do you still have?")
    me.follow("My card or a security key")
    me.press("Use my smartcard")
    me.shows_card_by_link()
    me.sees("Remove what is lost")
    for thing in me.page.get_by_role("checkbox").all():
        if thing.get_attribute("name") != "codes":
            thing.check()
    me.picture("lost-phone")
    me.press("Remove what is chosen")
    me.sees("Done")
    me.reads("An authenticator app on another phone")
    me.open("/self-service")
    me.reads("9 left")
    for row in ("Authenticator app", "Phone app", "Phone number"):
        expect(me.page.locator(".nhsuk-summary-list__row").filter(has_text=row)).to_contain_text("Not set up")


def gets_a_new_phone(me: Person) -> None:
    me.follow("Set up authenticator app", "Next: scan the QR code")
    me.sets_an_app_up()
    me.reads("Your authenticator app is set up.")
    me.signs_out()
    me.signs_in()
    me.signed_in_by("password and authenticator-app code")


def test_it_says_how_to_go_on(kept: Kept) -> None:
    for words in ("/outbox", "/phone/", "/admin", "tokenbridge hand-over 'ADDRESS'", NEWCOMER, "admin", "PIN 123456"):
        assert words in kept.output
    assert kept.door_is_open == (os.getuid() == ROOT)
    assert kept.door_is_open == ("door    open to web pages at 127.0.0.1:" in kept.run("status").stdout)
    to_open = re.search(r"sudo install -m 644 -o root \S+/with-door.toml \S+/bridge.toml\n", kept.output)
    assert kept.door_is_open == (to_open is None)
