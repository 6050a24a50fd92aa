"""The method that somebody is asked for first: chosen, kept to what policy offers, and told to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.conftest import PASSWORD, Databases
from tests.server.portal.conftest import Portal, Visitor, portal_at
from tests.server.portal.test_phone_pages import add_phone
from tokenbridge.server.operator import people, security_keys
from tokenbridge.server.store import accounts, audit


@pytest.fixture
def portal(tmp_path: Path, databases: Databases) -> Iterator[Portal]:
    """With an outbox, and a policy that this test may change."""
    database = databases.new()
    with portal_at(tmp_path / "data", database=database, outbox=True) as made:
        yield made
    databases.drop(database)


def choose(visitor: Visitor, method: str) -> None:
    visitor.get("/self-service/default-method")
    assert "We begin with that" in visitor.send("/self-service/default-method", {"method": method}).text


def offered(portal: Portal, username: str) -> list[str]:
    ticket = portal.server.begin("portal")
    return portal.server.password(ticket, username).json()["methods"]


def test_what_was_chosen_comes_first_on_the_page_and_in_the_api(portal: Portal, visitor: Visitor):
    person = portal.bench.person(enrol=False)
    add_phone(visitor, person)
    assert offered(portal, person.username)[0] == "totp"
    choose(visitor, "sms")
    assert offered(portal, person.username) == ["sms", "totp", "whatsapp", "voice"]
    other = portal.visitor()
    with other.http:
        assert "Send me a text message" in other.sign_in_by_password(person.username).text
        assert "Use your authenticator app" in other.last.text
    assert "Text message" in visitor.get("/self-service").text
    choose(visitor, "")
    assert offered(portal, person.username) == ["totp", "whatsapp", "sms", "voice"]
    with portal.bench.office() as office, office.database.read() as tx:
        found = [e.detail for e in audit.entries(tx, account=person.username) if e.event == "method-changed"]
    assert [entry["method"] for entry in found] == ["sms", ""]


def test_a_choice_adds_nothing_to_what_policy_offers(portal: Portal, visitor: Visitor):
    person = portal.bench.person(enrol=False)
    add_phone(visitor, person)
    choose(visitor, "sms")
    (portal.bench.data / "policy.toml").write_text('[[rule]]\nname = "app"\naal = 2\nfallback = ["totp"]\n')
    assert offered(portal, person.username) == ["totp"]


def test_a_choice_that_was_removed_gives_way_to_the_servers_order(portal: Portal, visitor: Visitor):
    person = portal.bench.person(enrol=False)
    add_phone(visitor, person)
    choose(visitor, "sms")
    visitor.get("/self-service/phone/1/remove")
    visitor.send("/self-service/phone/1/remove")
    assert offered(portal, person.username) == ["totp"]
    assert "The server chooses" in visitor.get("/self-service").text


def test_what_is_not_set_up_can_not_be_chosen(portal: Portal, visitor: Visitor):
    person = portal.bench.person(enrol=False)
    with portal.bench.office() as office:
        security_keys.new_recovery_codes(office, person.username)
    visitor.sign_in(person)
    for method in ("sms", "recovery", "password", "card", "x"):
        visitor.get("/self-service/default-method")
        answer = visitor.post("/self-service/default-method", {"method": method})
        assert (answer.status_code, "not set up" in answer.text) == (400, True), method
    with portal.bench.office() as office, office.database.read() as tx:
        assert accounts.get(tx, person.username).default_method is None


def test_a_choice_is_not_told_before_the_password_was_right(portal: Portal, visitor: Visitor):
    person = portal.bench.person(enrol=False)
    add_phone(visitor, person)
    choose(visitor, "sms")
    ticket = portal.server.begin("portal")
    assert "sms" not in portal.server.password(ticket, person.username, "wrong password").text
    person_first = [
        portal.server.http.post("/api/sign-in", json={"client": "portal", "username": name}).json()["accepts"][-1]
        for name in (person.username, "nobody-of-this-name")
    ]
    assert person_first[0] == person_first[1]


def test_an_old_or_weak_session_chooses_nothing(portal: Portal, visitor: Visitor):
    name = portal.newcomer()
    visitor.sign_in_by_password(name)
    with portal.bench.office() as office:
        people.new_app(office, name)
    visitor.get("/self-service")
    assert visitor.post("/self-service/default-method", {"method": "totp"}).status_code == 403
    other = portal.visitor()
    with other.http:
        assert other.sign_in_by_password(name, PASSWORD).url.path == "/sign-in/step"
