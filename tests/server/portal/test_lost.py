"""Lost phone, key or card: what is shown and removed, by whom, and that nobody is locked out by it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.server.conftest import Databases, Person, now
from tests.server.portal.conftest import SESSION, Portal, Visitor, noticed, portal_at
from tests.server.portal.test_password_reset import phone_of, works
from tests.server.portal.test_phone_pages import add_phone
from tokenbridge.server.operator import security_keys
from tokenbridge.server.store import accounts, audit


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Portal]:
    """With an outbox, and cards of a trusted authority."""
    data = tmp_path_factory.mktemp("lost") / "data"
    with portal_at(data, database=databases.new(), outbox=True) as made:
        made.bench.pki.write_crls(data, now=now())
        made.bench.trust(map_nhs_uid=True)
        yield made


def trail(portal: Portal, username: str) -> list[tuple[str, str]]:
    with portal.bench.office() as office, office.database.read() as tx:
        found = audit.entries(tx, account=username)
        return [(entry.event, str(entry.detail.get("name") or entry.detail.get("detail", ""))) for entry in found]


def by_card(portal: Portal, visitor: Visitor, person: Person) -> None:
    """A session by the card, in the visitor's browser."""
    ticket = portal.server.begin("portal")
    answer = portal.server.card(ticket, person.card.token(ticket["nonce"], origin=portal.origin))
    assert answer.status_code == 200, answer.text
    visitor.http.cookies.set(SESSION, answer.json()["session"]["token"], domain="localhost.local", path="/")


def fields(page: httpx.Response) -> set[str]:
    return set(re.findall(r'<input class="nhsuk-checkboxes__input" id="([a-z0-9-]+)"', page.text)) - {"codes"}


def have(portal: Portal, username: str) -> set[str]:
    with portal.bench.office() as office, office.database.read() as tx:
        return set(map(str, accounts.enrolled(tx, accounts.get(tx, username).id)))


def test_before_the_sign_in_the_way_leads_to_what_is_left(visitor: Visitor):
    assert "Choose what is lost" in visitor.get("/lost/next").text
    page = visitor.get("/lost/next?card=yes&phone=yes")
    assert page.url.path == "/lost/phone-card"
    assert "My phone" not in page.text
    assert 'href="/sign-in?by=recovery&amp;next=/self-service/lost/phone-card"' in page.text
    assert 'href="/first-day"' in visitor.get("/lost/phone-card/nothing-left").text
    for what in ("x", "card-phone", "phone-phone", "phone-", "../etc"):
        assert visitor.get(f"/lost/{what}").status_code == 404, what


def test_by_a_recovery_code_all_that_was_on_the_phone_goes_at_once(portal: Portal, visitor: Visitor):
    person = portal.bench.person(enrol=False, email="lost1@example.org")
    phone_of(portal, visitor, person)
    visitor.http.cookies.clear()
    with portal.bench.office() as office:
        codes = security_keys.new_recovery_codes(office, person.username)
    other = portal.visitor()
    with other.http:
        other.sign_in_by_password(person.username)
        other.get("/sign-in/step?by=recovery")
        other.send("/sign-in/step", {"by": "recovery", "code": codes[1]})
        visitor.get("/sign-in?by=recovery&next=/self-service/lost/phone")
        step = visitor.send("/sign-in", {"username": person.username, "password": person.password})
        assert 'name="by" value="recovery"' in step.text
        page = visitor.send("/sign-in/step", {"code": codes[0]})
        assert page.url.path == "/self-service/lost/phone"
        shown = fields(page)
        assert {re.sub(r"\d+", "N", name) for name in shown} == {"app", "phone-app-N"}
        assert "nothing but your password is left" in page.text
        done = visitor.send("/self-service/lost/phone", dict.fromkeys(shown, "yes"))
        assert "the authenticator app" in done.text
        new = re.findall(r"<li>([0-9A-Z]{4}(?:-[0-9A-Z]{4}){5})</li>", done.text)
        assert len(new) == 10
        assert 'href="/self-service/app"' in done.text
        assert other.get("/profile").url.path == "/sign-in", "other sessions have ended"
    assert have(portal, person.username) == {"recovery"}
    assert noticed(visitor, "removed because it is lost")
    events = [event for event, _ in trail(portal, person.username)]
    assert events.count("method-removed") == 2
    assert visitor.get("/self-service/app/scan").status_code == 200, "something new is set up in the same session"
    back = portal.visitor()
    with back.http:
        back.sign_in_by_password(person.username)
        assert back.send("/sign-in/step", {"by": "recovery", "code": codes[2]}).status_code == 403, "old codes are void"
        assert back.send("/sign-in/step", {"by": "recovery", "code": new[0]}).url.path == "/self-service/app"


