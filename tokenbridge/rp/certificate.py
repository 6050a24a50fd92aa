"""An X.509 certificate as evidence: bounded parsing and the facts read from it. It judges nothing about trust.

Parsed by asn1crypto, because cards in the field carry certificates that are not strict DER inside (an encoded
default in BasicConstraints, for one) and that stricter parsers refuse. The outermost structure must be DER all the
same, so that one certificate has one encoding and one fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from asn1crypto import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tokenbridge.errors import Rejected, RejectReason
from tokenbridge.wire import tlv
from tokenbridge.wire.names import rfc4514

MAX_CERTIFICATE_BYTES: Final = 8192
MAX_URLS: Final = 4
MAX_URL_LENGTH: Final = 1024
CLIENT_AUTH: Final = "1.3.6.1.5.5.7.3.2"  # RFC 5280, section 4.2.1.12

PARSER_ERRORS: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,  # NotImplementedError and RecursionError too
    UnsupportedAlgorithm,
)
"""What asn1crypto, cryptography and pyhanko-certvalidator raise on bytes that are not what they should be."""

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Turn any parser's complaint about untrusted bytes into Rejected(MALFORMED)."""
    try:
        yield
    except PARSER_ERRORS as err:
        detail = f"{what}: {type(err).__name__}: {err}"
        raise Rejected(RejectReason.MALFORMED, f"The {what} can't be read.", detail=detail) from err


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Facts of one certificate; nothing here says that it is trusted.

    `fingerprint` is SHA-256 of `der` in hex. Times are aware UTC. `asn1` is the parsed form, read lazily.
    """

    der: bytes = field(repr=False)
    fingerprint: str
    serial: int
    not_before: datetime
    not_after: datetime
    asn1: Any = field(repr=False, compare=False)

    @classmethod
    def parse(cls, der: bytes) -> Certificate:
        """Raises Rejected(MALFORMED) unless `der` is one certificate of at most 8192 bytes and nothing after it."""
        if not 0 < len(der) <= MAX_CERTIFICATE_BYTES:
            raise Rejected(RejectReason.MALFORMED, "The certificate is too large.", detail=f"{len(der)} bytes")
        with parsing("certificate"):
            _require_outer_der(der)
            asn1 = x509.Certificate.load(der, strict=True)
            _require_same_algorithm(asn1)
            _require_plain_dates(asn1)
            return cls(
                der=der,
                fingerprint=hashlib.sha256(der).hexdigest(),
                serial=asn1.serial_number,
                not_before=asn1.not_valid_before,
                not_after=asn1.not_valid_after,
                asn1=asn1,
            )

    @property
    def subject(self) -> str:
        """RFC 4514 text."""
        with parsing("certificate's subject"):
            return rfc4514(self.asn1.subject)

    @property
    def issuer(self) -> str:
        """RFC 4514 text."""
        with parsing("certificate's issuer"):
            return rfc4514(self.asn1.issuer)

    @property
    def key_fingerprint(self) -> str:
        """SHA-256 of the public key (SubjectPublicKeyInfo) in hex."""
        return hashlib.sha256(self.asn1.public_key.dump()).hexdigest()

    def public_key(self) -> PublicKey:
        """The subject's key. Rejected(KEY_MISMATCH) when it is neither RSA nor on a named curve."""
        try:
            _require_plain_key(self.asn1.public_key)
            key = load_der_public_key(self.asn1.public_key.dump())
        except PARSER_ERRORS as err:
            raise Rejected(RejectReason.KEY_MISMATCH, "The card's key is of an unknown kind.", detail=str(err)) from err
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise Rejected(
                RejectReason.KEY_MISMATCH, "The card's key is of an unknown kind.", detail=type(key).__name__
            )
        return key

    def policy_oids(self) -> frozenset[str]:
        """Dotted policy identifiers of certificatePolicies; empty without the extension."""
        with parsing("certificate's policies"):
            policies = self.asn1.certificate_policies_value or ()
            return frozenset(policy["policy_identifier"].dotted for policy in policies)

    def check_validity(self, now: datetime) -> None:
        """Both ends are inclusive (RFC 5280, section 4.1.2.5)."""
        if now < self.not_before:
            text = f"The certificate is valid from {self.not_before:%Y-%m-%d %H:%M} UTC on, not yet."
            raise Rejected(RejectReason.CERTIFICATE_NOT_YET_VALID, text)
        if now > self.not_after:
            text = f"The certificate expired on {self.not_after:%Y-%m-%d}."
            raise Rejected(RejectReason.CERTIFICATE_EXPIRED, text)

    def check_usage(self) -> None:
        """Key usage digitalSignature is required; extended usage, when present, must contain clientAuth."""
        with parsing("certificate's extensions"):
            usage = self.asn1.key_usage_value
            signs = usage is not None and "digital_signature" in usage.native
            extended = self.asn1.extended_key_usage_value
            authenticates = extended is None or CLIENT_AUTH in {purpose.dotted for purpose in extended}
            is_ca = self.asn1.ca
        if not signs or not authenticates or is_ca:
            lacks = {"digitalSignature": signs, "clientAuth": authenticates, "end-entity": not is_ca}
            raise Rejected(
                RejectReason.CERTIFICATE_USAGE,
                "The certificate is not meant for signing in.",
                detail="lacks " + ", ".join(name for name, there in lacks.items() if not there),
            )

    def ocsp_urls(self) -> tuple[str, ...]:
        """HTTP addresses of OCSP responders in authorityInfoAccess, at most 4."""
        with parsing("certificate's AIA"):
            access = self.asn1.authority_information_access_value or ()
            return _http(d["access_location"] for d in access if d["access_method"].native == "ocsp")

    def crl_urls(self) -> tuple[str, ...]:
        """HTTP addresses in cRLDistributionPoints, at most 4; a distribution point may have none."""
        with parsing("certificate's CRL distribution points"):
            points = self.asn1.crl_distribution_points_value or ()
            names = [point["distribution_point"] for point in points]
            return _http(name for full in names if full.name == "full_name" for name in full.chosen)


