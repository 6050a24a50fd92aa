"""Phone numbers and messages on the pages, read from the development outbox; and app passwords."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import pytest

from tests.server.conftest import Bench, Databases, Person, serving
from tests.server.outbox import newest_code
from tests.server.portal.conftest import Portal, Visitor, with_outbox
from tests.server.test_cli import Cli
from tokenbridge.server.store import sent_codes


@pytest.fixture
def portal(tmp_path, _pattern, databases: Databases) -> Iterator[Portal]:
    """A portal of the test's own, with an outbox."""
    with with_outbox(_pattern, tmp_path / "data", databases) as made:
        yield made


@pytest.fixture
def visitor(portal: Portal) -> Iterator[Visitor]:
    made = portal.visitor()
    with made.http:
        yield made


def add_phone(visitor: Visitor, person: Person, number: str = "07400 123456") -> None:
    visitor.sign_in(person)
    visitor.get("/self-service/phone/add")
    page = visitor.send("/self-service/phone/add", {"number": number})
    assert "We sent six digits to" in page.text
    assert "123456" not in page.text
    done = visitor.send("/self-service/phone/confirm", {"code": newest_code(visitor.http)})
    assert "Your phone number is confirmed" in done.text


def test_from_the_number_to_a_sign_in_by_message(
    portal: Portal, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent_codes, "wait_after", lambda _sent: sent_codes.FIRST_WAIT * 0)
    person = portal.bench.person(enrol=False)
    add_phone(visitor, person)
    other = portal.visitor()
    with other.http:
        other.get("/sign-in")
        other.send("/sign-in", {"username": person.username, "password": person.password})
        page = other.get("/sign-in/step?by=sms")
        assert "Send me a text message" in page.text
        sent = other.send("/sign-in/send", {"by": "sms"})
        assert "We sent six digits by text message to" in sent.text
        wrong = other.send("/sign-in/step", {"by": "sms", "code": "000000"})
        assert wrong.status_code == 403
        assert "We sent six digits by text message to" in wrong.text
        done = other.send("/sign-in/step", {"by": "sms", "code": newest_code(other.http)})
        assert done.url.path == "/signed-in"
        assert "password and text message" in done.text


def test_a_code_works_once_and_in_its_own_sign_in(
    portal: Portal, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent_codes, "wait_after", lambda _sent: sent_codes.FIRST_WAIT * 0)
    person = portal.bench.person(enrol=False)
    add_phone(visitor, person)
    used = newest_code(visitor.http)
    other = portal.visitor()
    with other.http:
        other.get("/sign-in")
        other.send("/sign-in", {"username": person.username, "password": person.password})
        other.get("/sign-in/step?by=sms")
        other.send("/sign-in/send", {"by": "sms"})
        assert other.send("/sign-in/step", {"by": "sms", "code": used}).status_code == 403
        refused = other.send("/sign-in/send", {"by": "email"})
        assert refused.status_code == 409


@pytest.mark.parametrize("key", ["#", "*"])
def test_a_call_is_confirmed_or_declined_on_the_test_phone(portal: Portal, visitor: Visitor, key: str) -> None:
    person = portal.bench.person(enrol=False)
    add_phone(visitor, person)
    assert "You may also be called." in visitor.get("/self-service/phone").text
    other = portal.visitor()
    with other.http:
        other.get("/sign-in")
        other.send("/sign-in", {"username": person.username, "password": person.password})
        assert "You confirm by pressing the hash key" in other.get("/sign-in/step?by=voice").text
        assert "We are calling your phone" in other.send("/sign-in/send", {"by": "voice"}).text
        early = other.send("/sign-in/step", {"by": "voice"})
        assert early.status_code == 409
        assert "We are calling your phone" in early.text
        telephone = portal.visitor()
        with telephone.http:
            assert "Voice call to +447400123456" in unescape(telephone.get("/outbox").text)
            heard = telephone.send("/outbox/press", {"key": key})
        assert ("Thank you" if key == "#" else "It was stopped") in heard.text
        other.get("/sign-in/step?by=voice")
        done = other.send("/sign-in/step", {"by": "voice"})
        if key == "#":
            assert done.url.path == "/signed-in"
            assert "password and voice call" in done.text
        else:
            assert done.status_code == 403
            assert other.get("/sign-in/step").url.path == "/sign-in"


