"""Voice calls: confirmed by #, declined by *, answered once; and what only the telephone service may tell."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from sqlalchemy import select
from twilio.request_validator import RequestValidator

from tests.server.conftest import Databases, Person, make_bench, now, running
from tests.server.test_messages import Desk
from tests.server.test_senders import ACCOUNT, TOKEN, Service, answering, secret
from tokenbridge.errors import SetupError
from tokenbridge.rig.pki import RigPki
from tokenbridge.server import settings
from tokenbridge.server.message_limits import limits_of
from tokenbridge.server.senders import choice
from tokenbridge.server.senders.outbox import Outbox
from tokenbridge.server.store import accounts, audit, phones, throttle
from tokenbridge.server.store.approval_schema import Approval

CALLBACK = "https://sign-in.example.org"


@dataclasses.dataclass(kw_only=True)
class Caller(Desk):
    """A server whose calls are made by Twilio's API, which `service` stands for."""

    service: Service

    def called(self, person: Person) -> tuple[dict[str, Any], str]:
        """A sign-in that has the person called, and the address for the key that is pressed."""
        ticket = self.challenged(person)
        self.service.will(201, {"sid": "CA1", "status": "queued"})
        begun = self.start(ticket, "voice")
        assert begun.status_code == 200, begun.text
        assert (begun.json()["typed"], begun.json()["sent_to"][-3:]) == (False, self.last(person))
        return ticket, self.gather().attrib["action"]

    def last(self, person: Person) -> str:
        return self.numbers_of[person.username][-3:]

    def gather(self) -> ElementTree.Element:
        form = dict(httpx.QueryParams(self.service.asked[-1][2].decode()))
        found = ElementTree.fromstring(form["Twiml"]).find("Gather")
        assert found is not None
        return found

    def press(self, address: str, key: str, *, signed: str | None = None, **fields: str) -> httpx.Response:
        """Tell the server as Twilio does, signed by Twilio's own library."""
        form = {"CallSid": "CA1", "AccountSid": ACCOUNT, "Digits": key, "SpeechResult": "", **fields}
        signed = RequestValidator(TOKEN).compute_signature(address, form) if signed is None else signed
        path = address.removeprefix(CALLBACK)
        return self.server.http.post(path, data=form, headers={"X-Twilio-Signature": signed})

    def ends(self, status: str, *, signed: str | None = None) -> httpx.Response:
        """Twilio reports how the newest call has ended."""
        return self.report(self.status_address(), status, signed=signed)

    def status_address(self) -> str:
        return dict(httpx.QueryParams(self.service.asked[-1][2].decode()))["StatusCallback"]

    def report(self, address: str, status: str, *, signed: str | None = None) -> httpx.Response:
        form = {"CallSid": "CA1", "AccountSid": ACCOUNT, "CallStatus": status, "SequenceNumber": "0"}
        signed = RequestValidator(TOKEN).compute_signature(address, form) if signed is None else signed
        headers = {"X-Twilio-Signature": signed}
        return self.server.http.post(address.removeprefix(CALLBACK), data=form, headers=headers)

    def asked(self, ticket: dict[str, Any]) -> dict[str, Any]:
        return dict(self.server.http.get(f"/api/sign-in/{ticket['transaction']}/approval").json())

    def answered(self, ticket: dict[str, Any]) -> httpx.Response:
        return self.server.http.post(f"/api/sign-in/{ticket['transaction']}/approval")

    def somebody(self) -> Person:
        """With a number that a text message has confirmed."""
        person, number = self.bench.person(), f"07400{next(self.numbers)}"
        self.numbers_of[person.username] = number
        self.sign_in(person)
        self.service.will(201, {"sid": "SM1"})
        assert self.call("POST", "/api/methods/sms", {"number": number}).status_code == 201
        text = dict(httpx.QueryParams(self.service.asked[-1][2].decode()))["Body"]
        code = re.findall(r"\b\d{6}\b", text)[0]
        assert self.call("POST", "/api/methods/sms/confirm", {"code": code}).status_code == 204
        return person

    def events(self, person: Person) -> list[str]:
        with self.bench.office() as office, office.database.read() as tx:
            return [entry.event for entry in audit.entries(tx, account=person.username)]

    numbers_of: dict[str, str] = dataclasses.field(default_factory=dict)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with answering() as made:
        yield made


