"""Codes by text and WhatsApp message, over TLS, read from the development outbox."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import itertools
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from sqlalchemy import select

from tests.patience import until
from tests.server.conftest import Bench, Databases, Person, Server, make_bench, now, running, serving
from tests.server.outbox import newest_code, to_phones
from tokenbridge.errors import SendFailed, SendFault, SetupError
from tokenbridge.rig.pki import RigPki
from tokenbridge.server import settings
from tokenbridge.server.operator import office
from tokenbridge.server.senders import outbox
from tokenbridge.server.senders.port import Channel, Message
from tokenbridge.server.store import audit
from tokenbridge.server.store.method_schema import SentCode

MOBILE = "07400 123456"


@dataclass(kw_only=True)
class Desk:
    """A running server with an outbox, and somebody's session at it."""

    bench: Bench
    server: Server
    session: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(200_000))

    def call(self, method: str, path: str, body: Any = None, *, session: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {session or self.session}"}
        return self.server.http.request(method, path, json=body, headers=headers)

    def sign_in(self, person: Person) -> None:
        ticket = self.server.begin()
        self.session = self.server.card(ticket, person.card.token(ticket["nonce"])).json()["session"]["token"]

    def messages(self) -> list[dict[str, Any]]:
        return self.server.http.get("/api/outbox").json()["messages"]

    def code(self) -> str:
        return newest_code(self.server.http)

    def past(self) -> None:
        """Let the wait before the next message pass."""
        with self.bench.office() as opened, opened.database.write() as tx:
            for row in tx.scalars(select(SentCode)):
                row.created_at -= dt.timedelta(minutes=20)

    def with_phone(self, number: str = "") -> Person:
        number = number or f"07400 {next(self.numbers)}"
        person = self.bench.person()
        self.sign_in(person)
        begun = self.call("POST", "/api/methods/sms", {"number": number})
        assert begun.status_code == 201, begun.text
        done = self.call("POST", "/api/methods/sms/confirm", {"code": self.code()})
        assert done.status_code == 204, done.text
        return person

    def challenged(self, person: Person) -> dict[str, Any]:
        ticket = self.server.begin()
        self.offered = self.server.password(ticket, person.username).json()["methods"]
        return ticket

    def start(self, ticket: dict[str, Any], method: str = "sms") -> httpx.Response:
        return self.server.http.post(f"/api/sign-in/{ticket['transaction']}/start", json={"method": method})

    def present(self, ticket: dict[str, Any], code: str, method: str = "sms") -> httpx.Response:
        body = {"method": method, "code": code}
        return self.server.http.post(f"/api/sign-in/{ticket['transaction']}/code", json=body)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, pki: RigPki, databases: Databases) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("messages")
    bench = make_bench(folder, pki, database=databases.new(), outbox=True, phone_office=("+441615550",))
    bench.trust()
    with running(bench.data) as server:
        yield Desk(bench=bench, server=server)


