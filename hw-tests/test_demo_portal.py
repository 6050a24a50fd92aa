"""`tokenbridge demo --keep`: what a newcomer does on the pages, done by a browser, from nothing to a lost phone."""

from __future__ import annotations

import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.foreign.webauthn.conftest import _browser
from tokenbridge.rig.demo.stage import NEWCOMER
from tokenbridge.rig.workplace import PASSWORD

pytestmark = [pytest.mark.pcscd, pytest.mark.foreign]

DEMO = (sys.executable, "-m", "tokenbridge", "demo")
KEY = {"protocol": "ctap2", "transport": "usb", "hasResidentKey": True, "hasUserVerification": True}
PHONE = {"viewport": {"width": 375, "height": 700}, "has_touch": True, "is_mobile": True}
SCREENS = Path(__file__).parents[1] / "build" / "screens"


@dataclass
class Kept:
    origin: str
    directory: Path
    output: str

    def environ(self) -> dict[str, str]:
        """As in a terminal in which the printed lines were typed."""
        return {**os.environ, **dict(re.findall(r"export (\w+)=(\S+)", self.output))}


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    done = subprocess.run(
        [*DEMO, "--keep"], capture_output=True, text=True, timeout=200, check=False, env={**os.environ, "NO_COLOR": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    origin = re.search(r"(https://localhost:\d+) +the portal", done.stdout)
    directory = re.search(r"demo --stop (\S+)", done.stdout)
    assert origin is not None
    assert directory is not None
    try:
        yield Kept(origin=origin[1], directory=Path(directory[1]), output=done.stdout)
    finally:
        subprocess.run([*DEMO, "--stop", directory[1]], check=True, capture_output=True, timeout=60)
    assert not Path(directory[1]).exists()


@pytest.fixture(scope="module")
def browser(kept: Kept) -> Iterator[Browser]:
    SCREENS.mkdir(parents=True, exist_ok=True)
    with _browser(kept.directory / "server") as started:
        yield started


class Newcomer:
    """At a computer, with a telephone in the hand: the test phone's page, and the phone app in a browser of its own."""

    def __init__(self, kept: Kept, browser: Browser) -> None:
        self.kept, self.context = kept, browser.new_context()
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.phone = browser.new_context(**PHONE).new_page()
        self.phone.set_default_timeout(15_000)

    def open(self, path: str) -> None:
        self.page.goto(self.kept.origin + path)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).first.click()

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)

    def sees(self, heading: str) -> None:
        expect(self.page.get_by_role("heading", name=heading, exact=True, level=1)).to_be_visible()

    def reads(self, text: str) -> None:
        expect(self.page.locator("main")).to_contain_text(text)

    def picture(self, name: str) -> None:
        for width in (375, 1100):
            self.page.set_viewport_size({"width": width, "height": 800})
            self.page.screenshot(path=SCREENS / f"demo-{name}-{width}.png", full_page=True)

    def password(self) -> None:
        self.open("/sign-in")
        self.fill("User name", NEWCOMER)
        self.fill("Password", PASSWORD)
        self.press("Sign in")

    def password_and(self, way: str) -> None:
        """To the step of that name, which may be the one that is asked for first."""
        self.password()
        self.sees("One more step")
        link = self.page.get_by_role("link", name=way, exact=True)
        if link.count():
            link.click()

    def signed_in_by(self, words: str) -> None:
        self.sees("You are signed in")
        expect(self.page.locator("#why")).to_contain_text(words)

    def sign_out(self) -> None:
        self.open("/profile")
        self.press("Sign out")

    def test_phone(self) -> Page:
        page = self.context.new_page()
        page.goto(self.kept.origin + "/outbox")
        return page

    def newest_code(self) -> str:
        phone = self.test_phone()
        text = phone.locator(".portal-message-text").filter(has_text=re.compile(r"\b\d{6}\b")).first.inner_text()
        phone.close()
        return re.findall(r"\b\d{6}\b", text)[0]

    def presses_the_hash_key(self) -> None:
        phone = self.test_phone()
        phone.get_by_role("button", name="Press #", exact=True).first.click()
        phone.close()

    def shows_card(self) -> None:
        """By the command that the demo has printed; what it prints is opened in the browser."""
        link = self.page.get_by_role("link", name="Open tokenbridge").get_attribute("href")
        assert link is not None
        printed = re.search(r"tokenbridge (hand-over) LINK (--ca \S+ --reader '[^']+' --no-open)", self.kept.output)
        assert printed is not None
        pin, pin_in = os.pipe()
        os.write(pin_in, b"123456\n")
        os.close(pin_in)
        command = [sys.executable, "-m", "tokenbridge", printed[1], link, *shlex.split(printed[2])]
        done = subprocess.run(
            [*command, "--pin-fd", str(pin), "--yes"],
            env=self.kept.environ(), pass_fds=(pin,), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        os.close(pin)
        assert done.returncode == 0, done.stdout + done.stderr
        self.page.goto(done.stdout.split()[-1])


@pytest.fixture
def me(kept: Kept, browser: Browser) -> Iterator[Newcomer]:
    made = Newcomer(kept, browser)
    yield made
    made.context.close()
    made.phone.context.close()


def test_from_nothing_to_a_lost_phone(me: Newcomer) -> None:
    app, codes = enrols(me)
    me.sign_out()
    by_app(me, app)
    adds_a_phone_number(me)
    adds_the_phone_app(me)
    plugs_a_key_in(me)
    adds_the_key(me)
    adds_the_card(me)
    me.sign_out()
    for way in (by_text_message, by_voice_call, by_phone_app, by_key, by_card):
        way(me)
        me.sign_out()
    by_text_message_in_the_terminal(me.kept)
    by_recovery_code(me, codes[0])
    me.sign_out()
    loses_the_phone(me)
    gets_a_new_phone(me)


def enrols(me: Newcomer) -> tuple[pyotp.TOTP, list[str]]:
    me.password()
    me.sees("Download an authenticator app")
    app = sets_an_app_up(me)
    me.sees("Your recovery codes")
    codes = me.page.locator("#codes li").all_inner_texts()
    assert len(codes) == 10
    return app, codes


def sets_an_app_up(me: Newcomer) -> pyotp.TOTP:
    me.open("/self-service/app/scan")
    app = pyotp.TOTP(me.page.locator("#secret").inner_text().replace(" ", ""))
    me.fill("Code that the app shows now", app.now())
    me.press("Done")
    return app


def adds_a_phone_number(me: Newcomer) -> None:
    me.open("/self-service/phone/add")
    me.fill("Mobile number", "07400 123456")
    me.press("Send the code")
    me.sees("Type the code")
    me.fill("Code", me.newest_code())
    me.press("Done")
    me.reads("Your phone number is confirmed.")


def adds_the_phone_app(me: Newcomer) -> None:
    me.open("/self-service/phone-app")
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


def plugs_a_key_in(me: Newcomer) -> None:
    """Chromium's own virtual authenticator, as its developer tools make it."""
    devtools = me.context.new_cdp_session(me.page)
    devtools.send("WebAuthn.enable")
    options = {**KEY, "isUserVerified": True, "automaticPresenceSimulation": True}
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def adds_the_key(me: Newcomer) -> None:
    me.open("/self-service/keys")
    me.follow("Register a security key")
    me.fill("Name of the key (optional)", "blue key")
    me.press("Register the key")
    me.reads("Your security key is registered.")


def adds_the_card(me: Newcomer) -> None:
    me.open("/self-service/keys")
    me.follow("Add a smartcard")
    me.picture("card-add")
    me.press("Continue")
    me.sees("Show your smartcard")
    me.picture("card-show")
    me.shows_card()
    me.sees("Add this smartcard?")
    me.reads("000987654321")
    me.picture("card-confirm")
    me.fill("Name of the card (optional)", "my badge")
    me.press("Add the card")
    me.reads("Your smartcard is added.")
    me.reads("my badge")
    me.picture("keys-and-cards")


def by_app(me: Newcomer, app: pyotp.TOTP) -> None:
    me.password_and("Use your authenticator app")
    # A code works once; the one of the next half minute is accepted already, as clocks differ.
    me.fill("Code of your authenticator app", app.at(int(time.time()) + 30))
    me.press("Continue")
    me.signed_in_by("password and authenticator-app code")


def by_text_message(me: Newcomer) -> None:
    me.password_and("Get a text message")
    me.press("Send me a text message")
    me.reads("We sent six digits by text message")
    me.fill("Code of the text message", me.newest_code())
    me.press("Continue")
    me.signed_in_by("password and text message")


def by_text_message_in_the_terminal(kept: Kept) -> None:
    """With the number that was confirmed on the pages."""
    authority = kept.directory / "server" / "tls" / "ca.pem"
    (password, password_in), (code, code_in) = os.pipe(), os.pipe()
    os.write(password_in, PASSWORD.encode() + b"\n")
    command = [
        *(sys.executable, "-m", "tokenbridge", "sign-in", kept.origin, "--ca", str(authority), "--user", NEWCOMER),
        *("--by", "sms", "--password-fd", str(password), "--code-fd", str(code), "--json"),
    ]
    environ = kept.environ()
    trust = ssl.create_default_context(cafile=str(authority))
    with httpx.Client(verify=trust, trust_env=False) as client:
        before = len(client.get(f"{kept.origin}/api/outbox").json()["messages"])
        started = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, pass_fds=(password, code))
        deadline = time.monotonic() + 40
        while len(found := client.get(f"{kept.origin}/api/outbox").json()["messages"]) == before:
            assert time.monotonic() < deadline
            assert started.poll() is None
            time.sleep(0.2)
    os.write(code_in, re.findall(r"\b\d{6}\b", found[0]["text"])[0].encode() + b"\n")
    output, _ = started.communicate(timeout=40)
    for descriptor in (password, password_in, code, code_in):
        os.close(descriptor)
    outcome = json.loads(output.splitlines()[-1])
    assert (outcome["decision"], outcome["sentence"]) == ("allow", "Signed in at AAL2: password and text message.")