@pytest.fixture(scope="module")
def caller(
    tmp_path_factory: pytest.TempPathFactory, pki: RigPki, service: Service, databases: Databases
) -> Iterator[Caller]:
    folder = tmp_path_factory.mktemp("calls")
    bench = make_bench(
        folder / "data",
        pki,
        database=databases.new(),
        sms_sender="twilio",
        twilio_url=service.url,
        twilio_account=ACCOUNT,
        twilio_token_file=secret(folder, "twilio", TOKEN),
        twilio_from="+447700900000",
        twilio_voice_from="+447700900002",
        twilio_callback=CALLBACK,
        twilio_reports=True,
    )
    bench.trust()
    with running(bench.data) as server:
        yield Caller(bench=bench, server=server, service=service)


def heard(answer: httpx.Response) -> str:
    assert answer.headers["content-type"].startswith("application/xml")
    return ElementTree.fromstring(answer.text).findtext("Say") or ""


def test_hash_confirms(caller: Caller):
    person = caller.somebody()
    ticket, address = caller.called(person)
    path, _, body = caller.service.asked[-1]
    form = dict(httpx.QueryParams(body.decode()))
    assert path == f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
    assert (form["To"], form["From"]) == (f"+44{caller.numbers_of[person.username][1:]}", "+447700900002")
    assert address.startswith(f"{CALLBACK}/hooks/twilio/voice/")
    assert (caller.gather().attrib["finishOnKey"], caller.gather().attrib["numDigits"]) == ("", "1")
    spoken = " ".join(caller.gather().itertext())
    assert "Test Hospital" in spoken
    assert person.username not in spoken
    assert caller.answered(ticket).json()["error"]["code"] == "not-answered"
    assert "Thank you" in heard(caller.press(address, "#"))
    outcome = caller.answered(ticket).json()
    assert outcome["decision"] == "allow"
    assert (outcome["assurance"]["aal"], outcome["assurance"]["amr"]) == (2, ["pwd", "tel", "mfa"])
    assert caller.answered(ticket).status_code == 409, "used once"
    assert "approval-given" in caller.events(person)


def test_star_declines_and_nobody_is_called_for_a_while(caller: Caller):
    person = caller.somebody()
    ticket, address = caller.called(person)
    assert "stopped" in heard(caller.press(address, "*"))
    refused = caller.answered(ticket)
    assert (refused.status_code, refused.json()["error"]["reason"]) == (403, "declined")
    assert caller.start(caller.challenged(person), "voice").status_code == 429
    assert "approval-denied" in caller.events(person)


