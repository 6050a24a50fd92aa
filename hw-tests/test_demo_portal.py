"""`tokenbridge demo --keep`: what a newcomer does on the pages, done by a browser, from nothing to a lost phone."""

from __future__ import annotations

import json
import os
import re
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


@dataclass
class Kept:
    origin: str
    directory: Path
    output: str


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
    with _browser(kept.directory / "server") as started:
        yield started


class Newcomer:
    def __init__(self, kept: Kept, browser: Browser) -> None:
        self.kept, self.context = kept, browser.new_context()
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)

    def open(self, path: str) -> None:
        self.page.goto(self.kept.origin + path)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)

    def sees(self, heading: str) -> None:
        expect(self.page.get_by_role("heading", name=heading, exact=True, level=1)).to_be_visible()

    def password(self) -> None:
        self.open("/sign-in")
        self.fill("User name", NEWCOMER)
        self.fill("Password", PASSWORD)
        self.press("Sign in")

    def sign_out(self) -> None:
        self.open("/profile")
        self.press("Sign out")

    def newest_message(self) -> str:
        phone = self.context.new_page()
        phone.goto(self.kept.origin + "/outbox")
        text = phone.locator(".portal-message-text").first.inner_text()
        phone.close()
        return re.findall(r"\b\d{6}\b", text)[0]


def test_from_nothing_to_a_lost_phone(kept: Kept, browser: Browser) -> None:
    me = Newcomer(kept, browser)

    me.password()
    me.sees("Download an authenticator app")
    me.open("/self-service/app/scan")
    app = pyotp.TOTP(me.page.locator("#secret").inner_text().replace(" ", ""))
    me.fill("Code that the app shows now", app.now())
    me.press("Done")
    me.sees("Your recovery codes")
    codes = me.page.locator("#codes li").all_inner_texts()
    assert len(codes) == 10

    me.sign_out()

    me.password()
    me.open("/sign-in/step?by=totp")
    # A code works once; the one of the next half minute is accepted already, as clocks differ.
    me.fill("Code of your authenticator app", app.at(int(time.time()) + 30))
    me.press("Continue")
    me.sees("You are signed in")
    expect(me.page.locator("#why")).to_contain_text("password and authenticator-app code")

    # What is added now makes the account stronger than a password: it wants a session that is.
    me.open("/self-service/phone/add")
    me.fill("Mobile number", "07400 123456")
    me.press("Send the code")
    me.sees("Type the code")
    me.fill("Code", me.newest_message())
    me.press("Done")
    expect(me.page.get_by_text("Your phone number is confirmed.")).to_be_visible()
    me.sign_out()

    me.password()
    me.open("/sign-in/step?by=sms")
    me.press("Send me a text message")
    expect(me.page.get_by_text("We sent six digits by text message")).to_be_visible()
    me.fill("Code of the text message", me.newest_message())
    me.press("Continue")
    expect(me.page.locator("#why")).to_contain_text("password and text message")
    me.sign_out()

    # The phone is lost: app and messages with it.
    me.password()
    me.open("/sign-in/step?by=recovery")
    me.fill("Recovery code", codes[0])
    me.press("Continue")
    expect(me.page.locator("#why")).to_contain_text("password and recovery code")
    me.open("/self-service/app/remove")
    me.press("Remove")
    me.open("/self-service")
    expect(me.page.get_by_text("9 left")).to_be_visible()
    expect(me.page.locator("main")).to_contain_text("Not set up")


def test_a_text_message_in_the_terminal(kept: Kept) -> None:
    """With the number that the newcomer has confirmed on the pages."""
    authority = kept.directory / "server" / "tls" / "ca.pem"
    (password, password_in), (code, code_in) = os.pipe(), os.pipe()
    os.write(password_in, PASSWORD.encode() + b"\n")
    command = [
        *(sys.executable, "-m", "tokenbridge", "sign-in", kept.origin, "--ca", str(authority), "--user", NEWCOMER),
        *("--by", "sms", "--password-fd", str(password), "--code-fd", str(code), "--json"),
    ]
    places = ("RUNTIME_DIR", "STATE_DIR", "KEY_SOCKETS")
    exported = dict(re.findall(r"export (\w+)=(\S+)", kept.output))
    environ = {**os.environ, **exported}
    assert all(f"TOKENBRIDGE_{name}" in environ for name in places)
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


def test_it_says_how_to_go_on(kept: Kept) -> None:
    for words in ("/outbox", "tokenbridge hand-over LINK", NEWCOMER, "PIN 123456"):
        assert words in kept.output
