"""People at a demo that was kept, with browser, terminal and telephone: they know its text and what pages say."""

from __future__ import annotations

import re
import shlex
import time
from functools import cached_property

import pyotp
from playwright.sync_api import Browser, Page, expect

from tests.looks import look
from tests.patience import until
from tokenbridge.rig.demo.stage import ADMINISTRATOR, NEWCOMER
from tokenbridge.rig.workplace import PASSWORD

from .demo_kept import Kept

KEY = {"protocol": "ctap2", "transport": "usb", "hasResidentKey": True, "hasUserVerification": True}
PHONE = {"viewport": {"width": 375, "height": 700}, "has_touch": True, "is_mobile": True}
NUMBER = "07400 123456"


class Person:
    """At a computer, with a telephone in the hand: the test phone's page, and the phone app in a browser of its own."""

    def __init__(self, kept: Kept, browser: Browser, name: str = NEWCOMER) -> None:
        self.kept, self.name, self.password = kept, name, PASSWORD
        self._browser = browser
        self.app: pyotp.TOTP | None = None
        self._code = 0
        self.context = browser.new_context(accept_downloads=True)
        self.page: Page = self.context.new_page()

    @cached_property
    def phone(self) -> Page:
        """The phone's own browser."""
        return self._browser.new_context(**PHONE).new_page()

    def leave(self) -> None:
        self.context.close()
        if "phone" in self.__dict__:
            self.phone.context.close()

    # --- what everybody does on pages ---------------------------------------------------------------------------

    def open(self, path: str) -> None:
        self.page.goto(self.kept.origin + path)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, *names: str) -> None:
        for name in names:
            self.page.get_by_role("link", name=name, exact=True).first.click()

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)

    def sees(self, heading: str) -> None:
        expect(self.page.get_by_role("heading", name=heading, exact=True, level=1)).to_be_visible()

    def reads(self, text: str) -> None:
        expect(self.page.locator("main")).to_contain_text(text)

    def picture(self, name: str) -> None:
        look(self.page, f"demo-{name}", (375, 1280))

    # --- signing in ---------------------------------------------------------------------------------------------

    def types_password(self) -> None:
        self.open("/sign-in")
        self.fill("User name", self.name)
        self.fill("Password", self.password)
        self.press("Sign in")

    def password_and(self, way: str) -> None:
        """To the step of that name, which may be the one that is asked for first."""
        self.types_password()
        self.takes(way)

    def takes(self, way: str) -> None:
        self.sees("One more step")
        link = self.page.get_by_role("link", name=way, exact=True)
        if link.count():
            link.click()

    def app_code(self) -> str:
        """One that was not used yet: a code works once, and the one of the next half minute is accepted already."""
        assert self.app is not None
        now = int(time.time()) // 30
        self._code = max(self._code + 1, now)
        until(lambda: self._code <= int(time.time()) // 30 + 1, "the app's next code")
        return self.app.at(self._code * 30)

    def signs_in(self) -> None:
        """By password and app."""
        self.password_and("Use your authenticator app")
        self.types_app_code()

    def types_app_code(self) -> None:
        self.fill("Code of your authenticator app", self.app_code())
        self.press("Continue")

    def signed_in_by(self, words: str) -> None:
        self.sees("You are signed in")
        expect(self.page.locator("#why")).to_contain_text(words)

    def signs_out(self) -> None:
        self.open("/profile")
        self.press("Sign out")
        self.sees("You are signed out")

    # --- the telephone ------------------------------------------------------------------------------------------

    def test_phone(self) -> Page:
        """The page with what arrives; the caller closes it."""
        page = self.context.new_page()
        page.goto(self.kept.origin + "/outbox")
        return page

    def newest_message(self, holds: str = r"\b\d{6}\b") -> tuple[str, str]:
        """By what it came and what it says: the newest one in which `holds` is found."""
        phone = self.test_phone()
        text = phone.locator(".portal-message-text").filter(has_text=re.compile(holds)).first
        kind = text.locator("xpath=../h2").inner_text()
        found = text.inner_text()
        phone.close()
        return kind, found

    def newest_code(self) -> str:
        return re.findall(r"\b\d{6}\b", self.newest_message()[1])[0]

    def answers_the_call(self, key: str) -> None:
        phone = self.test_phone()
        phone.get_by_role("button", name=f"Press {key}", exact=True).first.click()
        phone.close()

    def types_the_sent_code(self, label: str) -> None:
        self.fill(label, self.newest_code())
        self.press("Continue")

    # --- setting up ---------------------------------------------------------------------------------------------

    def sets_an_app_up(self) -> None:
        """On the page with the QR code."""
        self.sees("Scan the QR code")
        self.app = pyotp.TOTP(self.page.locator("#secret").inner_text().replace(" ", ""))
        self._code = 0
        self.fill("Code that the app shows now", self.app_code())
        self.press("Done")

    def enrols(self) -> list[str]:
        """From a password alone to an app; the recovery codes."""
        self.types_password()
        self.sees("Download an authenticator app")
        self.follow("Next: scan the QR code")
        self.sets_an_app_up()
        self.sees("Your recovery codes")
        codes = self.page.locator("#codes li").all_inner_texts()
        assert len(codes) == 10
        return codes

    def begins(self, *, number: str = "") -> list[str]:
        """The first day up to a sign-in that may change things; the recovery codes that are left."""
        codes = self.enrols()
        self.signs_out()
        self.uses_recovery_code(codes[0])
        self.signed_in_by("password and recovery code")
        if number:
            self.adds_a_phone_number(number)
        return codes[1:]

    def uses_recovery_code(self, code: str) -> None:
        self.password_and("Use a recovery code")
        self.fill("Recovery code", code)
        self.press("Continue")

    def adds_a_phone_number(self, number: str = NUMBER) -> None:
        self.open("/self-service")
        self.follow("Manage phone number", "Add a phone number")
        self.fill("Mobile number", number)
        self.press("Send the code")
        self.sees("Type the code")
        self.fill("Code", self.newest_code())
        self.press("Done")
        self.reads("Your phone number is confirmed.")

    def plugs_a_key_in(self) -> None:
        """Chromium's own virtual authenticator, as its developer tools make it."""
        devtools = self.context.new_cdp_session(self.page)
        devtools.send("WebAuthn.enable")
        options = {**KEY, "isUserVerified": True, "automaticPresenceSimulation": True}
        devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})

    # --- the card -----------------------------------------------------------------------------------------------

    def shows_card(self) -> None:
        """As the demo says: by the door, which needs nothing more, or else by the link."""
        if not self.kept.door_is_open:
            self.shows_card_by_link()

    def shows_card_by_link(self) -> None:
        """By the command that the demo has printed; what it prints is opened in the browser."""
        link = self.page.get_by_role("link", name="Open tokenbridge").get_attribute("href")
        assert link is not None
        command = shlex.split(
            self.kept.printed(r"tokenbridge (hand-over 'ADDRESS' --no-open)").replace("ADDRESS", link)
        )
        done = self.kept.run(*command, "--yes", secrets={"--pin-fd": self.kept.printed(r"# PIN (\d+)")})
        assert done.returncode == 0, done.stdout + done.stderr
        self.page.goto(done.stdout.split()[-1])


def administrator(kept: Kept, browser: Browser) -> Person:
    """With the app whose key is printed."""
    made = Person(kept, browser, ADMINISTRATOR)
    made.app = pyotp.TOTP(kept.printed(r"the administrator, with an app \(its key: (\w+)\)"))
    return made


def newcomer(kept: Kept, browser: Browser, name: str) -> Person:
    """Another one with nothing but a password, as an administrator makes accounts in the terminal."""
    command = ("server", "user", "add", name, "--display-name", name.title(), "--email", f"{name}@example.org")
    done = kept.run(*command, secrets={"--password-fd": PASSWORD})
    assert done.returncode == 0, done.stdout + done.stderr
    return Person(kept, browser, name)
