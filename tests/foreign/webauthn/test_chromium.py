"""Chromium registers and signs in at our server with its virtual authenticators; every damaged copy is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Error

from tests.foreign.webauthn.conftest import Authenticator, Site
from tests.foreign.webauthn.judges import judge_assertion, judge_registration
from tests.server.key_bench import key_options, reason
from tests.software_key import b64u, unb64u
from tokenbridge.errors import Rejected
from tokenbridge.rp.cbor_form import decode
from tokenbridge.rp.key_assertion import Assertion, RegisteredKey, verify_assertion
from tokenbridge.rp.key_registration import NewKey, Registration, verify_registration
from tokenbridge.rp.webauthn import Expectation

pytestmark = pytest.mark.foreign

USB_UV_RK = {"hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True}
KINDS = {
    "usb, PIN, resident": USB_UV_RK,
    "usb, PIN, not resident": {"hasUserVerification": True, "isUserVerified": True},
    "usb, touch only": {},
    "nfc, PIN, resident": {"transport": "nfc", **USB_UV_RK},
    "internal, PIN, resident": {"transport": "internal", **USB_UV_RK},
    "internal, synced": {"transport": "internal", **USB_UV_RK, "defaultBackupEligibility": True,
                         "defaultBackupState": True},
    "U2F": {"protocol": "u2f"},
}  # fmt: skip


def expectation(site: Site, options: dict[str, Any]) -> Expectation:
    return Expectation(challenge=options["challenge"], origin=site.origin, rp_id="localhost")


def enrol(site: Site, by: Authenticator, name: str, **changes: Any) -> tuple[dict[str, Any], dict[str, Any], NewKey]:
    """Register at the server; also judged by others. Returns options, response and what was found in it."""
    begun = site.keys.begin_by_code(name).json()
    options = {**begun["options"], **changes}
    response = by.create(options)
    done = site.keys.finish(begun, response)
    assert done.status_code == 201, done.text
    found = verify_registration(Registration.parse(response), expectation(site, options))
    for facts in judge_registration(options, response, origin=site.origin):
        assert (facts.id, facts.public_key) == (found.credential_id, found.cose), facts
        assert (facts.user_verified, facts.synced) == (found.user_verified, found.backup_eligible), facts
    return options, response, found


def enter(site: Site, by: Authenticator, key: NewKey, name: str | None) -> dict[str, Any]:
    """Sign in at the server; also judged by others."""
    ticket = site.keys.start(name)
    options = key_options(ticket)
    response = by.get(options)
    answer = site.keys.present(ticket, response)
    assert answer.status_code == 200, answer.text
    judged = judge_assertion(options, response, origin=site.origin, public_key=key.cose, counter=key.counter)
    assert all(facts.id == key.credential_id for facts in judged)
    result: dict[str, Any] = answer.json()
    return result


@pytest.mark.parametrize("attestation", ["none", "direct"])
@pytest.mark.parametrize("kind", KINDS)
def test_registers_and_signs_in(site: Site, kind: str, attestation: str):
    name = site.keys.newcomer()
    with site.authenticator(**KINDS[kind]) as by:
        _, _, key = enrol(site, by, name, attestation=attestation)
        assert key.backup_eligible == ("synced" in kind)
        assert key.user_verified == ("isUserVerified" in KINDS[kind])
        answer = enter(site, by, key, name)
        if key.user_verified:
            assert answer["assurance"]["aal"] == 2, "nobody vouches for a virtual authenticator"
            assert ("hwk" in answer["assurance"]["amr"]) is False
        else:
            assert (answer["decision"], answer["methods"]) == ("challenge", ["password"])
        if "hasResidentKey" in KINDS[kind]:
            assert enter(site, by, key, None)["reasons"][0]["code"] in ("satisfied", "assurance-too-low")


def test_without_a_name_only_the_keys_memory_helps(site: Site):
    name = site.keys.newcomer()
    with site.authenticator(hasUserVerification=True, isUserVerified=True) as by:
        enrol(site, by, name)
        options = {**key_options(site.keys.start()), "timeout": 500}
        with pytest.raises(Error):
            by.get(options)


def test_the_same_authenticator_is_not_registered_twice(site: Site):
    name = site.keys.newcomer()
    with site.authenticator(**USB_UV_RK) as by:
        enrol(site, by, name)
        again = site.keys.begin_by_code(name).json()
        with pytest.raises(Error, match="InvalidStateError"):
            by.create(again["options"])


def test_second_step_after_a_password(site: Site):
    name = site.keys.newcomer()
    with site.authenticator() as by:
        enrol(site, by, name)
        ticket = site.keys.start()
        options = site.keys.server.password(ticket, name).json()["key_options"]
        assert site.keys.present(ticket, by.get(options)).json()["decision"] == "allow"


def test_a_person_who_fails_the_keys_check_has_only_touched_it(site: Site):
    name = site.keys.newcomer()
    with site.authenticator(**USB_UV_RK) as by:
        enrol(site, by, name)
        by.verified(False)
        # Chromium protects resident keys (credProtect): without the check they answer to their name only.
        ticket = site.keys.start(name)
        options = {**key_options(ticket), "userVerification": "discouraged"}
        answer = site.keys.present(ticket, by.get(options)).json()
        assert answer["methods"] == ["password"]


def test_the_browsers_other_page_gets_nothing(site: Site):
    """What is signed on another origin of the same machine is refused."""
    name = site.keys.newcomer()
    with site.authenticator(**USB_UV_RK) as by:
        begun = site.keys.begin_by_code(name).json()
        response = by.create(begun["options"])
        client = unb64u(response["response"]["clientDataJSON"]).replace(site.origin.encode(), b"https://localhost:1")
        response["response"]["clientDataJSON"] = b64u(client)
        assert reason(site.keys.finish(begun, response)) == "origin-mismatch"


def bytewise(text: str) -> Iterator[str]:
    """Base64url text with one bit of each byte changed."""
    data = unb64u(text)
    for place in range(len(data)):
        bent = bytearray(data)
        bent[place] ^= 1 << (place % 8)
        yield b64u(bytes(bent))


SIGNED = ("internal, PIN, resident", "U2F")


@pytest.mark.parametrize("kind", SIGNED)
def test_every_damaged_copy_is_refused(site: Site, kind: str):
    with site.authenticator(**KINDS[kind]) as by:
        name = site.keys.newcomer()
        options, registration, key = enrol(site, by, name, attestation="direct")
        ticket = site.keys.start(name)
        asked = key_options(ticket)
        assertion = by.get(asked)
    known = RegisteredKey(credential_id=key.credential_id, cose=key.cose, backup_eligible=False)
    for member in ("clientDataJSON", "authenticatorData", "signature"):
        for bent in bytewise(assertion["response"][member]):
            damaged = copy.deepcopy(assertion)
            damaged["response"][member] = bent
            with pytest.raises(Rejected):
                verify_assertion(Assertion.parse(damaged), known, expectation(site, asked))
    for bent in signed_parts(registration["response"]["attestationObject"], key.statement.format):
        damaged = copy.deepcopy(registration)
        damaged["response"]["attestationObject"] = bent
        with pytest.raises(Rejected):
            verify_registration(Registration.parse(damaged), expectation(site, options))
    for bent in bytewise(registration["response"]["clientDataJSON"]):
        damaged = copy.deepcopy(registration)
        damaged["response"]["clientDataJSON"] = bent
        with pytest.raises(Rejected):
            verify_registration(Registration.parse(damaged), expectation(site, options))


def signed_parts(text: str, fmt: str) -> Iterator[str]:
    """The attestation object with one bit changed in each byte of the authenticator data and the statement's signature;
    U2F does not sign flags, counter and AAGUID."""
    whole = unb64u(text)
    found = decode(whole)
    parts = [found["authData"], found["attStmt"]["sig"]]
    for part in parts:
        start = whole.index(part)
        free = range(start + 32, start + 53) if fmt == "fido-u2f" and part is found["authData"] else range(0)
        for place in range(start, start + len(part)):
            if place not in free:
                bent = bytearray(whole)
                bent[place] ^= 1 << (place % 8)
                yield b64u(bytes(bent))
