"""Whose card it is: enrolled certificates, and what an authority may assert."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.server.conftest import DER, ORIGIN, Bench, SoftCard, make_bench, now, serving
from tokenbridge.rig.pki import Profile, RigPki
from tokenbridge.server.operator import authorities, people
from tokenbridge.server.store.accounts import NewAccount
from tokenbridge.server.store.anchors import Anchor

UID, UPN, EMAIL = "555000000123", "alice@nhs.example", "alice.archer@nhs.example"


@pytest.mark.parametrize(
    ("switch", "fact", "profile"),
    [
        ("map_nhs_uid", {"nhs_uid": UID}, {"uid": UID}),
        ("map_upn", {"upn": "Alice@NHS.example"}, {"upn": UPN}),
        ("map_email", {"email": EMAIL}, {"email": EMAIL.upper()}),
    ],
)
def test_an_authority_with_the_right_names_people(
    fresh: Bench, switch: str, fact: dict[str, Any], profile: dict[str, Any]
):
    fresh.trust(**{switch: True})
    person = fresh.person(enrol=False, card=fresh.card(**profile), **fact)
    stranger = fresh.card()
    with serving(fresh.data) as server:
        ticket = server.begin()
        outcome = server.card(ticket, person.card.token(ticket["nonce"])).json()
        assert outcome["account"]["username"] == person.username
        ticket = server.begin()
        answer = server.card(ticket, stranger.token(ticket["nonce"]))
        assert answer.json()["error"]["reason"] == "subject-unknown"


def test_a_certificate_that_names_two_people_names_nobody(fresh: Bench):
    fresh.trust(map_nhs_uid=True, map_upn=True)
    fresh.person(enrol=False, nhs_uid=UID)
    fresh.person(enrol=False, upn=UPN)
    card = fresh.card(uid=UID, upn=UPN)
    with serving(fresh.data) as server:
        ticket = server.begin()
        answer = server.card(ticket, card.token(ticket["nonce"]))
        assert answer.json()["error"]["reason"] == "subject-unknown"


def test_a_renewed_certificate_of_the_same_key_goes_on_working(fresh: Bench):
    fresh.trust()
    key = ec.generate_private_key(ec.SECP256R1())
    issue = [fresh.pki.issue(key.public_key(), Profile(uid=UID), now=now()) for _ in range(2)]
    old, new = (SoftCard(key=key, certificate=certificate) for certificate in issue)
    person = fresh.person(card=old)
    with serving(fresh.data) as server:
        ticket = server.begin()
        outcome = server.card(ticket, new.token(ticket["nonce"])).json()
        assert outcome["account"]["username"] == person.username


def test_another_authority_that_copies_names_and_numbers_names_nobody(fresh: Bench):
    """A trusted authority calls itself like the victim's and copies the serial number; the key can't be copied."""
    fresh.trust()
    victim, other = fresh.person(), RigPki.create(now=now())
    assert other.issuing.name == fresh.pki.issuing.name
    key = ec.generate_private_key(ec.SECP256R1())
    serial = victim.card.certificate.serial_number
    fake = SoftCard(key=key, certificate=other.issue(key.public_key(), Profile(uid=UID), now=now(), serial=serial))
    with fresh.office() as opened:
        authorities.add(
            opened,
            Anchor(
                name="other",
                certificate=other.root.certificate.public_bytes(DER),
                intermediates=(other.issuing.certificate.public_bytes(DER),),
                check_revocation=False,
            ),
        )
    with serving(fresh.data) as server:
        ticket = server.begin()
        answer = server.card(ticket, fake.token(ticket["nonce"]))
        assert answer.json()["error"]["reason"] == "subject-unknown"
        ticket = server.begin()
        assert server.card(ticket, victim.card.token(ticket["nonce"])).json()["decision"] == "allow"


def test_an_authority_that_vouches_for_less_leads_to_the_password(fresh: Bench):
    fresh.trust(hardware=False, pin_enforced=False)
    person = fresh.person()
    with serving(fresh.data) as server:
        ticket = server.begin()
        outcome = server.card(ticket, person.card.token(ticket["nonce"])).json()
        assert (outcome["decision"], outcome["methods"]) == ("challenge", ["password"])
        last = server.password(ticket, person.username).json()
        assert last["decision"] == "allow"
        assert last["assurance"]["aal"] == 2
        assert last["assurance"]["amr"] == ["sc", "hwk", "pwd", "mfa"]


def test_an_authority_without_revocation_is_remarked(fresh: Bench):
    fresh.trust(check_revocation=False)
    person = fresh.person()
    with serving(fresh.data) as server:
        ticket = server.begin()
        outcome = server.card(ticket, person.card.token(ticket["nonce"])).json()
    assert outcome["decision"] == "allow"
    assert "revocation-not-offered" in [item["code"] for item in outcome["reasons"]]


def test_removed_authority_counts_at_once(fresh: Bench):
    fresh.trust()
    person = fresh.person()
    with serving(fresh.data) as server:
        for expected in ("allow", None):
            ticket = server.begin()
            assert bool(ticket["accepts"][0]["issuers"]) is (expected is not None)
            answer = server.card(ticket, person.card.token(ticket["nonce"]))
            assert answer.json().get("decision") == expected
            if expected:
                with fresh.office() as opened:
                    authorities.remove(opened, "bench")
        assert answer.json()["error"]["reason"] == "issuer-unknown"


def test_without_an_app_a_password_is_not_enough(fresh: Bench):
    with fresh.office() as opened:
        people.add(opened, NewAccount(username="bob", display_name="Bob"), "correct horse battery")
    with serving(fresh.data) as server:
        ticket = server.begin()
        outcome = server.password(ticket, "bob").json()
    assert outcome["decision"] == "deny"
    assert outcome["methods"] == []


def test_plain_http_on_loopback(tmp_path, pki: RigPki):
    bench = make_bench(tmp_path / "data", pki, plain_http=True, origin="")
    with serving(bench.data) as server:
        assert server.url.startswith("http://localhost:")
        ticket = server.begin()
        assert ticket["rp"]["origin"] == server.url != ORIGIN