def by_voice_call(me: Newcomer) -> None:
    me.password_and("Get a voice call")
    me.press("Call me")
    me.reads("We are calling your phone.")
    me.presses_the_hash_key()
    me.signed_in_by("password and voice call")


def by_phone_app(me: Newcomer) -> None:
    me.password_and("Use the phone app")
    me.press("Send a request to my phone")
    number = me.page.locator("#number").inner_text()
    me.phone.get_by_role("button", name="Check now").click()
    me.phone.get_by_label("Number on the sign-in page").fill(number)
    me.phone.get_by_role("button", name="Yes, sign me in").click()
    me.signed_in_by("number matching")


def by_key(me: Newcomer) -> None:
    me.open("/sign-in")
    me.press("Use a security key or passkey")
    me.signed_in_by("security-key signature")


def by_card(me: Newcomer) -> None:
    me.open("/sign-in")
    me.press("Use my smartcard")
    me.shows_card()
    me.signed_in_by("card signature, PIN enforced by the issuer; no text message or app code needed")


def by_recovery_code(me: Newcomer, code: str) -> None:
    me.password_and("Use a recovery code")
    me.fill("Recovery code", code)
    me.press("Continue")
    me.signed_in_by("password and recovery code")


def loses_the_phone(me: Newcomer) -> None:
    """By the flow for that, begun before the sign-in: authenticator app, phone app and number go with the phone."""
    me.open("/sign-in")
    me.follow("Lost your phone, key or card?")
    me.page.get_by_label("My phone", exact=True).check()
    me.press("Continue")
    me.sees("What do you still have?")
    me.follow("My card or a security key")
    me.press("Use my smartcard")
    me.shows_card()
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


def gets_a_new_phone(me: Newcomer) -> None:
    app = sets_an_app_up(me)
    me.reads("Your authenticator app is set up.")
    me.sign_out()
    by_app(me, app)


def test_it_says_how_to_go_on(kept: Kept) -> None:
    for words in ("/outbox", "/phone/", "/admin", "tokenbridge hand-over LINK", NEWCOMER, "admin", "PIN 123456"):
        assert words in kept.output


def test_the_administrator_comes_in_by_what_is_printed(me: Newcomer) -> None:
    code = re.search(r"each once: (\S+)", me.kept.output)
    assert code is not None
    me.open("/sign-in")
    me.fill("User name", "admin")
    me.fill("Password", PASSWORD)
    me.press("Sign in")
    me.open("/sign-in/step?by=recovery")
    me.fill("Recovery code", code[1])
    me.press("Continue")
    me.signed_in_by("password and recovery code")
    for page in ("", "/accounts", "/trust", "/models", "/policy", "/audit"):
        me.open(f"/admin{page}")
        expect(me.page.get_by_role("heading", level=1)).not_to_have_text(re.compile("Sorry|Sign in"))
        me.picture(f"admin{page.replace('/', '-')}")
