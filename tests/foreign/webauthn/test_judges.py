"""What keys send, judged by our verifier and two others: they agree on the facts, and on what is damaged."""

from __future__ import annotations

import pytest

from tests.foreign.webauthn.judges import NotAccepted, judge_assertion, judge_registration
from tests.software_key import BE, BS, EDDSA, ES256, ES384, RS256, UP, UV, Maker, SoftwareKey, b64u, unb64u
from tokenbridge.errors import Rejected
from tokenbridge.rp.key_assertion import Assertion, RegisteredKey, verify_assertion
from tokenbridge.rp.key_models import KeyPolicy
from tokenbridge.rp.key_options import Site, User, creation_options, request_options
from tokenbridge.rp.key_registration import Registration, verify_registration
from tokenbridge.rp.webauthn import Expectation, to_base64url

pytestmark = pytest.mark.foreign

ORIGIN = "https://localhost:8443"
SITE, USER = Site(name="Test", rp_id="localhost"), User(handle=b"h" * 64, name="ada", display_name="Ada")
FIRST, SECOND = bytes(range(32)), bytes(range(32, 64))
CREATE = creation_options(SITE, USER, FIRST, [], KeyPolicy(), seconds=60)
GET = request_options(SITE, SECOND, [], KeyPolicy(), seconds=60)


def expected(challenge: bytes) -> Expectation:
    return Expectation(challenge=to_base64url(challenge), origin=ORIGIN, rp_id="localhost")


KEYS = {
    "ES256, none": {},
    "EdDSA, none": {"algorithm": EDDSA},
    "ES384, self": {"algorithm": ES384, "fmt": "packed"},
    "RS256, self": {"algorithm": RS256, "fmt": "packed"},
    "ES256, by its maker": {"algorithm": ES256, "fmt": "packed", "maker": Maker()},
    "EdDSA, by its maker": {"algorithm": EDDSA, "fmt": "packed", "maker": Maker()},
    "U2F": {"fmt": "fido-u2f", "maker": Maker(), "aaguid": bytes(16), "flags": UP},
    "synced": {"flags": UP | UV | BE | BS},
    "touch only, with a counter": {"flags": UP, "counter": 40},
}


@pytest.mark.parametrize("name", KEYS)
def test_all_three_find_the_same(name: str):
    key = SoftwareKey(**KEYS[name])
    raw = key.register(CREATE, ORIGIN)
    roots = {key.fmt: [key.maker.pem]} if key.maker is not None else {}
    new = verify_registration(Registration.parse(raw), expected(FIRST))
    for facts in judge_registration(CREATE, raw, origin=ORIGIN, roots=roots):
        assert (facts.id, facts.counter, facts.format) == (new.credential_id, new.counter, new.statement.format), facts
        assert facts.public_key == new.cose
        assert (facts.user_verified, facts.synced) == (new.user_verified, new.backup_eligible)
    raw = key.answer(GET, ORIGIN)
    known = RegisteredKey(credential_id=new.credential_id, cose=new.cose, backup_eligible=new.backup_eligible)
    signed = verify_assertion(Assertion.parse(raw), known, expected(SECOND))
    for facts in judge_assertion(GET, raw, origin=ORIGIN, public_key=new.cose, counter=new.counter):
        assert (facts.counter, facts.user_verified) == (signed.counter, signed.user_verified), facts


DAMAGE = {
    "origin": {"client": {"origin": "https://evil.example"}},
    "challenge": {"client": {"challenge": to_base64url(bytes(32))}},
    "type": {"client": {"type": "webauthn.other"}},
    "rp id": {"rp_id": "evil.example"},
    "not present": {"flags": 0},
    "impossible backup": {"flags": UP | BS},
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_others_refuse_is_refused_here(name: str):
    key = SoftwareKey(fmt="packed")
    raw = key.register(CREATE, ORIGIN, **DAMAGE[name])
    with pytest.raises(Rejected):
        verify_registration(Registration.parse(raw), expected(FIRST))
    with pytest.raises(NotAccepted):
        judge_registration(CREATE, raw, origin=ORIGIN)
    raw = key.answer(GET, ORIGIN, **DAMAGE[name])
    known = RegisteredKey(credential_id=key.credential_id, cose=key.cose, backup_eligible=False)
    with pytest.raises(Rejected):
        verify_assertion(Assertion.parse(raw), known, expected(SECOND))
    with pytest.raises(NotAccepted):
        judge_assertion(GET, raw, origin=ORIGIN, public_key=key.cose)


def test_a_signature_with_one_bit_changed_convinces_nobody():
    key = SoftwareKey()
    raw = key.answer(GET, ORIGIN)
    signature = bytearray(unb64u(raw["response"]["signature"]))
    signature[-1] ^= 1
    raw["response"]["signature"] = b64u(bytes(signature))
    known = RegisteredKey(credential_id=key.credential_id, cose=key.cose, backup_eligible=False)
    with pytest.raises(Rejected):
        verify_assertion(Assertion.parse(raw), known, expected(SECOND))
    with pytest.raises(NotAccepted):
        judge_assertion(GET, raw, origin=ORIGIN, public_key=key.cose)
