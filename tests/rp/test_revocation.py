"""Revocation: good, revoked or undecided. Nothing that is missing, stale, weak or another's ever makes a proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenbridge.errors import Rejected, RejectReason, Undecided, UndecidedReason
from tokenbridge.rp.certs import IssuerRule, RevocationMode

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
STRONG = IssuerRule(hardware=True, pin_enforced=True)
UNREACHABLE = UndecidedReason.REVOCATION_UNREACHABLE
STALE = UndecidedReason.REVOCATION_STALE
UNKNOWN = UndecidedReason.REVOCATION_UNKNOWN
NO_SOURCE = UndecidedReason.NO_REVOCATION_SOURCE
Verify = Callable[..., Any]


def doubt_of(verify: Verify, token: Any, **options: Any) -> UndecidedReason:
    with pytest.raises(Undecided) as caught:
        verify(token, **options)
    return caught.value.reason


def assert_revoked(verify: Verify, token: Any, **options: Any) -> None:
    with pytest.raises(Rejected) as caught:
        verify(token, **options)
    assert caught.value.reason is RejectReason.CERTIFICATE_REVOKED


def handmade_crl(
    pki: Any, *serials: int, issuer: str = "sub", key: str = "sub", since: datetime = NOW - DAY, **dates: datetime
) -> bytes:
    """A complete CRL without an issuing distribution point, as many CAs publish it."""
    name = x509.load_der_x509_certificate(pki.der(issuer)).subject
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=name, last_update=dates.get("issued", NOW - DAY), next_update=dates.get("until", NOW + DAY)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder(serial_number=serial, revocation_date=since)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(pki.keys[key], hashes.SHA256()).public_bytes(serialization.Encoding.DER)


# --- good and revoked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "crls", "ocsp"),
    [
        ("crl", ["sub"], None),
        ("both", ["sub"], None),
        ("both", [], "delegated"),
        ("both", ["sub"], "delegated"),
        ("ocsp-only", [], "delegated"),
        ("ocsp-only", [], "direct"),
        ("directory", ["directory"], None),
        ("directory", ["sub", "directory", "root"], None),
    ],
)
@pytest.mark.parametrize("anchor", [("sub",), ("root", "sub")])
def test_good_and_revoked(
    pki: Any, verify: Verify, label: str, crls: list[str], ocsp: str | None, anchor: tuple[str, ...]
) -> None:
    trust = pki.trust(anchor[0], STRONG, *anchor[1:])
    lists = tuple(map(pki.crl, crls)) + ((pki.crl("root"),) if len(anchor) > 1 else ())

    def answers(name: str) -> tuple[bytes, ...]:
        return (pki.ocsp(name, ocsp),) if ocsp else ()

    evidence = verify(pki.token(label), trust=trust, crls=lists, ocsps=answers(label))
    assert (evidence.proof.hardware_bound, evidence.notes) == (True, ())
    revoked = f"{label}-revoked"
    assert_revoked(verify, pki.token(revoked), trust=trust, crls=lists, ocsps=answers(revoked))


def test_configured_responders_and_crls_serve_certificates_that_name_none(pki: Any, verify: Verify) -> None:
    assert verify(pki.token("bare"), trust=pki.trust(), ocsps=(pki.ocsp("bare"),)).notes == ()
    configured = pki.trust("sub", replace(STRONG, crls=(handmade_crl(pki),)))
    assert verify(pki.token("bare"), trust=configured).notes == ()
    serial = pki.certificate("bare").serial
    assert_revoked(
        verify, pki.token("bare"), trust=pki.trust("sub", replace(STRONG, crls=(handmade_crl(pki, serial),)))
    )


def test_a_complete_crl_covers_certificates_with_a_directory_name(pki: Any, verify: Verify) -> None:
    token = pki.token("directory")
    serial = pki.certificate("directory").serial
    assert verify(token, trust=pki.trust(), crls=(handmade_crl(pki, serial + 1),)).notes == ()
    assert_revoked(verify, token, trust=pki.trust(), crls=(handmade_crl(pki, serial - 1, serial),))


def test_certificates_inside_answers_do_not_stay_in_the_trust_store(pki: Any, verify: Verify) -> None:
    trust = pki.trust()
    verify(pki.token("both"), trust=trust, ocsps=(pki.ocsp("both"),))
    assert [cert.dump() for cert in trust.registry.certs.values()] == [pki.der("sub")]


def test_one_source_that_says_revoked_outweighs_another_that_says_good(pki: Any, verify: Verify) -> None:
    revoked_by_crl = handmade_crl(pki, pki.certificate("both").serial)
    for crls in ((revoked_by_crl,), (pki.crl("sub"), revoked_by_crl)):
        assert_revoked(verify, pki.token("both"), trust=pki.trust(), crls=crls, ocsps=(pki.ocsp("both"),))


def test_a_revocation_dated_ahead_counts_at_once(pki: Any, verify: Verify) -> None:
    crl = handmade_crl(pki, pki.certificate("bare").serial, since=NOW + timedelta(hours=1))
    assert_revoked(verify, pki.token("bare"), trust=pki.trust(), crls=(crl,))


def test_a_revoked_intermediate_revokes_what_is_below(pki: Any, verify: Verify) -> None:
    crl = handmade_crl(pki, pki.certificate("sub").serial, issuer="root", key="root")
    trust = pki.trust("root", STRONG, "sub")
    assert_revoked(verify, pki.token("crl"), trust=trust, crls=(crl, pki.crl("sub")))


def test_an_issuer_that_offers_none_is_noted(pki: Any, verify: Verify) -> None:
    rule = replace(STRONG, revocation=RevocationMode.NONE_DECLARED)
    (note,) = verify(pki.token("bare"), trust=pki.trust("sub", rule)).notes
    assert note.code == "revocation-not-offered"
    assert "'sub'" in note.text


# --- undecided -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("crl", UNREACHABLE),
        ("both", UNREACHABLE),
        ("ocsp-only", UNREACHABLE),
        ("directory", NO_SOURCE),
        ("bare", NO_SOURCE),
    ],
)
def test_nothing_at_hand(pki: Any, verify: Verify, label: str, reason: UndecidedReason) -> None:
    assert doubt_of(verify, pki.token(label), trust=pki.trust()) is reason


def test_configured_addresses_that_gave_nothing_are_unreachable(pki: Any, verify: Verify) -> None:
    trust = pki.trust("sub", replace(STRONG, crl_urls=("http://crl.example.org",)))
    assert doubt_of(verify, pki.token("bare"), trust=trust) is UNREACHABLE


def test_an_unchecked_intermediate_leaves_doubt(pki: Any, verify: Verify) -> None:
    trust = pki.trust("root", STRONG, "sub")
    assert doubt_of(verify, pki.token("crl"), trust=trust, crls=(pki.crl("sub"),)) is UNREACHABLE


def test_stale_crls_and_answers(pki: Any, verify: Verify) -> None:
    before = NOW - timedelta(days=60)
    assert doubt_of(verify, pki.token("crl"), trust=pki.trust(), crls=(pki.crl("sub", before),)) is STALE
    assert doubt_of(verify, pki.token("both"), trust=pki.trust(), ocsps=(pki.ocsp("both", at=before),)) is STALE
    just = handmade_crl(pki, issued=NOW - 2 * DAY, until=NOW - timedelta(minutes=5))
    assert doubt_of(verify, pki.token("bare"), trust=pki.trust(), crls=(just,)) is STALE


def test_ocsp_answers_age_even_when_they_claim_to_be_fresh(pki: Any, verify: Verify) -> None:
    answer = pki.ocsp("both", at=NOW - timedelta(minutes=9))
    assert verify(pki.token("both"), trust=pki.trust(), ocsps=(answer,)).notes == ()
    impatient = pki.trust("sub", replace(STRONG, ocsp_max_age=timedelta(minutes=5)))
    assert doubt_of(verify, pki.token("both"), trust=impatient, ocsps=(answer,)) is STALE


def test_a_stale_answer_that_says_revoked_makes_no_proof(pki: Any, verify: Verify) -> None:
    old = pki.ocsp("both-revoked", at=NOW - timedelta(days=60))
    assert doubt_of(verify, pki.token("both-revoked"), trust=pki.trust(), ocsps=(old,)) is STALE


def test_data_from_the_future_is_not_believed(pki: Any, verify: Verify) -> None:
    crl = handmade_crl(pki, issued=NOW + DAY, until=NOW + 2 * DAY)
    assert doubt_of(verify, pki.token("bare"), trust=pki.trust(), crls=(crl,)) is UNKNOWN


@pytest.mark.parametrize("responder", ["wrong-usage", "foreign", "wrong-key", "weak"])
def test_answers_of_others_are_not_believed(pki: Any, verify: Verify, responder: str) -> None:
    for label in ("both", "both-revoked"):
        answer = pki.ocsp(label, responder)
        assert doubt_of(verify, pki.token(label), trust=pki.trust(), ocsps=(answer,)) is UNKNOWN
        # ... and do no harm beside a good one
    assert (
        verify(pki.token("both"), trust=pki.trust(), ocsps=(pki.ocsp("both", responder), pki.ocsp("both"))).notes == ()
    )


@pytest.mark.parametrize("repository", ["wrong-key", "weak"])
def test_crls_of_others_are_not_believed(pki: Any, verify: Verify, repository: str) -> None:
    assert doubt_of(verify, pki.token("bare"), trust=pki.trust(), crls=(pki.crl(repository),)) in (UNKNOWN, NO_SOURCE)
    forged = handmade_crl(pki, key="stranger")
    assert doubt_of(verify, pki.token("bare"), trust=pki.trust(), crls=(forged,)) is UNKNOWN


def test_the_legacy_switch_covers_sha1_answers(pki: Any, verify: Verify) -> None:
    legacy = pki.trust("sub", replace(STRONG, legacy_weak=True))
    assert verify(pki.token("both"), trust=legacy, ocsps=(pki.ocsp("both", "weak"),)).notes == ()


def test_anothers_data_is_no_answer(pki: Any, verify: Verify) -> None:
    """The answer for another certificate, the CRL of another partition, of another issuer."""
    assert doubt_of(verify, pki.token("both"), trust=pki.trust(), ocsps=(pki.ocsp("ocsp-only"),)) is UNKNOWN
    assert doubt_of(verify, pki.token("directory"), trust=pki.trust(), crls=(pki.crl("sub"),)) is NO_SOURCE
    stranger = handmade_crl(pki, issuer="stranger", key="stranger")
    assert doubt_of(verify, pki.token("bare"), trust=pki.trust(), crls=(stranger,)) is NO_SOURCE


@pytest.mark.parametrize("junk", [b"", b"junk", b"<html>", bytes(100), b"\x30\x03\x0a\x01\x06"])
def test_junk_is_unknown_and_does_no_harm_beside_good_data(pki: Any, verify: Verify, junk: bytes) -> None:
    assert doubt_of(verify, pki.token("crl"), trust=pki.trust(), crls=(junk,)) is UNKNOWN
    assert doubt_of(verify, pki.token("both"), trust=pki.trust(), ocsps=(junk,)) is UNKNOWN
    assert verify(pki.token("crl"), trust=pki.trust(), crls=(junk, pki.crl("sub")), ocsps=(junk,)).notes == ()


def test_a_bad_signature_is_rejected_before_revocation_is_asked(pki: Any, verify: Verify) -> None:
    with pytest.raises(Rejected) as caught:
        verify(pki.token("crl"), trust=pki.trust(), nonce="B" * 44)
    assert caught.value.reason is RejectReason.SIGNATURE_INVALID


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(data=st.data(), kind=st.sampled_from(["crl", "ocsp"]))
def test_mutated_data_never_turns_revoked_into_good(pki: Any, verify: Verify, data: Any, kind: str) -> None:
    good = bytearray(pki.crl("sub") if kind == "crl" else pki.ocsp("both-revoked"))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, 4095)) % len(good)] ^= data.draw(st.integers(1, 255))
    items = {"crls": (bytes(good),)} if kind == "crl" else {"ocsps": (bytes(good),)}
    with pytest.raises((Rejected, Undecided)):
        verify(pki.token("both-revoked"), trust=pki.trust(), **items)