def test_calls_are_switched_off_for_a_number(portal: Portal, visitor: Visitor) -> None:
    person = portal.bench.person(enrol=False)
    add_phone(visitor, person)
    page = visitor.get("/self-service/phone")
    address = re.search(r'action="(/self-service/phone/\d+/way)"', page.text)
    assert address is not None
    assert "You may also be called." not in visitor.send(address[1], {"by": "voice", "on": "no"}).text
    for by in ("sms", "email", ""):
        visitor.get("/self-service/phone")
        assert visitor.post(address[1], {"by": by, "on": "no"}).status_code == 400
    visitor.get("/self-service/phone")
    assert "You may also be called." in visitor.send(address[1], {"by": "voice", "on": "yes"}).text


@pytest.mark.parametrize("number", ["", "12", "020 7946 0018", "+1 900 555 0100", "<script>", "07400 12345 x7"])
def test_numbers_that_cannot_be_used_are_refused_with_the_reason(portal: Portal, visitor: Visitor, number: str) -> None:
    visitor.sign_in(portal.bench.person(enrol=False))
    visitor.get("/self-service/phone/add")
    page = visitor.send("/self-service/phone/add", {"number": number})
    assert page.status_code == 400
    assert "There is a problem" in page.text
    assert "<script>" not in page.text
    assert "No message yet." in visitor.http.get("/outbox").text


def test_a_number_is_removed(portal: Portal, visitor: Visitor) -> None:
    person = portal.bench.person(enrol=False)
    add_phone(visitor, person)
    page = visitor.get("/self-service/phone")
    link = re.search(r'href="(/self-service/phone/\d+/remove)"', page.text)
    assert link is not None
    visitor.get(link[1])
    assert "Your phone number is removed" in visitor.send(link[1]).text
    assert "You have no phone number yet." in visitor.get("/self-service/phone").text


def test_without_a_sender_there_is_no_such_page(bench: Bench) -> None:
    with serving(bench.data) as server:
        assert server.http.get("/outbox").status_code in {403, 404}


def test_app_passwords_are_made_shown_once_and_taken_back(portal: Portal, visitor: Visitor) -> None:
    visitor.sign_in(portal.bench.person(enrol=False))
    assert "No program takes app passwords here." in visitor.get("/self-service/app-passwords").text
    Cli(portal.bench.data)("app-client", "add", "mail")
    visitor.get("/self-service/app-passwords")
    made = visitor.send("/self-service/app-passwords", {"client": "mail", "name": "Outlook {{7*7}}"})
    password = re.search(r'id="app-password">([^<]+)<', made.text)
    assert password is not None
    assert len(password[1]) == 29
    told = unescape(made.text).split('id="refused"')[1]
    assert "the policy does not let it in" in told, "the default rule wants two factors of everybody"
    assert "Use this service in a browser" in told
    page = visitor.get("/self-service/app-passwords")
    assert "Outlook {{7*7}}" in unescape(page.text)
    assert password[1] not in page.text
    assert visitor.send("/self-service/app-passwords", {"client": "mail", "name": ""}).status_code == 400
    visitor.get("/self-service/app-passwords")
    address = re.search(r'action="(/self-service/app-passwords/\d+/revoke)"', page.text)
    assert address is not None
    assert "does not work any more" in visitor.send(address[1]).text


def test_a_second_way_is_asked_for_while_there_is_one_only(portal: Portal, visitor: Visitor) -> None:
    person = portal.bench.person(enrol=False)
    visitor.sign_in(person)
    assert "Set up a second one" in visitor.get("/self-service").text
    add_phone(visitor, person)
    assert "Set up a second one" not in visitor.get("/self-service").text