class TestNotTaken:
    @pytest.mark.parametrize(
        ("status", "what", "said"),
        [
            ("busy", "busy", "Your phone was busy."),
            ("no-answer", "unanswered", "Nobody answered the call."),
            ("failed", "unreached", "The call did not get through."),
            ("canceled", "unreached", "The call did not get through."),
        ],
    )
    def test_it_is_told_and_another_call_is_made_after_the_wait(
        self, caller: Caller, status: str, what: str, said: str
    ):
        person = caller.somebody()
        ticket, address = caller.called(person)
        assert caller.status_address().startswith(f"{CALLBACK}/hooks/twilio/call/")
        assert caller.asked(ticket)["answered"] is False
        assert (caller.ends(status).status_code, caller.ends(status).content) == (204, b"")
        found = caller.asked(ticket)
        assert (found["answered"], found["not_taken"], found["message"]) == (True, what, said)
        error = caller.answered(ticket).json()["error"]
        assert (error["reason"], error["message"], error["retry"]) == ("approval-failed", said, "again")
        assert re.fullmatch(r"Wait \d+ seconds, then have us call again, or use another method\.", error["next_step"])
        assert caller.answered(ticket).status_code == 409, "told once"
        assert "over" in heard(caller.press(address, "#")), "nothing answers it any more"
        assert caller.events(person).count("call-not-taken") == 1
        assert caller.start(ticket, "voice").status_code == 429, "the back-off holds"
        past_calls(caller, person)
        caller.service.will(201, {"sid": "CA2", "status": "queued"})
        assert caller.start(ticket, "voice").status_code == 200
        assert "Thank you" in heard(caller.press(caller.gather().attrib["action"], "#"))
        assert caller.answered(ticket).json()["decision"] == "allow"

    @pytest.mark.parametrize("status", ["completed", "ringing", "in-progress", "", "BUSY", "x" * 5000])
    def test_other_reports_change_nothing(self, caller: Caller, status: str):
        ticket, _ = caller.called(caller.somebody())
        assert caller.ends(status).status_code == 204
        assert caller.answered(ticket).json()["error"]["code"] == "not-answered"

    def test_what_was_answered_stays_so(self, caller: Caller):
        person = caller.somebody()
        ticket, address = caller.called(person)
        assert "Thank you" in heard(caller.press(address, "#"))
        assert caller.ends("busy").status_code == 204
        assert caller.answered(ticket).json()["decision"] == "allow"
        assert "call-not-taken" not in caller.events(person)

    def test_of_an_answer_and_reports_at_once_one_counts(self, caller: Caller):
        for _ in range(5):
            person = caller.somebody()
            ticket, address = caller.called(person)
            barrier = threading.Barrier(6)

            def tell(key: str) -> bool:
                barrier.wait()  # noqa: B023
                return "Thank you" in heard(caller.press(address, key)) if key else caller.ends("busy").is_error  # noqa: B023

            with ThreadPoolExecutor(6) as pool:
                confirmed = any(pool.map(tell, ["", "#", "", "#", "", "#"]))
            assert caller.answered(ticket).status_code == (200 if confirmed else 403)
            assert caller.events(person).count("call-not-taken") == (0 if confirmed else 1)

    def test_only_what_twilio_has_signed_for_this_address(self, caller: Caller):
        ticket, answers = caller.called(caller.somebody())
        elsewhere = RequestValidator(TOKEN).compute_signature(answers, {"CallStatus": "busy"})
        for signed in ("", "x", elsewhere, RequestValidator("another").compute_signature(caller.status_address(), {})):
            assert caller.ends("busy", signed=signed).status_code == 403
        for handle in ("nobody", "x" * 64):
            assert caller.report(f"{CALLBACK}/hooks/twilio/call/{handle}", "busy").status_code == 204
        assert caller.report(f"{CALLBACK}/hooks/twilio/call/{'x' * 65}", "busy").status_code == 403
        assert caller.answered(ticket).json()["error"]["code"] == "not-answered"


def past_calls(caller: Caller, person: Person) -> None:
    """Let the wait before the next call pass."""
    with caller.bench.office() as office, office.database.write() as tx:
        account = accounts.get(tx, person.username)
        for row in tx.scalars(select(Approval).where(Approval.account_id == account.id)):
            row.created_at -= dt.timedelta(minutes=20)


def test_another_key_and_a_mailbox_do_nothing(caller: Caller):
    ticket, address = caller.called(caller.somebody())
    for key in ("1", "", "##", "0#"):
        assert "nothing was done" in heard(caller.press(address, key))
    assert caller.answered(ticket).json()["error"]["code"] == "not-answered"
    assert "Thank you" in heard(caller.press(address, "#"))


