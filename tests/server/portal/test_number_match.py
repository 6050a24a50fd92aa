"""Number matching as telephones do it, over the API: set up, asked, answered, and everything that must not work."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as dt
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import pytest

from tests.server.conftest import Person, now
from tests.server.portal.conftest import Portal, Visitor
from tests.server.soft_phone import SoftPhone, base64url, forged
from tokenbridge.daemon.site import Site, Sites
from tokenbridge.interaction import Secret
from tokenbridge.server.administration import acts
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.operator import people
from tokenbridge.server.phone_requests import PhoneRequests
from tokenbridge.server.store import accounts, audit, phone_apps
from tokenbridge.server.store.approval_schema import Approval
from tokenbridge.server.store.phone_app_schema import PhoneApp, PhoneEnrolment, SpentNonce


@dataclass(kw_only=True)
class Owner:
    """Somebody with a telephone, and the browser in which it was set up."""

    portal: Portal
    person: Person
    visitor: Visitor
    phone: SoftPhone
    ticket: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"/api/sign-in/{self.ticket['transaction']}"

    def ask(self) -> dict[str, Any]:
        """A sign-in that has sent its request; what the telephone sees of it, with the number of the page."""
        self.ticket = self.portal.server.begin()
        self.portal.server.password(self.ticket, self.person.username)
        begun = self.start()
        assert begun.status_code == 200, begun.text
        return {**self.phone.look().json()["request"], "number": begun.json()["number"]}

    def start(self) -> httpx.Response:
        return self.portal.server.http.post(f"{self.path}/start", json={"method": "number-match"})

    def go_on(self) -> httpx.Response:
        return self.portal.server.http.post(f"{self.path}/approval")

    def events(self) -> list[str]:
        with self.portal.bench.office() as opened, opened.database.read() as tx:
            return [entry.event for entry in audit.entries(tx, account=self.person.username)]

    def rest(self) -> None:
        """Let the waits and blocks after earlier questions pass."""
        with self.portal.bench.office() as opened, opened.database.write() as tx:
            for row in tx.query(Approval):
                row.created_at -= dt.timedelta(hours=1)


def shown_code(page: str) -> str:
    return page.split('id="phone-code">')[1].split("<", maxsplit=1)[0]


def begin(visitor: Visitor) -> str:
    visitor.get("/self-service/phone-app")
    page = visitor.send("/self-service/phone-app/add")
    assert page.status_code == 200, page.text
    return shown_code(page.text)


def confirm(visitor: Visitor, code: str, number: str) -> httpx.Response:
    return visitor.send("/self-service/phone-app/confirm", {"code": code, "number": number})


def other(number: str) -> str:
    return str(10 + (int(number) - 9) % 90)


@pytest.fixture
def visitor(portal: Portal) -> Iterator[Visitor]:
    made = portal.visitor()
    with made.http:
        yield made


@pytest.fixture
def phone(portal: Portal) -> SoftPhone:
    return SoftPhone(http=portal.server.http, origin=portal.origin)


@pytest.fixture
def owner(portal: Portal, visitor: Visitor, phone: SoftPhone) -> Owner:
    person = portal.bench.person(enrol=False)
    visitor.sign_in(person)
    code = begin(visitor)
    claimed = phone.enrol(code)
    assert claimed.status_code == 201, claimed.text
    assert "Your phone is set up" in confirm(visitor, code, claimed.json()["number"]).text
    return Owner(portal=portal, person=person, visitor=visitor, phone=phone)


class TestSettingUp:
    def test_a_phone_counts_only_once_the_page_has_its_number(self, portal: Portal, visitor: Visitor, phone: SoftPhone):
        person = portal.bench.person(enrol=False)
        visitor.sign_in(person)
        code = begin(visitor)
        claimed = phone.enrol(code).json()
        assert claimed["account"] == person.username
        assert claimed["phone"] == phone.thumbprint
        assert phone.look().json()["confirmed"] is False
        ticket = portal.server.begin()
        assert portal.server.password(ticket, person.username).json()["methods"] == ["totp"]
        confirm(visitor, code, claimed["number"])
        assert phone.look().json()["confirmed"] is True
        ticket = portal.server.begin()
        assert portal.server.password(ticket, person.username).json()["methods"] == ["number-match", "totp"]

    def test_a_code_that_somebody_has_photographed_sets_up_one_phone_only(
        self, portal: Portal, visitor: Visitor, phone: SoftPhone
    ):
        visitor.sign_in(portal.bench.person(enrol=False))
        code = begin(visitor)
        assert phone.enrol(code).status_code == 201
        second = SoftPhone(http=phone.http, origin=phone.origin).enrol(code)
        assert (second.status_code, second.json()["error"]["reason"]) == (403, "enrolment-code-wrong")

    def test_one_of_many_phones_at_once_gets_the_code(self, portal: Portal, visitor: Visitor):
        visitor.sign_in(portal.bench.person(enrol=False))
        code, start = begin(visitor), threading.Barrier(6)
        crowd = [SoftPhone(http=portal.server.http, origin=portal.origin) for _ in range(6)]

        def work(phone: SoftPhone) -> int:
            start.wait(20)
            return phone.enrol(code).status_code

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            assert Counter(pool.map(work, crowd)) == {201: 1, 403: 5}

    def test_three_wrong_numbers_end_it(self, portal: Portal, visitor: Visitor, phone: SoftPhone):
        visitor.sign_in(portal.bench.person(enrol=False))
        code = begin(visitor)
        number = phone.enrol(code).json()["number"]
        for _ in range(3):
            assert confirm(visitor, code, other(number)).status_code == 403
        assert confirm(visitor, code, number).status_code == 409
        assert phone.look().status_code == 401

    def test_no_number_is_taken_before_a_phone_has_scanned(self, portal: Portal, visitor: Visitor):
        visitor.sign_in(portal.bench.person(enrol=False))
        code = begin(visitor)
        for _ in range(5):
            early = confirm(visitor, code, "")
            assert early.status_code == 409
            assert "No phone has scanned the code yet" in early.text
            assert shown_code(early.text) == code

    def test_a_code_is_void_after_ten_minutes_and_after_the_next_one(
        self, portal: Portal, visitor: Visitor, phone: SoftPhone
    ):
        visitor.sign_in(portal.bench.person(enrol=False))
        first = begin(visitor)
        second = begin(visitor)
        assert phone.enrol(first).status_code == 403
        with portal.bench.office() as opened, opened.database.write() as tx:
            for row in tx.query(PhoneEnrolment):
                row.expires_at = now()
        assert phone.enrol(second).status_code == 403

    def test_somebody_elses_page_confirms_nothing(self, portal: Portal, visitor: Visitor, phone: SoftPhone):
        visitor.sign_in(portal.bench.person(enrol=False))
        code = begin(visitor)
        number = phone.enrol(code).json()["number"]
        stranger = portal.visitor()
        with stranger.http:
            stranger.sign_in(portal.bench.person(enrol=False))
            begin(stranger)
            assert confirm(stranger, code, number).status_code == 409
        assert phone.look().json()["confirmed"] is False

    def test_the_code_may_be_typed_in_any_way(self, portal: Portal, visitor: Visitor, phone: SoftPhone):
        visitor.sign_in(portal.bench.person(enrol=False))
        code = begin(visitor)
        assert phone.enrol(code.lower().replace("-", " ")).status_code == 201

    @pytest.mark.parametrize("name", ["", " ", "a\0b", "x" * 65, "a\u202eb"])
    def test_names_that_could_mislead_are_refused(self, portal: Portal, visitor: Visitor, phone: SoftPhone, name: str):
        visitor.sign_in(portal.bench.person(enrol=False))
        assert phone.enrol(begin(visitor), name).status_code == 400

    def test_at_most_five_phones(self, owner: Owner):
        with owner.portal.bench.office() as opened, opened.database.write() as tx:
            (mine,) = tx.query(PhoneApp).filter_by(thumbprint=owner.phone.thumbprint)
            for number in range(4):
                name = f"{mine.thumbprint[:40]}{number}"
                facts = {"account_id": mine.account_id, "public_key": b"", "name": "x", "device": "x"}
                tx.add(PhoneApp(thumbprint=name, created_at=now(), confirmed_at=now(), **facts))
        owner.visitor.get("/self-service/phone-app")
        assert owner.visitor.send("/self-service/phone-app/add").status_code == 409

    def test_a_key_of_another_curve_or_none_is_refused(self, portal: Portal, visitor: Visitor, phone: SoftPhone):
        visitor.sign_in(portal.bench.person(enrol=False))
        code = begin(visitor)
        good = phone.jwk
        wrong = ({}, [], None, {**good, "crv": "P-384"}, {**good, "x": base64url(bytes(32))}, {**good, "y": "A" * 500})
        for jwk in wrong:
            signed = phone.sign("enrol", {"code": code, "name": "x"}, {"jwk": jwk})
            assert phone.post("enrolment", signed).status_code == 400, jwk

    def test_a_key_that_is_not_ones_own_is_refused(self, portal: Portal, visitor: Visitor, phone: SoftPhone):
        visitor.sign_in(portal.bench.person(enrol=False))
        code = begin(visitor)
        stolen = SoftPhone(http=phone.http, origin=phone.origin).jwk
        signed = phone.sign("enrol", {"code": code, "name": "x"}, {"jwk": stolen})
        assert phone.post("enrolment", signed).status_code == 401

    def test_a_phone_is_removed_by_its_owner_only(self, owner: Owner):
        page = owner.visitor.get("/self-service/phone-app").text
        address = page.split('href="/self-service/phone-app/')[1].split('"')[0]
        stranger = owner.portal.visitor()
        with stranger.http:
            stranger.sign_in(owner.portal.bench.person(enrol=False))
            stranger.get(f"/self-service/phone-app/{address}")
            assert stranger.post(f"/self-service/phone-app/{address}").status_code == 404
        owner.visitor.get(f"/self-service/phone-app/{address}")
        assert "does not sign you in any more" in owner.visitor.send(f"/self-service/phone-app/{address}").text
        assert owner.phone.look().status_code == 401
        assert owner.events()[-1] == "method-removed"

    def test_the_help_desk_takes_it_away_with_the_numbers(self, owner: Owner):
        with owner.portal.bench.office() as opened, opened.database.write() as tx:
            account = accounts.get(tx, owner.person.username)
            assert acts.remove(tx, account, acts.Held.PHONES, now()) == 1
        assert owner.phone.look().status_code == 401


class TestAnswering:
    def test_the_right_number_signs_in(self, owner: Owner):
        asked = owner.ask()
        assert (asked["client"], asked["tries_left"]) == ("cli", 3)
        assert asked["address"] == "127.0.0.1"
        assert owner.phone.answer(asked["approval"], number=asked["number"]).status_code == 204
        outcome = owner.go_on().json()
        assert outcome["decision"] == "allow"
        assert outcome["assurance"]["amr"] == ["pwd", "otp", "mfa"]
        assert owner.events()[-3:] == ["approval-asked", "approval-given", "signed-in"]
        assert owner.phone.look().json()["request"] is None

    def test_the_number_is_not_told_to_the_phone(self, owner: Owner):
        asked = owner.ask()
        told = owner.phone.look().json()["request"]
        assert "number" not in told
        assert asked["number"] not in [str(value) for value in told.values()]

    def test_three_wrong_numbers_end_the_request(self, owner: Owner):
        asked = owner.ask()
        hints = []
        for _ in range(3):
            wrong = owner.phone.answer(asked["approval"], number=other(asked["number"]))
            assert (wrong.status_code, wrong.json()["error"]["reason"]) == (403, "code-wrong")
            hints.append(wrong.json()["error"]["next_step"])
        assert "2 tries left" in hints[0]
        assert "1 try left" in hints[1]
        assert owner.phone.answer(asked["approval"], number=asked["number"]).status_code == 409
        assert owner.go_on().json()["error"]["reason"] == "approval-failed"
        assert owner.portal.server.code(owner.ticket, owner.person.code(1)).status_code == 200

    @pytest.mark.parametrize("number", ["", "0", "000", "4 7 1", "\0\0", "\ud7ff", "٤٧"])
    def test_what_is_no_number_is_wrong(self, owner: Owner, number: str):
        asked = owner.ask()
        assert owner.phone.answer(asked["approval"], number=number).status_code == 403

    def test_an_answer_works_once(self, owner: Owner):
        asked = owner.ask()
        assert owner.phone.answer(asked["approval"], number=asked["number"]).status_code == 204
        assert owner.phone.answer(asked["approval"], number=asked["number"]).status_code == 409
        assert owner.phone.answer(asked["approval"], "deny").status_code == 409
        assert owner.go_on().status_code == 200
        assert owner.go_on().status_code == 409

    def test_one_of_many_answers_at_once_counts(self, owner: Owner):
        asked = owner.ask()
        works = [("approve", asked["number"])] * 3 + [("deny", "")] * 3
        start = threading.Barrier(len(works))

        def work(what: tuple[str, str]) -> int:
            start.wait(20)
            return owner.phone.answer(asked["approval"], *what).status_code

        with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
            assert Counter(pool.map(work, works)) == {204: 1, 409: 5}

    def test_no_ends_the_sign_in_and_blocks_and_is_on_record(self, owner: Owner):
        asked = owner.ask()
        assert owner.phone.answer(asked["approval"], "deny").status_code == 204
        # It has ended already, before its own client asks again.
        assert owner.portal.server.code(owner.ticket, owner.person.code(1)).status_code == 409
        refused = owner.go_on()
        assert (refused.status_code, refused.json()["error"]["reason"]) == (403, "declined")
        assert owner.events()[-2:] == ["approval-denied", "refused"]
        owner.ticket = owner.portal.server.begin()
        owner.portal.server.password(owner.ticket, owner.person.username)
        assert owner.start().status_code == 429
        page = owner.visitor.get("/activity").text
        assert "Declined on the phone" in page

    def test_no_ends_a_sign_in_that_has_gone_on_to_something_else(self, owner: Owner):
        asked = owner.ask()
        assert owner.portal.server.code(owner.ticket, "000000").status_code == 403
        assert owner.phone.answer(asked["approval"], "deny").status_code == 204
        assert owner.portal.server.code(owner.ticket, owner.person.code(1)).status_code == 409

    def test_no_is_heard_when_it_is_too_late_to_approve(self, owner: Owner):
        asked = owner.ask()
        with owner.portal.bench.office() as opened, opened.database.write() as tx:
            (row,) = tx.query(Approval).filter_by(handle=asked["approval"])
            row.expires_at = now()
        assert owner.phone.answer(asked["approval"], number=asked["number"]).status_code == 409
        assert owner.phone.answer(asked["approval"], "deny").status_code == 204

    def test_another_accounts_phone_answers_nothing(self, owner: Owner, portal: Portal):
        asked = owner.ask()
        stranger, theirs = portal.visitor(), SoftPhone(http=portal.server.http, origin=portal.origin)
        with stranger.http:
            stranger.sign_in(portal.bench.person(enrol=False))
            code = begin(stranger)
            confirm(stranger, code, theirs.enrol(code).json()["number"])
        assert theirs.look().json()["request"] is None
        for decision in ("approve", "deny"):
            assert theirs.answer(asked["approval"], decision, asked["number"]).status_code == 409
        assert owner.go_on().json()["error"]["code"] == "not-answered"

    def test_a_phone_that_is_not_confirmed_answers_nothing(self, owner: Owner):
        code = begin(owner.visitor)
        fresh = SoftPhone(http=owner.phone.http, origin=owner.phone.origin)
        fresh.enrol(code)
        asked = owner.ask()
        assert fresh.look().json()["request"] is None
        assert fresh.answer(asked["approval"], number=asked["number"]).status_code == 401

    def test_a_phone_that_was_removed_answers_nothing(self, owner: Owner):
        asked = owner.ask()
        with owner.portal.bench.office() as opened, opened.database.write() as tx:
            phone_apps.remove_all(tx, accounts.get(tx, owner.person.username).id)
        assert owner.phone.answer(asked["approval"], number=asked["number"]).status_code == 401
        assert owner.go_on().json()["error"]["code"] == "not-answered"

    def test_a_disabled_account_is_let_in_by_no_approval(self, owner: Owner):
        asked = owner.ask()
        owner.phone.answer(asked["approval"], number=asked["number"])
        with owner.portal.bench.office() as opened:
            people.set_disabled(opened, owner.person.username, disabled=True)
        assert owner.go_on().json()["decision"] == "deny"

    def test_a_newer_request_voids_the_older_one(self, owner: Owner):
        first = owner.ask()
        before = owner.ticket
        owner.rest()
        second = owner.ask()
        assert owner.phone.answer(first["approval"], number=first["number"]).status_code == 409
        assert owner.phone.answer(second["approval"], number=second["number"]).status_code == 204
        owner.ticket = before
        assert owner.go_on().status_code == 409

    def test_a_method_that_policy_does_not_name_is_not_asked(self, owner: Owner):
        policy = owner.portal.bench.data / "policy.toml"
        before = policy.read_text()
        policy.write_text('[[rule]]\nname = "codes only"\naal = 2\nfallback = ["totp"]\n')
        try:
            owner.ticket = owner.portal.server.begin()
            offered = owner.portal.server.password(owner.ticket, owner.person.username).json()["methods"]
            refused = owner.start()
        finally:
            policy.write_text(before)
        assert offered == ["totp"]
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "method-not-offered")


def test_the_bridge_waits_for_the_telephone(owner: Owner):
    """With the client that `tokenbridge sign-in --by number-match` uses."""

    async def work() -> tuple[bool, bool, str]:
        sites = Sites(5, owner.portal.bench.data / "tls" / "ca.pem")
        site = Site(sites.client(None), owner.portal.origin)
        try:
            offer = await site.open()
            secret = Secret(bytearray(owner.person.password.encode()))
            await site.send_password(offer.transaction, owner.person.username, secret)
            message = await site.start_method(offer.transaction, "number-match")
            before = await site.is_answered(offer.transaction)
            asked = await asyncio.to_thread(owner.phone.look)
            approval = asked.json()["request"]["approval"]
            await asyncio.to_thread(owner.phone.answer, approval, "approve", message.number)
            after = await site.is_answered(offer.transaction)
            return before, after, (await site.send_approval(offer.transaction)).decision
        finally:
            await sites.close()

    assert asyncio.run(work()) == (False, True, "allow")


class TestSignedRequests:
    def test_one_that_is_sent_again_is_refused(self, owner: Owner):
        asked = owner.ask()
        content = {"approval": asked["approval"], "decision": "approve", "number": other(asked["number"])}
        for act, path, what in (("look", "request", {}), ("answer", "answer", content)):
            signed = owner.phone.sign(act, what)
            owner.phone.post(path, signed)
            again = owner.phone.post(path, signed)
            assert (again.status_code, again.json()["error"]["code"]) == (409, "nonce-stale")
        assert owner.phone.look().json()["request"]["tries_left"] == 2

    def test_one_of_many_at_once_counts(self, owner: Owner):
        signed, start = owner.phone.sign("look", {}), threading.Barrier(6)

        def work(_: int) -> int:
            start.wait(20)
            return owner.phone.post("request", signed).status_code

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            assert Counter(pool.map(work, range(6))) == {200: 1, 409: 5}

    def test_one_for_something_else_is_refused(self, owner: Owner):
        assert owner.phone.post("answer", owner.phone.sign("look", {})).status_code == 400
        assert owner.phone.post("request", owner.phone.sign("answer", {})).status_code == 400

    def test_one_for_another_site_is_refused(self, owner: Owner):
        assert owner.phone.post("request", owner.phone.sign("look", {}, aud="https://evil.example")).status_code == 400

    def test_one_that_was_changed_is_refused(self, owner: Owner):
        asked = owner.ask()
        denied = owner.phone.sign("answer", {"approval": asked["approval"], "decision": "deny", "number": ""})
        changed = forged(denied, decision="approve", number=asked["number"])
        refused = owner.phone.post("answer", changed)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "phone-unknown")
        assert owner.go_on().json()["error"]["code"] == "not-answered"

    def test_one_by_another_key_is_refused(self, owner: Owner):
        thief = SoftPhone(http=owner.phone.http, origin=owner.phone.origin)
        signed = thief.sign("look", {}, {"kid": owner.phone.thumbprint})
        assert thief.post("request", signed).status_code == 401
        assert thief.look().status_code == 401

    @pytest.mark.parametrize("algorithm", ["none", "HS256"])
    def test_another_algorithm_is_refused(self, owner: Owner, algorithm: str):
        payload = {"aud": owner.phone.origin, "nonce": owner.phone.nonce(), "act": "look"}
        head = {"typ": "phone+jwt", "kid": owner.phone.thumbprint}
        key = None if algorithm == "none" else "k" * 32
        signed = jwt.encode(payload, key, algorithm=algorithm, headers=head)
        assert owner.phone.post("request", signed).status_code == 400

    def test_another_type_is_refused(self, owner: Owner):
        for typ in ("JWT", "dpop+jwt", 1):
            signed = owner.phone.sign("look", {}, {"kid": owner.phone.thumbprint, "typ": typ})
            assert owner.phone.post("request", signed).status_code == 400

    @pytest.mark.parametrize("nonce", ["", "x", "1.2.3", "A" * 200, 5, None, [], "..", "\ud7ff.x"])
    def test_a_nonce_of_ones_own_is_refused(self, owner: Owner, nonce: object):
        assert owner.phone.post("request", owner.phone.sign("look", {}, nonce=nonce)).status_code in (400, 409)

    def test_an_old_nonce_is_refused(self, owner: Owner):
        old = as_of_ten_minutes_ago(owner).nonce()
        signed = owner.phone.sign("look", {}, nonce=old)
        assert owner.phone.post("request", signed).status_code == 409

    def test_spent_nonces_are_forgotten_once_they_are_too_old(self, owner: Owner):
        owner.phone.look()
        with owner.portal.bench.office() as opened, opened.database.write() as tx:
            for row in tx.query(SpentNonce):
                row.expires_at -= dt.timedelta(hours=1)
        owner.phone.look()
        with owner.portal.bench.office() as opened, opened.database.read() as tx:
            assert tx.query(SpentNonce).count() == 1

    @pytest.mark.parametrize("signed", ["", "x", "a.b.c", "..", "A" * 5000, "e30.e30.", "[" * 4000])
    def test_nonsense_is_refused(self, phone: SoftPhone, signed: str):
        for path in ("enrolment", "request", "answer", "subscription"):
            assert phone.post(path, signed).status_code in (400, 422)


def as_of_ten_minutes_ago(owner: Owner) -> PhoneRequests:
    with owner.portal.bench.office() as opened:
        return PhoneRequests(
            database=opened.database,
            keys=KeyBook(opened.settings.key_file),
            clock=lambda: now() - dt.timedelta(minutes=10),
            site=owner.portal.origin,
        )