def test_only_what_was_chosen_goes_and_only_of_what_is_lost(portal: Portal, visitor: Visitor):
    person = portal.bench.person(enrol=False)
    add_phone(visitor, person, "07400 123471")
    other = portal.bench.person(enrol=False)
    page = visitor.get("/self-service/lost/phone")
    number = next(name for name in fields(page) if name.startswith("number-"))
    assert "123471" not in page.text
    assert visitor.post("/self-service/lost/phone", {"key-1": "yes", "card-1": "yes"}).status_code == 400
    assert visitor.post("/self-service/lost/key", {"app": "yes"}).status_code == 400
    done = visitor.send("/self-service/lost/phone", {number: "yes", "number-99999": "yes"})
    assert "the number" in done.text
    assert "recovery codes" not in done.text.lower()
    assert have(portal, person.username) == {"totp"}
    assert have(portal, other.username) == {"totp"}


def test_who_has_less_than_the_card_reports_the_phone_and_removes_nothing(portal: Portal, visitor: Visitor):
    person = portal.bench.person()
    other = portal.visitor()
    with other.http:
        visitor.sign_in(person)
        by_card(portal, other, person)
        page = visitor.get("/self-service/lost/phone")
        assert "not strong enough" in page.text
        assert visitor.post("/self-service/lost/phone", {"report": "", "app": "yes"}).status_code == 403
        assert "reported as lost" in visitor.send("/self-service/lost/phone", {"report": "yes"}).text
        assert other.get("/profile").url.path == "/sign-in"
    assert ("reported", "lost: phone") in trail(portal, person.username)
    assert have(portal, person.username) == {"card", "totp"}


def test_a_card_is_taken_out_of_use_by_its_owner(portal: Portal, visitor: Visitor):
    person = portal.bench.person()
    by_card(portal, visitor, person)
    page = visitor.get("/self-service/lost/card")
    (card,) = fields(page)
    assert "card" in visitor.send("/self-service/lost/card", {card: "yes"}).text
    ticket = portal.server.begin("portal")
    assert portal.server.card(ticket, person.card.token(ticket["nonce"], origin=portal.origin)).status_code == 403
    assert "card-withdrawn" in [event for event, _ in trail(portal, person.username)]


def test_of_a_card_that_its_issuer_vouches_for_the_owner_is_told_who_revokes_it(portal: Portal, visitor: Visitor):
    uid = "123456789012"
    person = portal.bench.person(card=portal.bench.card(uid), nhs_uid=uid)
    by_card(portal, visitor, person)
    page = visitor.get("/self-service/lost/card")
    assert "Registration Authority" in page.text
    done = visitor.send("/self-service/lost/card", dict.fromkeys(fields(page), "yes"))
    assert "tell your Registration Authority" in done.text
    assert ("reported", "lost: a card of bench") in trail(portal, person.username)


def test_a_card_is_the_first_of_two_methods_of_a_password_reset(portal: Portal, visitor: Visitor):
    person = portal.bench.person()
    by_card(portal, visitor, person)
    visitor.get("/self-service/password")
    page = visitor.send("/self-service/password/forgotten")
    assert "One more way" in page.text
    page = visitor.send("/password-reset/step", {"by": "totp", "code": person.code()})
    assert "Choose a new password" in page.text
    done = visitor.send("/password-reset/new", {"new": "words of a card", "again": "words of a card"})
    assert done.url.path == "/password-reset/done"
    assert works(portal, person.username, "words of a card")
    assert visitor.get("/profile").url.path == "/sign-in"


def test_an_account_without_a_password_keeps_its_last_card(portal: Portal, visitor: Visitor):
    person = portal.bench.person()
    with portal.bench.office() as office, office.database.write() as tx:
        accounts.get(tx, person.username).password_hash = None
    by_card(portal, visitor, person)
    (card,) = fields(visitor.get("/self-service/lost/card"))
    answer = visitor.post("/self-service/lost/card", {card: "yes"})
    assert (answer.status_code, "Ask your IT service desk" in answer.text) == (409, True)
    assert "card" in have(portal, person.username), "nothing of it is done"
    assert visitor.post("/self-service/password/forgotten").status_code == 409, "and it gets no password"
