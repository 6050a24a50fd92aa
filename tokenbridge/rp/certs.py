"""Whom a relying party trusts: anchors, the rule of each issuer, and which revocation data to fetch for a certificate.

Fetches nothing itself: `sources_for` names the addresses, `RevocationData` brings the bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum, unique
from typing import Any, Final

from pyhanko_certvalidator import authority
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import PKIXValidationParams
from pyhanko_certvalidator.registry import CertificateRegistry, SimpleTrustManager

from tokenbridge.errors import Rejected, SetupError
from tokenbridge.rp.certificate import PARSER_ERRORS, Certificate
from tokenbridge.rp.paths import PathIndex
from tokenbridge.wire import tlv

MAX_CRL_BYTES: Final = 16 << 20
MAX_OCSP_BYTES: Final = 1 << 16
OCSP_MAX_AGE: Final = timedelta(days=7)

# SHA-1 only names the issuer in a request; responders in the field know no other hash (RFC 5019, section 2.1.1).
_SHA1_IDENTIFIER: Final = bytes.fromhex("300906052b0e03021a0500")


@unique
class RevocationMode(StrEnum):
    """Whether certificates below an anchor must be shown not to be revoked."""

    REQUIRED = "required"
    NONE_DECLARED = "none-declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRule:
    """What the operator vouches for about one issuer's cards.

    `hardware`, `pin_enforced`: the key never leaves the card, and the card signs only after its PIN.
    `policy_oids`: at least one must be asserted by the path; empty: any. `disallowed_policy_oids`: none may be.
    `legacy_weak`: RSA from 1024 bits and SHA-1 in the chain are accepted. `crls`: configured CRLs (DER).
    `crl_urls`, `ocsp_urls`: used beside those that the certificates name.
    `nhs_uid`: a CN of exactly 12 digits is the NHS user id.
    """

    hardware: bool = False
    pin_enforced: bool = False
    policy_oids: frozenset[str] = frozenset()
    disallowed_policy_oids: frozenset[str] = frozenset()
    legacy_weak: bool = False
    revocation: RevocationMode = RevocationMode.REQUIRED
    crl_urls: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()
    crls: tuple[bytes, ...] = field(default=(), repr=False)
    ocsp_max_age: timedelta = OCSP_MAX_AGE
    nhs_uid: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustAnchor:
    """A CA that is trusted by configuration: a root, or an intermediate. `certificate` and `intermediates` are DER."""

    name: str
    certificate: bytes = field(repr=False)
    intermediates: tuple[bytes, ...] = field(default=(), repr=False)
    rule: IssuerRule = IssuerRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationData:
    """What the server fetched, as DER; not believed until its signature and dates are checked."""

    crls: tuple[bytes, ...] = field(default=(), repr=False)
    ocsps: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspSource:
    """POST `request` to `url` as application/ocsp-request (RFC 6960, appendix A)."""

    url: str
    request: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationSources:
    """What to fetch; any one good answer per certificate is enough."""

    crl_urls: tuple[str, ...] = ()
    ocsp: tuple[OcspSource, ...] = ()


class TrustStore:
    """The trusted anchors, parsed once. Never changes after construction, so threads may share it."""

    def __init__(self, anchors: Iterable[TrustAnchor]) -> None:
        """SetupError names the anchor that can't be used."""
        self.anchors: tuple[TrustAnchor, ...] = tuple(anchors)
        parsed = [(anchor, _load_ca(anchor, anchor.certificate)) for anchor in self.anchors]
        self._by_authority: dict[authority.TrustAnchor, TrustAnchor] = {
            _vouch(anchor, cert): anchor for anchor, cert in parsed
        }
        if len(self._by_authority) != len(parsed):
            raise SetupError("Two trust anchors have the same name and key. Remove one of them.")
        below = [_load_ca(anchor, der) for anchor in self.anchors for der in anchor.intermediates]
        self.cas: tuple[Certificate, ...] = tuple(dict.fromkeys([*(cert for _, cert in parsed), *below]))
        self.ca_by_sha256 = {ca.asn1.sha256: ca for ca in self.cas}
        self.manager = SimpleTrustManager.build(trust_roots=list(self._by_authority))
        self.registry = self.new_registry()
        self.index = PathIndex(self.manager, self.registry, self.cas)

    def new_registry(self) -> CertificateRegistry:
        """A registry of all known CAs that the caller may add to."""
        registry: CertificateRegistry = CertificateRegistry.build(ca.asn1 for ca in self.cas)
        return registry

    def anchor_of(self, path: ValidationPath) -> TrustAnchor:
        return self._by_authority[path.trust_anchor]

    @property
    def issuer_names(self) -> tuple[bytes, ...]:
        """DER Names of every CA whose cards may sign in: what a bridge needs to choose a certificate."""
        return tuple(dict.fromkeys(ca.asn1.subject.dump() for ca in self.cas))


