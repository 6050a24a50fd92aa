"""Certificates and paths: each way to be wrong has its own reason, and only the operator's rule makes a card strong."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from tokenbridge.errors import Rejected, RejectReason, SetupError
from tokenbridge.rp.assurance import AAL, assess
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.certs import IssuerRule, RevocationMode, TrustAnchor, TrustStore
from tokenbridge.rp.chain import find_chain
from tokenbridge.rp.proof import Factor, Method
from tokenbridge.wire import tlv

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NHS_POLICY = "1.2.826.0.1275.101.0.3.1.1"
UNCHECKED = IssuerRule(hardware=True, pin_enforced=True, revocation=RevocationMode.NONE_DECLARED)
Verify = Callable[..., Any]


def reason_of(verify: Verify, token: Any, **options: Any) -> RejectReason:
    with pytest.raises(Rejected) as caught:
        verify(token, **options)
    return caught.value.reason


def test_a_good_card_is_proved(pki: Any, verify: Verify) -> None:
    evidence = verify(pki.token("crl"))
    proof = evidence.proof
    assert (proof.method, proof.factors) == (Method.CARD, {Factor.POSSESSION, Factor.KNOWLEDGE})
    assert (proof.hardware_bound, proof.phishing_resistant, proof.user_verified, proof.synced) == (
        True,
        True,
        True,
        False,
    )
    assert (proof.at, proof.certificate, proof.credential) == (NOW, pki.der("crl"), evidence.certificate.fingerprint)
    assert (evidence.anchor, evidence.rule) == ("sub", UNCHECKED)
    assert assess([proof]).aal is AAL.AAL3


@pytest.mark.parametrize(("hardware", "pin"), [(False, False), (True, False), (False, True)])
def test_without_the_whole_rule_a_card_is_possession_only(pki: Any, verify: Verify, hardware: bool, pin: bool) -> None:
    rule = replace(UNCHECKED, hardware=hardware, pin_enforced=pin)
    proof = verify(pki.token("crl"), trust=pki.trust("sub", rule)).proof
    assert (proof.factors, proof.user_verified, proof.hardware_bound) == ({Factor.POSSESSION}, False, hardware)
    assert assess([proof]).aal is AAL.AAL1


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("expired", RejectReason.CERTIFICATE_EXPIRED),
        ("future", RejectReason.CERTIFICATE_NOT_YET_VALID),
        ("no-usage", RejectReason.CERTIFICATE_USAGE),
        ("signs-documents", RejectReason.CERTIFICATE_USAGE),
        ("for-servers", RejectReason.CERTIFICATE_USAGE),
        ("logon-only", RejectReason.CERTIFICATE_USAGE),
        ("by-stranger", RejectReason.ISSUER_UNKNOWN),
        ("forged", RejectReason.PATH_INVALID),
        ("critical-unknown", RejectReason.PATH_INVALID),
        ("sha1", RejectReason.ALGORITHM_WEAK),
    ],
)
def test_each_fault_has_its_own_reason(pki: Any, verify: Verify, label: str, reason: RejectReason) -> None:
    assert reason_of(verify, pki.token(label)) is reason


def test_validity_is_inclusive_at_both_ends(pki: Any, verify: Verify) -> None:
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    second = timedelta(seconds=1)
    token = pki.token("crl")
    for moment in (start, end):
        assert verify(token, now=moment).proof.at == moment
    assert reason_of(verify, token, now=start - second) is RejectReason.CERTIFICATE_NOT_YET_VALID
    assert reason_of(verify, token, now=end + second) is RejectReason.CERTIFICATE_EXPIRED


def test_an_expired_anchor_vouches_for_nobody(pki: Any) -> None:
    name = x509.load_der_x509_certificate(pki.der("sub")).subject
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "outlives its issuer")]))
        .issuer_name(name)
        .public_key(pki.keys["p256"].public_key())
        .serial_number(79)
        .not_valid_before(NOW)
        .not_valid_after(datetime(2050, 1, 1, tzinfo=UTC))
        .sign(pki.keys["sub"], hashes.SHA256())
    )
    certificate = Certificate.parse(signed.public_bytes(serialization.Encoding.DER))
    end = datetime(2040, 1, 1, tzinfo=UTC)
    for trust in (pki.trust("sub", UNCHECKED), pki.trust("root", UNCHECKED, "sub")):
        assert find_chain(certificate, trust, now=end).anchor.name == trust.anchors[0].name
        with pytest.raises(Rejected) as caught:
            find_chain(certificate, trust, now=end + timedelta(seconds=1))
        assert caught.value.reason is RejectReason.CERTIFICATE_EXPIRED


def test_the_path_may_end_at_the_root_or_at_an_intermediate(pki: Any, verify: Verify) -> None:
    assert verify(pki.token("crl"), trust=pki.trust("root", UNCHECKED, "sub")).anchor == "root"
    assert verify(pki.token("crl"), trust=pki.trust("sub", UNCHECKED)).anchor == "sub"


def test_the_issuers_name_may_be_spelled_otherwise(pki: Any) -> None:
    """Case, inner spaces and string types do not make another name (RFC 5280, section 7.1)."""
    name = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "NHS", _ASN1Type.PrintableString),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "ca"),
        x509.NameAttribute(NameOID.COMMON_NAME, " SubCA02  "),
    ]
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
        .issuer_name(x509.Name(name))
        .public_key(pki.keys["p256"].public_key())
        .serial_number(77)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(pki.keys["sub"], hashes.SHA256())
    )
    certificate = Certificate.parse(signed.public_bytes(serialization.Encoding.DER))
    assert find_chain(certificate, pki.trust("root", UNCHECKED, "sub"), now=NOW).anchor.name == "root"


def test_a_namesake_with_another_key_is_another_issuer(pki: Any, verify: Verify) -> None:
    name = x509.load_der_x509_certificate(pki.der("sub")).subject
    key = pki.keys["stranger"]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(78)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    namesake = TrustAnchor(name="namesake", certificate=signed.public_bytes(serialization.Encoding.DER), rule=UNCHECKED)
    assert reason_of(verify, pki.token("bare"), trust=TrustStore([namesake])) is RejectReason.ISSUER_UNKNOWN
    both = TrustStore([namesake, pki.anchor("sub", UNCHECKED)])
    assert verify(pki.token("bare"), trust=both).anchor == "sub"


def test_threads_may_share_a_trust_store(pki: Any, verify: Verify) -> None:
    trust = pki.trust("root", IssuerRule(hardware=True, pin_enforced=True), "sub")
    data = {"crls": (pki.crl("root"), pki.crl("sub")), "ocsps": (pki.ocsp("both"),)}
    tokens = [pki.token("both"), pki.token("crl")] * 40
    with ThreadPoolExecutor(8) as pool:
        proved = list(pool.map(lambda token: verify(token, trust=trust, **data).proof.hardware_bound, tokens))
    assert proved == [True] * len(tokens)


def test_a_missing_intermediate_is_an_unknown_issuer(pki: Any, verify: Verify) -> None:
    assert reason_of(verify, pki.token("crl"), trust=pki.trust("root", UNCHECKED)) is RejectReason.ISSUER_UNKNOWN


@pytest.mark.parametrize("anchors", [("root", "sub", "deep"), ("sub", "deep")])
def test_path_length_is_kept(pki: Any, verify: Verify, anchors: tuple[str, ...]) -> None:
    trust = pki.trust(anchors[0], UNCHECKED, *anchors[1:])
    assert reason_of(verify, pki.token("by-deep"), trust=trust) is RejectReason.PATH_INVALID


def test_name_constraints_are_kept(pki: Any, verify: Verify) -> None:
    for trust in (pki.trust("root", UNCHECKED, "fenced"), pki.trust("fenced", UNCHECKED)):
        assert reason_of(verify, pki.token("by-fenced"), trust=trust) is RejectReason.PATH_INVALID


def test_a_ca_or_an_anchor_is_no_card(pki: Any, verify: Verify) -> None:
    for label in ("sub", "root"):
        token = pki.token(label)
        for anchor in ("sub", "root"):
            assert reason_of(verify, token, trust=pki.trust(anchor, UNCHECKED)) is RejectReason.CERTIFICATE_USAGE


@pytest.mark.parametrize(
    ("label", "required", "disallowed", "fits"),
    [
        ("crl", {NHS_POLICY}, set(), True),
        ("crl", {"9.9.9", NHS_POLICY}, set(), True),
        ("crl", {"9.9.9"}, set(), False),
        ("other-policy", {NHS_POLICY}, set(), False),
        ("bare", {NHS_POLICY}, set(), False),
        ("bare", set(), set(), True),
        ("crl", set(), {"1.2.3.4"}, False),
        ("other-policy", set(), {NHS_POLICY}, True),
    ],
)
@pytest.mark.parametrize("anchor", [("sub",), ("root", "sub")])
def test_policies(
    pki: Any, verify: Verify, label: str, required: set[str], disallowed: set[str], fits: bool, anchor: tuple[str, ...]
) -> None:
    rule = replace(UNCHECKED, policy_oids=frozenset(required), disallowed_policy_oids=frozenset(disallowed))
    trust = pki.trust(anchor[0], rule, *anchor[1:])
    if fits:
        assert verify(pki.token(label), trust=trust).rule == rule
    else:
        assert reason_of(verify, pki.token(label), trust=trust) is RejectReason.CERTIFICATE_POLICY


def test_weak_algorithms_need_the_switch_of_that_issuer(pki: Any, verify: Verify) -> None:
    legacy = replace(UNCHECKED, legacy_weak=True)
    weak = [(pki.token("sha1"), "sub"), (pki.token("rsa1024", "RS256"), "sub"), (pki.token("by-weakca"), "weakca")]
    for token, anchor in weak:
        assert reason_of(verify, token, trust=pki.trust(anchor, UNCHECKED)) is RejectReason.ALGORITHM_WEAK
        assert verify(token, trust=pki.trust(anchor, legacy)).anchor == anchor
    # The switch of one issuer opens nothing for another.
    mixed = TrustStore([pki.anchor("weakca", legacy), pki.anchor("sub", UNCHECKED)])
    assert reason_of(verify, pki.token("sha1"), trust=mixed) is RejectReason.ALGORITHM_WEAK


def test_each_anchor_has_its_own_rule(pki: Any, verify: Verify) -> None:
    soft = IssuerRule(revocation=RevocationMode.NONE_DECLARED)
    trust = TrustStore([pki.anchor("stranger", soft), pki.anchor("sub", UNCHECKED)])
    assert verify(pki.token("by-stranger"), trust=trust).proof.factors == {Factor.POSSESSION}
    assert verify(pki.token("bare"), trust=trust).proof.hardware_bound


def test_a_token_for_another_challenge_is_refused(pki: Any, verify: Verify) -> None:
    token = pki.token("bare")
    assert reason_of(verify, token, origin="https://evil.example") is RejectReason.SIGNATURE_INVALID
    assert reason_of(verify, token, nonce="B" * 44) is RejectReason.SIGNATURE_INVALID


def test_somebody_elses_certificate_does_not_help(pki: Any, verify: Verify) -> None:
    mine, theirs = pki.token("p384", "ES384"), pki.token("bare")
    stolen = replace(mine, unverified_certificate=theirs.unverified_certificate)
    assert reason_of(verify, stolen) is RejectReason.KEY_MISMATCH


def respelled(der: bytes, kind: str) -> bytes:
    """The same certificate with its unsigned outside written otherwise."""
    tbs, algorithm, signature = tlv.parse(tlv.parse_one(der).value)
    if kind == "algorithm":
        algorithm = tlv.Tlv(0x30, algorithm.value + b"\x05\x00")
    if kind == "unused bits":
        signature = tlv.Tlv(0x03, b"\x01" + signature.value[1:])
    body = b"".join(part.encode() for part in (tbs, algorithm, signature))
    if kind == "extra":
        body += b"\x05\x00"
    if kind == "length":
        return b"\x30\x83" + len(body).to_bytes(3, "big") + body
    return tlv.encode(0x30, body)


def test_one_certificate_has_one_encoding(pki: Any, verify: Verify) -> None:
    token = pki.token("bare")
    assert respelled(pki.der("bare"), "none") == pki.der("bare")
    for kind in ("algorithm", "unused bits", "extra", "length"):
        changed = replace(token, unverified_certificate=respelled(pki.der("bare"), kind))
        assert reason_of(verify, changed) is RejectReason.MALFORMED


@pytest.mark.parametrize("size", [0, 1, 8193])
def test_certificates_are_bounded(size: int) -> None:
    with pytest.raises(Rejected) as caught:
        Certificate.parse(bytes(size))
    assert caught.value.reason is RejectReason.MALFORMED


def test_anchors_that_cannot_be_are_a_matter_of_set_up(pki: Any) -> None:
    with pytest.raises(SetupError, match="'x' can't be read"):
        TrustStore([TrustAnchor(name="x", certificate=b"nonsense")])
    with pytest.raises(SetupError, match="not a CA's: CN=123456789012"):
        TrustStore([pki.anchor("bare")])
    with pytest.raises(SetupError, match="not a CA's"):
        TrustStore([pki.anchor("root", UNCHECKED, "bare")])
    with pytest.raises(SetupError, match="same name and key"):
        TrustStore([pki.anchor("sub"), pki.anchor("sub", UNCHECKED)])


def test_the_store_names_whose_cards_are_accepted(pki: Any) -> None:
    trust = pki.trust("root", UNCHECKED, "sub")
    subjects = [Certificate.parse(pki.der(name)).asn1.subject.dump() for name in ("root", "sub")]
    assert trust.issuer_names == tuple(subjects)