def _require_plain_dates(asn1: Any) -> None:
    # asn1crypto has a type of its own for the year 0, which compares with nothing.
    if not all(isinstance(date, datetime) for date in (asn1.not_valid_before, asn1.not_valid_after)):
        raise ValueError("not a date")


def _require_plain_key(spki: Any) -> None:
    # SEC 1, section 2.3.3: compressed or uncompressed points; the hybrid form would be a second spelling of a key.
    bits = spki["public_key"].contents
    if bits[0] != 0 or (spki.algorithm == "ec" and bits[1] not in (2, 3, 4)):
        raise ValueError("unusual encoding of the key")


def _http(names: Iterable[Any]) -> tuple[str, ...]:
    found = (name.chosen.native for name in names if name.name == "uniform_resource_identifier")
    fit = (url for url in found if url.startswith(("http://", "https://")) and _harmless(url))
    return tuple(dict.fromkeys(fit))[:MAX_URLS]


def _harmless(url: str) -> bool:
    return len(url) <= MAX_URL_LENGTH and url.isascii() and url.isprintable() and " " not in url


def _require_outer_der(der: bytes) -> None:
    outer = tlv.parse_one(der)
    parts = tlv.parse(outer.value)
    if outer.tag != 0x30 or [part.tag for part in parts] != [0x30, 0x30, 0x03] or parts[2].value[:1] != b"\0":
        raise ValueError("not a Certificate (RFC 5280, section 4.1)")
    if tlv.encode(0x30, b"".join(part.encode() for part in parts)) != der:
        raise ValueError("lengths are not DER")


def _require_same_algorithm(asn1: Any) -> None:
    # RFC 5280, section 4.1.1.2: the unsigned identifier must equal the signed one.
    if asn1["signature_algorithm"].dump() != asn1["tbs_certificate"]["signature"].dump():
        raise ValueError("signatureAlgorithm differs from the signed one")