def test_a_call_is_answered_once_and_in_time(caller: Caller):
    person = caller.somebody()
    ticket, address = caller.called(person)
    barrier = threading.Barrier(4)

    def press(key: str) -> str:
        barrier.wait()
        return heard(caller.press(address, key))

    with ThreadPoolExecutor(4) as pool:
        words = Counter(pool.map(press, "#*#*"))
    assert words["That is over already."] == 3
    assert caller.answered(ticket).status_code in (200, 403)
    with caller.bench.office() as office, office.database.write() as tx:
        account = accounts.get(tx, person.username)
        for row in tx.scalars(select(Approval).where(Approval.account_id == account.id)):
            row.stage, row.expires_at = "asked", now()
    assert "over" in heard(caller.press(address, "#"))


def test_only_what_twilio_has_signed_is_heard(caller: Caller):
    ticket, address = caller.called(caller.somebody())
    other = address[:-1] + ("A" if address[-1] != "A" else "B")
    good = RequestValidator(TOKEN).compute_signature(address, {"Digits": "#"})
    wrong = RequestValidator("another-token").compute_signature(address, {"Digits": "#"})
    for at, signed in ((address, wrong), (address, ""), (address, "é"), (other, good), (address, good)):
        headers = {"X-Twilio-Signature": signed.encode()}
        fields = {"Digits": "#", **({"More": "x"} if at == address and signed == good else {})}
        answer = caller.server.http.post(at.removeprefix(CALLBACK), data=fields, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin-refused")
    path = address.removeprefix(CALLBACK)
    twice = caller.server.http.post(path, content=b"Digits=%23&Digits=*", headers={"X-Twilio-Signature": good})
    assert twice.status_code == 400
    many = caller.server.http.post(path, content=b"&".join(b"a%d=1" % at for at in range(200)))
    assert many.status_code == 400
    assert caller.answered(ticket).json()["error"]["code"] == "not-answered"


def test_a_call_that_can_not_be_made_is_no_question(caller: Caller):
    person = caller.somebody()
    ticket = caller.challenged(person)
    caller.service.will(400, {"code": 21211})
    answer = caller.start(ticket, "voice")
    assert answer.json()["error"]["code"] == "send-failed"
    assert caller.answered(ticket).status_code == 409


def test_calls_can_be_switched_off_for_a_number(caller: Caller):
    person = caller.somebody()
    phone = caller.call("GET", "/api/methods").json()["phones"][0]
    assert phone["methods"] == ["sms", "voice"]
    assert caller.call("PATCH", f"/api/phones/{phone['id']}", {"voice": False}).status_code == 204
    assert "voice" not in [*caller.call("GET", "/api/methods").json()["methods"], *offered(caller, person)]
    assert caller.call("PATCH", f"/api/phones/{phone['id']}", {"voice": True}).status_code == 204
    assert "voice" in offered(caller, person)


def offered(caller: Caller, person: Person) -> list[str]:
    caller.challenged(person)
    return caller.offered


def test_calls_count_with_the_messages(caller: Caller):
    """Ten an hour to one number, whichever way."""
    person = caller.somebody()
    with caller.bench.office() as office, office.database.write() as tx:
        limit = limits_of(office.settings).number
        number = phones.of(tx, accounts.get(tx, person.username).id)[0].number_hash
        assert [throttle.allow(tx, limit, number, now()) for _ in range(limit.most)].count(False) == 1
    assert caller.start(caller.challenged(person), "voice").status_code == 429


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"twilio_voice_from": "0161"}, "twilio_voice_from"),
        ({"twilio_callback": "http://example.org"}, "twilio_callback"),
    ],
)
def test_settings_that_can_not_work(tmp_path, pki: RigPki, change: dict[str, str], told: str):
    wanted = settings.Settings(
        data=tmp_path,
        twilio_account=ACCOUNT,
        twilio_token_file=secret(tmp_path, "twilio", TOKEN),
        **{"twilio_voice_from": "+447700900002", **change},
    )
    with pytest.raises(SetupError, match=told):
        choice.senders_of(wanted, Outbox.__new__(Outbox))
