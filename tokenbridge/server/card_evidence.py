"""Judges a card's token: verification by rp with the operator's trust, then whose card it is. It writes nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenbridge.errors import Rejected, RejectReason, Undecided, UndecidedReason
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.certs import RevocationData
from tokenbridge.rp.chain import find_chain, signed_chain
from tokenbridge.rp.challenge import Challenge
from tokenbridge.rp.proof import Proof
from tokenbridge.rp.reasons import Reason
from tokenbridge.rp.revocation import check_revocation
from tokenbridge.rp.subject import IdentifierKind, identifiers
from tokenbridge.rp.webeid import Token, authenticate
from tokenbridge.server.revocation import Source
from tokenbridge.server.store.anchors import Anchor
from tokenbridge.server.store.cards import Marks
from tokenbridge.server.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A token that could be read, and where to ask whether its certificate is revoked. Nothing in it is believed."""

    token: Token
    unverified_certificate: Certificate
    trust: Trust
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a card proved, and how it is recognised. `anchor` is SHA-256 of its trust anchor's certificate in hex.
    Without a proof, `doubts` say why it could not be judged."""

    certificate: Certificate
    marks: Marks
    anchor: str
    proofs: tuple[Proof, ...] = ()
    doubts: tuple[UndecidedReason, ...] = ()
    notes: tuple[Reason, ...] = ()


def read(raw: Mapping[str, Any], trust: Trust) -> Presented:
    """Parse a token. Raises `Rejected`."""
    token = Token.parse(raw)
    certificate = Certificate.parse(token.unverified_certificate)
    found = trust.sources(certificate)
    crls = (Source(url) for url in found.crl_urls)
    ocsp = (Source(item.url, item.request) for item in found.ocsp)
    return Presented(token=token, unverified_certificate=certificate, trust=trust, sources=(*crls, *ocsp))


def verify(presented: Presented, challenge: Challenge, revocation: RevocationData, now: dt.datetime) -> Verdict:
    """Verify everything but whose card it is. Raises `Rejected`."""
    try:
        evidence = authenticate(
            presented.token,
            expected_origin=challenge.origin,
            expected_nonce=challenge.nonce,
            trust=presented.trust.store,
            revocation=revocation,
            now=now,
        )
    except Undecided as doubt:
        # Everything but revocation has passed, so the certificate says whose password may complete the sign-in.
        certificate = presented.unverified_certificate
        anchor = presented.trust.anchors[signed_chain(certificate, presented.trust.store).anchor.name]
        known = marks(certificate, anchor)
        return Verdict(certificate=certificate, marks=known, anchor=anchor.fingerprint, doubts=(doubt.reason,))
    anchor = presented.trust.anchors[evidence.anchor]
    return Verdict(
        certificate=evidence.certificate,
        marks=marks(evidence.certificate, anchor),
        anchor=anchor.fingerprint,
        proofs=(evidence.proof,),
        notes=evidence.notes,
    )


def prove(presented: Presented, challenge: Challenge, revocation: RevocationData, now: dt.datetime) -> Certificate:
    """The certificate of a card that passed everything a sign-in asks for, whoever's it is. Raises `Rejected`, and
    `Undecided` when revocation can't be checked."""
    evidence = authenticate(
        presented.token,
        expected_origin=challenge.origin,
        expected_nonce=challenge.nonce,
        trust=presented.trust.store,
        revocation=revocation,
        now=now,
    )
    return evidence.certificate


def marks(certificate: Certificate, anchor: Anchor | None) -> Marks:
    """By what `certificate` is recognised; what an issuer asserts counts only as far as `anchor` allows it."""
    found = {item.kind: item.value for item in reversed(identifiers(certificate, nhs_uid=True))}
    return Marks(
        fingerprint=certificate.fingerprint,
        key=certificate.key_fingerprint,
        issuer=certificate.issuer,
        serial=f"{certificate.serial:x}",
        ski=found.get(IdentifierKind.SKI),
        nhs_uid=found.get(IdentifierKind.NHS_UID) if anchor is not None and anchor.map_nhs_uid else None,
        upn=found.get(IdentifierKind.UPN) if anchor is not None and anchor.map_upn else None,
        email=found.get(IdentifierKind.EMAIL) if anchor is not None and anchor.map_email else None,
    )


def nobodys(certificate: Certificate) -> Rejected:
    """What is said to a good card without an owner."""
    return Rejected(
        RejectReason.SUBJECT_UNKNOWN,
        "The card is good, but it belongs to no account here.",
        detail=f"{certificate.subject}, serial {certificate.serial:x} of {certificate.issuer}",
    )


def check_now(certificate: Certificate, trust: Trust, revocation: RevocationData, now: dt.datetime) -> str:
    """For operators: check a certificate without a signature; returns the anchor's name. Raises `Rejected` or
    `Undecided`, with the same meaning as in a sign-in."""
    certificate.check_validity(now)
    certificate.check_usage()
    chain = find_chain(certificate, trust.store, now=now)
    check_revocation(chain, revocation, trust.store, now=now)
    return chain.anchor.name
