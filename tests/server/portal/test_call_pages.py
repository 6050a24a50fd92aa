"""Pages that wait for a call: nobody has taken it, or somebody has said “this is not me”."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import httpx
import pytest

from tests.server.conftest import Databases, Person
from tests.server.portal.conftest import Portal, Visitor
from tests.server.portal.test_deliveries import by_twilio, prove_by_recovery, reporting, sent, service, with_phone
from tests.server.test_senders import Service

__all__ = ["service"]


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases, service: Service) -> Iterator[Portal]:
    folder = tmp_path_factory.mktemp("call-pages")
    with reporting(folder, databases, service, twilio_voice_from="+447700900002") as made:
        yield made


def called(portal: Portal, visitor: Visitor, service: Service) -> Person:
    """A sign-in that has made a call; its page is the visitor's last one."""
    person = with_phone(portal, visitor, service)
    visitor.sign_in_by_password(person.username)
    visitor.get("/sign-in/step?by=voice")
    service.will(201, {"sid": "CA1", "status": "queued"})
    assert "We are calling your phone" in visitor.send("/sign-in/send", {"by": "voice"}).text
    return person


def resetting(portal: Portal, visitor: Visitor, service: Service) -> Person:
    """As `called`, for the second proof of a password reset."""
    person = with_phone(portal, visitor, service)
    prove_by_recovery(portal, visitor, person)
    visitor.get("/password-reset/step?by=voice")
    service.will(201, {"sid": "CA1", "status": "queued"})
    assert "We are calling your phone" in visitor.send("/password-reset/send", {"by": "voice"}).text
    return person


def press(portal: Portal, service: Service, key: str) -> None:
    gather = ElementTree.fromstring(sent(service)["Twiml"]).find("Gather")
    assert gather is not None
    assert by_twilio(portal, gather.attrib["action"], Digits=key).status_code == 200


def is_barred(page: httpx.Response) -> bool:
    """Says what was reported and what to do, and offers no call."""
    told = "A request was declined on your phone" in page.text and "IT service desk" in page.text
    assert told == ("Call me" not in page.text)
    return told


@pytest.mark.parametrize(("began", "at"), [(called, "/sign-in/step"), (resetting, "/password-reset/step")])
def test_a_call_that_nobody_takes(began, at: str, portal: Portal, visitor: Visitor, service: Service):
    began(portal, visitor, service)
    waits = at.replace("step", "approval")
    assert visitor.http.get(waits).json() == {"waiting": True}
    by_twilio(portal, sent(service)["StatusCallback"], CallStatus="no-answer")
    assert visitor.http.get(waits).json() == {"waiting": False}
    page = visitor.get(f"{at}?by=voice")
    assert "Nobody answered the call" in page.text
    assert "Call me again" in page.text
    assert "We are calling your phone" not in page.text
    page = visitor.send(at, {"by": "voice"})
    assert (page.status_code, "Nobody answered the call." in page.text) == (403, True)
    assert "then have us call again, or use another method." in page.text
    page = visitor.send(at.replace("step", "send"), {"by": "voice"})
    assert (page.status_code, "sent a short time ago" in page.text) == (429, True)
    assert "Use your authenticator app" in page.text


def test_after_star_no_call_is_offered_in_any_sign_in(portal: Portal, visitor: Visitor, service: Service):
    person = called(portal, visitor, service)
    other = portal.visitor()
    with other.http:
        other.sign_in_by_password(person.username)
        before = other.get("/sign-in/step?by=voice")
        assert not is_barred(before)
        press(portal, service, "*")
        page = visitor.send("/sign-in/step", {"by": "voice"})
        assert (page.url.path, page.status_code) == ("/sign-in/step", 403)
        assert "declined on the telephone" in page.text
        assert "change your password" in page.text
        assert "Call me" not in page.text
        assert visitor.get("/sign-in/step?by=voice").url.path == "/sign-in", "it has ended"
        assert is_barred(other.get("/sign-in/step?by=voice"))
        other.last = before
        refused = other.post("/sign-in/send", {"by": "voice"})
        assert (refused.status_code, is_barred(refused)) == (429, True)
        other.get("/sign-in/step?by=totp")
        assert other.send("/sign-in/step", {"by": "totp", "code": person.code(1)}).url.path == "/signed-in"


def test_after_star_a_password_reset_says_so(portal: Portal, visitor: Visitor, service: Service):
    person = resetting(portal, visitor, service)
    press(portal, service, "*")
    page = visitor.send("/password-reset/step", {"by": "voice"})
    assert "The password reset was declined on the telephone." in page.text
    assert "Call me" not in page.text
    prove_by_recovery(portal, visitor, person)
    assert is_barred(visitor.get("/password-reset/step?by=voice"))