def other(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


def test_a_code_from_a_text_message_signs_in(desk: Desk):
    person = desk.with_phone(MOBILE)
    ticket = desk.challenged(person)
    assert desk.offered == ["totp", "whatsapp", "sms", "voice"]
    begun = desk.start(ticket)
    assert begun.status_code == 200, begun.text
    assert begun.json()["sent_to"] == "*** *** 456"
    assert begun.json()["typed"] is True
    sent = to_phones(desk.server.http)[0]
    assert (sent["channel"], sent["to"]) == ("sms", "+447400123456")
    code = desk.code()
    assert sent["text"].endswith(f"\n\n@localhost #{code}")
    assert "Test Hospital" in sent["text"]
    assert "Do not share" in sent["text"]
    assert person.username not in sent["text"]
    outcome = desk.present(ticket, code).json()
    assert outcome["decision"] == "allow"
    assert (outcome["assurance"]["aal"], outcome["assurance"]["amr"]) == (2, ["pwd", "sms", "mfa"])
    assert desk.present(ticket, code).status_code == 409


def test_whatsapp_counts_only_as_what_was_started(desk: Desk):
    person = desk.with_phone()
    ticket = desk.challenged(person)
    assert desk.start(ticket, "whatsapp").json()["method"] == "whatsapp"
    assert to_phones(desk.server.http)[0]["channel"] == "whatsapp"
    assert desk.present(ticket, desk.code(), "sms").status_code == 409
    assert desk.present(ticket, desk.code(), "whatsapp").json()["decision"] == "allow"


def test_opting_out_of_whatsapp(desk: Desk):
    person = desk.with_phone()
    phone = desk.call("GET", "/api/methods").json()["phones"][0]
    assert phone["methods"] == ["sms", "voice", "whatsapp"]
    assert desk.call("PATCH", f"/api/phones/{phone['id']}", {"whatsapp": False}).status_code == 204
    desk.challenged(person)
    assert desk.offered == ["totp", "sms", "voice"]


def test_a_number_counts_only_once_it_is_confirmed(desk: Desk):
    person = desk.bench.person()
    desk.sign_in(person)
    desk.call("POST", "/api/methods/sms", {"number": MOBILE})
    assert desk.call("GET", "/api/methods").json()["phones"] == []
    wrong = desk.call("POST", "/api/methods/sms/confirm", {"code": other(desk.code())})
    assert (wrong.status_code, wrong.json()["error"]["reason"]) == (403, "code-wrong")
    desk.challenged(person)
    assert desk.offered == ["totp"]
    assert desk.call("POST", "/api/methods/sms/confirm", {"code": desk.code()}).status_code == 204
    assert desk.call("POST", "/api/methods/sms/confirm", {"code": desk.code()}).status_code == 403
    desk.challenged(person)
    assert desk.offered == ["totp", "whatsapp", "sms", "voice"]


def test_an_office_telephone_is_refused_with_the_reason(desk: Desk):
    desk.sign_in(desk.bench.person())
    before = to_phones(desk.server.http)
    answer = desk.call("POST", "/api/methods/sms", {"number": "0161 555 0123"})
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "office")
    assert to_phones(desk.server.http) == before


def test_what_was_not_offered_is_refused_and_counted(desk: Desk):
    ticket = desk.challenged(desk.bench.person())
    answers = [desk.start(ticket) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [409] * 5 + [429]
    assert answers[0].json()["error"]["code"] == "method-not-offered"
    assert desk.start(ticket).json()["error"]["code"] == "not-allowed-now"


def test_five_wrong_codes_end_the_sign_in(desk: Desk):
    ticket = desk.challenged(desk.with_phone())
    desk.start(ticket)
    code = desk.code()
    wrong = [desk.present(ticket, other(code)).status_code for _ in range(5)]
    assert wrong == [403] * 5
    assert desk.present(ticket, code).status_code == 429


def test_a_code_of_one_sign_in_is_nothing_in_another(desk: Desk):
    person = desk.with_phone()
    first = desk.challenged(person)
    desk.start(first)
    code = desk.code()
    desk.past()
    second = desk.challenged(person)
    desk.start(second)
    if desk.code() != code:
        assert desk.present(second, code).status_code == 403
    assert desk.present(first, code).json()["decision"] == "allow"


def test_the_next_message_has_to_wait_in_every_sign_in(desk: Desk):
    person = desk.with_phone()
    ticket = desk.challenged(person)
    assert desk.start(ticket).status_code == 200
    first = desk.code()
    for again in (ticket, desk.challenged(person)):
        refused = desk.start(again)
        assert refused.status_code == 429
        # The one that confirmed the number was used: it does not count.
        assert re.search(r"Wait (30|2\d) seconds", refused.json()["error"]["next_step"])
    desk.past()
    assert desk.start(ticket).status_code == 200
    if desk.code() != first:
        assert desk.present(ticket, first).status_code == 403
    assert desk.present(ticket, desk.code()).json()["decision"] == "allow"


def test_no_more_than_ten_messages_an_hour(desk: Desk):
    person = desk.with_phone("07400 999001")
    statuses = []
    for _ in range(10):
        desk.past()
        statuses.append(desk.start(desk.challenged(person)).status_code)
    assert statuses == [200] * 9 + [429]  # the one that confirmed the number counts as well


def test_one_of_two_at_once_wins(desk: Desk):
    ticket = desk.challenged(desk.with_phone("07400 999002"))
    desk.start(ticket)
    code = desk.code()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: desk.present(ticket, code), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]


