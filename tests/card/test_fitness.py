"""Which certificate fits a sign-in, and what is said of those that do not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tokenbridge.card import certificates
from tokenbridge.card.base import Fitness, KeyKind, Slot
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.pki import Profile, RigPki, Variant

from .conftest import NOW, Bench, DirectLink, private_key


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def issue(pki: RigPki, variant: Variant = Variant.GOOD, **profile: object) -> bytes:
    key = private_key(Algorithm.P256).public_key()
    return der(pki.issue(key, Profile(uid="000123456789", **profile), now=NOW, variant=variant))


def judge(found: bytes, *issuers: bytes) -> Fitness:
    return certificates.fitness(certificates.read(Slot.AUTHENTICATION, found), issuers, NOW)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (Variant.GOOD, Fitness.FITS),
        (Variant.EXPIRED, Fitness.EXPIRED),
        (Variant.NOT_YET_VALID, Fitness.NOT_YET_VALID),
        (Variant.WRONG_USAGE, Fitness.WRONG_USAGE),
        (Variant.UNKNOWN_ISSUER, Fitness.ISSUER_NOT_ACCEPTED),
    ],
)
def test_each_fault_is_named(pki: RigPki, variant: Variant, expected: Fitness) -> None:
    assert judge(issue(pki, variant), pki.issuing.name.public_bytes()) is expected


def test_without_accepted_issuers_any_issuer_will_do(pki: RigPki) -> None:
    assert judge(issue(pki, Variant.UNKNOWN_ISSUER)) is Fitness.FITS


def test_validity_ends_with_its_last_second(pki: RigPki) -> None:
    assert judge(issue(pki, not_before=NOW, not_after=NOW + timedelta(days=1))) is Fitness.FITS
    assert judge(issue(pki, not_before=NOW - timedelta(days=1), not_after=NOW)) is Fitness.FITS
    second = timedelta(seconds=1)
    assert judge(issue(pki, not_before=NOW - timedelta(days=1), not_after=NOW - second)) is Fitness.EXPIRED
    assert judge(issue(pki, not_before=NOW + second, not_after=NOW + timedelta(days=1))) is Fitness.NOT_YET_VALID


@pytest.mark.parametrize(
    ("purposes", "expected"),
    [
        ((), Fitness.FITS),
        ((ExtendedKeyUsageOID.CLIENT_AUTH,), Fitness.FITS),
        ((ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,), Fitness.FITS),
        ((ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.CLIENT_AUTH), Fitness.FITS),
        ((ExtendedKeyUsageOID.SERVER_AUTH,), Fitness.WRONG_USAGE),
        ((ExtendedKeyUsageOID.EMAIL_PROTECTION,), Fitness.WRONG_USAGE),
    ],
)
def test_extended_usage(pki: RigPki, purposes: tuple[x509.ObjectIdentifier, ...], expected: Fitness) -> None:
    assert judge(issue(pki, extended_usages=purposes)) is expected


def test_unsupported_keys(pki: RigPki) -> None:
    for key in (ec.generate_private_key(ec.SECP521R1()), private_key(Algorithm.RSA1024)):
        certificate = pki.issue(key.public_key(), Profile(uid="1"), now=NOW)
        assert judge(der(certificate)) is Fitness.KEY_UNSUPPORTED


@pytest.mark.parametrize("algorithm", [Algorithm.RSA2048, Algorithm.RSA3072, Algorithm.P256, Algorithm.P384])
def test_kinds_of_keys(pki: RigPki, algorithm: Algorithm) -> None:
    certificate = pki.issue(private_key(algorithm).public_key(), Profile(uid="1"), now=NOW)
    facts = certificates.read(Slot.AUTHENTICATION, der(certificate)).facts
    assert facts is not None
    assert facts.key is KeyKind[algorithm.name.replace("RSA", "RSA_").replace("P", "P_")]


def test_truncated_certificates_are_unreadable(pki: RigPki) -> None:
    whole = issue(pki)
    for length in [*range(1, 40), *range(40, len(whole), 13), len(whole) - 1]:
        assert judge(whole[:length]) is Fitness.UNREADABLE, length


def test_changed_bytes_never_raise(pki: RigPki) -> None:
    whole = issue(pki)
    for position in range(0, len(whole)):
        for value in (0x00, 0x80, 0xFF, whole[position] ^ 1):
            changed = whole[:position] + bytes([value]) + whole[position + 1 :]
            assert judge(changed) in Fitness


def test_oversized_certificate_is_unreadable_and_not_kept(pki: RigPki) -> None:
    found = certificates.read(Slot.AUTHENTICATION, issue(pki) + bytes(certificates.MAX_CERTIFICATE))
    assert found.facts is None
    assert found.der == b""


def test_issuers_are_compared_as_names_not_as_bytes(pki: RigPki) -> None:
    found = issue(pki)
    name = asn1_x509.Name.load(pki.issuing.name.public_bytes())
    other = asn1_x509.Name.build({k: str(v) for k, v in name.native.items()}, use_printable=True)
    assert other.dump() != name.dump()
    assert judge(found, other.dump()) is Fitness.FITS


def test_unreadable_accepted_issuers_match_nothing(pki: RigPki) -> None:
    assert judge(issue(pki), b"", b"\x30", b"\xff" * 40) is Fitness.ISSUER_NOT_ACCEPTED


def test_the_authentication_slot_wins_and_reading_stops_there(bench: Bench) -> None:
    card = bench.card(keys={0x9A: Algorithm.P256, 0x9C: Algorithm.P256})
    link = DirectLink(card)
    snapshot = bench.inspect(link)
    (first, *_) = certificates.fitting(snapshot.certificates, (), NOW)
    assert first.slot is Slot.AUTHENTICATION
    assert snapshot.looked_at == {Slot.AUTHENTICATION}


def test_key_management_and_card_authentication_keys_never_sign_in(bench: Bench) -> None:
    link = DirectLink(bench.card(keys={0x9D: Algorithm.P256, 0x9E: Algorithm.P256}))
    snapshot = bench.inspect(link)
    assert certificates.fitting(snapshot.certificates, (), NOW) == []
    assert link.verifies() == []
