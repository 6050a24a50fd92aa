"""A text message in place of a WhatsApp message that is lost: by itself, once, and only where it may be sent."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from tests.patience import until
from tests.server.conftest import Databases, Person, Server, now, running
from tests.server.portal.conftest import SELF_ENROL, SESSION, Portal, Visitor
from tests.server.portal.test_deliveries import (
    NUMBERS,
    asked,
    by_notify,
    by_twilio,
    code_of,
    prove_by_recovery,
    quiet,
    reporting,
    sent,
    service,
    waiting,
    with_phone,
)
from tests.server.portal.test_lost import trail
from tests.server.portal.test_number_match import begin, confirm
from tests.server.soft_phone import SoftPhone
from tests.server.test_senders import Service
from tokenbridge.server.message_limits import limits_of
from tokenbridge.server.operator import groups, people
from tokenbridge.server.store import accounts, audit, phones, throttle
from tokenbridge.server.store.method_schema import Phone, SentCode

__all__ = ["service"]

SAID = "The WhatsApp message did not arrive. We have sent a text message instead."
NO_TEXTS = """
[[rule]]
name = "no-texts"
groups = ["no-texts"]
aal = 2
fallback = ["totp", "whatsapp", "recovery"]
"""
NEW = "three random words"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases, service: Service) -> Iterator[Portal]:
    with reporting(tmp_path_factory.mktemp("instead"), databases, service) as made:
        (made.bench.data / "policy.toml").write_text(NO_TEXTS + SELF_ENROL)
        yield made


@pytest.fixture(scope="module")
def second(portal: Portal) -> Iterator[Server]:
    """Another process on the same database."""
    with running(portal.bench.data) as started:
        yield started


@pytest.fixture(autouse=True)
def _all_was_sent(service: Service) -> Iterator[None]:
    """What a test has prepared for a message is what was sent, no more and no less."""
    service.open.set()
    yield
    until(lambda: not service.answers, "every message that was expected")


def texted(portal: Portal, service: Service, before: int) -> str:
    """The code of the text message that follows by itself. It counts once the service has taken it."""

    def reserved() -> list[int]:
        with portal.bench.office() as office, office.database.read() as tx:
            return list(tx.scalars(select(SentCode.id).where(SentCode.stage == "reserved")))

    until(lambda: len(service.asked) > before, "the text message")
    until(lambda: not reserved(), "that it was taken")
    assert len(service.asked) == before + 1
    assert service.asked[-1][0].startswith("/v2/")
    return code_of(service)


def lose(portal: Portal, service: Service, **fields: str) -> str:
    """The newest WhatsApp message is reported lost; the code of the text message after it."""
    before, address = len(service.asked), sent(service)["StatusCallback"]
    service.will(201, {"id": "3"})
    assert quiet(by_twilio(portal, address, **fields))
    return texted(portal, service, before)


def details(portal: Portal, person: Person, event: str) -> list[dict[str, Any]]:
    with portal.bench.office() as office, office.database.read() as tx:
        return [entry.detail for entry in audit.entries(tx, account=person.username) if entry.event == event]


def nothing_follows(portal: Portal, service: Service, person: Person, address: str) -> dict[str, Any]:
    """Neither now nor, since the loss is on record by then, later; what is on record."""
    before = len(service.asked)
    assert quiet(by_twilio(portal, address))
    (told,) = details(portal, person, "message-undelivered")
    assert "instead" not in told
    assert len(service.asked) == before
    return told


class TestSignIn:
    def test_it_comes_by_itself_and_the_page_goes_on_with_it(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "whatsapp")
        old = code_of(service)
        code = lose(portal, service)
        assert sent(service)["personalisation"]["message"].startswith(code)
        told = visitor.http.get("/sign-in/message?by=whatsapp").json()
        assert told == {"undelivered": False, "instead": True}
        assert visitor.http.get("/sign-in/message").json() == {"undelivered": False, "instead": False}
        page = visitor.get("/sign-in/step?by=whatsapp")
        assert SAID in page.text
        assert "six digits by text message to *** ***" in page.text
        assert 'name="by" value="sms"' in page.text
        assert "by=whatsapp" not in page.text, "it is no way on"
        if old != code:
            wrong = visitor.send("/sign-in/step", {"by": "sms", "code": old})
            assert (wrong.status_code, SAID in wrong.text) == (403, True)
        assert visitor.send("/sign-in/step", {"by": "sms", "code": code}).url.path == "/signed-in"
        events = [event for event, _ in trail(portal, person.username)]
        assert events[events.index("message-undelivered") + 1] == "message-asked"
        (lost,) = details(portal, person, "message-undelivered")
        assert lost == {
            "method": "whatsapp",
            "detail": "undelivered, error 63024",
            "instead": "sms",
            "client": "portal",
        }
        assert details(portal, person, "message-asked")[-1]["method"] == "sms"
        assert details(portal, person, "signed-in")[-1]["methods"] == ["password", "sms"]

    def test_the_field_of_the_whatsapp_message_takes_its_code(self, portal: Portal, visitor: Visitor, service: Service):
        """Whoever types it before the page has asked, or without JavaScript."""
        asked(portal, visitor, service, "whatsapp")
        code = lose(portal, service)
        assert visitor.send("/sign-in/step", {"by": "whatsapp", "code": code}).url.path == "/signed-in"

    def test_of_reports_at_once_in_two_processes_one_sends_it(
        self, portal: Portal, visitor: Visitor, service: Service, second: Server
    ):
        for _ in range(5):
            person = asked(portal, visitor, service, "whatsapp")
            address, before = sent(service)["StatusCallback"], len(service.asked)
            service.will(201, {"id": "3"})
            servers, barrier = [portal.server, second] * 3, Barrier(6)

            def report(server: Server) -> httpx.Response:
                barrier.wait()  # noqa: B023
                return by_twilio(Portal(bench=portal.bench, server=server, origin=portal.origin), address)  # noqa: B023

            with ThreadPoolExecutor(len(servers)) as pool:
                assert all(map(quiet, pool.map(report, servers)))
            code = texted(portal, service, before)
            assert len(details(portal, person, "message-undelivered")) == 1
            assert len(details(portal, person, "message-asked")) == 2, "the WhatsApp message and the text message"
            visitor.get("/sign-in/step?by=whatsapp")
            assert visitor.send("/sign-in/step", {"by": "sms", "code": code}).url.path == "/signed-in"
            assert len(service.asked) == before + 1
            visitor.http.cookies.clear()

    def test_only_once(self, portal: Portal, visitor: Visitor, service: Service):
        """The text message is lost as well: nothing follows, and the page offers what is left."""
        asked(portal, visitor, service, "whatsapp")
        lose(portal, service)
        before = len(service.asked)
        assert quiet(by_notify(portal, sent(service)["reference"]))
        for by in ("sms", "whatsapp"):
            page = visitor.get(f"/sign-in/step?by={by}")
            assert "The message could not be delivered" in page.text
            assert "text message" in page.text
            assert SAID not in page.text
        assert waiting(visitor)
        assert len(service.asked) == before

    def test_whoever_reports_waits_for_no_sender(self, portal: Portal, visitor: Visitor, service: Service):
        asked(portal, visitor, service, "whatsapp")
        address, before = sent(service)["StatusCallback"], len(service.asked)
        service.will(201, {"id": "3"})
        service.open.clear()
        assert quiet(by_twilio(portal, address)), "while the service that sends hangs"
        assert SAID in visitor.get("/sign-in/step?by=whatsapp").text
        service.open.set()
        code = texted(portal, service, before)
        assert visitor.send("/sign-in/step", {"by": "sms", "code": code}).url.path == "/signed-in"

    def test_a_sender_that_refuses_is_no_failure_of_the_report(
        self, portal: Portal, visitor: Visitor, service: Service
    ):
        person = asked(portal, visitor, service, "whatsapp")
        service.will(403, {"errors": [{"error": "AuthError"}]})
        assert quiet(by_twilio(portal, sent(service)["StatusCallback"]))
        until(lambda: details(portal, person, "message-not-sent"), "what went wrong, on record")
        assert waiting(visitor)
        page = visitor.get("/sign-in/step?by=whatsapp")
        assert "Send me a text message instead" in page.text
        service.will(201, {"id": "4"})
        page = visitor.post("/sign-in/send", {"by": "sms"})
        visitor.last = page
        assert visitor.send("/sign-in/step", {"by": "sms", "code": code_of(service)}).url.path == "/signed-in"


class TestNotSent:
    def test_where_policy_takes_no_text_messages(self, portal: Portal, visitor: Visitor, service: Service):
        person = with_phone(portal, visitor, service)
        with portal.bench.office() as office:
            groups.add(office, "no-texts", [person.username])
        visitor.sign_in_by_password(person.username)
        visitor.get("/sign-in/step?by=whatsapp")
        service.will(201, {"sid": "SM2"})
        visitor.last = visitor.post("/sign-in/send", {"by": "whatsapp"})
        told = nothing_follows(portal, service, person, sent(service)["StatusCallback"])
        assert "no_text_message" not in told
        page = visitor.get("/sign-in/step?by=whatsapp")
        assert "The message could not be delivered" in page.text
        assert "Send me a text message instead" not in page.text
        assert "Use your authenticator app" in page.text

    def test_where_the_number_takes_none(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "whatsapp")
        with portal.bench.office() as office, office.database.write() as tx:
            for row in tx.scalars(select(Phone).where(Phone.account_id == accounts.get(tx, person.username).id)):
                row.text = False
        told = nothing_follows(portal, service, person, sent(service)["StatusCallback"])
        assert told["no_text_message"] == "This number takes no text messages."

    def test_when_the_number_was_removed(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "whatsapp")
        with portal.bench.office() as office, office.database.write() as tx:
            phones.remove(tx, phones.of(tx, accounts.get(tx, person.username).id)[0].id)
        nothing_follows(portal, service, person, sent(service)["StatusCallback"])

    def test_beyond_the_limits_it_is_offered(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "whatsapp")
        with portal.bench.office() as office, office.database.write() as tx:
            limit, account = limits_of(office.settings).account, accounts.get(tx, person.username)
            while throttle.allow(tx, limit, str(account.id), now()):
                pass
        told = nothing_follows(portal, service, person, sent(service)["StatusCallback"])
        assert told["no_text_message"] == "Too many messages were sent."
        assert "Send me a text message instead" in visitor.get("/sign-in/step?by=whatsapp").text

    def test_when_the_sign_in_has_ended(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "whatsapp")
        address = sent(service)["StatusCallback"]
        visitor.get("/sign-in/step?by=totp")
        assert visitor.send("/sign-in/step", {"by": "totp", "code": person.code(1)}).url.path == "/signed-in"
        nothing_follows(portal, service, person, address)

    def test_when_it_was_answered(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "whatsapp")
        address, before = sent(service)["StatusCallback"], len(service.asked)
        assert visitor.send("/sign-in/step", {"by": "whatsapp", "code": code_of(service)}).url.path == "/signed-in"
        assert quiet(by_twilio(portal, address))
        assert details(portal, person, "message-undelivered") == []
        assert len(service.asked) == before

    def test_when_it_has_moved_to_another_method(self, portal: Portal, visitor: Visitor, service: Service):
        person = with_phone_and_app(portal, visitor, service)
        visitor.sign_in_by_password(person.username)
        visitor.get("/sign-in/step?by=whatsapp")
        service.will(201, {"sid": "SM2"})
        visitor.last = visitor.post("/sign-in/send", {"by": "whatsapp"})
        visitor.get("/sign-in/step?by=number-match")
        assert visitor.send("/sign-in/send", {"by": "number-match"}).status_code == 200
        nothing_follows(portal, service, person, sent(service)["StatusCallback"])

    def test_for_a_disabled_account(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "whatsapp")
        with portal.bench.office() as office:
            people.set_disabled(office, person.username, disabled=True)
        nothing_follows(portal, service, person, sent(service)["StatusCallback"])

    def test_for_a_message_that_is_not_awaited_any_more(self, portal: Portal, visitor: Visitor, service: Service):
        """It was replaced by a newer one, whichever way that was asked for."""
        person = asked(portal, visitor, service, "whatsapp")
        address, before = sent(service)["StatusCallback"], len(service.asked)
        with portal.bench.office() as office, office.database.write() as tx:
            for row in tx.scalars(select(SentCode).where(SentCode.stage == "sent")):
                row.stage = "void"
        assert quiet(by_twilio(portal, address))
        assert (details(portal, person, "message-undelivered"), len(service.asked)) == ([], before)


class TestReset:
    def started(self, portal: Portal, visitor: Visitor, service: Service, *, app: bool = False) -> Person:
        """A password reset whose second proof is a WhatsApp message on its way."""
        person = (with_phone_and_app if app else with_phone)(portal, visitor, service)
        prove_by_recovery(portal, visitor, person)
        service.will(201, {"sid": "SM2"})
        visitor.last = visitor.post("/password-reset/send", {"by": "whatsapp"})
        assert 'data-message="/password-reset/message?by=whatsapp"' in visitor.last.text
        return person

    def test_it_comes_by_itself_and_is_the_second_proof(self, portal: Portal, visitor: Visitor, service: Service):
        person = self.started(portal, visitor, service)
        code = lose(portal, service)
        assert visitor.http.get("/password-reset/message?by=whatsapp").json()["instead"]
        page = visitor.get("/password-reset/step?by=whatsapp")
        assert SAID in page.text
        assert visitor.send("/password-reset/step", {"by": "sms", "code": code}).url.path == "/password-reset/new"
        assert visitor.send("/password-reset/new", {"new": NEW, "again": NEW}).url.path == "/password-reset/done"
        assert details(portal, person, "password-reset")[-1]["methods"] == ["recovery", "sms"]

    def test_the_field_of_the_whatsapp_message_takes_its_code(self, portal: Portal, visitor: Visitor, service: Service):
        self.started(portal, visitor, service)
        code = lose(portal, service)
        assert visitor.send("/password-reset/step", {"by": "whatsapp", "code": code}).url.path == "/password-reset/new"

    def test_when_it_has_gone_on(self, portal: Portal, visitor: Visitor, service: Service):
        person = self.started(portal, visitor, service)
        address = sent(service)["StatusCallback"]
        page = visitor.send("/password-reset/step", {"by": "totp", "code": person.code(1)})
        assert page.url.path == "/password-reset/new"
        nothing_follows(portal, service, person, address)

    def test_when_the_telephone_was_asked_since(self, portal: Portal, visitor: Visitor, service: Service):
        person = self.started(portal, visitor, service, app=True)
        address = sent(service)["StatusCallback"]
        visitor.get("/password-reset/step?by=number-match")
        assert visitor.send("/password-reset/send", {"by": "number-match"}).status_code == 200
        nothing_follows(portal, service, person, address)

    def test_when_the_account_has_changed(self, portal: Portal, visitor: Visitor, service: Service):
        person = self.started(portal, visitor, service)
        with portal.bench.office() as office:
            people.set_password(office, person.username, "another password of theirs")
        nothing_follows(portal, service, person, sent(service)["StatusCallback"])

    def test_where_policy_takes_no_text_messages(self, portal: Portal, visitor: Visitor, service: Service):
        person = with_phone(portal, visitor, service)
        with portal.bench.office() as office:
            groups.add(office, "no-texts", [person.username])
        prove_by_recovery(portal, visitor, person)
        service.will(201, {"sid": "SM2"})
        visitor.last = visitor.post("/password-reset/send", {"by": "whatsapp"})
        assert "six digits by WhatsApp message" in visitor.last.text
        nothing_follows(portal, service, person, sent(service)["StatusCallback"])


class TestPrograms:
    def test_a_sign_in_is_told(self, portal: Portal, visitor: Visitor, service: Service):
        person = with_phone(portal, visitor, service)
        http, ticket = portal.server.http, portal.server.begin("portal")
        at = f"/api/sign-in/{ticket['transaction']}"
        assert portal.server.password(ticket, person.username).status_code == 200
        assert http.get(f"{at}/message").status_code == 409
        service.will(201, {"sid": "SM2"})
        begun = http.post(f"{at}/start", json={"method": "whatsapp"}).json()
        assert (begun["method"], begun["watched"]) == ("whatsapp", True)
        found = http.get(f"{at}/message").json()
        assert (found["method"], found["undelivered"], "instead_of" in found) == ("whatsapp", False, False)
        code = lose(portal, service)
        found = http.get(f"{at}/message").json()
        assert found.pop("expires_at") > begun["expires_at"]
        assert found == {
            "method": "sms",
            "sent_to": begun["sent_to"],
            "undelivered": False,
            "instead_of": "whatsapp",
        }
        answer = http.post(f"{at}/code", json={"method": "whatsapp", "code": code})
        assert answer.json()["decision"] == "allow", "a program that does not ask goes on as well"
        assert http.get(f"{at}/message").status_code == 409, "it is over"

    def test_a_text_message_that_is_lost(self, portal: Portal, visitor: Visitor, service: Service):
        person = with_phone(portal, visitor, service)
        http, ticket = portal.server.http, portal.server.begin("portal")
        at = f"/api/sign-in/{ticket['transaction']}"
        portal.server.password(ticket, person.username)
        service.will(201, {"id": "2"})
        assert http.post(f"{at}/start", json={"method": "sms"}).status_code == 200
        by_notify(portal, sent(service)["reference"])
        assert http.get(f"{at}/message").json()["undelivered"] is True

    def test_nobody_else_is_told(self, portal: Portal):
        for token in ("x", "x" * 500):
            assert portal.server.http.get(f"/api/sign-in/{token}/message").status_code in (409, 404)
        assert portal.server.http.get("/api/methods/message").status_code == 401

    def test_a_number_that_is_set_up(self, portal: Portal, visitor: Visitor, service: Service):
        person = portal.bench.person(enrol=False)
        visitor.sign_in(person)
        headers = {"Authorization": f"Bearer {visitor.http.cookies[SESSION]}"}
        http = portal.server.http
        assert http.get("/api/methods/message", headers=headers).status_code == 409
        service.will(201, {"sid": "SM2"})
        body = {"number": f"0{next(NUMBERS)}"}
        begun = http.post("/api/methods/whatsapp", json=body, headers=headers)
        assert (begun.status_code, begun.json()["watched"]) == (201, True)
        code = lose(portal, service)
        assert http.get("/api/methods/message", headers=headers).json()["instead_of"] == "whatsapp"
        done = http.post("/api/methods/whatsapp/confirm", json={"code": code}, headers=headers)
        assert done.status_code == 204, done.text
        assert http.get("/api/methods", headers=headers).json()["phones"][0]["methods"] == ["sms"]
        assert [one["method"] for one in details(portal, person, "message-asked")] == ["sms"]


def with_phone_and_app(portal: Portal, visitor: Visitor, service: Service) -> Person:
    """Somebody whose telephone gets messages, and approves sign-ins by number."""

    def app() -> None:
        code = begin(visitor)
        confirm(visitor, code, SoftPhone(http=portal.server.http, origin=portal.origin).enrol(code).json()["number"])

    return with_phone(portal, visitor, service, also=app)
