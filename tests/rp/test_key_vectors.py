"""The test vectors of WebAuthn Level 3: each verifies, its attestation included, and no changed byte does."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from tests.software_key import b64u
from tokenbridge.errors import Rejected
from tokenbridge.rp.cbor_form import decode
from tokenbridge.rp.key_assertion import Assertion, RegisteredKey, Signed, verify_assertion
from tokenbridge.rp.key_models import KeyModels, KeyPolicy, Make
from tokenbridge.rp.key_registration import NewKey, Registration, verify_registration
from tokenbridge.rp.webauthn import Expectation

DATA = json.loads((Path(__file__).parents[1] / "vectors" / "webauthn" / "level3.json").read_text())
ROOT = x509.load_der_x509_certificate(bytes.fromhex(DATA["attestation_ca_cert"]))
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
TRUSTING = KeyModels(KeyPolicy(), roots=[ROOT])
STRICT = KeyModels(KeyPolicy(attested=True), roots=[ROOT])


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One registration and one sign-in, as bytes that may be bent."""

    name: str
    id: bytes
    challenge: bytes
    client: bytes
    attestation: bytes
    second_challenge: bytes
    second_client: bytes
    authenticator_data: bytes
    signature: bytes

    def register(self) -> NewKey:
        name = b64u(self.id)
        response = {"clientDataJSON": b64u(self.client), "attestationObject": b64u(self.attestation)}
        raw = {"type": "public-key", "id": name, "rawId": name, "response": response}
        return verify_registration(Registration.parse(raw), expectation(self.challenge))

    def sign_in(self, key: NewKey) -> Signed:
        name = b64u(self.id)
        response = {
            "clientDataJSON": b64u(self.second_client),
            "authenticatorData": b64u(self.authenticator_data),
            "signature": b64u(self.signature),
        }
        raw = {"type": "public-key", "id": name, "rawId": name, "response": response}
        known = RegisteredKey(credential_id=key.credential_id, cose=key.cose, backup_eligible=key.backup_eligible)
        return verify_assertion(Assertion.parse(raw), known, expectation(self.second_challenge))


def expectation(challenge: bytes) -> Expectation:
    return Expectation(
        challenge=b64u(challenge),
        origin=DATA["origin"],
        rp_id=DATA["rpId"],
        cross_origin=True,
        top_origins=frozenset({DATA["topOrigin"]}),
    )


def pair(data: dict) -> Pair:
    first = {name: bytes.fromhex(value) for name, value in data["registration"].items()}
    second = {name: bytes.fromhex(value) for name, value in data["authentication"].items()}
    return Pair(
        name=data["name"],
        id=first["credential_id"],
        challenge=first["challenge"],
        client=first["clientDataJSON"],
        attestation=first["attestationObject"],
        second_challenge=second["challenge"],
        second_client=second["clientDataJSON"],
        authenticator_data=second["authenticatorData"],
        signature=second["signature"],
    )


PAIRS = [pair(data) for data in DATA["vectors"]]
each = pytest.mark.parametrize("one", PAIRS, ids=lambda one: one.name)


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    """`data` with one bit changed, for every bit; where, and the result."""
    for place in range(len(data)):
        for bit in range(8):
            bent = bytearray(data)
            bent[place] ^= 1 << bit
            yield place, bytes(bent)


def is_refused(work: Callable[[], object]) -> bool:
    try:
        work()
    except Rejected:
        return True
    return False


def test_there_are_fifteen():
    assert len(PAIRS) == 15


@each
def test_the_pair_verifies(one: Pair):
    key = one.register()
    standing = TRUSTING.judge(Make(aaguid=key.aaguid, path=key.statement.path, at=NOW), NOW)
    assert standing.attested == bool(key.statement.path)
    assert one.sign_in(key).counter == 0


@each
def test_the_attestation_is_what_its_name_says(one: Pair):
    statement = one.register().statement
    expected = {"Packed": "packed", "Self": "packed", "TPM": "tpm", "Android": "android-key", "Apple": "apple"}
    words = one.name.split()
    named = next((form for word, form in expected.items() if word in words), None)
    assert statement.format == (named or ("fido-u2f" if "U2F" in words else "none"))


@each
def test_every_bit_of_a_sign_in_counts(one: Pair):
    key = one.register()
    for field in ("second_client", "authenticator_data", "signature"):
        data = getattr(one, field)
        for place, bent in flips(data):
            assert is_refused(partial(replace(one, **{field: bent}).sign_in, key)), f"{field}, byte {place}"


def unsigned(one: Pair) -> set[int]:
    """Places of the attestation object that nobody signs: without a maker's signature AAGUID, counter and flags; of
    U2F's, which are not part of what it signs, the same."""
    found = decode(one.attestation)
    start = one.attestation.index(found["authData"])
    return set(range(start + 32, start + 53)) if found["fmt"] in ("none", "fido-u2f") else set()


@each
def test_every_byte_of_a_registration_counts(one: Pair):
    """A registration with a changed byte is refused, or the key that it makes can't sign in."""
    free = unsigned(one)
    models = STRICT if one.register().statement.path else TRUSTING
    for place, bent in flips(one.attestation):
        if place in free:
            continue
        assert is_refused(partial(use, replace(one, attestation=bent), models)), f"byte {place}"


@each
def test_every_byte_of_signed_client_data_counts(one: Pair):
    attested = one.register().statement.format != "none"
    known = [value for value in json.loads(one.client).values() if isinstance(value, str)][:3]
    places = [one.client.index(value.encode()) + at for value in known for at in range(len(value))]
    for place, bent in flips(one.client):
        if attested or place in places:
            assert is_refused(partial(use, replace(one, client=bent), TRUSTING)), f"byte {place}"


def use(one: Pair, models: KeyModels) -> None:
    key = one.register()
    models.judge(Make(aaguid=key.aaguid, path=key.statement.path, at=NOW), NOW)
    one.sign_in(key)


@each
def test_no_truncation_is_read(one: Pair):
    key = one.register()
    for length in range(len(one.authenticator_data)):
        with pytest.raises(Rejected):
            replace(one, authenticator_data=one.authenticator_data[:length]).sign_in(key)
    for length in range(0, len(one.attestation), 3):
        with pytest.raises(Rejected):
            replace(one, attestation=one.attestation[:length]).register()


@each
def test_the_key_of_another_pair_does_not_fit(one: Pair):
    key = one.register()
    for other in PAIRS:
        if other.name != one.name:
            with pytest.raises(Rejected):
                other.sign_in(key)
            with pytest.raises(Rejected):
                replace(other, id=one.id).sign_in(key)
