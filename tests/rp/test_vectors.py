"""Real tokens of real cards: they verify at their dates, and no mutation of them does, down to every single bit."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import pem

from tokenbridge.errors import Rejected, RejectReason, Undecided
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.certs import IssuerRule, RevocationData, RevocationMode, TrustAnchor, TrustStore
from tokenbridge.rp.webeid import CardEvidence, Token, authenticate, verify_signature

FOLDER = Path(__file__).parents[1] / "vectors" / "webeid"
# The responders of these issuers are out of reach, so the tests declare that there are none.
RULE = IssuerRule(hardware=True, pin_enforced=True, revocation=RevocationMode.NONE_DECLARED)


def certificate_file(name: str) -> bytes:
    data = (FOLDER / name).read_bytes()
    return pem.unarmor(data)[2] if pem.detect(data) else data


@dataclass(frozen=True)
class Vector:
    name: str
    raw: dict[str, Any]
    origin: str
    nonce: str
    at: datetime
    trust: TrustStore | None

    def token(self) -> Token:
        return Token.parse(json.dumps(self.raw).encode())

    def signature(self, token: Token, origin: str = "", nonce: str = "") -> None:
        verify_signature(token, expected_origin=origin or self.origin, expected_nonce=nonce or self.nonce)

    def authenticate(self, token: Token, now: datetime | None = None, trust: TrustStore | None = None) -> CardEvidence:
        chosen = trust or self.trust
        assert chosen is not None
        return authenticate(
            token,
            expected_origin=self.origin,
            expected_nonce=self.nonce,
            trust=chosen,
            revocation=RevocationData(),
            now=now or self.at,
        )


def vectors() -> Iterator[Vector]:
    for entry in json.loads((FOLDER / "index.json").read_text("utf-8"))["vectors"]:
        anchor = entry["ca"] and TrustAnchor(name="CA", certificate=certificate_file(entry["ca"]), rule=RULE)
        yield Vector(
            name=f"{entry['alg']}-{entry['file'].split('.')[1][:24]}",
            raw=json.loads((FOLDER / entry["file"]).read_text("utf-8")),
            origin=entry["origin"],
            nonce=entry["nonce"],
            at=datetime.fromisoformat(entry.get("date", "2024-12-24")).replace(tzinfo=UTC),
            trust=TrustStore([anchor]) if anchor else None,
        )


ALL = tuple(vectors())
CHAINED = tuple(vector for vector in ALL if vector.trust)
each = pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector.name)
each_chained = pytest.mark.parametrize("vector", CHAINED, ids=lambda vector: vector.name)


def flipped(data: bytes) -> Iterator[bytes]:
    """`data` with one bit changed, for each of its bits."""
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << (bit % 8)
        yield bytes(changed)


def test_there_are_five_and_four_chain() -> None:
    assert (len(ALL), len(CHAINED)) == (5, 4)


@each
def test_the_signature_verifies(vector: Vector) -> None:
    vector.signature(vector.token())


@each_chained
def test_the_whole_token_verifies_at_its_date(vector: Vector) -> None:
    evidence = vector.authenticate(vector.token())
    assert evidence.proof.certificate == vector.token().unverified_certificate
    assert evidence.proof.hardware_bound
    assert [note.code for note in evidence.notes] == ["revocation-not-offered"]


@each_chained
def test_without_revocation_data_nothing_is_proved(vector: Vector) -> None:
    assert vector.trust is not None
    strict = TrustStore([replace(vector.trust.anchors[0], rule=IssuerRule(hardware=True, pin_enforced=True))])
    with pytest.raises(Undecided):
        vector.authenticate(vector.token(), trust=strict)


@each_chained
@pytest.mark.parametrize("years", [-30, 30])
def test_no_token_verifies_in_another_time(vector: Vector, years: int) -> None:
    with pytest.raises(Rejected) as caught:
        vector.authenticate(vector.token(), now=vector.at + timedelta(days=365 * years))
    wanted = RejectReason.CERTIFICATE_EXPIRED if years > 0 else RejectReason.CERTIFICATE_NOT_YET_VALID
    assert caught.value.reason is wanted


def test_a_token_with_somebody_elses_certificate_is_refused() -> None:
    raw = json.loads((FOLDER / "AuthTokenSignatureTest.AUTH_TOKEN_WRONG_CERT.json").read_text("utf-8"))
    with pytest.raises(Rejected) as caught:
        CHAINED[0].signature(Token.parse(raw))
    assert caught.value.reason is RejectReason.SIGNATURE_INVALID


@each_chained
def test_no_other_ca_vouches_for_it(vector: Vector) -> None:
    for other in CHAINED:
        assert vector.trust is not None
        assert other.trust is not None
        if other.trust.issuer_names != vector.trust.issuer_names:
            with pytest.raises(Rejected) as caught:
                vector.authenticate(vector.token(), trust=other.trust)
            assert caught.value.reason is RejectReason.ISSUER_UNKNOWN


@each
def test_each_bit_of_the_signature_counts(vector: Vector) -> None:
    token = vector.token()
    for signature in flipped(token.signature):
        with pytest.raises(Rejected) as caught:
            vector.signature(replace(token, signature=signature))
        assert caught.value.reason is RejectReason.SIGNATURE_INVALID


@each
def test_each_bit_of_origin_and_nonce_counts(vector: Vector) -> None:
    token = vector.token()
    for origin in flipped(vector.origin.encode()):
        with pytest.raises(Rejected):
            vector.signature(token, origin=origin.decode("latin-1"))
    for nonce in flipped(vector.nonce.encode()):
        with pytest.raises(Rejected):
            vector.signature(token, nonce=nonce.decode("latin-1"))


@each_chained
def test_each_bit_of_the_certificate_counts(vector: Vector) -> None:
    token = vector.token()
    for certificate in flipped(token.unverified_certificate):
        with pytest.raises((Rejected, Undecided)):
            vector.authenticate(replace(token, unverified_certificate=certificate))


@each
def test_each_bit_of_the_key_in_the_certificate_counts(vector: Vector) -> None:
    """Also for the token whose CA is not there: with another key its signature is wrong."""
    token = vector.token()
    spki = Certificate.parse(token.unverified_certificate).asn1.public_key["public_key"].contents
    start = token.unverified_certificate.index(spki)
    for changed in flipped(spki):
        certificate = token.unverified_certificate[:start] + changed + token.unverified_certificate[start + len(spki) :]
        with pytest.raises(Rejected):
            vector.signature(replace(token, unverified_certificate=certificate))


@pytest.mark.parametrize(
    ("vector", "field"),
    [
        pytest.param(vector, field, id=f"{field}-{vector.name}")
        for vector in ALL
        for field in ("unverifiedCertificate", "algorithm", "signature", "format")
        # Without its CA only the key in the certificate can be checked: see the test above.
        if vector.trust or field != "unverifiedCertificate"
    ],
)
def test_each_character_of_each_field_counts(vector: Vector, field: str) -> None:
    """Each character of the JSON's texts replaced, left out and doubled. appVersion is information only."""
    text = vector.raw[field]
    step = 1 if len(text) < 400 else 7
    for place in range(0, len(text), step):
        for changed in (
            text[:place] + "A" + text[place + 1 :],
            text[:place] + text[place + 1 :],
            text[:place] + text[place] + text[place:],
        ):
            if changed == text or (field == "format" and changed.startswith("web-eid:1")):
                continue
            with pytest.raises((Rejected, Undecided)):
                refused(vector, vector.raw | {field: changed})


def refused(vector: Vector, raw: dict[str, Any]) -> None:
    token = Token.parse(raw)
    if vector.trust is None:
        vector.signature(token)
    else:
        vector.authenticate(token)


@each
def test_parts_of_two_tokens_do_not_mix(vector: Vector) -> None:
    for other in ALL:
        if other.name != vector.name:
            for field in ("unverifiedCertificate", "signature"):
                with pytest.raises(Rejected):
                    refused(vector, vector.raw | {field: other.raw[field]})


def test_bytes_after_the_certificate_are_refused() -> None:
    vector = CHAINED[0]
    longer = vector.token().unverified_certificate + b"\0"
    with pytest.raises(Rejected) as caught:
        vector.authenticate(Token.parse(vector.raw | {"unverifiedCertificate": b64encode(longer).decode()}))
    assert caught.value.reason is RejectReason.MALFORMED
