"""`tokenbridge demo --keep`: every fallback method tried by hand, by people who begin with nothing but a password."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import chromium
from tests.looks import look

from .demo_kept import Kept
from .demo_people import NUMBER, Person, newcomer

pytestmark = [pytest.mark.pcscd, pytest.mark.foreign]

Newcomers = Callable[[str], Person]


@pytest.fixture(scope="module")
def browser(kept: Kept) -> Iterator[Browser]:
    with chromium(kept.directory / "server") as started:
        yield started


@pytest.fixture
def somebody(kept: Kept, browser: Browser) -> Iterator[Newcomers]:
    """`somebody(name)` has an account with a password, and sits at a computer."""
    made: list[Person] = []

    def make(name: str) -> Person:
        made.append(newcomer(kept, browser, name))
        return made[-1]

    yield make
    for person in made:
        person.leave()


def test_whatsapp_comes_first_until_the_person_opts_out(somebody: Newcomers) -> None:
    me = somebody("wanda")
    me.begins(number=NUMBER)
    me.picture("phones")
    me.reads("Codes come by WhatsApp, or by text message if that does not work.")
    me.signs_out()
    me.password_and("Get a WhatsApp message")
    me.press("Send me a WhatsApp message")
    assert me.newest_message()[0].startswith("WhatsApp to ")
    me.picture("step-whatsapp")
    me.types_the_sent_code("Code of the WhatsApp message")
    me.signed_in_by("password and WhatsApp message")
    me.open("/self-service")
    me.follow("Manage phone number")
    me.page.get_by_role("button", name=re.compile("^Stop WhatsApp messages")).click()
    me.reads("Codes come by text message.")
    me.signs_out()
    me.types_password()
    me.sees("One more step")
    expect(me.page.get_by_role("link", name="Get a WhatsApp message")).to_have_count(0)
    me.takes("Get a text message")
    me.press("Send me a text message")
    assert me.newest_message()[0].startswith("Text message to ")
    me.types_the_sent_code("Code of the text message")
    me.signed_in_by("password and text message")


def test_a_call_is_confirmed_with_the_hash_key_and_declined_with_the_star_key(somebody: Newcomers) -> None:
    me = somebody("victor")
    me.begins(number=NUMBER)
    me.signs_out()
    me.password_and("Get a voice call")
    me.picture("step-call-before")
    me.press("Call me")
    me.reads("We are calling your phone.")
    me.picture("step-call")
    phone = me.test_phone()
    look(phone, "demo-test-phone", (375, 1280))
    phone.close()
    me.answers_the_call("#")
    me.signed_in_by("password and voice call")
    me.signs_out()
    me.password_and("Get a voice call")
    me.press("Call me")
    me.reads("We are calling your phone.")
    me.answers_the_call("*")
    me.reads("declined")
    me.picture("step-call-declined")
    assert "declined on your phone" in me.newest_message("was declined")[1]
    # Somebody who knows the password must not let the phone ring all night: calls rest, the other ways do not.
    me.password_and("Get a voice call")
    me.reads("we neither call nor ask your phone for this account")
    assert me.page.get_by_role("button", name="Call me").count() == 0
    me.takes("Use your authenticator app")
    me.types_app_code()
    me.signed_in_by("password and authenticator-app code")


def test_an_app_password_opens_one_program_until_it_is_taken_back(somebody: Newcomers, kept: Kept) -> None:
    me = somebody("mia")
    me.begins()
    me.open("/self-service")
    me.follow("Manage app passwords")
    me.picture("app-passwords-none")
    me.page.get_by_label("For what").select_option("mail")
    me.fill("Name", "Thunderbird at home")
    me.press("Make an app password")
    me.sees("Your app password")
    me.picture("app-password")
    password = me.page.locator("#app-password").inner_text()
    me.follow("Done")
    assert mail_server_says(kept, me.name, password) == "Let in.\n"
    assert mail_server_says(kept, me.name, me.password) == "Refused (403).\n"
    me.open("/self-service/app-passwords")
    me.picture("app-passwords")
    me.press("Take back Thunderbird at home")
    me.reads("That app password does not work any more.")
    assert mail_server_says(kept, me.name, password) == "Refused (403).\n"


def mail_server_says(kept: Kept, name: str, password: str) -> str:
    """By the command that the demo has printed."""
    command = kept.printed(r"(\S+/mail-check) ")
    asked = subprocess.run([command, name, password], capture_output=True, text=True, timeout=30, check=False)
    assert asked.stderr == ""
    return asked.stdout


def test_recovery_codes_work_once_and_new_ones_void_the_old(somebody: Newcomers) -> None:
    me = somebody("rosa")
    old = me.begins()
    me.open("/self-service")
    me.reads("9 left")
    me.follow("Make new recovery codes")
    me.picture("recovery-codes")
    me.press("Make ten new codes")
    me.sees("Your recovery codes")
    me.picture("recovery-codes-new")
    new = me.page.locator("#codes li").all_inner_texts()
    assert not set(new) & set(old)
    me.signs_out()
    for used in (old[0], old[1]):
        me.uses_recovery_code(used)
        expect(me.page.get_by_role("alert")).to_contain_text("There is a problem")
    me.uses_recovery_code(new[9])
    me.signed_in_by("password and recovery code")


def test_people_say_what_they_are_asked_for_first(somebody: Newcomers) -> None:
    me = somebody("dora")
    me.begins(number=NUMBER)
    me.open("/self-service")
    me.picture("self-service")
    me.follow("Change asked for first")
    me.page.get_by_label("Text message", exact=True).check()
    me.picture("default-method")
    me.press("Save")
    me.reads("We begin with that from now on.")
    me.signs_out()
    me.types_password()
    expect(me.page.get_by_role("button", name="Send me a text message")).to_be_visible()


def test_a_forgotten_password_is_set_anew_by_two_methods(somebody: Newcomers) -> None:
    me = somebody("fred")
    me.begins(number=NUMBER)
    me.signs_out()
    me.open("/sign-in")
    me.follow("Forgotten your password?")
    me.picture("reset")
    me.fill("User name", me.name)
    me.press("Continue")
    me.sees("Prove that it is you")
    me.picture("reset-first")
    me.types_app_code()
    me.sees("One more way")
    me.follow("Get a text message")
    me.press("Send me a text message")
    me.picture("reset-second")
    me.types_the_sent_code("Code of the text message")
    me.sees("Choose a new password")
    me.picture("reset-new")
    me.password = "three random words"
    me.fill("New password", me.password)
    me.fill("New password again", me.password)
    me.press("Set the password")
    me.sees("Your password is set")
    assert "Your password was reset" in me.newest_message("password was reset")[1]
    me.password_and("Get a text message")
    me.press("Send me a text message")
    me.types_the_sent_code("Code of the text message")
    me.signed_in_by("password and text message")