def sources_for(certificate: Certificate | bytes, trust: TrustStore) -> RevocationSources:
    """What the server should fetch before it verifies a token with `certificate`.

    Nothing is named for a certificate that no anchor signed, so a stranger can't send the server to an address of
    his own; nor where the issuer offers nothing by declaration.
    """
    from tokenbridge.rp.chain import signed_chain  # noqa: PLC0415 - chain needs the classes of this module

    try:
        leaf = Certificate.parse(certificate) if isinstance(certificate, bytes) else certificate
        chain = signed_chain(leaf, trust)
        return _sources(chain.anchor.rule, chain.links)
    except Rejected:
        return RevocationSources()


def _sources(rule: IssuerRule, links: Sequence[tuple[Certificate, Certificate]]) -> RevocationSources:
    if rule.revocation is RevocationMode.NONE_DECLARED:
        return RevocationSources()
    crl_urls = [*rule.crl_urls, *(url for cert, _ in links for url in cert.crl_urls())]
    asked = [
        OcspSource(url=url, request=_ocsp_request(cert, issuer))
        for place, (cert, issuer) in enumerate(reversed(links))
        # The configured responders answer for the cards; a CA above has what its own certificate names.
        for url in (*(rule.ocsp_urls if place == 0 else ()), *cert.ocsp_urls())
    ]
    return RevocationSources(crl_urls=tuple(dict.fromkeys(crl_urls)), ocsp=tuple(dict.fromkeys(asked)))


def _ocsp_request(cert: Certificate, issuer: Certificate) -> bytes:
    """An OCSPRequest for one certificate, unsigned and without a nonce (RFC 6960, section 4.1.1)."""
    fields = cert.asn1["tbs_certificate"]
    hashed = (fields["issuer"].dump(), issuer.asn1.public_key["public_key"].contents[1:])
    named = (tlv.encode(0x04, hashlib.sha1(data, usedforsecurity=False).digest()) for data in hashed)
    request = b"".join((_SHA1_IDENTIFIER, *named, fields["serial_number"].dump()))
    # CertID in Request in requestList in TBSRequest in OCSPRequest
    for _ in range(5):
        request = tlv.encode(0x30, request)
    return request


def _load_ca(anchor: TrustAnchor, der: bytes) -> Certificate:
    try:
        cert = Certificate.parse(der)
        _settle(cert.asn1)
        is_ca = bool(cert.asn1.ca)
    except (Rejected, *PARSER_ERRORS) as err:
        raise SetupError(f"A certificate of trust anchor {anchor.name!r} can't be read.", detail=str(err)) from err
    if not is_ca:
        raise SetupError(f"A certificate of trust anchor {anchor.name!r} is not a CA's: {cert.subject}.")
    return cert


def _settle(asn1: Any) -> None:
    """Make asn1crypto parse everything now: its lazy parsing is not safe between threads."""
    touched: Sequence[Any] = (
        asn1.native,
        asn1.subject.hashable,
        asn1.issuer.hashable,
        asn1.critical_extensions,
        asn1.sha256,
        asn1.issuer_serial,
        asn1.self_signed,
        asn1.public_key.sha1,
        asn1.public_key.bit_size,
        asn1.public_key.dump(),
    )
    if len(touched[0]) != 3:
        raise ValueError("not a certificate")


def _vouch(anchor: TrustAnchor, cert: Certificate) -> authority.CertTrustAnchor:
    asn1 = cert.asn1
    derived = authority.derive_quals_from_cert(asn1).standard_parameters
    params = PKIXValidationParams(
        user_initial_policy_set=anchor.rule.policy_oids or frozenset({"any_policy"}),
        initial_permitted_subtrees=derived.initial_permitted_subtrees if derived else None,
        initial_excluded_subtrees=derived.initial_excluded_subtrees if derived else None,
    )
    quals = authority.TrustQualifiers(
        standard_parameters=params,
        max_path_length=asn1.max_path_length,
        max_aa_path_length=asn1.max_path_length,
        valid_from=cert.not_before,
        valid_until=cert.not_after,
        trusted_service_type=authority.TrustedServiceType.CERTIFICATE_AUTHORITY,
    )
    return authority.CertTrustAnchor(asn1, quals)