def test_beginning_with_another_number_has_to_wait_too(desk: Desk):
    desk.sign_in(desk.bench.person())
    statuses = []
    for _ in range(3):
        body = {"number": f"07400 {next(desk.numbers)}"}
        statuses.append(desk.call("POST", "/api/methods/sms", body).status_code)
    assert statuses == [201, 429, 429]


def test_a_code_is_nothing_once_its_number_is_removed(desk: Desk):
    person = desk.with_phone()
    ticket = desk.challenged(person)
    desk.start(ticket)
    phone = desk.call("GET", "/api/methods").json()["phones"][0]
    assert desk.call("DELETE", f"/api/phones/{phone['id']}").status_code == 204
    assert desk.present(ticket, desk.code()).status_code == 403


def test_a_removed_number_is_not_offered(desk: Desk):
    person = desk.with_phone("07400 999003")
    phone = desk.call("GET", "/api/methods").json()["phones"][0]
    desk.sign_in(desk.bench.person())
    assert desk.call("DELETE", f"/api/phones/{phone['id']}").status_code == 404, "another account's"
    desk.sign_in(person)
    assert desk.call("DELETE", f"/api/phones/{phone['id']}").status_code == 204
    desk.challenged(person)
    assert desk.offered == ["totp"]


def test_changes_are_told_by_mail(desk: Desk):
    address = "ada@hospital.example"
    person = desk.bench.person(email=address)
    desk.sign_in(person)
    desk.call("POST", "/api/methods/sms", {"number": f"07400 {next(desk.numbers)}"})
    desk.call("POST", "/api/methods/sms/confirm", {"code": desk.code()})
    phone = desk.call("GET", "/api/methods").json()["phones"][0]
    desk.call("DELETE", f"/api/phones/{phone['id']}")

    def told() -> list[str]:
        return [sent["subject"] for sent in desk.messages() if sent["to"] == address]

    until(lambda: len(told()) == 2, "two notices")
    assert set(told()) == {"Test Hospital: a phone number was set up", "Test Hospital: a phone number was removed"}


def test_a_weak_session_sets_nothing_up(desk: Desk):
    """The account has a card: what a password and an app reach is less, and must not add a telephone."""
    person, ticket = desk.bench.person(), desk.server.begin()
    desk.server.password(ticket, person.username)
    weak = desk.server.code(ticket, person.code()).json()["session"]["token"]
    answer = desk.call("POST", "/api/methods/sms", {"number": MOBILE}, session=weak)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "step-up")


def test_a_new_app_counts_when_its_code_was_typed(desk: Desk):
    person = desk.bench.person()
    desk.sign_in(person)
    begun = desk.call("POST", "/api/methods/totp", {"algorithm": "sha256"}).json()
    new = pyotp.parse_uri(begun["uri"])
    ticket = desk.challenged(person)
    assert desk.present(ticket, person.code(), "totp").json()["decision"] == "allow", "the old one is still in force"
    assert desk.call("POST", "/api/methods/totp/confirm", {"code": person.code()}).status_code == 403
    assert desk.call("POST", "/api/methods/totp/confirm", {"code": new.now()}).status_code == 204
    ticket = desk.challenged(person)
    assert desk.present(ticket, new.now(), "totp").status_code == 403, "spent when it confirmed the app"
    assert desk.present(ticket, new.at(now() + dt.timedelta(seconds=30)), "totp").json()["decision"] == "allow"


