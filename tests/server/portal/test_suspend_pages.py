"""Suspending a card or key on pages: by whoever is signed in, lifted by as much as removing asks for, or by those who
help; and removing one's own card."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.server.conftest import Databases, Person, SoftCard, now
from tests.server.key_bench import KeyBench, hardware_model, key_options
from tests.server.portal.conftest import SESSION, Portal, Visitor, noticed, portal_at
from tests.server.portal.test_admin import granted, number
from tests.server.portal.test_card_pages import bridge, ref_on
from tests.server.portal.test_lost import by_card, fields, have, trail
from tests.software_key import Maker, SoftwareKey
from tokenbridge.rig.pki import Profile
from tokenbridge.rp.certificate import Certificate
from tokenbridge.server.operator import admins, people, security_keys
from tokenbridge.server.operator.suspensions import set_suspended
from tokenbridge.server.store import accounts
from tokenbridge.server.store.roles import Role
from tokenbridge.server.store.suspensions import Kind

UID = "76000000{:04d}"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Portal]:
    """With an outbox, and cards of an authority that may say whose they are."""
    data = tmp_path_factory.mktemp("suspend") / "data"
    with portal_at(data, database=databases.new(), outbox=True) as made:
        made.bench.pki.write_crls(data, now=now())
        made.bench.trust(map_nhs_uid=True)
        yield made


@pytest.fixture(scope="module")
def at(portal: Portal) -> KeyBench:
    maker = Maker()
    made = KeyBench(bench=portal.bench, server=portal.server, maker=maker, origin=portal.origin)
    made.load(hardware_model(maker))
    return made


def by_key(portal: Portal, at: KeyBench, visitor: Visitor, key: SoftwareKey) -> None:
    ticket = at.server.begin("portal")
    answer = at.present(ticket, key.answer(key_options(ticket), portal.origin))
    assert answer.status_code == 200, answer.text
    visitor.http.cookies.set(SESSION, answer.json()["session"]["token"], domain="localhost.local", path="/")


def card_number(portal: Portal, username: str) -> int:
    with portal.bench.office() as office:
        ((row, _),) = people.cards_of(office, username)
        return int(row.id)


def sent(visitor: Visitor, path: str, given: dict[str, str] | None = None) -> httpx.Response:
    """With the token of a page that has a form."""
    visitor.get("/self-service")
    return visitor.post(path, given)


def events(portal: Portal, username: str) -> list[str]:
    return [event for event, _ in trail(portal, username)]


def refused(portal: Portal, person: Person) -> str:
    """Why the card does not sign in; empty: it does."""
    ticket = portal.server.begin("portal")
    answer = portal.server.card(ticket, person.card.token(ticket["nonce"], origin=portal.origin))
    return "" if answer.status_code == 200 else str(answer.json()["error"]["reason"])


class TestTheOwner:
    def test_a_weak_session_suspends_a_lost_card_at_once_and_can_not_lift_it(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person(email="weak@example.org")
        other = portal.visitor()
        with other.http:
            visitor.sign_in(person)
            by_card(portal, other, person)
            page = visitor.get("/self-service/lost/card")
            (card,) = fields(page)
            assert "Suspend what is lost" in page.text
            assert "nothing but your password is left" not in page.text, "the app is"
            done = visitor.send("/self-service/lost/card", {card: "yes"})
            assert "sign in nowhere" in done.text
            assert "codes" not in re.findall(r"<h1>(.*?)</h1>", done.text)[0]
            assert other.get("/profile").url.path == "/sign-in"
        assert visitor.get("/profile").status_code == 200, "the session that did it goes on"
        assert refused(portal, person) == "suspended"
        assert have(portal, person.username) == {"totp"}
        assert "suspended since" in visitor.get("/self-service/lost/card").text
        keys = visitor.get("/self-service/keys").text
        assert "Suspended since" in keys
        assert f'href="/self-service/lift/{card}"' in keys
        weak = visitor.get(f"/self-service/lift/{card}")
        assert (weak.status_code, "(AAL3) first" in weak.text) == (403, True)
        assert sent(visitor, f"/self-service/lift/{card}").status_code == 403
        assert refused(portal, person) == "suspended"
        assert noticed(visitor, "suspended, so that it signs in nowhere")
        assert "Card suspended" in visitor.get("/activity").text

    def test_another_key_lifts_it(self, portal: Portal, at: KeyBench, visitor: Visitor):
        person = portal.bench.person(email="lifts@example.org")
        key = at.register(person.username, at.key())
        which = f"card-{card_number(portal, person.username)}"
        by_key(portal, at, visitor, key)
        assert "Suspend the card" in visitor.get(f"/self-service/suspend/{which}").text
        assert "sign in nowhere" in visitor.send(f"/self-service/suspend/{which}").text
        assert refused(portal, person) == "suspended"
        assert "Lift the suspension" in visitor.get(f"/self-service/lift/{which}").text
        page = visitor.send(f"/self-service/lift/{which}")
        assert page.url.path == "/self-service/keys"
        assert "The suspension is lifted" in page.text
        assert refused(portal, person) == ""
        assert noticed(visitor, "since the suspension is lifted")
        assert [event for event in events(portal, person.username) if "susp" in event] == [
            "card-suspended",
            "suspension-lifted",
        ]

    def test_what_is_suspended_does_not_lift_itself_nor_change_anything(
        self, portal: Portal, at: KeyBench, visitor: Visitor
    ):
        name = at.newcomer()
        by_key(portal, at, visitor, at.register(name, at.key()))
        with portal.bench.office() as office:
            which = security_keys.keys_of(office, name)[0]["id"]
        visitor.get(f"/self-service/suspend/key-{which}")
        done = visitor.send(f"/self-service/suspend/key-{which}")
        assert len(re.findall(r"<li>[0-9A-Z]{4}(?:-[0-9A-Z]{4}){5}</li>", done.text)) == 10, "nothing else was left"
        for path in (f"/self-service/lift/key-{which}", "/self-service/keys/add", "/self-service/app"):
            answer = visitor.get(path)
            assert (answer.status_code, "is suspended" in answer.text) == (403, True), path
        assert sent(visitor, f"/self-service/lift/key-{which}").status_code == 403
        assert sent(visitor, "/self-service/password/forgotten").status_code == 403, "no password reset by it"

    def test_where_nothing_but_the_password_is_left_it_is_said(self, portal: Portal, at: KeyBench, visitor: Visitor):
        """By a recovery code, which is weaker than the key: new codes are not for such a session."""
        name = at.newcomer()
        at.register(name, at.key())
        with portal.bench.office() as office:
            codes = security_keys.new_recovery_codes(office, name)
        visitor.sign_in_by_password(name)
        visitor.get("/sign-in/step?by=recovery")
        visitor.send("/sign-in/step", {"by": "recovery", "code": codes[0]})
        page = visitor.get("/self-service/lost/key")
        assert "nothing but your password and 9 recovery codes is left" in page.text
        done = visitor.send("/self-service/lost/key", dict.fromkeys(fields(page), "yes"))
        assert "Only your recovery codes are left" in done.text
        assert "Ask your IT service desk" in done.text
        assert have(portal, name) == {"recovery"}

    def test_an_account_without_a_password_has_to_confirm_it(self, portal: Portal, at: KeyBench, visitor: Visitor):
        person = portal.bench.person()
        with portal.bench.office() as office, office.database.write() as tx:
            accounts.get(tx, person.username).password_hash = None
        by_card(portal, visitor, person)
        which = f"card-{card_number(portal, person.username)}"
        visitor.get(f"/self-service/suspend/{which}")
        answer = visitor.post(f"/self-service/suspend/{which}")
        assert (answer.status_code, "Suspend it all the same" in answer.text) == (409, True)
        assert refused(portal, person) == "", "nothing of it is done"
        visitor.last = answer
        assert visitor.post(f"/self-service/suspend/{which}", {"last": "yes"}).status_code == 200
        assert refused(portal, person) == "suspended"

    def test_cards_that_are_known_by_their_issuer(self, portal: Portal, visitor: Visitor):
        uid = UID.format(1)
        person = portal.bench.person(card=portal.bench.card(uid), nhs_uid=uid, enrol=False)
        visitor.sign_in(person)
        assert "Cards of bench" in visitor.get("/self-service/keys").text
        page = visitor.get("/self-service/lost/card")
        (issuer,) = fields(page)
        assert re.fullmatch(r"issuer-[0-9a-f]{64}", issuer)
        done = visitor.send("/self-service/lost/card", {issuer: "yes"})
        assert "tell your Registration Authority" in done.text
        assert refused(portal, person) == "suspended"
        assert visitor.get(f"/self-service/lift/{issuer}").status_code == 403
        assert ("reported", "lost: a card of bench") in trail(portal, person.username)

    def test_a_card_by_its_issuers_word_is_something_that_is_left(self, portal: Portal, at: KeyBench, visitor: Visitor):
        uid = UID.format(4)
        person = portal.bench.person(card=portal.bench.card(uid), nhs_uid=uid)
        by_card(portal, visitor, person)
        visitor.get("/self-service/app/remove")
        visitor.send("/self-service/app/remove", {"last": "yes"})
        which = f"card-{card_number(portal, person.username)}"
        visitor.get(f"/self-service/suspend/{which}")
        done = visitor.send(f"/self-service/suspend/{which}")
        assert "left" not in done.text, "another card of that issuer signs in"

    def test_with_a_strong_session_chosen_things_are_suspended_instead_of_removed(
        self, portal: Portal, at: KeyBench, visitor: Visitor
    ):
        person = portal.bench.person()
        by_key(portal, at, visitor, at.register(person.username, at.key()))
        page = visitor.get("/self-service/lost/phone-card")
        (card,) = (name for name in fields(page) if name.startswith("card"))
        none = visitor.post("/self-service/lost/phone-card", {"act": "suspend", "app": "yes"})
        assert (none.status_code, "Choose at least one card or key" in none.text) == (400, True)
        assert "sign in nowhere" in visitor.send("/self-service/lost/phone-card", {"act": "suspend", card: "yes"}).text
        assert have(portal, person.username) >= {"totp", "key"}
        removed = visitor.get("/self-service/lost/card")
        assert "(suspended)" in removed.text
        assert "Removed" in visitor.send("/self-service/lost/card", {card: "yes"}).text
        assert refused(portal, person) == "subject-unknown"

    def test_things_of_others_and_of_nobody(self, portal: Portal, visitor: Visitor):
        mine, other = portal.bench.person(enrol=False), portal.bench.person()
        visitor.sign_in(mine)
        theirs = f"card-{card_number(portal, other.username)}"
        visitor.get("/self-service")
        for which in (theirs, "card-99999999", f"issuer-{'0' * 64}", "key-2147483648"):
            for act in ("suspend", "lift"):
                assert visitor.get(f"/self-service/{act}/{which}").status_code == 404, which
                assert sent(visitor, f"/self-service/{act}/{which}").status_code == 404, which
        assert visitor.post("/self-service/lost/card", {"act": "suspend", theirs: "yes"}).status_code == 400
        for bad in ("app", "card-", "card-x", "card-1-2", "issuer-AB"):
            assert visitor.get(f"/self-service/suspend/{bad}").status_code in (404, 422, 400), bad
        assert refused(portal, other) == ""

    def test_a_stranger_suspends_nothing(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person()
        visitor.get("/sign-in")
        answer = visitor.post(f"/self-service/suspend/card-{card_number(portal, person.username)}")
        assert answer.is_redirect
        assert answer.headers["location"].startswith("/sign-in")
        assert refused(portal, person) == ""


class TestTheBridge:
    def test_a_hand_over_by_a_suspended_card_signs_nobody_in(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person()
        visitor.get("/sign-in")
        ref = ref_on(visitor.post("/sign-in/card", {"username": ""}))
        with portal.bench.office() as office:
            set_suspended(office, Kind.CARD, card_number(portal, person.username), suspended=True)
        answer = bridge(portal, ref, person)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "suspended")

    def test_a_renewed_certificate_of_a_suspended_card_is_not_added(
        self, portal: Portal, at: KeyBench, visitor: Visitor
    ):
        """With a key that could lift it: so it is told to do that."""
        card = portal.bench.card()
        person = portal.bench.person(card=card)
        by_key(portal, at, visitor, at.register(person.username, at.key()))
        with portal.bench.office() as office:
            set_suspended(office, Kind.CARD, card_number(portal, person.username), suspended=True)
        renewed = portal.bench.pki.issue(card.key.public_key(), Profile(uid="999000000009"), now=now())
        again = Person(username="", card=SoftCard(key=card.key, certificate=renewed), totp=person.totp)
        visitor.get("/self-service/cards/add")
        onward = str(bridge(portal, ref_on(visitor.post("/self-service/cards/add")), again).json()["continue"])
        page = visitor.get(onward.removeprefix(portal.origin))
        assert (page.status_code, "This card is suspended" in page.text) == (409, True)
        assert refused(portal, again) == "suspended"


class TestRemovingACard:
    def test_a_card_of_ones_own_is_removed(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person(email="removes@example.org")
        other = portal.visitor()
        with other.http:
            by_card(portal, visitor, person)
            by_card(portal, other, person)
            which = card_number(portal, person.username)
            assert f"/self-service/cards/{which}/remove" in visitor.get("/self-service/keys").text
            assert "It will not sign you in any more" in visitor.get(f"/self-service/cards/{which}/remove").text
            page = visitor.send(f"/self-service/cards/{which}/remove")
            assert (page.url.path, "Your card is removed" in page.text) == ("/self-service/keys", True)
            assert other.get("/profile").url.path == "/sign-in", "other sessions have ended"
        assert refused(portal, person) == "subject-unknown"
        assert "card-withdrawn" in events(portal, person.username)
        assert noticed(visitor, "card was removed")

    def test_with_less_than_the_card_nobody_removes_it(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person()
        visitor.sign_in(person)
        which = card_number(portal, person.username)
        assert visitor.get(f"/self-service/cards/{which}/remove").status_code == 403
        assert sent(visitor, f"/self-service/cards/{which}/remove").status_code == 403
        assert refused(portal, person) == ""

    def test_the_last_one_goes_only_when_that_is_confirmed(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person()
        by_card(portal, visitor, person)
        visitor.get("/self-service/app/remove")
        visitor.send("/self-service/app/remove")
        which = card_number(portal, person.username)
        visitor.get(f"/self-service/cards/{which}/remove")
        asked = visitor.post(f"/self-service/cards/{which}/remove")
        assert (asked.status_code, "nothing but my password is left" in asked.text) == (409, True)
        visitor.last = asked
        assert visitor.post(f"/self-service/cards/{which}/remove", {"last": "yes"}).is_redirect
        assert have(portal, person.username) == set()

    def test_without_a_password_the_last_one_stays(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person()
        with portal.bench.office() as office, office.database.write() as tx:
            accounts.get(tx, person.username).password_hash = None
        by_card(portal, visitor, person)
        which = card_number(portal, person.username)
        visitor.get(f"/self-service/cards/{which}/remove")
        assert visitor.post(f"/self-service/cards/{which}/remove", {"last": "yes"}).status_code == 409
        assert refused(portal, person) == ""

    def test_what_an_issuer_vouches_for_goes_on_and_that_is_said(self, portal: Portal, visitor: Visitor):
        uid = UID.format(2)
        person = portal.bench.person(card=portal.bench.card(uid), nhs_uid=uid)
        by_card(portal, visitor, person)
        which = card_number(portal, person.username)
        assert "goes on to sign you in" in visitor.get(f"/self-service/cards/{which}/remove").text
        visitor.send(f"/self-service/cards/{which}/remove")
        assert refused(portal, person) == ""

    def test_cards_of_others_are_not_there(self, portal: Portal, visitor: Visitor):
        mine, other = portal.bench.person(enrol=False), portal.bench.person()
        visitor.sign_in(mine)
        visitor.get("/self-service")
        which = card_number(portal, other.username)
        assert visitor.get(f"/self-service/cards/{which}/remove").status_code == 404
        assert sent(visitor, f"/self-service/cards/{which}/remove").status_code == 404
        assert refused(portal, other) == ""


class TestTheHelpDesk:
    @staticmethod
    def _path(portal: Portal, person: Person) -> str:
        return f"/admin/accounts/{number(portal, person.username)}/devices/card-{card_number(portal, person.username)}"

    def test_suspends_lifts_and_removes_on_record(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person(email="helped@example.org")
        visitor.sign_in(granted(portal, Role.HELPDESK))
        path, account = self._path(portal, person), f"/admin/accounts/{number(portal, person.username)}"
        assert f"{path}/suspend" in visitor.get(account).text
        assert "Suspend" in visitor.get(f"{path}/suspend").text
        assert "suspended, and signs in nowhere" in visitor.send(f"{path}/suspend").text
        assert refused(portal, person) == "suspended"
        page = visitor.get(account)
        assert "Suspended since" in page.text
        assert f"{path}/lift" in page.text
        visitor.get(f"{path}/lift")
        assert "The suspension is lifted" in visitor.send(f"{path}/lift").text
        assert refused(portal, person) == ""
        assert noticed(visitor, "since the suspension is lifted")
        visitor.get(f"{path}/remove")
        assert "removed from the account" in visitor.send(f"{path}/remove").text
        assert refused(portal, person) == "subject-unknown"
        assert sent(visitor, f"{path}/lift").status_code == 404
        assert [event for event in events(portal, person.username) if event.startswith(("card-", "susp"))][-3:] == [
            "card-suspended",
            "suspension-lifted",
            "card-removed",
        ]

    def test_only_within_reach(self, portal: Portal, visitor: Visitor):
        there, here = portal.bench.person(organisation="Elsewhere"), portal.bench.person(organisation="Ward")
        boss, me = portal.bench.person(organisation="Ward"), portal.bench.person(enrol=False, organisation="Ward")
        with portal.bench.office() as office:
            admins.grant(office, boss.username, Role.ADMINISTRATOR, "Ward")
            admins.grant(office, me.username, Role.HELPDESK, "Ward")
        visitor.sign_in(me)
        visitor.get("/admin/accounts")
        for act in ("suspend", "lift", "remove"):
            assert visitor.get(f"{self._path(portal, there)}/{act}").status_code == 404, act
            assert sent(visitor, f"{self._path(portal, there)}/{act}").status_code == 404, act
        for whose in (boss, me):
            path = f"/admin/accounts/{number(portal, whose.username)}/devices/card-1/suspend"
            assert sent(visitor, path).status_code == 409, "neither who administers nor oneself"
        assert sent(visitor, f"{self._path(portal, here)}/nonsense").status_code == 404
        visitor.get(f"{self._path(portal, here)}/suspend")
        assert visitor.send(f"{self._path(portal, here)}/suspend").status_code == 200
        assert (refused(portal, there), refused(portal, here)) == ("", "suspended")

    def test_with_a_second_factor_only(self, portal: Portal, visitor: Visitor):
        """A helper whose own account has a card shows that first."""
        helper, person = granted(portal, Role.HELPDESK), portal.bench.person()
        with portal.bench.office() as office:
            people.enrol(office, helper.username, Certificate.parse(portal.bench.card().der), "", unchecked=True)
        visitor.sign_in(helper)
        assert visitor.get(f"{self._path(portal, person)}/lift").status_code == 403
        assert sent(visitor, f"{self._path(portal, person)}/suspend").status_code == 403
        assert refused(portal, person) == ""

    def test_a_reset_takes_what_is_suspended_too_and_that_stays_out(self, portal: Portal, visitor: Visitor):
        uid = UID.format(3)
        person = portal.bench.person(card=portal.bench.card(uid), nhs_uid=uid)
        with portal.bench.office() as office:
            set_suspended(office, Kind.CARD, card_number(portal, person.username), suspended=True)
        visitor.sign_in(granted(portal, Role.HELPDESK))
        account = f"/admin/accounts/{number(portal, person.username)}"
        page = visitor.get(f"{account}/reset")
        assert "remove-cards" in page.text
        assert visitor.send(f"{account}/reset", {"remove-cards": "yes"}).status_code == 200
        assert refused(portal, person) == "suspended", "its issuer's word does not bring it back"


def test_bodies_that_are_none(portal: Portal, visitor: Visitor):
    visitor.sign_in(portal.bench.person())
    visitor.get("/self-service/lost/card")
    answer: httpx.Response = visitor.post("/self-service/lost/card", {"act": "x" * 9000})
    assert answer.status_code in (400, 403)
