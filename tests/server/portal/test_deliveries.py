"""Messages that did not get there: who may say so, what that does, and that it is said once and to nobody else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from twilio.request_validator import RequestValidator

from tests.patience import until
from tests.server.conftest import Databases, Person
from tests.server.portal.conftest import Portal, Visitor, portal_at
from tests.server.portal.test_lost import trail
from tests.server.test_senders import ACCOUNT, SECRET, SERVICE, TOKEN, Service, answering, secret
from tokenbridge.errors import SetupError
from tokenbridge.server import settings
from tokenbridge.server.operator import security_keys
from tokenbridge.server.senders import choice
from tokenbridge.server.store import accounts, phones

SHOWN = "a-token-for-the-callbacks-of-notify"
CALLBACK = "https://sign-in.example.org"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with answering() as made:
        yield made


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases, service: Service) -> Iterator[Portal]:
    with reporting(tmp_path_factory.mktemp("deliveries"), databases, service) as made:
        yield made


@contextmanager
def reporting(folder: Path, databases: Databases, service: Service, **more: Any) -> Iterator[Portal]:
    """Text messages by GOV.UK Notify, WhatsApp by Twilio, and both report."""
    with portal_at(
        folder / "data",
        database=databases.new(),
        sms_sender="notify",
        notify_url=service.url,
        notify_key_file=secret(folder, "notify", f"key-{SERVICE}-{SECRET}"),
        notify_template="t",
        notify_callback_token_file=secret(folder, "callback", f"{SHOWN}\n"),
        twilio_url=service.url,
        twilio_account=ACCOUNT,
        twilio_token_file=secret(folder, "twilio", TOKEN),
        twilio_whatsapp_from="+447700900001",
        twilio_callback=CALLBACK,
        twilio_reports=True,
        **more,
    ) as made:
        yield made


NUMBERS = iter(range(7400_400_000, 7400_500_000))


def sent(service: Service) -> dict[str, Any]:
    """The newest message, as its service was asked to send it."""
    path, _, body = service.asked[-1]
    if path.startswith("/v2/"):
        return dict(json.loads(body))
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


def code_of(service: Service) -> str:
    told = sent(service)
    text = told["personalisation"]["message"] if "personalisation" in told else told["Body"]
    return str(re.findall(r"\b\d{6}\b", text)[0])


def with_phone(
    portal: Portal, visitor: Visitor, service: Service, *, also: Callable[[], object] = lambda: None
) -> Person:
    """Confirmed by a text message; `also` is done in the same session. The visitor is signed out again."""
    person = portal.bench.person(enrol=False)
    visitor.sign_in(person)
    also()
    visitor.get("/self-service/phone/add")
    service.will(201, {"id": "1"})
    page = visitor.send("/self-service/phone/add", {"number": f"0{next(NUMBERS)}"})
    assert "Type the code" in page.text, page.text
    visitor.last = page
    visitor.send("/self-service/phone/confirm", {"code": code_of(service)})
    visitor.http.cookies.clear()
    return person


def prove_by_recovery(portal: Portal, visitor: Visitor, person: Person) -> None:
    """The first of the two proofs of a password reset."""
    with portal.bench.office() as office:
        codes = security_keys.new_recovery_codes(office, person.username)
    visitor.get("/password-reset")
    visitor.send("/password-reset", {"username": person.username})
    visitor.send("/password-reset/step", {"by": "recovery", "code": codes[0]})


def asked(portal: Portal, visitor: Visitor, service: Service, by: str) -> Person:
    """A sign-in whose message is on its way."""
    person = with_phone(portal, visitor, service)
    visitor.sign_in_by_password(person.username)
    visitor.get(f"/sign-in/step?by={by}")
    service.will(201, {"id": "2", "sid": "SM2"})
    page = visitor.post("/sign-in/send", {"by": by})
    assert page.status_code == 200, page.text
    address = "/sign-in/message" + ("?by=whatsapp" if by == "whatsapp" else "")
    assert f'data-message="{address}"' in page.text
    visitor.last = page
    return person


def by_notify(portal: Portal, reference: str, status: str = "permanent-failure", token: str = SHOWN) -> httpx.Response:
    told = {"id": SERVICE, "reference": reference, "to": "07400", "status": status, "notification_type": "sms"}
    headers = {"authorization": f"Bearer {token}"}
    return portal.server.http.post("/hooks/notify/delivery", json=told, headers=headers)


def by_twilio(portal: Portal, address: str, *, signed: str | None = None, **fields: str) -> httpx.Response:
    form = {"MessageSid": "SM2", "AccountSid": ACCOUNT, "MessageStatus": "undelivered", "ErrorCode": "63024", **fields}
    signature = RequestValidator(TOKEN).compute_signature(address, form) if signed is None else signed
    headers = {"X-Twilio-Signature": signature}
    return portal.server.http.post(address.removeprefix(CALLBACK), data=form, headers=headers)


def waiting(visitor: Visitor, path: str = "/sign-in/message") -> bool:
    return bool(visitor.http.get(path).json()["undelivered"])


def quiet(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.content) == (204, b"")


def recorded(portal: Portal, person: Person) -> list[str]:
    return [detail for event, detail in trail(portal, person.username) if event == "message-undelivered"]


class TestNotify:
    def test_a_text_message_that_did_not_get_there_is_told_and_another_way_is_taken(
        self, portal: Portal, visitor: Visitor, service: Service
    ):
        person = asked(portal, visitor, service, "sms")
        reference, code = sent(service)["reference"], code_of(service)
        assert not waiting(visitor)
        assert quiet(by_notify(portal, reference))
        assert waiting(visitor)
        page = visitor.get("/sign-in/step?by=sms")
        assert "The message could not be delivered" in page.text
        assert "Use your authenticator app" in page.text
        assert visitor.send("/sign-in/step", {"by": "sms", "code": code}).status_code == 403, "its code is nothing"
        assert recorded(portal, person) == ["permanent-failure"]
        visitor.get("/sign-in/step?by=totp")
        assert visitor.send("/sign-in/step", {"by": "totp", "code": person.code(1)}).url.path == "/signed-in"
        assert "could not be delivered" in visitor.get("/activity").text

    def test_another_one_may_be_sent_at_once(self, portal: Portal, visitor: Visitor, service: Service):
        """It took no time of the wait: that is for those which may still arrive."""
        asked(portal, visitor, service, "sms")
        by_notify(portal, sent(service)["reference"])
        visitor.get("/sign-in/step?by=sms")
        service.will(201, {"id": "3"})
        page = visitor.post("/sign-in/send", {"by": "sms"})
        assert (page.status_code, waiting(visitor)) == (200, False)
        visitor.last = page
        assert visitor.send("/sign-in/step", {"by": "sms", "code": code_of(service)}).url.path == "/signed-in"

    def test_saying_it_again_does_nothing(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "sms")
        reference = sent(service)["reference"]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: by_notify(portal, reference), range(4)))
        assert all(map(quiet, answers))
        assert recorded(portal, person) == ["permanent-failure"], "one of four at once"

    def test_of_a_code_that_was_used_nothing_is_said(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "sms")
        reference = sent(service)["reference"]
        assert visitor.send("/sign-in/step", {"by": "sms", "code": code_of(service)}).url.path == "/signed-in"
        assert quiet(by_notify(portal, reference))
        assert recorded(portal, person) == []

    @pytest.mark.parametrize("status", ["delivered", "sending", "temporary-failure", "", "x" * 5000])
    def test_other_reports_change_nothing(self, portal: Portal, visitor: Visitor, service: Service, status: str):
        person = asked(portal, visitor, service, "sms")
        assert quiet(by_notify(portal, sent(service)["reference"], status))
        assert (waiting(visitor), recorded(portal, person)) == (False, [])

    def test_only_who_shows_the_token_says_anything(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "sms")
        reference = sent(service)["reference"]
        for token in ("", "x", SHOWN[:-1], SHOWN + "x", SHOWN.upper(), "é"):
            headers = {"authorization": f"Bearer {token}".strip().encode()}
            told = {"reference": reference, "status": "permanent-failure"}
            answer = portal.server.http.post("/hooks/notify/delivery", json=told, headers=headers)
            assert answer.status_code == 403, token
        assert portal.server.http.post("/hooks/notify/delivery", json={}).status_code == 403
        assert recorded(portal, person) == []

    @pytest.mark.parametrize(
        "body",
        [b"", b"[]", b"null", b"{", b'"x"', b"\xff", b"[" * 10_000, b'{"status": "permanent-failure"}']
        + [json.dumps({"status": "permanent-failure", "reference": found}).encode() for found in (None, 1, [], "", "x")]
        + [json.dumps({"status": "permanent-failure", "reference": "x" * 5000}).encode()],
    )
    def test_whatever_else_is_said_gets_the_same_answer(self, portal: Portal, body: bytes):
        headers = {"authorization": f"Bearer {SHOWN}"}
        assert quiet(portal.server.http.post("/hooks/notify/delivery", content=body, headers=headers))

    def test_too_large_a_body(self, portal: Portal):
        headers = {"authorization": f"Bearer {SHOWN}"}
        answer = portal.server.http.post("/hooks/notify/delivery", content=b"x" * 20_000, headers=headers)
        assert answer.status_code == 413

    def test_a_number_that_is_set_up(self, portal: Portal, visitor: Visitor, service: Service):
        person = portal.bench.person(enrol=False)
        visitor.sign_in(person)
        visitor.get("/self-service/phone/add")
        service.will(201, {"id": "1"})
        page = visitor.send("/self-service/phone/add", {"number": f"0{next(NUMBERS)}"})
        assert 'data-message="/self-service/phone/message"' in page.text
        assert not waiting(visitor, "/self-service/phone/message")
        by_notify(portal, sent(service)["reference"])
        assert waiting(visitor, "/self-service/phone/message")
        assert "could not be delivered" in visitor.get("/self-service/phone/undelivered").text
        assert recorded(portal, person) == ["permanent-failure"]

    def test_a_password_reset(self, portal: Portal, visitor: Visitor, service: Service):
        person = with_phone(portal, visitor, service)
        prove_by_recovery(portal, visitor, person)
        service.will(201, {"id": "1"})
        page = visitor.post("/password-reset/send", {"by": "sms"})
        assert 'data-message="/password-reset/message"' in page.text
        assert not waiting(visitor, "/password-reset/message")
        by_notify(portal, sent(service)["reference"])
        assert waiting(visitor, "/password-reset/message")
        page = visitor.get("/password-reset/step?by=sms")
        assert "The message could not be delivered" in page.text
        assert "Use your authenticator app" in page.text


class TestTwilio:
    def test_a_number_that_is_not_on_whatsapp_gets_text_messages_first_from_now_on(
        self, portal: Portal, visitor: Visitor, service: Service
    ):
        person = asked(portal, visitor, service, "whatsapp")
        address = sent(service)["StatusCallback"]
        assert address.startswith(f"{CALLBACK}/hooks/twilio/message/")
        service.will(201, {"id": "1"})
        assert quiet(by_twilio(portal, address))
        assert recorded(portal, person) == ["undelivered, error 63024"]
        with portal.bench.office() as office, office.database.read() as tx:
            (row,) = phones.of(tx, accounts.get(tx, person.username).id)
            assert not row.whatsapp
        until(lambda: not service.answers, "the text message")

    def test_what_says_nothing_of_the_number_leaves_whatsapp_on(
        self, portal: Portal, visitor: Visitor, service: Service
    ):
        person = asked(portal, visitor, service, "whatsapp")
        service.will(201, {"id": "1"})
        by_twilio(portal, sent(service)["StatusCallback"], MessageStatus="failed", ErrorCode="30008")
        assert recorded(portal, person) == ["failed, error 30008"]
        with portal.bench.office() as office, office.database.read() as tx:
            assert phones.of(tx, accounts.get(tx, person.username).id)[0].whatsapp
        until(lambda: not service.answers, "the text message")

    @pytest.mark.parametrize("status", ["queued", "sent", "delivered", "read", "", "FAILED"])
    def test_other_reports_change_nothing(self, portal: Portal, visitor: Visitor, service: Service, status: str):
        person = asked(portal, visitor, service, "whatsapp")
        assert quiet(by_twilio(portal, sent(service)["StatusCallback"], MessageStatus=status))
        assert (waiting(visitor), recorded(portal, person)) == (False, [])

    def test_only_what_twilio_has_signed_for_this_address(self, portal: Portal, visitor: Visitor, service: Service):
        person = asked(portal, visitor, service, "whatsapp")
        address = sent(service)["StatusCallback"]
        good = RequestValidator(TOKEN).compute_signature(address, {"MessageStatus": "failed"})
        for signed in ("", "x", good, RequestValidator("another").compute_signature(address, {})):
            assert by_twilio(portal, address, signed=signed).status_code == 403
        form = {"MessageSid": "SM2", "AccountSid": ACCOUNT, "MessageStatus": "undelivered", "ErrorCode": "1"}
        elsewhere = RequestValidator(TOKEN).compute_signature(f"{CALLBACK}/hooks/twilio/message/other", form)
        assert by_twilio(portal, address, signed=elsewhere, ErrorCode="1").status_code == 403
        assert recorded(portal, person) == []

    def test_unknown_references_and_strange_errors(self, portal: Portal):
        for reference in ("nobody", "x" * 64):
            assert quiet(by_twilio(portal, f"{CALLBACK}/hooks/twilio/message/{reference}"))
        for error in ("", "x", "1" * 50, "-1"):
            assert quiet(by_twilio(portal, f"{CALLBACK}/hooks/twilio/message/y", ErrorCode=error))
        assert by_twilio(portal, f"{CALLBACK}/hooks/twilio/message/{'x' * 65}").status_code == 403

    def test_calls_are_not_made_here_so_nothing_is_told_of_them(self, portal: Portal):
        assert by_twilio(portal, f"{CALLBACK}/hooks/twilio/voice/x").status_code == 404


class TestOff:
    """Unless it is set up there is no such address, and nobody is asked to report."""

    @pytest.fixture
    def plain(self, portal: Portal) -> settings.Settings:
        return settings.changed(settings.load(portal.bench.data), twilio_reports=False)

    def test_by_the_settings(self, plain: settings.Settings):
        assert choice.reports_of(plain).any, "Notify still does"
        off = settings.dataclasses.replace(plain, notify_callback_token_file=None)
        assert not choice.reports_of(off).any
        assert not choice.reports_of(settings.dataclasses.replace(plain, outbox=True)).any
        assert SHOWN not in repr(choice.reports_of(plain))

    def test_a_weak_token_is_no_token(self, plain: settings.Settings, tmp_path: Any):
        for text in ("short", "x" * 19, "with a blank in the middle", "é" * 30):
            changed = settings.changed(plain, notify_callback_token_file=secret(tmp_path, "weak", text))
            with pytest.raises(SetupError, match="notify_callback_token_file"):
                choice.reports_of(changed)
        open_ = settings.changed(plain, notify_callback_token_file=secret(tmp_path, "open", SHOWN, 0o644))
        with pytest.raises(SetupError, match="open to others"):
            choice.reports_of(open_)

    def test_without_it_pages_ask_nothing(self, tmp_path: Any, databases: Databases):
        with portal_at(tmp_path / "data", database=databases.new(), outbox=True) as other:
            assert other.server.http.post("/hooks/notify/delivery", json={}).status_code == 404
            assert other.server.http.post("/hooks/twilio/message/x", data={}).status_code == 404
            visitor = other.visitor()
            with visitor.http:
                person = other.bench.person(enrol=False)
                visitor.sign_in(person)
                visitor.get("/self-service/phone/add")
                page = visitor.send("/self-service/phone/add", {"number": f"0{next(NUMBERS)}"})
                assert "Type the code" in page.text
                assert "data-message" not in page.text
                assert not waiting(visitor, "/self-service/phone/message")