def test_a_stolen_database_tells_neither_number_nor_code(desk: Desk):
    ticket = desk.challenged(desk.with_phone("07400 999004"))
    desk.start(ticket)
    code = desk.code()
    dump = "\n".join(sqlite3.connect(desk.bench.data / "server.db").iterdump())
    assert "7400999004" not in dump
    assert f"#{code}" not in dump
    assert "7400999004" not in (desk.bench.data / "server.log").read_text()
    assert code not in (desk.bench.data / "server.log").read_text()


def test_numbers_outlive_the_rotation_of_keys(tmp_path: Path, pki: RigPki):
    bench = make_bench(tmp_path, pki, outbox=True)
    bench.trust()
    with serving(bench.data) as server:
        mine = Desk(bench=bench, server=server)
        person = mine.with_phone()
        with bench.office() as opened:
            office.rotate_keys(opened)
        mine.past()
        ticket = mine.challenged(person)
        assert mine.start(ticket).status_code == 200
        assert mine.present(ticket, mine.code()).json()["decision"] == "allow"


class TestFailures:
    @pytest.fixture
    def mine(self, tmp_path: Path, pki: RigPki) -> Iterator[Desk]:
        bench = make_bench(tmp_path, pki, outbox=True)
        bench.trust()
        with serving(bench.data) as server:
            yield Desk(bench=bench, server=server)

    def test_a_number_without_whatsapp_gets_a_text_message(self, mine: Desk, monkeypatch: pytest.MonkeyPatch):
        person, send = mine.with_phone(), outbox.Outbox.send

        def picky(self: outbox.Outbox, message: Message) -> None:
            if message.channel is Channel.WHATSAPP:
                raise SendFailed(SendFault.RECIPIENT)
            send(self, message)

        monkeypatch.setattr(outbox.Outbox, "send", picky)
        ticket = mine.challenged(person)
        begun = mine.start(ticket, "whatsapp")
        assert begun.json()["method"] == "sms"
        assert mine.present(ticket, mine.code()).json()["decision"] == "allow"
        mine.challenged(person)
        assert mine.offered == ["totp", "sms", "voice"]

    def test_what_did_not_get_out_can_be_asked_for_again_at_once(self, mine: Desk, monkeypatch: pytest.MonkeyPatch):
        person = mine.with_phone()
        ticket = mine.challenged(person)
        with monkeypatch.context() as patch:

            def broken(self: outbox.Outbox, message: Message) -> None:
                raise SendFailed(SendFault.UNREACHABLE, detail="no route")

            patch.setattr(outbox.Outbox, "send", broken)
            answer = mine.start(ticket)
            assert (answer.status_code, answer.json()["error"]["reason"]) == (502, "unreachable")
            assert "no route" not in answer.text
        assert mine.start(ticket).status_code == 200
        assert mine.present(ticket, mine.code()).json()["decision"] == "allow"


def test_no_outbox_without_the_setting(server: Server):
    assert server.http.get("/api/outbox").status_code == 404


def test_no_outbox_beyond_loopback(tmp_path: Path):
    with pytest.raises(SetupError, match="loopback"):
        settings.check(settings.Settings(data=tmp_path, outbox=True, host="0.0.0.0"))
    with pytest.raises(SetupError, match="loopback only"):
        settings.check(settings.Settings(data=tmp_path, outbox=True, origin="https://sso.hospital.example"))


def test_messages_are_on_record(desk: Desk):
    person = desk.with_phone()
    ticket = desk.challenged(person)
    desk.past()
    assert desk.start(ticket).status_code == 200
    assert desk.start(ticket).status_code == 429
    with desk.bench.office() as opened, opened.database.read() as tx:
        found = [entry.event for entry in audit.entries(tx, account=person.username)]
    assert found[-2:] == ["message-asked", "message-not-sent"]


def test_what_cannot_be_sent_any_more_is_not_offered(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    person = desk.with_phone()
    monkeypatch.setenv("TOKENBRIDGE_SERVER_OUTBOX", "false")
    with serving(desk.bench.data) as server:
        outcome = server.password(server.begin(), person.username).json()
    assert (outcome["decision"], outcome["methods"]) == ("challenge", ["totp"])
